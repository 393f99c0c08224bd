"""The sphere that a user places as reference region, as a markups ROI."""

from __future__ import annotations

from typing import Any

from ..errors import RequestError
from ..mrml.geometry import to_lps
from .i18n import _

SPHERE_NAME = "Ref_Sphere"
NOT_PLACED = "not placed"


def sphere_of_roi(roi: Any) -> tuple[tuple[float, float, float], float]:
    """Centre (LPS mm) and radius (mm) of the largest sphere in a markups ROI.

    Raises
    ------
    RequestError
        If the ROI has not been placed.
    """
    size, centre = [0.0] * 3, [0.0] * 3
    roi.GetSizeWorld(size)
    roi.GetCenterWorld(centre)
    if min(size) <= 0:
        message = _("ROI {name!r} has not been placed.").format(name=roi.GetName())
        raise RequestError(message, _("Place it in a slice view."))
    return to_lps(centre), min(size) / 2


def sphere_print(roi: Any) -> str:
    """Fingerprint of a sphere; one that is still being placed has a fingerprint, too; empty without one."""
    if roi is None:
        return ""
    try:
        return repr(sphere_of_roi(roi))
    except RequestError:
        return NOT_PLACED


def why_no_sphere(roi: Any, required: bool, kind: str | None) -> str:
    """What is still to be done about a sphere as reference region; empty when nothing is.

    Parameters
    ----------
    roi : vtkMRMLMarkupsROINode or None
        None: no sphere.
    required : bool
        True if the method cannot do without a reference region.
    kind : str or None
        What the user says it lies in, empty when he has not; None for a method that does not ask.
    """
    if roi is None:
        return _("Choose a reference segment (blood or muscle), or place a sphere.") if required else ""
    if sphere_print(roi) == NOT_PLACED:
        text = _("Place the sphere {name!r}: click on two of its corners in a slice view, or press Esc.")
        return text.format(name=roi.GetName())
    if required and kind == "":
        return _("Say in step 2, Reference tissue, whether the sphere lies in blood or in muscle: its name does not.")
    return ""


def stop_placing(scene: Any, roi: Any) -> None:
    """The next click in a view places nothing, if it was to place this ROI."""
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    if roi is None or selection is None or interaction is None:
        return
    waits = interaction.GetCurrentInteractionMode() == interaction.Place
    if waits and selection.GetActivePlaceNodeID() == roi.GetID():
        interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def place_by_mouse(scene: Any, roi: Any) -> None:
    """The next clicks in a view place this ROI, and no other markups."""
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    if selection is not None and interaction is not None:  # the application's window brings them
        selection.SetReferenceActivePlaceNodeClassName(roi.GetClassName())
        selection.SetReferenceActivePlaceNodeID(roi.GetID())
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(interaction.Place)
