"""FFmpeg's metadata file (https://ffmpeg.org/ffmpeg-formats.html#Metadata-1): chapters that tile the film.

``ffmpeg -i film.mp4 -i chapters.txt -map_metadata 0 -map_chapters 1 -codec copy with-chapters.mkv`` puts them into a
file that players show them of; mkvmerge takes them from there.

Every moment of the film is in one chapter, since players show a film as a row of chapters: what was found (`Block:
explicit 0.91`; where segments overlap, all of them, the worst first), what was not looked at or could not be, and,
named as such, where nothing was found. Neighbours of the same name are one chapter. Times are milliseconds from the
start of the file, as FFmpeg counts for what it writes, see :mod:`vidmod.exports.clock`.

A timeline that is not complete gets a `comment` as well, which ``-map_metadata 1`` copies. What lies in no stream that
plays stands in lines that FFmpeg skips.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vidmod.exports.clock import Found, elsewhere, found, length, unseen
from vidmod.exports.wording import MAX_CHARACTERS, legible, title
from vidmod.policy import VERDICTS
from vidmod.timeline import Timeline

_SPECIAL = re.compile(r"([=;#\\\n])")
_NOTHING = "Nothing found"


class _Chapter(NamedTuple):
    start: int
    end: int
    title: str


def write(timeline: Timeline) -> bytes:
    """The file, in UTF-8."""
    about = f"vidmod: {timeline.verdict}, {timeline.status}"
    lines = [";FFMETADATA1", *(f"; {_escaped(line)}" for line in (about, *elsewhere(timeline)))]
    if timeline.status != "complete":
        why = " ".join((f"{about}.", *timeline.notes))
        lines.append(f"comment={_escaped(legible(why, 4 * MAX_CHARACTERS))}")
    for row in chapters(timeline):
        lines += [
            "[CHAPTER]",
            "TIMEBASE=1/1000",
            f"START={row.start}",
            f"END={row.end}",
            f"title={_escaped(row.title)}",
        ]
    return ("\n".join(lines) + "\n").encode()


def chapters(timeline: Timeline) -> list[_Chapter]:
    """They touch, from 0 to the end of the film; none is empty."""
    segments = found(timeline)
    gaps = [(row.start, row.end, row.title) for row in unseen(timeline)]
    end = max([length(timeline), *(row.end for row in segments), *(row[1] for row in gaps)])
    edges = {0, end, *(row.start for row in segments), *(row.end for row in segments)}
    edges |= {edge for row in gaps for edge in row[:2]}
    rows: list[_Chapter] = []
    for start, stop, held, unknown in _pieces(sorted(edges), segments, gaps):
        name = _named(held, unknown)
        if rows and rows[-1].title == name:
            rows[-1] = rows[-1]._replace(end=stop)
        else:
            rows.append(_Chapter(start, stop, name))
    return rows


def _pieces(
    edges: list[int], segments: list[Found], gaps: list[tuple[int, int, str]]
) -> Iterator[tuple[int, int, list[Found], list[str]]]:
    """What is there between each two edges, both lists being in order of their starts."""
    waiting, unseen_yet = list(reversed(segments)), sorted(gaps, reverse=True)
    held: list[Found] = []
    unknown: list[tuple[int, int, str]] = []
    for start, stop in itertools.pairwise(edges):
        held, unknown = [row for row in held if row.end > start], [row for row in unknown if row[1] > start]
        while waiting and waiting[-1].start <= start:
            held.append(waiting.pop())
        while unseen_yet and unseen_yet[-1][0] <= start:
            unknown.append(unseen_yet.pop())
        yield start, stop, held, [row[2] for row in unknown]


def _named(segments: Iterable[Found], unknown: Iterable[str]) -> str:
    worst_first = sorted((row.segment for row in segments), key=lambda row: (-VERDICTS.index(row.verdict), -row.peak))
    words = [f"{title(row)} {row.peak:.2f}" for row in worst_first]
    # Two of the same kind that overlap are told once.
    return legible("; ".join(dict.fromkeys([*words, *unknown])) or _NOTHING, 2 * MAX_CHARACTERS)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
