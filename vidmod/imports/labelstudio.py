"""Label Studio's full JSON export (`JSON`, not `JSON-MIN`): tasks with annotations.

The results are those that :mod:`vidmod.exports.labelstudio` describes.
Of a task's annotations the latest counts that was not cancelled. A task as `vidmod export` wrote it, which has
predictions and no `annotations` at all, is taken as it is. A turned box is the box around it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec

from vidmod.annotations import Annotations, Key, Run
from vidmod.errors import TimelineError, UsageError
from vidmod.exports.labelstudio import DECISION, NOTE, UNSEEN, VERDICT, annotations_of
from vidmod.imports.returned import Returned, ReturnedSegment, ReturnedTrack
from vidmod.predictions import Box

__all__ = ["annotations_of", "read"]

_MOST = 1e9


class _Range(msgspec.Struct):
    start: int
    end: int


class _Keyframe(msgspec.Struct):
    frame: int
    x: float
    y: float
    width: float
    height: float
    enabled: bool = True
    rotation: float = 0.0


class _Value(msgspec.Struct):
    """Of all kinds of results that the configuration has."""

    ranges: list[_Range] | None = None
    timelinelabels: list[str] | None = None
    sequence: list[_Keyframe] | None = None
    labels: list[str] | None = None
    choices: list[str] | None = None
    text: list[str] | str | None = None


class _Result(msgspec.Struct):
    type: str
    id: str = ""
    from_name: str = ""
    value: _Value = msgspec.field(default_factory=_Value)


class _Person(msgspec.Struct):
    email: str = ""
    first_name: str = ""
    last_name: str = ""


class _Annotation(msgspec.Struct):
    result: list[_Result]
    was_cancelled: bool = False
    created_at: str = ""
    updated_at: str = ""
    completed_by: _Person | int | None = None


class _Data(msgspec.Struct):
    sha256: str | None = None
    digest: str | None = None
    name: str = ""


class _Task(msgspec.Struct):
    data: _Data
    annotations: list[_Annotation] | None = None
    # an export may have but their numbers
    predictions: Any = None


class _Prediction(msgspec.Struct):
    result: list[_Result]


def read(data: bytes, shown: Annotations, sha256: str, origin: str) -> Returned:
    """What was last decided about the video with that hash, or about the only one.

    Raises:
        TimelineError: It is not such a file, or a field of it is wrong.
        UsageError: It has several tasks, and none is of that video; or nobody has decided anything.
    """
    place, task = _chosen(_tasks(data, origin), sha256, origin)
    where, annotation = _decided(task, f"[{place}]", origin)
    reader = _Reader(annotation, shown, origin, where)
    person = annotation.completed_by
    return Returned(
        sha256=task.data.sha256,
        digest=task.data.digest,
        segments=reader.segments(),
        tracks=reader.tracks(),
        reviewer=_called(person) if isinstance(person, _Person) else None,
        at=_time(annotation.updated_at or annotation.created_at),
    )


def _tasks(data: bytes, origin: str) -> list[_Task]:
    try:
        found = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=list[_Task] | _Task)
    except msgspec.ValidationError as exc:
        if "missing required field `data`" in str(exc):
            raise TimelineError(
                f"{origin}: is not Label Studio's full export: a task has no 'data'. Export as JSON, not JSON-MIN."
            ) from exc
        raise TimelineError(f"{origin}: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise TimelineError(f"{origin}: is not whole JSON ({exc}). Export it again.") from exc
    return [found] if isinstance(found, _Task) else found


def _chosen(tasks: list[_Task], sha256: str, origin: str) -> tuple[int, _Task]:
    for place, task in enumerate(tasks):
        if task.data.sha256 == sha256:
            return place, task
    if len(tasks) == 1:
        return 0, tasks[0]
    named = ", ".join(repr((task.data.sha256 or "none")[:64]) for task in tasks[:5])
    raise UsageError(
        f"{origin}: has {len(tasks)} tasks, and none of the video with the SHA-256 {sha256}; theirs are {named}. "
        "Export the task that is meant."
    )


def _decided(task: _Task, where: str, origin: str) -> tuple[str, _Annotation]:
    """What counts of a task, and the path to it."""
    if task.annotations is None:
        if not isinstance(task.predictions, list) or len(task.predictions) != 1:
            raise TimelineError(
                f"{origin}: {where} has no annotations and not one prediction. Export the task from Label Studio."
            )
        try:
            found = msgspec.convert(task.predictions[0], _Prediction)
        except msgspec.ValidationError as exc:
            raise TimelineError(f"{origin}: {where}.predictions[0]: {exc}") from exc
        return f"{where}.predictions[0]", _Annotation(found.result)
    rows = [(place, row) for place, row in enumerate(task.annotations) if not row.was_cancelled]
    if not rows:
        raise UsageError(f"{origin}: nobody has submitted an annotation of {where}. Submit it in Label Studio first.")
    place, row = max(rows, key=lambda item: (item[1].updated_at or item[1].created_at, item[0]))
    return f"{where}.annotations[{place}]", row


class _Reader:
    """Reads one annotation.

    Args:
        origin: Names the file in messages.
        where: The path to the annotation.
    """

    def __init__(self, annotation: _Annotation, shown: Annotations, origin: str, where: str) -> None:
        self._results = annotation.result
        self._shown = shown
        self._origin, self._where = origin, where
        self._said: dict[tuple[str, str], str] = {}
        for row in self._results:
            if row.from_name in (DECISION, VERDICT) and row.value.choices:
                self._said[row.id, row.from_name] = row.value.choices[0]
            if row.from_name == NOTE and row.value.text:
                text = row.value.text
                self._said[row.id, NOTE] = text if isinstance(text, str) else "\n".join(text)

    def segments(self) -> list[ReturnedSegment]:
        """All segments."""
        found = []
        for place, row in enumerate(self._results):
            names = row.value.timelinelabels or [""]
            if row.type != "timelinelabels" or names == [UNSEEN]:
                continue
            where = f"{self._where}.result[{place}]"
            if len(names) != 1:
                raise self._error(f"{where}.value.timelinelabels: has {len(names)} labels. Choose one for a segment.")
            for number, span in enumerate(row.value.ranges or []):
                if not 1 <= span.start <= span.end <= self._shown.frames.limit:
                    raise self._error(
                        f"{where}.value.ranges[{number}]: {span.start} to {span.end} are not frames of a film that has "
                        f"them from 1 to {self._shown.frames.count}."
                    )
                found.append(
                    ReturnedSegment(
                        where=where,
                        key=row.id,
                        category=names[0],
                        start=span.start - 1,
                        end=self._shown.frames.ended(span.end),
                        verdict=self._said.get((row.id, VERDICT)),
                        decision=self._said.get((row.id, DECISION)),
                        note=self._said.get((row.id, NOTE), ""),
                    )
                )
        return found

    def tracks(self) -> list[ReturnedTrack]:
        """All box tracks."""
        found = []
        for place, row in enumerate(self._results):
            if row.type != "videorectangle":
                continue
            where = f"{self._where}.result[{place}]"
            if runs := self._runs(row.value.sequence or [], f"{where}.value.sequence"):
                label = row.value.labels[0] if row.value.labels else None
                found.append(ReturnedTrack(where, row.id, label, runs, self._said.get((row.id, DECISION))))
        return found

    def _runs(self, sequence: list[_Keyframe], where: str) -> list[Run]:
        rows = {key.frame: (key, self._key(key, f"{where}[{place}]")) for place, key in enumerate(sequence)}
        runs: list[Run] = []
        keys: list[Key] = []
        for frame in sorted(rows):
            given, key = rows[frame]
            keys.append(key)
            if not given.enabled:
                # A last keyframe like the one before says no more than when it ends.
                last = keys.pop() if len(keys) > 1 and _is_like(keys[-1].box, keys[-2].box) else key
                runs.append(Run(tuple(keys), self._shown.frames.ended(last.frame + 1)))
                keys = []
        if keys:
            runs.append(Run(tuple(keys)))
        return runs

    def _key(self, given: _Keyframe, where: str) -> Key:
        if not 1 <= given.frame <= self._shown.frames.limit:
            raise self._error(f"{where}.frame: {given.frame} is not one of the film's 1 to {self._shown.frames.count}.")
        for name in ("x", "y", "width", "height", "rotation"):
            if not abs(getattr(given, name)) <= _MOST:
                raise self._error(f"{where}.{name}: {getattr(given, name)} is too large.")
        if given.width < 0 or given.height < 0:
            raise self._error(f"{where}: its width ({given.width}) or height ({given.height}) is negative.")
        return Key(given.frame - 1, _box(given, self._shown.size))

    def _error(self, message: str) -> TimelineError:
        return TimelineError(f"{self._origin}: {message}")


def _is_like(box: Box, other: Box) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(box, other, strict=True))


def _box(given: _Keyframe, size: tuple[int, int]) -> Box:
    """In pixels; around it if it is turned, which Label Studio does about the upper left corner."""
    x, y = given.x * size[0] / 100, given.y * size[1] / 100
    width, height = given.width * size[0] / 100, given.height * size[1] / 100
    cos, sin = math.cos(math.radians(given.rotation)), math.sin(math.radians(given.rotation))
    corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
    xs = [x + across * cos - down * sin for across, down in corners]
    ys = [y + across * sin + down * cos for across, down in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def _called(person: _Person) -> str | None:
    return " ".join(part for part in (person.first_name, person.last_name) if part) or person.email or None


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
