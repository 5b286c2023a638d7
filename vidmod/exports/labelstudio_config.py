"""The labeling configuration of a Label Studio project that takes what `labelstudio` writes.

Its categories and labels are those of the timeline's policy and detectors. Tags: https://labelstud.io/tags.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from vidmod.exports.labelstudio import (
    BOXES,
    DECISION,
    LABELS,
    NOTE,
    SEGMENTS,
    UNSEEN,
    VERDICT,
    VIDEO,
    annotations_of,
)
from vidmod.policy import VERDICTS
from vidmod.timeline import Timeline

_DECISIONS = ("accepted", "rejected", "undecided")
_UNSEEN_COLOUR = "#8250df"


def write(timeline: Timeline) -> bytes:
    """The XML."""
    shown = annotations_of(timeline)
    view = ET.Element("View")
    _header(view, "Segments: delete or reject what is not there, move the ends, add what is missing.")
    ET.SubElement(view, "Video", name=VIDEO, value="$video", frameRate="$fps", muted="true")
    segments = ET.SubElement(view, "TimelineLabels", name=SEGMENTS, toName=VIDEO)
    for name in shown.categories:
        ET.SubElement(segments, "Label", value=name)
    ET.SubElement(segments, "Label", value=UNSEEN, background=_UNSEEN_COLOUR)
    _header(view, "Boxes: delete what is not to be covered, move or add what is.")
    boxes = ET.SubElement(view, "Labels", name=LABELS, toName=VIDEO)
    for name in shown.labels:
        ET.SubElement(boxes, "Label", value=name)
    ET.SubElement(view, "VideoRectangle", name=BOXES, toName=VIDEO)
    _choices(view, DECISION, "Decision", _DECISIONS)
    _choices(view, VERDICT, "Verdict on a segment", VERDICTS[1:])
    _header(view, "Note")
    ET.SubElement(view, "TextArea", name=NOTE, toName=VIDEO, perRegion="true", maxSubmissions="1", editable="true")
    ET.indent(view)
    text: str = ET.tostring(view, encoding="unicode")
    return f"{text}\n".encode()


def _choices(view: ET.Element, name: str, title: str, values: tuple[str, ...]) -> None:
    _header(view, title)
    row = ET.SubElement(view, "Choices", name=name, toName=VIDEO, perRegion="true", choice="single")
    for value in values:
        ET.SubElement(row, "Choice", value=value)


def _header(view: ET.Element, text: str) -> None:
    ET.SubElement(view, "Header", value=text, size="5")
