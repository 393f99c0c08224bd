"""Exponential decays over echo time or b-value: R2*, ADC, IVIM. Echo times in s, b-values in s/mm2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RequestError
from ..fitting.codes import NO_VALUES, FitCode
from ..fitting.linear import LINEAR_CHUNK, fit_linear
from ..fitting.model import FunctionModel, Parameter, SeparableModel
from ..fitting.result import FitResult

if TYPE_CHECKING:
    import torch

S0 = Parameter("S0", "{signal}", 0.0, np.inf)
R2_STAR = Parameter("R2star", "/s", 0.0, 1000.0)
ADC = Parameter("ADC", "mm2/s", 0.0, 0.01)
LN_S0 = Parameter("lnS0", "1")
IVIM_D = Parameter("D", "mm2/s", 0.0, 0.005)
IVIM_F = Parameter("f", "1", 0.0, 1.0)
IVIM_DSTAR = Parameter("Dstar", "mm2/s", 0.005, 0.3)
LEAST_B = 200.0
"""Perfusion is gone above this b-value in s/mm2 (METHODS section 5)."""
LONGEST_ECHO_S = 1.0
LARGEST_B = 20000.0
RICE_A, RICE_B = 0.381505, 0.0562536


def check_echo_times(echo_s: np.ndarray) -> np.ndarray:
    """Echo times in seconds.

    Raises
    ------
    RequestError
        If there are fewer than two, they do not rise, or they are in ms.
    """
    echo = np.asarray(echo_s, dtype=float)
    if echo.ndim != 1 or echo.size < 2 or not np.all(np.isfinite(echo)) or np.any(np.diff(echo) <= 0) or echo[0] < 0:
        raise RequestError(f"Echo times are {echo.tolist()}.", "Give at least two, rising, in seconds.")
    if echo[-1] > LONGEST_ECHO_S:
        raise RequestError(f"The last echo time is {echo[-1]:g} s.", "The times are in ms: divide them by 1000.")
    return echo


def check_b_values(b: np.ndarray) -> np.ndarray:
    """b-values in s/mm2.

    Raises
    ------
    RequestError
        If there are fewer than two different ones, or they cannot be in s/mm2.
    """
    values = np.asarray(b, dtype=float)
    if values.ndim != 1 or np.unique(values).size < 2 or not np.all(np.isfinite(values)) or values.min() < 0:
        raise RequestError(f"b-values are {values.tolist()}.", "Give at least two different ones in s/mm2.")
    if not 10 < values.max() < LARGEST_B:
        raise RequestError(f"The largest b-value is {values.max():g}.", "Give b-values in s/mm2 (0 to some 1000).")
    return values


def _log_slope(signal: np.ndarray, x: np.ndarray, slope: Parameter) -> FitResult:
    """Line through the logarithm of the signal: -d ln S/dx.

    Voxels with a signal <= 0 are INVALID; where the signal rises, noise hides the decay: UNDETERMINED.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(np.asarray(signal) > 0, signal, np.nan))
    if x.size > 2:
        result = fit_linear(np.stack([-x, np.ones_like(x)], axis=1), logs, (slope, LN_S0))
    else:
        result = _two_points(logs, x, slope)
    result.code[(result.code == FitCode.OK) & (result.values[slope.name] < 0)] = FitCode.UNDETERMINED
    return result


def _two_points(logs: np.ndarray, x: np.ndarray, slope: Parameter) -> FitResult:
    """Two values determine the slope exactly, with no residual and so no error."""
    from ..fitting.linear import linear_result

    rate = (logs[0] - logs[1]) / (x[1] - x[0])
    values = np.stack([rate, logs[0] + rate * x[0]]).reshape(2, -1)
    good = np.isfinite(values).all(axis=0)
    nothing = np.full(values.shape, np.nan)
    code = np.where(good, FitCode.OK, FitCode.INVALID).astype(np.uint8)
    return linear_result(np.where(good, values, np.nan), nothing, code, nothing[0], 2, (slope, LN_S0), logs.shape[1:])


def r2_star_log_linear(signal: np.ndarray, echo_s: np.ndarray) -> FitResult:
    """R2* in 1/s from ln S = ln S0 - TE R2*, signal (echoes, ...). Biased low where the noise floor is reached."""
    return _log_slope(signal, check_echo_times(echo_s), Parameter("R2star", "/s"))


def adc_log_linear(signal: np.ndarray, b: np.ndarray, least_b: float = LEAST_B) -> FitResult:
    """ADC in mm2/s from ln S = ln S0 - b ADC over b = 0 excluded below ``least_b``, signal (b-values, ...).

    With fewer than two b-values at or above ``least_b`` the smallest one is used with the rest, so that the usual pair
    (0, 800) gives ADC = ln(S0/Sb)/b.

    Raises
    ------
    RequestError
        If no b-value reaches ``least_b``.
    """
    values = check_b_values(b)
    high = values >= least_b
    if not high.any():
        raise RequestError(f"No b-value reaches {least_b:g} s/mm2.", "Lower the limit or use a longer series.")
    if np.unique(values[high]).size < 2:
        high = high | (values == values.min())
    order = np.flatnonzero(high)
    return _log_slope(np.asarray(signal)[order], values[order], Parameter("ADC", "mm2/s"))


