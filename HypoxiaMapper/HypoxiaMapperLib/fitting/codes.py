"""What became of each voxel of a fit."""

from __future__ import annotations

from enum import IntEnum


class FitCode(IntEnum):
    """Quality code per voxel; 0 is good, as in every map's ``quality``."""

    OK = 0
    BOUND_HIT = 1
    """A parameter ended on its bound: the values are the best allowed ones, standard errors are of the free ones."""
    NOT_CONVERGED = 2
    """The last step was still larger than the tolerance when the iterations ran out; values are the best found."""
    NO_ARRIVAL = 3
    """No contrast agent or tracer arrived (set by the caller, see ``kinetics.arrival``); no values."""
    FLAT = 4
    """All frames are equal, there is nothing to fit; no values."""
    INVALID = 5
    """A frame is NaN or infinite, or a quantity the fit needs (T1, B1) is impossible; no values."""
    OUTSIDE = 6
    """Outside the mask: not fitted; no values."""
    UNDETERMINED = 7
    """The data leave a parameter open: a rate is at or beyond the fastest the model tells apart, or a standard error
    exceeds the parameter's whole allowed range. Values are the best found."""


NO_VALUES = (FitCode.NO_ARRIVAL, FitCode.FLAT, FitCode.INVALID, FitCode.OUTSIDE)
"""Codes of voxels whose maps are NaN."""
