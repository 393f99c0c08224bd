"""The same panes without Slicer: plain resampling. A fallback that is labelled as such, and a check on the first."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .plan import Pane, Plan

MAP_OPACITY = 0.5


OVERLAYS = {"map": "inferno", "uncertainty": "viridis"}
"""Images that are laid over another, and their colours: nobody shall take the one for the other."""


def overlay_colours(name: str) -> np.ndarray:
    """Colours of an overlay from low to high, shape (256, 3), 0-1."""
    import matplotlib

    return matplotlib.colormaps[OVERLAYS[name]](np.linspace(0.1, 1.0, 256))[:, :3]


def plain_pane(plan: Plan, pane: Pane) -> np.ndarray:
    """Picture of a slice pane, shape (pixels, pixels, 3), uint8. Not for 3D panes."""
    gray = _scaled(plan, pane, pane.background, sitk.sitkLinear, outside=plan.windows[pane.background][0])
    if pane.background == "pet":
        gray = 1 - gray
    picture = np.repeat(gray[..., None], 3, axis=2)
    if pane.overlay:
        low, high = plan.windows[pane.overlay]
        hidden = 2 * low - high
        values = cut(plan.images[pane.overlay], pane, sitk.sitkNearestNeighbor, hidden)
        level = np.clip((values - low) / (high - low), 0, 1)
        colours = overlay_colours(pane.overlay)[np.round(level * 255).astype(int)]
        shown = (values > (low + hidden) / 2)[..., None]
        picture = np.where(shown, (1 - MAP_OPACITY) * picture + MAP_OPACITY * colours, picture)
    for contour in plan.drawn(pane.contours):
        mask = cut(contour.mask, pane, sitk.sitkNearestNeighbor, 0) > 0
        picture[_outline(mask)] = np.array(contour.colour) / 255
    return np.round(picture * 255).astype(np.uint8)


def _scaled(plan: Plan, pane: Pane, name: str, interpolator: int, outside: float) -> np.ndarray:
    """Gray values 0-1 of a background image, shape (pixels, pixels)."""
    low, high = plan.windows[name]
    return np.clip((cut(plan.images[name], pane, interpolator, outside) - low) / (high - low), 0, 1)


def cut(image: sitk.Image, pane: Pane, interpolator: int, outside: float) -> np.ndarray:
    """Values of an image on the pixels of a pane, first row on top, shape (pixels, pixels)."""
    right, up = np.array(pane.right), np.array(pane.up)
    step = pane.width_mm / pane.pixels
    corner = np.array(pane.centre_mm) + (pane.width_mm - step) / 2 * (up - right)
    plane = sitk.Image(pane.pixels, pane.pixels, 1, image.GetPixelID())
    plane.SetSpacing((step, step, 1.0))
    plane.SetDirection(np.stack([right, -up, np.cross(right, -up)], axis=1).ravel().tolist())
    plane.SetOrigin([float(v) for v in corner])
    return sitk.GetArrayFromImage(sitk.Resample(image, plane, sitk.Transform(), interpolator, outside))[0]


def _outline(mask: np.ndarray) -> np.ndarray:
    """Two pixels along the inner edge of a mask."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, iterations=2)
