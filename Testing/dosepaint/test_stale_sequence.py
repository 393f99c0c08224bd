"""Dose painting refuses a map whose sequence changed, or is gone, since it was computed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install trame-slicer")

from HypoxiaDosePaintLib.panel.map_used import changed_since_map  # noqa: E402
from HypoxiaMapperLib.panel.map_nodes import INPUTS, MADE_OF, Fingerprints  # noqa: E402
from kinetic_samples import SHAPE  # noqa: E402
from sequence_samples import add_sequence, plain_volume  # noqa: E402


@pytest.fixture
def made() -> tuple[Any, Any, Any]:
    """Scene, sequence, and a map made of it."""
    scene = slicer.vtkMRMLScene()
    sequence = add_sequence(scene, np.ones((3, *SHAPE)), (0, 10, 30), "time", "s")
    node = plain_volume(scene, np.ones(SHAPE))
    node.SetAttribute(INPUTS, json.dumps({"sequence pet": Fingerprints().sequence(sequence)}))
    node.SetNodeReferenceID(f"{MADE_OF}sequence.pet", sequence.GetID())
    return scene, sequence, node


def test_a_changed_frame_is_noticed(made):
    _, sequence, node = made
    assert changed_since_map(node, Fingerprints()) == ()
    sequence.SetIndexUnit("min")
    assert changed_since_map(node, Fingerprints()) == ("sequence pet",)


def test_a_sequence_that_is_gone_is_noticed(made):
    scene, sequence, node = made
    scene.RemoveNode(sequence)
    assert changed_since_map(node, Fingerprints()) == ("sequence pet",)
