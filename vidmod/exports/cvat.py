"""CVAT for video 1.1 (XML): tracks of boxes with keyframes, that a person edits in CVAT.

The format is documented at https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/. It knows tracks and nothing
else, and of what a file says besides CVAT keeps only the attributes that a label has. So all travels in tracks, with
labels that `cvat-labels` writes for a task's constructor:

- `segment`: a box around the whole picture for as long as a segment lasts, with its `category`, `verdict`, `decision`
  and `note`. To reject one, delete it or set `decision`; to change its times, move its first keyframe, or the one from
  which it is outside.
- one label for each of the detectors', and ADDED for what they have none for: boxes, each a keyframe with its `score`.
  To dismiss one, delete it or set `decision`.
- `not analysed`: a box around the whole picture while nobody has looked. An import does not read it.
- `timeline`: in the first frame, a small box with the hashes of source and timeline. Leave it where it is.

Frames count from 0. The exact times that they stand for are in `start_seconds`, `end_seconds` and `seconds`, as they
were exported: nobody keeps them in step with an edit, so an import takes them from the timeline. Boxes are pixels of
the picture as CVAT shows it, turned as its metadata asks for.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vidmod.annotations import Annotations, Frames, Key, Run, SegmentItem, TrackItem, clean
from vidmod.policy import VERDICTS
from vidmod.predictions import Box
from vidmod.timeline import Timeline

SEGMENT, UNSEEN, TIMELINE = "segment", "not analysed", "timeline"
RESERVED = (SEGMENT, UNSEEN, TIMELINE)
SEGMENT_DECISIONS = ("accepted", "rejected", "undecided")
TRACK_DECISIONS = ("accepted", "rejected")
# Behind the boxes, which a person has to reach.
_BEHIND = -1
_MARK_PIXELS = 16.0
_DECIMALS = 6
_SEGMENT_COLOUR, _UNSEEN_COLOUR, _TIMELINE_COLOUR = "#d1242f", "#8250df", "#57606a"
_BOX_COLOURS = ("#0969da", "#1a7f37", "#bf8700", "#bc4c00", "#1b7c83", "#a475f9", "#e85aad")


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a label.

    Attributes:
        values: Of which one is chosen; none for text.
        is_mutable: It may differ from frame to frame.
    """

    name: str
    values: tuple[str, ...] = ()
    default: str = ""
    is_mutable: bool = False

    @property
    def input_type(self) -> str:
        """CVAT's word for how it is entered."""
        return "select" if self.values else "text"


def annotations_of(timeline: Timeline) -> Annotations:
    """What of a timeline is shown, as CVAT counts frames."""
    return Annotations.of(timeline, Frames.of(timeline), RESERVED)


def labels(shown: Annotations) -> dict[str, tuple[str, tuple[Attribute, ...]]]:
    """Label to its colour and attributes."""
    of_segments = (
        Attribute("id"),
        Attribute("category", tuple(shown.categories), next(iter(shown.categories), "")),
        Attribute("verdict", VERDICTS[1:], VERDICTS[-1]),
        Attribute("decision", SEGMENT_DECISIONS, SEGMENT_DECISIONS[0]),
        Attribute("note"),
        Attribute("start_seconds"),
        Attribute("end_seconds"),
    )
    of_boxes = (
        Attribute("id"),
        Attribute("decision", TRACK_DECISIONS, TRACK_DECISIONS[0]),
        Attribute("score", is_mutable=True),
        Attribute("seconds", is_mutable=True),
    )
    of_timeline = tuple(Attribute(name) for name in ("sha256", "digest", "source", "about"))
    return {
        SEGMENT: (_SEGMENT_COLOUR, of_segments),
        **{name: (_BOX_COLOURS[at % len(_BOX_COLOURS)], of_boxes) for at, name in enumerate(shown.labels)},
        UNSEEN: (_UNSEEN_COLOUR, (Attribute("state"),)),
        TIMELINE: (_TIMELINE_COLOUR, of_timeline),
    }


