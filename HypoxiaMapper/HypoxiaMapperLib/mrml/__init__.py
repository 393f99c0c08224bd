"""Volume and Region to MRML nodes and back. The scene is always an argument; LPS and RAS meet only here."""

from .overlay import show_as_background, show_as_map
from .segments import make_segmentation, outlines_only, region_to_segment, segment_to_region
from .volumes import node_to_volume, put_volume, volume_to_node

__all__ = [
    "make_segmentation",
    "node_to_volume",
    "outlines_only",
    "put_volume",
    "region_to_segment",
    "segment_to_region",
    "show_as_background",
    "show_as_map",
    "volume_to_node",
]
