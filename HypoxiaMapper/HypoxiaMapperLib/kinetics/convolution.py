"""Exact convolution of a piecewise linear input with exponentials, at instants or averaged over frames."""

from __future__ import annotations

import numpy as np

SERIES_BELOW = 1e-2
"""Below this exponent the closed forms cancel and their power series are used (error under 1e-12)."""


def convolve_exponential(knots: np.ndarray, values: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E(t) = integral of c(u) exp(-theta (t-u)) du from the first knot, and its running integral, at every knot.

    Parameters
    ----------
    knots : numpy.ndarray
        Times, rising, shape (k,).
    values : numpy.ndarray
        Input at the knots, linear between them, shape (k,).
    theta : numpy.ndarray
        Rate constants in 1/unit of the knots, >= 0, shape (g,).

    Returns
    -------
    response, integral : numpy.ndarray
        Both of shape (g, k); exact up to rounding, step by step with no sampling of the exponential.
    """
    h = np.diff(knots)[:, None]
    start, rise = values[:-1, None], np.diff(values)[:, None]  # c(u) = start + rise * u / h inside a step
    z = h * np.asarray(theta, dtype=float)  # knots first: each step then reads and writes one row
    decay, f1, f2, f3 = _step_functions(z)
    gain = h * (start * f1 + rise * f2)
    response = np.zeros((len(knots), z.shape[1]))
    for i in range(len(h)):
        np.multiply(response[i], decay[i], out=response[i + 1])
        response[i + 1] += gain[i]
    integral = np.zeros_like(response)
    np.cumsum(response[:-1] * h * f1 + h**2 * (start * f2 + rise * f3), axis=0, out=integral[1:])
    return response.T, integral.T


def _step_functions(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """e^-z, (1-e^-z)/z, (z-1+e^-z)/z^2 and (z^2/2-z+1-e^-z)/z^3, stable for small z."""
    small = z < SERIES_BELOW
    safe = np.where(small, 1.0, z)
    e = np.exp(-z)
    f1 = (1 - e) / safe
    f2 = (1 - f1) / safe
    f3 = (0.5 - f2) / safe
    tiny = z[small]
    f1[small] = 1 - tiny / 2 * (1 - tiny / 3 * (1 - tiny / 4 * (1 - tiny / 5)))
    f2[small] = 0.5 - tiny / 6 * (1 - tiny / 4 * (1 - tiny / 5 * (1 - tiny / 6)))
    f3[small] = 1 / 6 - tiny / 24 * (1 - tiny / 5 * (1 - tiny / 6))
    return e, f1, f2, f3


def cumulative_integral(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Integral of a piecewise linear curve from its first knot to every knot, shape (k,)."""
    return np.concatenate([[0.0], np.cumsum(np.diff(knots) * (values[1:] + values[:-1]) / 2)])