def write(timeline: Timeline) -> bytes:
    """The XML. For CVAT's import, the task needs the labels that it names: see `cvat-labels`."""
    shown = annotations_of(timeline)
    root = ET.Element("annotations")
    _text(root, "version", "1.1")
    _add_meta(root, timeline, shown)
    for number, (label, runs, fixed) in enumerate(_tracks(timeline, shown)):
        track = ET.SubElement(root, "track", id=str(number), label=label, source="file")
        for run in runs:
            _add_run(track, run, fixed, _BEHIND if label in RESERVED else 0)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def _tracks(timeline: Timeline, shown: Annotations) -> Iterator[tuple[str, tuple[Run, ...], dict[str, str]]]:
    """Label, runs and attributes of every track."""
    whole: Box = (0.0, 0.0, float(shown.size[0]), float(shown.size[1]))
    mark: Box = (0.0, 0.0, min(_MARK_PIXELS, whole[2]), min(_MARK_PIXELS, whole[3]))
    about = {
        "sha256": timeline.source["sha256"],
        "digest": shown.digest,
        "source": clean(timeline.source["name"]),
        "about": shown.about,
    }
    yield TIMELINE, (Run((Key(0, mark),), shown.frames.ended(1)),), about
    for span in shown.unseen:
        yield UNSEEN, (Run((Key(span.start, whole),), span.end),), {"state": span.state}
    for segment in shown.segments:
        yield SEGMENT, (Run((Key(segment.start, whole),), segment.end),), _of_segment(segment)
    for track in shown.tracks:
        yield track.label, track.runs, _of_track(track)


def _of_segment(item: SegmentItem) -> dict[str, str]:
    return {
        "id": item.key,
        "category": item.category,
        "verdict": item.segment.verdict,
        "decision": item.judgement,
        "note": item.note,
        "start_seconds": str(item.segment.start_seconds),
        "end_seconds": str(item.segment.end_seconds),
    }


def _of_track(item: TrackItem) -> dict[str, str]:
    return {"id": item.key, "decision": item.judgement}


def _add_run(track: ET.Element, run: Run, fixed: Mapping[str, str], z_order: int) -> None:
    """A box for every keyframe, and one that is outside. CVAT wants all attributes with each."""
    for key in run.keys:
        _add_box(track, key, fixed, z_order)
    if run.end is not None:
        last = Key(run.end, run.keys[-1].box, time_seconds=run.end_seconds)
        _add_box(track, last, fixed, z_order, outside=True)


def _add_box(track: ET.Element, key: Key, fixed: Mapping[str, str], z_order: int, *, outside: bool = False) -> None:
    corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), (_number(value) for value in key.box), strict=True))
    fields = {"frame": str(key.frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1"}
    box = ET.SubElement(track, "box", {**fields, **corners, "z_order": str(z_order)})
    given = dict(fixed)
    if track.get("label") not in RESERVED:
        given |= {"score": _or_nothing(key.score), "seconds": _or_nothing(key.time_seconds)}
    for name, value in given.items():
        ET.SubElement(box, "attribute", name=name).text = value


def _or_nothing(value: float | None) -> str:
    return "" if value is None else str(value)


def _number(value: float) -> str:
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


def _add_meta(root: ET.Element, timeline: Timeline, shown: Annotations) -> None:
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    name = clean(timeline.source["name"], 256)
    _text(task, "name", name)
    _text(task, "size", str(shown.frames.count))
    _text(task, "mode", "interpolation")
    _text(task, "overlap", "0")
    _text(task, "start_frame", "0")
    _text(task, "stop_frame", str(shown.frames.count - 1))
    _text(task, "frame_filter", "")
    rows = ET.SubElement(task, "labels")
    for label, (colour, attributes) in labels(shown).items():
        row = ET.SubElement(rows, "label")
        _text(row, "name", label)
        _text(row, "color", colour)
        _text(row, "type", "rectangle")
        _add_attributes(ET.SubElement(row, "attributes"), attributes)
    size = ET.SubElement(task, "original_size")
    _text(size, "width", str(shown.size[0]))
    _text(size, "height", str(shown.size[1]))
    _text(task, "source", name)
    _text(meta, "dumped", clean(timeline.provenance["created"]))


def _add_attributes(parent: ET.Element, attributes: tuple[Attribute, ...]) -> None:
    for item in attributes:
        row = ET.SubElement(parent, "attribute")
        _text(row, "name", item.name)
        _text(row, "mutable", str(item.is_mutable))
        _text(row, "input_type", item.input_type)
        _text(row, "default_value", item.default)
        _text(row, "values", "\n".join(item.values))


def _text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
