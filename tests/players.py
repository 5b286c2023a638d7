"""What players and editors make of an edit list or a filter: their rules, apart from what writes for them.

Kodi's are those of its reader (xbmc/cores/VideoPlayer/Edl.cpp), MPlayer's those of its own (edl.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_KODI_BUFFER, _MPLAYER_BUFFER = 1024, 99
_KODI_INT = 1 << 31
_MPLAYER_LINE = re.compile(rb"\s*([+-]?[\d.]+)\s+([+-]?[\d.]+)\s+([+-]?\d+)")
CUT, MUTE, SCENE, BREAK = range(4)


class Edit(NamedTuple):
    """In milliseconds."""

    start: int
    end: int
    action: int


@dataclass
class Player:
    """What was read: edits, scene markers in milliseconds, and what the player complained of."""

    edits: list[Edit] = field(default_factory=list)
    scenes: list[int] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """What is left out."""
        return [(edit.start, edit.end) for edit in self.edits if edit.action == CUT]

    def shows(self, start: int, end: int) -> bool:
        """Whether a moment of a stretch is shown; cuts are in order and touch nowhere."""
        return not any(first <= start and end <= last for first, last in self.cuts)


def kodi(data: bytes) -> Player:
    """Read a list as Kodi does."""
    player = Player()
    for line in data.split(b"\n"):
        if len(line) >= _KODI_BUFFER:
            player.complaints.append(f"a line of {len(line)} bytes is read as several")
        fields = line.split()[:3]
        if not fields:
            continue
        if len(fields) < 2:
            player.complaints.append(f"too few fields: {line!r}")
            continue
        if fields[0].startswith(b"##"):
            continue
        if len(fields) == 2:
            fields = [fields[0], fields[0], fields[1]]
        try:
            # A number of seconds is multiplied and its fraction dropped.
            start, end = (int(float(text) * 1000) for text in fields[:2])
            action = int(fields[2])
        except ValueError:
            player.complaints.append(f"no numbers: {line!r}")
            continue
        if not -_KODI_INT <= start < _KODI_INT or not -_KODI_INT <= end < _KODI_INT:
            player.complaints.append(f"too late: {line!r}")
        elif action in (CUT, MUTE, BREAK):
            _add(player, Edit(start, end, action))
        elif action == SCENE:
            _mark(player, end)
        else:
            player.complaints.append(f"no such action: {line!r}")
    return player


def _add(player: Player, edit: Edit) -> None:
    inside = any(old.start <= edge <= old.end for old in player.edits for edge in (edit.start, edit.end))
    around = any(edit.start < old.start and edit.end > old.end for old in player.edits)
    if edit.start < 0 or edit.start >= edit.end or inside or around:
        player.complaints.append(f"refused: {edit}")
    else:
        player.edits = sorted([*player.edits, edit])


def _mark(player: Player, at: int) -> None:
    if any(old.start <= at <= old.end and old.action == CUT for old in player.edits):
        player.complaints.append(f"a marker in a cut: {at}")
    else:
        player.scenes.append(at)


def mplayer(data: bytes) -> Player:
    """Read a list as MPlayer does: it knows cuts and mutes, and its buffer is short."""
    player, last = Player(), 0.0
    for line in data.splitlines(keepends=True):
        size = _MPLAYER_BUFFER - 1
        for part in (line[place : place + size] for place in range(0, len(line), size)):
            if (match := _MPLAYER_LINE.match(part)) is None:
                continue
            start, end, action = float(match[1]), float(match[2]), int(match[3])
            if action not in (CUT, MUTE) and end <= start:
                # Kodi's markers are discarded with a warning, and do no harm.
                continue
            if start < last or end <= start or action not in (CUT, MUTE):
                player.complaints.append(f"not in order, empty, or unknown: {part!r}")
            else:
                player.edits.append(Edit(round(start * 1000), round(end * 1000), action))
                last = end
    return player


class Cue(NamedTuple):
    """A line of a filter, times in milliseconds."""

    start: int
    end: int
    category: str
    severity: str
    channel: str
    comment: str | None


_MCF = re.compile(
    r"WEBVTT MovieContentFilter 1\.1\.0\n\n"
    r"(?:NOTE\n(?P<about>(?:[A-Z]+ [^\n]+\n)+)\n)?"
    r"NOTE\nSTART (?P<start>\d{2,}:\d\d:\d\d\.\d{3})\nEND (?P<end>\d{2,}:\d\d:\d\d\.\d{3})\n"
    r"(?P<cues>(?:\n[^\n]+\n(?:[^\n]+\n)+)*)"
)
_ABOUT = ("TITLE", "YEAR", "TYPE", "SEASON", "EPISODE", "SOURCE", "IMDB", "RELEASE", "COMMENT")
_TIMING = re.compile(r"(\d{2,}):(\d\d):(\d\d)\.(\d{3}) --> (\d{2,}):(\d\d):(\d\d)\.(\d{3})")
_SPAN = re.compile(r"([a-zA-Z]+)=(low|medium|high)(?:=(both|video|audio))?(?: # (.+))?")


def movie_content_filter(data: bytes) -> tuple[dict[str, str], list[Cue]]:
    """Read a filter by the grammar of https://www.moviecontentfilter.com/specification, version 1.1.0."""
    text = data.decode("utf-8")
    match = _MCF.fullmatch(text)
    assert match is not None, text
    about = dict(line.split(" ", 1) for line in (match["about"] or "").splitlines())
    assert [name for name in _ABOUT if name in about] == list(about), "in the specification's order, and nothing else"
    cues = []
    for block in match["cues"].split("\n\n"):
        first, *spans = block.strip("\n").split("\n") if block.strip("\n") else [""]
        if not first:
            continue
        timing = _TIMING.fullmatch(first)
        assert timing is not None, first
        start, end = _milliseconds(*timing.groups()[:4]), _milliseconds(*timing.groups()[4:])
        assert start < end
        assert spans
        for line in spans:
            span = _SPAN.fullmatch(line)
            assert span is not None, line
            assert "-->" not in (span[4] or "")
            cues.append(Cue(start, end, span[1], span[2], span[3] or "both", span[4]))
    return {**about, "START": match["start"], "END": match["end"]}, cues


def _milliseconds(hours: str, minutes: str, seconds: str, rest: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest)
