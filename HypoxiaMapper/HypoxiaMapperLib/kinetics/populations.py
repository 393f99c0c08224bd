"""Population input functions."""

from __future__ import annotations

import numpy as np

from .input_function import InputFunction

# Feng et al. 1993, model 4, doi 10.1016/0020-7101(93)90049-C; constants METHODS section 4 (fluorodeoxyglucose-shaped).
FENG_A = (851.1225, 21.8798, 20.8113)
FENG_LAMBDA_PER_MIN = (-4.133859, -0.1191, -0.01043449)

# Parker et al. 2006, doi 10.1002/mrm.21066; constants METHODS section 5.
PARKER_AREA = (0.809, 0.330)
PARKER_CENTRE_MIN = (0.17046, 0.365)
PARKER_WIDTH_MIN = (0.0563, 0.132)
PARKER_ALPHA, PARKER_BETA, PARKER_S, PARKER_TAU_MIN = 1.05, 0.1685, 38.078, 0.483

SAMPLE_STEP_MIN = 1 / 240
"""Quarter of a second: finer than any frame; the linear pieces then follow the first pass to 1e-4 of its peak."""
SLOW_STEP_MIN, SLOW_AFTER_MIN = 1 / 12, 5.0


def feng(time_min: np.ndarray) -> np.ndarray:
    """Feng's plasma curve at minutes after arrival, zero before; for simulation only (shaped like FDG)."""
    t = np.maximum(np.asarray(time_min, dtype=float), 0.0)
    a1, a2, a3 = FENG_A
    l1, l2, l3 = FENG_LAMBDA_PER_MIN
    curve = (a1 * t - a2 - a3) * np.exp(l1 * t) + a2 * np.exp(l2 * t) + a3 * np.exp(l3 * t)
    return np.where(np.asarray(time_min) > 0, curve, 0.0)


def parker(time_min: np.ndarray) -> np.ndarray:
    """Parker's blood curve in mmol/L at minutes after the start of its clock, zero before."""
    t = np.asarray(time_min, dtype=float)
    curve = PARKER_ALPHA * np.exp(-PARKER_BETA * t) / (1 + np.exp(-PARKER_S * (t - PARKER_TAU_MIN)))
    for area, centre, width in zip(PARKER_AREA, PARKER_CENTRE_MIN, PARKER_WIDTH_MIN, strict=True):
        curve = curve + area / (width * np.sqrt(2 * np.pi)) * np.exp(-((t - centre) ** 2) / (2 * width**2))
    return np.where(t >= 0, curve, 0.0)


def feng_input(end_min: float, arrival_min: float = 0.0) -> InputFunction:
    """Feng's curve as samples up to ``end_min``, in kBq/ml."""
    t = sample_times(end_min, arrival_min)
    return InputFunction(t, feng(t - arrival_min), "kBq/ml", source="Feng 1993, simulation only")


def parker_input(end_min: float, arrival_min: float = 0.0, hematocrit: float = 0.42) -> InputFunction:
    """Parker's curve as samples up to ``end_min``: plasma from blood by the hematocrit (METHODS: 0.42-0.45)."""
    t = sample_times(end_min, arrival_min)
    whole = InputFunction(t, parker(t - arrival_min), "mmol/L", source="Parker 2006 population curve")
    return whole.from_blood(hematocrit)


def sample_times(end_min: float, arrival_min: float) -> np.ndarray:
    """Dense times through the first pass, wider ones later, ending at or after ``end_min``."""
    slow_from = arrival_min + SLOW_AFTER_MIN
    dense = np.arange(arrival_min, max(min(slow_from, end_min), arrival_min) + 2 * SAMPLE_STEP_MIN, SAMPLE_STEP_MIN)
    wide = np.arange(dense[-1] + SLOW_STEP_MIN, end_min + 2 * SLOW_STEP_MIN, SLOW_STEP_MIN)
    return np.concatenate([dense, wide])
