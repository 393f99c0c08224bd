"""What a fit returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .codes import FitCode


@dataclass(frozen=True)
class FitResult:
    """Maps of a fit, all on the spatial shape of the data.

    Parameters
    ----------
    values : mapping of str to numpy.ndarray
        Map per fitted or derived parameter; NaN where the code says there are no values.
    errors : mapping of str to numpy.ndarray
        Standard error per parameter: from J'J at the solution and the residual variance, derived ones by the delta
        method. NaN for a parameter held on its bound, infinite for one the data do not determine.
    code : numpy.ndarray
        ``FitCode`` per voxel, uint8.
    sum_of_squares : numpy.ndarray
        Weighted sum of squared residuals.
    aic, bic : numpy.ndarray
        n ln(SS/n) + 2 k and n ln(SS/n) + k ln n, with n frames and k = parameters + 1 (the variance is one).
    units : mapping of str to str
        UCUM unit per parameter.
    device : str
        Where it was computed, in words.
    freedom : int
        Frames less parameters: the standard errors follow Student's t of so many degrees of freedom. 0: no errors.
    """

    values: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    code: np.ndarray
    sum_of_squares: np.ndarray
    aic: np.ndarray
    bic: np.ndarray
    units: Mapping[str, str]
    device: str
    freedom: int = 0

    def count(self) -> dict[str, int]:
        """Number of voxels per code, by the code's name; codes that do not occur are left out."""
        counts = np.bincount(self.code.ravel(), minlength=len(FitCode))
        return {code.name: int(counts[code]) for code in FitCode if counts[code]}


def information_criteria(squares: np.ndarray, n_frames: int, n_parameters: int) -> tuple[np.ndarray, np.ndarray]:
    """AIC and BIC of sums of squared residuals, as ``FitResult`` says."""
    # An exact fit has no finite likelihood: its sum of squares counts as the smallest number there is.
    likelihood = n_frames * np.log(np.maximum(squares, np.finfo(float).tiny) / n_frames)
    k = n_parameters + 1
    return likelihood + 2 * k, likelihood + k * np.log(n_frames)


def choose_model(results: Mapping[str, FitResult], criterion: str = "aic") -> tuple[np.ndarray, list[str]]:
    """Per voxel the model of least AIC or BIC (McGowan 2017, doi 10.1002/mp.12416).

    Returns
    -------
    choice : numpy.ndarray
        Index into ``names`` per voxel, -1 where no model has values.
    names : list of str
        Names of the models, in the order given.
    """
    from ..errors import RequestError

    if criterion not in ("aic", "bic"):
        raise RequestError(f"There is no criterion {criterion!r}.", "Valid criteria: aic, bic.")
    names = list(results)
    scores = np.stack([getattr(results[name], criterion) for name in names])
    nowhere = np.all(np.isnan(scores), axis=0)
    choice = np.argmin(np.where(np.isnan(scores), np.inf, scores), axis=0)
    return np.where(nowhere, -1, choice), names
