"""What compartment models of PET and of DCE-MRI share: the input convolved with exponentials."""

from __future__ import annotations

import numpy as np

from ..fitting.model import SeparableModel
from .input_function import InputFunction
from .timing import Frames


class ConvolvedModel(SeparableModel):
    """Curves are sums of plasma convolved with exp(-theta t), and of what a subclass fixes.

    Parameters
    ----------
    input_function : InputFunction
        Plasma and, if known, blood, on the clock of the frames.
    frames : Frames
        When the data were measured: averaged over the frames if they have a duration, else at the instants.
    """

    def __init__(self, input_function: InputFunction, frames: Frames) -> None:
        input_function.require_cover(frames)
        self.input_function, self.frames = input_function, frames
        self.n_frames = frames.count
        # Rates much slower than the study look alike.
        self.theta_scale = 3.0 / frames.end_min[-1]
        self.start_grids = self._grids()

    def _grids(self) -> tuple[np.ndarray, ...]:
        """Rates that the start search tries, for each exponential."""
        raise NotImplementedError

    def family(self, theta: np.ndarray) -> np.ndarray:
        """Plasma convolved with exp(-theta t) in every frame."""
        return self.input_function.response_on_frames(self.frames, theta)
