"""What a person did in another tool, back as a reviewed timeline: one file per format, and this table of them.

A module of a format has two public functions: ``annotations_of(timeline)``, what `vidmod export` showed of it, and
``read(data, shown, sha256, origin)``, what the file says of the video with that hash. How the two differ is worked out
the same way for all, see :mod:`.merging`. Files are strangers': no more is read of them than a limit, nothing in them
is executed, fetched or expanded, and a field that is wrong is named by its path.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from vidmod.errors import TimelineError, UsageError
from vidmod.imports.returned import MAX_BYTES

if TYPE_CHECKING:
    from vidmod.annotations import Annotations
    from vidmod.imports.returned import Returned
    from vidmod.timeline import Timeline

_MARKS = {b"<": "cvat", b"PK\x03\x04": "cvat", b"{": "labelstudio", b"[": "labelstudio"}
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff\x00", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Format:
    """A format that a person's decisions can come back in.

    Attributes:
        tool: Where they were made.
        says: What it is, for a list of formats.
    """

    tool: str
    says: str


FORMATS: dict[str, Format] = {
    "cvat": Format("CVAT", "CVAT for video 1.1, the XML or the archive that CVAT exports"),
    "labelstudio": Format("Label Studio", "Label Studio's full JSON export"),
}


class _Module(Protocol):
    def annotations_of(self, timeline: Timeline) -> Annotations: ...

    def read(self, data: bytes, shown: Annotations, sha256: str, origin: str) -> Returned: ...


def read_file(path: Path) -> bytes:
    """A file's bytes; `-` is standard input.

    Raises:
        UsageError: It is missing, unreadable or too large.
    """
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: there is no such file. Check the path.") from exc
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror}).") from exc
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: is larger than {MAX_BYTES >> 20} MiB. Export one video at a time.")
    return data


def guess(data: bytes, origin: str = "file") -> str:
    """The name of a file's format, by its first bytes.

    Raises:
        UsageError: It is none that is known.
    """
    start = data[:100]
    for mark in _BYTE_ORDER_MARKS:
        start = start.removeprefix(mark)
    start = start.lstrip(b" \t\r\n\x00")
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    raise UsageError(f"{origin}: is neither XML nor JSON. Give the file that CVAT or Label Studio has exported.")


def import_review(
    data: bytes,
    timeline: Timeline,
    *,
    origin: str = "file",
    source: str | None = None,
    reviewer: str | None = None,
    note: str = "",
    at: datetime | None = None,
    force: bool = False,
) -> Timeline:
    """A timeline as a person has corrected it in another tool.

    Args:
        data: The tool's export.
        timeline: That was exported to it.
        origin: Names the data in messages.
        source: A name of :data:`FORMATS`; None to guess it.
        reviewer: Who decided; None for whom the file names.
        at: When; None for when the file says, or else now.
        force: Take a file though it does not say that it belongs to this video and timeline, or says otherwise.

    Raises:
        UsageError: There is no such format, or the file belongs to something else.
        TimelineError: A field of the file is wrong.
    """
    from vidmod.imports.merging import merged

    name = guess(data, origin) if source is None else source
    if name not in FORMATS:
        raise UsageError(f"Invalid format ({name!r}). Choose one of {', '.join(FORMATS)}.")
    module = cast("_Module", importlib.import_module(f"vidmod.imports.{name}"))
    shown = module.annotations_of(timeline)
    returned = module.read(data, shown, timeline.source["sha256"], origin)
    if not force:
        _check(returned, timeline, shown, origin)
    return merged(
        timeline,
        shown,
        returned,
        origin=origin,
        reviewer=reviewer or returned.reviewer or "not named",
        note=note,
        tool=FORMATS[name].tool,
        at=next((time for time in (at, returned.at) if time is not None), datetime.now(UTC)),
    )


def _check(returned: Returned, timeline: Timeline, shown: Annotations, origin: str) -> None:
    force = "To take it all the same, use --force."
    wanted = timeline.source["sha256"]
    if returned.sha256 is None:
        raise UsageError(
            f"{origin}: does not say to which video it belongs. The timeline's has the SHA-256 {wanted}. {force}"
        )
    if returned.sha256 != wanted:
        raise UsageError(
            f"{origin}: belongs to the video with the SHA-256 {returned.sha256[:64]!r}; the timeline is of {wanted}. "
            f"Give the timeline that was exported. {force}"
        )
    if returned.digest != shown.digest:
        raise UsageError(
            f"{origin}: was exported from another timeline of this video, whose segments and boxes are not those of "
            f"this one. Give that timeline. {force}"
        )
    if returned.size is not None and returned.size != shown.size:
        width, height = returned.size
        raise TimelineError(
            f"{origin}: its boxes are of a picture of {width}x{height}; the video's is {shown.size[0]}x{shown.size[1]} "
            f"as displayed. Annotate the video itself. {force}"
        )


def summary(timeline: Timeline) -> str:
    """What a reviewed timeline says was decided, in a line."""
    from collections import Counter

    from vidmod.reviewing import decisions, dismissed, machine_tracks

    counts = Counter(decisions(timeline).values())
    told = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "rejected", "changed", "added"))
    left = len(timeline.segments) - sum(counts[name] for name in ("accepted", "changed", "added"))
    machine = machine_tracks(timeline)
    gone, drawn = len(dismissed(timeline)), sum(track not in machine for track in timeline.tracks)
    boxes = [f"{_boxes(gone)} dismissed"] if gone else []
    boxes += [f"{_boxes(drawn)} drawn"] if drawn else []
    return f"{told}{f', {left} undecided' if left else ''}{'; ' if boxes else ''}{', '.join(boxes)}"


def _boxes(count: int) -> str:
    return f"{count} {'box' if count == 1 else 'boxes'}"
