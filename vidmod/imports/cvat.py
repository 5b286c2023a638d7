"""CVAT for video 1.1, as CVAT exports it: the XML, or the archive with it. See :mod:`vidmod.exports.cvat`.

Only keyframes count: what lies between, CVAT has worked out. A turned box is the box around it; so are polygons and
ellipses. A document type is refused: with it entities could be defined that grow without end or name other files.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from xml.parsers import expat

from vidmod.annotations import Annotations, Frames, Key, Run
from vidmod.errors import TimelineError
from vidmod.exports.cvat import SEGMENT, TIMELINE, UNSEEN, annotations_of
from vidmod.imports.returned import MAX_BYTES, Returned, ReturnedSegment, ReturnedTrack
from vidmod.predictions import Box

__all__ = ["annotations_of", "read"]

_MAX_DEPTH = 32
_MAX_TEXT = 1 << 16
_ROOT, _IN_TRACK = ("annotations",), ("annotations", "track")
# What a damaged archive makes of zipfile.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_NOT_BOXES = ("cuboid", "mask", "skeleton")
Fields = dict[str, str]


@dataclass(slots=True)
class _Shape:
    """A box in a frame."""

    frame: int
    box: Box
    is_outside: bool
    is_keyframe: bool
    attributes: Fields = field(default_factory=dict)


@dataclass(slots=True)
class _Track:
    """A track as the file has it."""

    where: str
    label: str
    shapes: list[_Shape] = field(default_factory=list)

    @property
    def attributes(self) -> Fields:
        """Of its first box: those that are not of single frames are the same in all."""
        return self.shapes[0].attributes


def read(data: bytes, shown: Annotations, sha256: str, origin: str) -> Returned:  # noqa: ARG001 # one video to a file
    """A file's segments and tracks.

    Raises:
        TimelineError: It is not such a file, or a field of it is wrong.
    """
    parser = _Parser(origin, shown.frames)
    parser.feed(_unpacked(data, origin))
    marks = [track.attributes for track in parser.tracks if track.label == TIMELINE and track.shapes]
    if len({about.get("sha256") for about in marks}) > 1:
        raise TimelineError(f"{origin}: has the tracks of several videos. Export one task, not a project.")
    about: Fields = marks[0] if marks else {}
    segments: list[ReturnedSegment] = []
    tracks: list[ReturnedTrack] = []
    for track in parser.tracks:
        if not track.shapes or track.label in (UNSEEN, TIMELINE):
            continue
        if track.label == SEGMENT:
            segments += _segments(track, shown)
        elif runs := _runs(track, shown):
            given = track.attributes
            tracks.append(ReturnedTrack(track.where, given.get("id"), track.label, runs, given.get("decision")))
    return Returned(about.get("sha256"), about.get("digest"), segments, tracks, parser.size)


def _segments(track: _Track, shown: Annotations) -> list[ReturnedSegment]:
    given = track.attributes
    return [
        ReturnedSegment(
            where=track.where,
            key=given.get("id"),
            category=given.get("category"),
            start=run.start,
            end=run.end,
            verdict=given.get("verdict"),
            decision=given.get("decision"),
            note=given.get("note"),
        )
        for run in _runs(track, shown)
    ]


def _runs(track: _Track, shown: Annotations) -> list[Run]:
    """The stretches of frames in which a track is not outside."""
    named = [shape for shape in track.shapes if shape.is_keyframe] or track.shapes
    by_frame = {shape.frame: shape for shape in named}
    runs: list[Run] = []
    keys: list[Key] = []
    for shape in sorted(by_frame.values(), key=attrgetter("frame")):
        if not shape.is_outside:
            keys.append(Key(shape.frame, shape.box))
        elif keys:
            runs.append(Run(tuple(keys), shown.frames.ended(shape.frame)))
            keys = []
    if keys:
        runs.append(Run(tuple(keys)))
    return runs


def _unpacked(data: bytes, origin: str) -> bytes:
    """The XML, out of the archive that CVAT makes if it is one."""
    if not data.startswith(b"PK"):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".xml")]
            if len(names) != 1:
                raise TimelineError(
                    f"{origin}: has {len(names)} XML files, which is not what CVAT exports of a task. "
                    "Give the one that is meant."
                )
            with archive.open(names[0]) as file:
                text = file.read(MAX_BYTES + 1)
    except TimelineError:
        raise
    except _DAMAGE as exc:
        raise TimelineError(f"{origin}: is a damaged archive ({exc}). Export it again.") from exc
    if len(text) > MAX_BYTES:
        raise TimelineError(f"{origin}: {names[0]!r} in it is larger than {MAX_BYTES >> 20} MiB.")
    return text


class _Parser:
    """Reads the XML as it comes, and keeps tracks.

    Args:
        origin: Names the file in messages.
        frames: Of the film.
    """

    def __init__(self, origin: str, frames: Frames) -> None:
        self._origin, self._frames = origin, frames
        self._depth: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._name = ""
        self._size: Fields = {}
        self.tracks: list[_Track] = []

    def feed(self, data: bytes) -> None:
        """Read all of a file.

        Raises:
            TimelineError: It is wrong.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.EntityDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add_text
        try:
            parser.Parse(data, True)
        except expat.ExpatError as exc:
            raise TimelineError(f"{self._origin}: is not whole XML ({exc}). Export it again.") from exc
        except (ValueError, LookupError) as exc:
            if isinstance(exc, TimelineError):
                raise
            raise TimelineError(f"{self._origin}: is in an encoding that is not known ({exc}). Use UTF-8.") from exc

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the picture that boxes are in."""
        try:
            return int(self._size["width"]), int(self._size["height"])
        except (KeyError, ValueError):
            return None

    def _refuse_doctype(self, *_: object) -> None:
        raise self._error("has a document type (DTD), which CVAT does not write. Export it again.")

    def _start(self, tag: str, given: Fields) -> None:
        if not self._depth and tag != "annotations":
            raise self._error(f"{tag!r} is its root, and not 'annotations': it is not CVAT's.")
        if len(self._depth) >= _MAX_DEPTH:
            raise self._error("its elements lie in each other too deeply to be CVAT's.")
        place, self._text, self._length = tuple(self._depth), [], 0
        self._depth.append(tag)
        if place == _ROOT and tag == "image":
            raise self._error("is 'CVAT for images'. Export the task as 'CVAT for video 1.1'.")
        if place == _ROOT and tag == "track":
            where = f"track[{len(self.tracks)}]"
            self.tracks.append(_Track(where, self._field(given, "label", where)))
        elif place == _IN_TRACK:
            self._add_shape(self.tracks[-1], tag, given)
        elif place[:2] == _IN_TRACK and tag == "attribute":
            self._name = given.get("name", "")

    def _end(self, tag: str) -> None:
        self._depth.pop()
        place, text = tuple(self._depth), "".join(self._text)
        self._text, self._length = [], 0
        if tag == "attribute" and place[:2] == _IN_TRACK and len(place) == len(_IN_TRACK) + 1:
            self.tracks[-1].shapes[-1].attributes[self._name] = text.strip()
        elif place and place[-1] == "original_size":
            self._size[tag] = text

    def _add_text(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
        if self._length > _MAX_TEXT:
            raise self._error(f"an element of it has more than {_MAX_TEXT} characters, which CVAT does not write.")

    def _add_shape(self, track: _Track, tag: str, given: Fields) -> None:
        where = f"{track.where}.{tag}[{len(track.shapes)}]"
        read_box = _SHAPES.get(tag)
        if read_box is None:
            what = "a shape without a box around it" if tag in _NOT_BOXES else "not a shape"
            raise self._error(f"{where}: is {what}. Draw a rectangle instead.")
        frame = self._number(given, "frame", where)
        if not 0 <= frame <= self._frames.limit or frame != int(frame):
            raise self._error(
                f"{where}.frame: {given['frame'][:40]!r} is not one of the film's 0 to {self._frames.count - 1}."
            )
        box = read_box(self, given, where)
        if not (box[0] <= box[2] and box[1] <= box[3]):
            raise self._error(f"{where}: its right or lower side is before its left or upper one.")
        if "rotation" in given:
            box = _turned(box, self._number(given, "rotation", where))
        flags = given.get("outside") == "1", given.get("keyframe", "1") == "1"
        track.shapes.append(_Shape(int(frame), box, *flags))

    def rectangle(self, given: Fields, where: str) -> Box:
        """The box of a `box`."""
        x1, y1, x2, y2 = (self._number(given, name, where) for name in ("xtl", "ytl", "xbr", "ybr"))
        return (x1, y1, x2, y2)

    def ellipse(self, given: Fields, where: str) -> Box:
        """The box around an `ellipse`."""
        x, y, across, down = (self._number(given, name, where) for name in ("cx", "cy", "rx", "ry"))
        return (x - across, y - down, x + across, y + down)

    def points(self, given: Fields, where: str) -> Box:
        """The box around a `polygon`, a `polyline` or `points`."""
        pairs = [pair.partition(",") for pair in self._field(given, "points", where).split(";")]
        xs = [self._finite(x, f"{where}.points") for x, _, _ in pairs]
        ys = [self._finite(y, f"{where}.points") for _, _, y in pairs]
        return (min(xs), min(ys), max(xs), max(ys))

    def _number(self, given: Fields, name: str, where: str) -> float:
        return self._finite(self._field(given, name, where), f"{where}.{name}")

    def _finite(self, text: str, where: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._error(f"{where}: {text[:40]!r} is not a number.")
        return value

    def _field(self, given: Fields, name: str, where: str) -> str:
        if name not in given:
            raise self._error(f"{where}.{name}: is missing.")
        return given[name]

    def _error(self, message: str) -> TimelineError:
        return TimelineError(f"{self._origin}: {message}")


def _turned(box: Box, degrees: float) -> Box:
    """The box around one that is turned about its centre, as CVAT does."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = box[2] - box[0], box[3] - box[1]
    across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return (x - across, y - down, x + across, y + down)


_SHAPES: dict[str, Callable[[_Parser, Fields, str], Box]] = {
    "box": _Parser.rectangle,
    "ellipse": _Parser.ellipse,
    "polygon": _Parser.points,
    "polyline": _Parser.points,
    "points": _Parser.points,
}
