"""A timeline as annotation tools know one: segments and box tracks, in frames.

A person who corrects a timeline in CVAT or Label Studio edits tracks with keyframes, counted in frames; a timeline has
segments in seconds and a detector's boxes sample by sample. What is exported is worked out here from the timeline
alone, the same every time. So an import works it out once more, and knows what a person has changed: what is as it was
exported keeps its exact times and boxes, however coarse the tool's frame numbers and decimals are.

1. `frames`: seconds to frame numbers and back.
2. `shapes`: where a box is in every frame, and in which frames two tracks differ.
3. `linking`: a detector's boxes to tracks that a person can edit.
4. `names`: labels and ids that a tool takes, whatever strangers wrote.
5. `exported`: all of a timeline that a tool shows.
"""

from vidmod.annotations.exported import ADDED_LABEL, Annotations, SegmentItem, TrackItem, Unseen
from vidmod.annotations.frames import Frames
from vidmod.annotations.names import Names, clean
from vidmod.annotations.shapes import Key, Run, Shape

__all__ = [
    "ADDED_LABEL",
    "Annotations",
    "Frames",
    "Key",
    "Names",
    "Run",
    "SegmentItem",
    "Shape",
    "TrackItem",
    "Unseen",
    "clean",
]
