"""WebVTT (W3C, https://www.w3.org/TR/webvtt1/): a cue per segment, and one per stretch that was not looked at.

A player shows the cues as subtitles, and a web page reads them from a `<track>`. Times count from the start of the
file, see :mod:`vidmod.exports.clock`. Cues may overlap, as segments do. Of a cue the first line says what it is, the
second which labels were seen; its identifier is `segment` or `unseen` and a number. What lies in no stream that plays
(cover art, pictures that an edit list hides) stands in a NOTE at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator

from vidmod.exports.clock import elsewhere, found, timestamp, unseen
from vidmod.exports.wording import labels, legible, title
from vidmod.reviewing import decisions
from vidmod.timeline import Timeline


def write(timeline: Timeline) -> bytes:
    """The text track, in UTF-8."""
    blocks = [f"WEBVTT - {_safe(legible(timeline.source['name']))}", "\n".join(["NOTE", *_notes(timeline)])]
    cues = sorted([*_segments(timeline), *_unseen(timeline)])
    blocks += [f"{name}\n{timestamp(start)} --> {timestamp(end)}\n{text}" for start, end, name, text in cues]
    return ("\n\n".join(blocks) + "\n").encode()


def _notes(timeline: Timeline) -> list[str]:
    lines = [f"vidmod: {timeline.verdict}, {timeline.status}", *map(legible, timeline.notes), *elsewhere(timeline)]
    return [_safe(line) for line in lines if line]


def _segments(timeline: Timeline) -> Iterator[tuple[int, int, str, str]]:
    decided = decisions(timeline)
    for number, row in enumerate(found(timeline), 1):
        decision = decided.get(row.segment.id)
        head = f"{title(row.segment)} {row.segment.peak:.2f}" + (f", {decision} by a reviewer" if decision else "")
        lines = [head, labels(row.segment)] if row.segment.labels else [head]
        yield row.start, row.end, f"segment {number}", "\n".join(map(_safe, lines))


def _unseen(timeline: Timeline) -> Iterator[tuple[int, int, str, str]]:
    for number, row in enumerate(unseen(timeline), 1):
        yield row.start, row.end, f"unseen {number}", _safe(row.title)


def _safe(line: str) -> str:
    """Escaped for cue text, which makes `-->` impossible too."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
