"""An edit decision list as Kodi and MPlayer read it: `START END ACTION` a line, in seconds.

Saved as `film.edl` beside `film.mp4`, Kodi obeys it by itself; MPlayer does by ``-edl film.edl``. Sources:
https://kodi.wiki/view/Edit_decision_list, Kodi's reader (xbmc/cores/VideoPlayer/Edl.cpp) and MPlayer's
(http://www.mplayerhq.hu/DOCS/HTML/en/edl.html).

What becomes of a segment, by its verdict and its policy's action:

=============== ================= ==================
action          block             review
=============== ================= ==================
cover, cut      0, cut            2, scene marker
mute            1, mute           2, scene marker
report          2, scene marker   2, scene marker
=============== ================= ==================

A player can cover nothing, so what must not be shown is left out of the playback. What a person should see first is
not: a marker leads there (the keys for the next and the previous scene). The same goes for a stretch that was not
looked at: it is not known to be harmless, so every one has a marker, and a comment with its length. 3, a commercial
break, is never written: Kodi skips it but once, joins and drops short ones, and trims their ends.

Rules of the readers, which what is written here keeps:

- A cut or mute starts at 0 or later and ends after it starts. It neither overlaps nor touches another one, since for
  Kodi both ends are part of it: cuts that do become one, and a mute gives way to a cut by a millisecond.
- A marker is one moment (Kodi takes the second number), and in no cut. What begins in a cut and goes on is marked
  behind it.
- Lines are in the order of their starts. Kodi reads lines of 1,023 bytes, MPlayer of 97, and what is longer as several.
- A comment begins with `##` and has a second word, or Kodi warns of it.
- Kodi multiplies by 1000 and drops the fraction, which would make 1.001 s 1,000 ms: such a number gets a digit more.
- Milliseconds are 32-bit integers, 24.8 days.

Times count from the start of the file, see :mod:`vidmod.exports.clock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vidmod.exports.clock import Found, elsewhere, found, timestamp, unseen
from vidmod.exports.wording import legible, title
from vidmod.timebase import Span, complement, union
from vidmod.timeline import Segment, Timeline

CUT, MUTE, SCENE = 0, 1, 2
# MPlayer's buffer, without the line's end.
_MAX_LINE_BYTES = 97
_LAST = (1 << 31) - 1
# From the end of an edit to where the next may start, in milliseconds.
_APART = 1


def write(timeline: Timeline) -> bytes:
    """The list, in UTF-8; only its comments have other than ASCII characters."""
    segments = found(timeline)
    cuts = _joined(row for row in segments if _action(row.segment) == CUT)
    mutes = _beside(cuts, _joined(row for row in segments if _action(row.segment) == MUTE))
    lines = [(int(span.start), 0, _edit(span, CUT)) for span in cuts]
    lines += [(int(span.start), 0, _edit(span, MUTE)) for span in mutes]
    for start, words in _markers(timeline, segments, cuts):
        lines += [(start, 1, _comment(words)), (start, 2, _edit(Span(start, start), SCENE))]
    about = [f"vidmod: {timeline.verdict}, {timeline.status}", legible(timeline.source["name"]), *elsewhere(timeline)]
    if timeline.status != "complete":
        about += map(legible, timeline.notes)
    return "".join(
        f"{line}\n" for line in [*map(_comment, filter(None, about)), *(row[2] for row in sorted(set(lines)))]
    ).encode()


def _action(segment: Segment) -> int:
    """The number of what is done about a segment."""
    if segment.verdict != "block" or segment.action == "report":
        return SCENE
    # An action of a later version is not known to do less than to cover.
    return MUTE if segment.action == "mute" else CUT


def _joined(rows: Iterable[Found]) -> list[Span]:
    spans = (Span(min(row.start, _LAST - 1), min(row.end, _LAST)) for row in rows)
    return union(spans, gap=_APART - 1)


def _beside(cuts: list[Span], mutes: list[Span]) -> list[Span]:
    """The mutes without what is cut anyway, a millisecond away from it."""
    taken = [Span(max(0, cut.start - _APART), cut.end + _APART) for cut in cuts]
    return [part for mute in mutes for part in complement(taken, mute)]


def _markers(timeline: Timeline, segments: Iterable[Found], cuts: list[Span]) -> Iterator[tuple[int, str]]:
    """When to mark, and what."""
    for row in segments:
        if _action(row.segment) == SCENE:
            yield from _marked(row.start, row.end, f"{title(row.segment)} {row.segment.peak:.2f}", cuts)
    for gap in unseen(timeline):
        yield from _marked(gap.start, gap.end, gap.title, cuts)


def _marked(start: int, end: int, words: str, cuts: list[Span]) -> Iterator[tuple[int, str]]:
    """Where each part of a stretch begins that no cut takes away."""
    taken = [Span(cut.start, cut.end + _APART) for cut in cuts if cut.start < end and start <= cut.end]
    for part in complement(taken, Span(min(start, _LAST - 1), min(end, _LAST))):
        yield int(part.start), f"{timestamp(int(part.start))} to {timestamp(int(part.end))} {words}"


def _edit(span: Span, action: int) -> str:
    return f"{_seconds(int(span.start))} {_seconds(int(span.end))} {action}"


def _seconds(milliseconds: int) -> str:
    text = f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
    return text if int(float(text) * 1000) == milliseconds else f"{text}0001"


def _comment(words: str) -> str:
    line = f"## {words}".encode()
    if len(line) > _MAX_LINE_BYTES:
        line = line[: _MAX_LINE_BYTES - len("…".encode())].decode(errors="ignore").encode() + "…".encode()
    return line.decode()
