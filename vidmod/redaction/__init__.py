"""From regions to pixels, from spans to silence: draws on a decoded picture's planes, in place.

::

    layout = PlaneLayout.of("yuv420p", 1920, 1080, full_range=False)
    planes = layout.arrays([memoryview(plane) for plane in planes_of_the_frame], line_sizes)
    boxes = stored_boxes([(604.2, 120.0, 812.7, 371.5)], orientation, displayed_size)
    cover(planes, layout, boxes)                          # black, for good
    cover(planes, layout, boxes, Mosaic(), "ellipse")
    deviation(planes, layout, boxes).level <= TOLERANCE   # after encoding and decoding

Nothing here decodes, encodes or opens anything: planes and samples are numpy arrays.
"""

from vidmod.redaction.planes import FORMATS, Component, Plane, PlaneLayout
from vidmod.redaction.regions import SHAPES, Orientation, Region, find_region, stored_boxes
from vidmod.redaction.sound import SILENT_PEAK, mute
from vidmod.redaction.styles import (
    BLACK,
    SLATE,
    STYLES,
    TOLERANCE,
    Blur,
    Deviation,
    Fill,
    Mosaic,
    Style,
    cover,
    deviation,
    is_covered,
    slate,
)

__all__ = [
    "BLACK",
    "FORMATS",
    "SHAPES",
    "SILENT_PEAK",
    "SLATE",
    "STYLES",
    "TOLERANCE",
    "Blur",
    "Component",
    "Deviation",
    "Fill",
    "Mosaic",
    "Orientation",
    "Plane",
    "PlaneLayout",
    "Region",
    "Style",
    "cover",
    "deviation",
    "find_region",
    "is_covered",
    "mute",
    "slate",
    "stored_boxes",
]