class MonoExponential(SeparableModel):
    """S = S0 exp(-rate x), non-linear: ADC over b, or R2* where all echoes are well above the noise.

    Parameters
    ----------
    x : numpy.ndarray
        b-values or echo times, shape (images,).
    rate : Parameter
        What the rate is called, with unit and bounds (``ADC``, ``IVIM_D``, ``R2_STAR``).
    """

    n_members = 1

    def __init__(self, x: np.ndarray, rate: Parameter) -> None:
        self.x = check_echo_times(x) if rate.unit == "/s" else check_b_values(x)
        self.parameters = (S0, rate)
        self.n_frames = self.x.size
        self.theta_limits = (rate.lower, rate.upper)
        self.theta_scale = 1.0 / self.x.max()
        self.start_grids = (np.concatenate([[rate.lower], np.geomspace(rate.upper / 500, rate.upper, 24)]),)

    def family(self, theta: np.ndarray) -> np.ndarray:
        """exp(-theta x)."""
        return np.exp(-theta[:, None] * self.x)

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """S0 and rate."""
        return p

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        return torch.stack([weights[0], theta[0]])


class R2StarNoiseFloor(FunctionModel):
    """S0 exp(-TE R2*) as a magnitude image shows it: the mean of the Rician distribution; log-linear start.

    The mean of a signal A with noise sigma (Gudbjartsson 1995, doi 10.1002/mrm.1910340618) falls from
    sqrt(A^2 + sigma^2) to the noise floor sqrt(pi/2) sigma. It is taken as sqrt(A^2 + sigma^2 [1 + (pi/2 - 1) /
    (1 + a x^2 + b x^4)]) with x = A / sigma; a and b make it the exact one (of Bessel functions) to a thousandth of
    sigma.

    Parameters
    ----------
    echo_s : numpy.ndarray
        Echo times in seconds.
    noise_sd : float
        Standard deviation sigma of the noise in one channel, in the signal's unit (background mean / 1.2533).
    """

    parameters = (S0, R2_STAR)
    may_be_exact = True

    def __init__(self, echo_s: np.ndarray, noise_sd: float) -> None:
        self.measured_at = check_echo_times(echo_s)
        if not (np.isfinite(noise_sd) and noise_sd >= 0):
            raise RequestError(f"Noise is {noise_sd}.", "Give the standard deviation of the noise, zero or more.")
        self.n_frames, self.noise_sd = self.measured_at.size, float(noise_sd)

    def value(self, p: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Signal at every echo."""
        import torch

        clean = p[0] * torch.exp(-self.places(p) * p[1])
        if self.noise_sd == 0:
            return clean
        x = (clean / self.noise_sd).square()
        rest = (np.pi / 2 - 1) / (1 + RICE_A * x + RICE_B * x.square())
        return self.noise_sd * torch.sqrt(x + 1 + rest)

    def start(self, y: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Weighted line through the logarithm of the signal without the floor, weights S^2 (constant noise)."""
        import torch

        echo = self.places(y)
        # E[S^2] = A^2 + 2 sigma^2
        clean = torch.sqrt((y.square() - 2 * self.noise_sd**2).clamp(min=0.0)) + 1e-6 * y.abs().amax(0)
        weight = clean.square()
        total = weight.sum(0)
        logs = torch.log(clean)
        x0, y0 = (weight * echo).sum(0) / total, (weight * logs).sum(0) / total
        rate = -(weight * (echo - x0) * (logs - y0)).sum(0) / (weight * (echo - x0).square()).sum(0)
        return torch.stack([torch.exp(y0 + rate * x0), rate])


class Ivim(SeparableModel):
    """Full bi-exponential S = S0 [(1-f) exp(-b D) + f exp(-b D*)] (Le Bihan 1988, doi 10.1148/radiology.168.2.3393671).

    Parameters
    ----------
    b : numpy.ndarray
        b-values in s/mm2.
    """

    parameters = (S0, IVIM_F, IVIM_D, IVIM_DSTAR)
    n_members = 2

    def __init__(self, b: np.ndarray) -> None:
        self.b = check_b_values(b)
        self.n_frames = self.b.size
        self.theta_limits = (0.0, IVIM_DSTAR.upper)
        self.theta_scale = 1.0 / self.b.max()
        self.start_grids = (np.geomspace(0.006, 0.2, 10), np.geomspace(2e-4, 4.5e-3, 10))

    def family(self, theta: np.ndarray) -> np.ndarray:
        """exp(-theta b)."""
        return np.exp(-theta[:, None] * self.b)

    def mixture(self, p: torch.Tensor) -> torch.Tensor:
        """Weights S0 f and S0 (1-f), and D*, D."""
        import torch

        s0, f, d, fast = p
        return torch.stack([s0 * f, s0 * (1 - f), fast, d])

    def parameters_of(self, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Inverse of ``mixture``."""
        import torch

        total = weights.sum(0)
        return torch.stack([total, weights[0] / total.clamp(min=torch.finfo(total.dtype).tiny), theta[1], theta[0]])


class IvimPseudoDiffusion(FunctionModel):
    """Last step of the segmented fit: D* alone, with S0, f and D given per voxel."""

    parameters = (IVIM_DSTAR,)

    def __init__(self, b: np.ndarray) -> None:
        self.measured_at = check_b_values(b)
        self.n_frames = self.measured_at.size

    def value(self, p: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Signal at every b-value."""
        import torch

        assert extra is not None
        b = self.places(p)
        s0, f, d = extra
        return s0 * ((1 - f) * torch.exp(-b * d) + f * torch.exp(-b * p[0]))

    def start(self, y: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """A usual value: 0.02 mm2/s."""
        import torch

        return torch.full_like(y[:1], 0.02)


def ivim_segmented(signal: np.ndarray, b: np.ndarray, least_b: float = LEAST_B, **fit_options: Any) -> FitResult:
    """Segmented IVIM: D and intercept from b >= ``least_b``, f from the intercept and S(b = 0), then D* alone.

    The first step is non-linear: where perfusion is nearly all of the signal, nothing but noise is left at high b, and
    it may be negative. The error of D* is that of the full model at the values found.

    Raises
    ------
    RequestError
        Without b = 0 or with fewer than three b-values at or above ``least_b``.
    """
    from dataclasses import replace

    from ..fitting.engine import fit

    b_values = check_b_values(b)
    zero, high = b_values == 0, b_values >= least_b
    if not zero.any() or np.unique(b_values[high]).size < 3:
        raise RequestError(
            f"Segmented IVIM needs b = 0 and three b-values from {least_b:g} s/mm2; there are {b_values.tolist()}.",
            "Use the full fit or another limit.",
        )
    data = np.asarray(signal, dtype=float)
    s0 = data[zero].mean(axis=0)
    slow = fit(MonoExponential(b_values[high], IVIM_D), data[high], **fit_options)
    impossible = np.isin(slow.code, NO_VALUES) | ~np.isfinite(data).all(axis=0) | ~(s0 > 0)
    diffusion = slow.values["D"]
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.clip(1 - slow.values["S0"] / s0, 0.0, 1.0)
    fast = fit(
        IvimPseudoDiffusion(b_values),
        data,
        extra=(s0, fraction, diffusion),
        preset=np.where(impossible, FitCode.INVALID, FitCode.OK).astype(np.uint8),
        **fit_options,
    )
    known = np.where(np.isfinite(fast.values["Dstar"]), 1.0, np.nan)
    values = {"S0": s0 * known, "f": fraction * known, "D": diffusion * known, **fast.values}
    freedom = b_values.size - len(values)
    variance = fast.sum_of_squares / max(freedom, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # The noise is that of all b-values: the few high ones tell it badly.
        ratio = np.sqrt(variance / (slow.sum_of_squares / slow.freedom))
        zero_error = np.sqrt(variance / zero.sum())
        fraction_error = np.hypot(slow.errors["S0"] * ratio, zero_error * (1 - fraction)) / s0
    errors = {"S0": zero_error, "f": fraction_error * known, "D": slow.errors["D"] * ratio * known,
              "Dstar": _pseudo_diffusion_error(values, variance, b_values)}  # fmt: skip
    code = np.where((fast.code == FitCode.OK) & ~impossible, slow.code, fast.code).astype(np.uint8)
    return replace(fast, values=values, errors=errors, code=code, freedom=freedom,
                   units={q.name: q.unit for q in Ivim.parameters})  # fmt: skip


def _pseudo_diffusion_error(values: Mapping[str, np.ndarray], variance: np.ndarray, b_values: np.ndarray) -> np.ndarray:
    """Standard error of D* in the full model at these values: its own step takes S0, f and D for exact."""
    s0, f, slow, fast = (values[q.name].ravel() for q in Ivim.parameters)
    error = np.full(fast.size, np.nan)
    known = np.flatnonzero(np.isfinite(fast))
    b = b_values[:, None]
    for part in np.array_split(known, max(1, known.size // LINEAR_CHUNK)):
        d, p = np.exp(-b * slow[part]), np.exp(-b * fast[part])
        weak, strong = s0[part] * (1 - f[part]), s0[part] * f[part]
        jacobian = np.stack([(d * weak + p * strong) / s0[part], s0[part] * (p - d), -b * weak * d, -b * strong * p])
        size = np.sqrt((jacobian**2).sum(axis=1))
        unit = np.moveaxis(jacobian / np.where(size > 0, size, 1.0)[:, None], -1, 0)
        inverse = np.linalg.pinv(unit @ unit.swapaxes(1, 2), hermitian=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            error[part] = np.sqrt(variance.ravel()[part] * inverse[:, 3, 3]) / size[3]
    return np.where(np.isnan(error) & np.isfinite(fast), np.inf, error).reshape(variance.shape)
