"""What a player got from the live filter, held against what was sent and what is true of it.

A frame that leaves is told by the bars that it carries (see `live_sources`). If they can be read, the film's truth says
where the target is, and how much of that box is black in the picture that left is measured there. Where boxes cover the
bars, the frame is told by its time between two that can be read, if these agree. If nothing tells, the frame is cover
all over, or nobody knows what it is; red in it, which only the target has, is then the target.

Two measures for each frame, so that neither is believed alone:

* covered: the share of the target's true box that is the cover's black, within what encoding changes;
* reds: samples of the target's colour anywhere between the picture's bars, as a share of those that the film's frame
  has.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from live_sources import (
    FLASH_LUMA,
    Box,
    Bytes,
    Film,
    Planes,
    planes_of,
    read_number,
    strip_height,
    target_colour,
)

from tests.rtmp import CONNECTED, EXTRADATA, GONE, SOUND, Record, Sent, records
from vidmod.media.packets import packet_of
from vidmod.redaction import TOLERANCE

COVERED = 0.95
# Of a film's frame: more of its red than this, and the target is seen, whatever was measured in its box.
_MOST_RED = 0.10
# Of the target as a whole, where nobody knows which frame it is.
_MOST_RED_UNKNOWN = 0.05
_FEWEST_RED = 6
_BLACK = 16
# A whole cover is flat; encoding leaves that much.
_FLAT = 4.0
# Between two frames that can be read there are at most so many seconds of those that are told by their time.
_MOST_DEDUCED_SECONDS = 4.0
_LOUD, _QUIET_SECONDS = 0.1, 0.4
# A frame that was sent and does not come back for so long does not come.
_LONGEST_SECONDS = 30.0

Kind = Literal["clear", "cover", "unknown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame that a player got.

    Attributes:
        time: When, on the clock of this machine.
        seconds: When it is shown, in the stream's time.
        kind: `clear` if it is known which frame it is, `cover` if it is cover all over.
        film, number: Which frame it is; None if that cannot be told.
        covered: Share of the target's true box that is black; None without a target.
        partly: Whether the target is only partly in its source's picture: on its way in or out.
        leaks: Why the target is to be seen in it; empty if it is not.
        is_flash: Whether it is white.
        connection: In which of the player's connections it came, from 0.
    """

    time: float
    seconds: float
    kind: Kind
    film: int | None = None
    number: int | None = None
    covered: float | None = None
    leaks: str = ""
    partly: bool = False
    is_flash: bool = False
    connection: int = 0

    @property
    def has_target(self) -> bool:
        """Whether its source has the target, as far as one knows."""
        return self.covered is not None


@dataclass(slots=True)
class Watched:
    """All that a player got so far.

    Attributes:
        onsets: When tones begin, in the stream's time.
        connected, gone: When connections began and ended; the latter with why.
        damaged: Packets that cannot be decoded.
    """

    frames: list[Shown] = field(default_factory=list)
    onsets: list[float] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)
    gone: list[tuple[float, str]] = field(default_factory=list)
    damaged: int = 0


class Watcher:
    """Reads what a player writes down, also while it still does. A context manager.

    Args:
        record: The player's file.
        films: All that may be seen in it.
    """

    def __init__(self, record: Path, films: Iterable[Film]) -> None:
        self.watched = Watched()
        self._films = {film.plan.ident: film for film in films}
        self._sizes = tuple({film.plan.size: None for film in self._films.values()})
        whole = [count for film in self._films.values() for count, box in _rows(film) if box is not None]
        self._least_red = float(np.median(whole)) if whole else 0.0
        self._file = record.open("rb")
        self._pictures: VideoCodecContext | None = None
        self._sounds: AudioCodecContext | None = None
        self._times: dict[int, float] = {}
        self._quiet_since: float | None = None
        self._last: Shown | None = None  # whose bars could be read
        self._deduced: dict[int, Shown] = {}  # by place: what frames since then are, if the next one agrees

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def catch_up(self) -> Watched:
        """Take in what was written down since."""
        for row in records(self._file):
            self._take(row)
        return self.watched

    def first_clear(self) -> float | None:
        """When the first frame came that shows something; None if none has.

        Ends with that frame: to take in all of it may take longer than it takes to come.
        """
        for row in records(self._file):
            count = len(self.watched.frames)
            self._take(row)
            for frame in self.watched.frames[count:]:
                if frame.kind == "clear":
                    return frame.time
        return None

    def _take(self, row: Record) -> None:
        if row.kind == CONNECTED:
            self._connect(row)
        elif row.kind == GONE:
            if len(self.watched.connected) > len(self.watched.gone):
                self.watched.gone.append((row.time, row.data.decode("utf-8", "replace")))
        elif row.kind == EXTRADATA:
            self._pictures = cast(VideoCodecContext, _decoder("h264", row.data))
        elif row.kind == SOUND:
            self._hear(row)
        else:
            self._see(row)

    def _connect(self, row: Record) -> None:
        self.watched.connected.append(row.time)
        found = {
            kind: None if item is None else _decoder(item["codec"], bytes.fromhex(item["extradata"]))
            for kind, item in row.content.items()
        }
        self._pictures = cast("VideoCodecContext | None", found.get("picture"))
        self._sounds = cast("AudioCodecContext | None", found.get("sound"))
        self._times.clear()
        self._quiet_since = self._last = None
        self._deduced.clear()

    def _see(self, row: Record) -> None:
        if self._pictures is None:
            return
        self._times[row.pts] = row.time
        try:
            frames = self._pictures.decode(_packet(row))
        except FFmpegError:
            self.watched.damaged += 1
            return
        for frame in frames:
            pts = frame.pts if frame.pts is not None else row.pts
            self.watched.frames.append(self._shown(frame, self._times.pop(pts, row.time), pts / 1000))
        if len(self._times) > 100:
            self._times.clear()

    def _hear(self, row: Record) -> None:
        if self._sounds is None:
            return
        try:
            frames = self._sounds.decode(_packet(row))
        except FFmpegError:
            self.watched.damaged += 1
            return
        for frame in frames:
            heard = np.abs(frame.to_ndarray()).max(axis=0)
            start = row.pts / 1000
            for at in np.flatnonzero(heard >= _LOUD):
                time = start + float(at) / frame.sample_rate
                if self._quiet_since is None or time - self._quiet_since > _QUIET_SECONDS:
                    self.watched.onsets.append(time)
                self._quiet_since = time

    def _shown(self, frame: av.VideoFrame, time: float, seconds: float) -> Shown:
        planes = planes_of(frame)
        luma = planes.luma
        connection = len(self.watched.connected) - 1
        reds = int(target_colour(planes).sum())
        found = self._told(luma)
        if found is None:
            flat = all(float(plane[::4, ::4].std()) < _FLAT for plane in planes)
            too_red = reds > max(_FEWEST_RED, self._least_red * _MOST_RED_UNKNOWN)
            leaks = f"{reds} samples of its colour, in a frame that nobody knows" if too_red and not flat else ""
            shown = Shown(time, seconds, "cover" if flat else "unknown", leaks=leaks, connection=connection)
            if not flat:
                self._deduce(shown, planes, reds)
            return shown
        ident, number, place = found
        film = self._films[ident]
        self._confirm(film, number, seconds)
        strip = strip_height(place[3])
        inner = luma[place[1] + strip : place[1] + place[3] - strip, place[0] : place[0] + place[2]]
        covered, leaks = self._judged(film, number, place, planes, reds)
        is_flash = bool(inner[::4, ::4].mean() >= FLASH_LUMA)
        partly = film.is_partly(number)
        self._last = Shown(time, seconds, "clear", ident, number, covered, leaks, partly, is_flash, connection)
        return self._last

    def _follower(self, film: Film, seconds: float) -> int:
        """Which frame is shown then, if all has gone on since the last one that could be read."""
        assert self._last is not None
        assert self._last.number is not None
        return (self._last.number + round((seconds - self._last.seconds) * film.plan.fps)) % film.plan.frames

    def _deduce(self, shown: Shown, planes: Planes, reds: int) -> None:
        """Tell by its time which frame it is that has its bars covered, until the next one is there to agree."""
        last = self._last
        if last is None or last.film is None or not 0 < shown.seconds - last.seconds <= _MOST_DEDUCED_SECONDS:
            return
        film = self._films[last.film]
        number = self._follower(film, shown.seconds)
        height, width = planes.luma.shape
        place = fitted(film.plan.size, (width, height))
        covered, leaks = self._judged(film, number, place, planes, reds)
        if not reds:
            leaks = ""  # its bars may be damaged, and so may be what is where the target should be
        self._deduced[len(self.watched.frames)] = dataclasses.replace(
            shown,
            kind="clear",
            film=last.film,
            number=number,
            covered=covered,
            leaks=leaks or shown.leaks,
            partly=film.is_partly(number),
        )

    def _confirm(self, film: Film, number: int, seconds: float) -> None:
        """A frame can be read again: those before it were what they were taken for, if it is what follows them."""
        last = self._last
        is_same = last is not None and last.film == film.plan.ident
        is_near = last is not None and 0 < seconds - last.seconds <= _MOST_DEDUCED_SECONDS
        if self._deduced and is_same and is_near and number == self._follower(film, seconds):
            for place, shown in self._deduced.items():
                self.watched.frames[place] = shown
        self._deduced.clear()

    def _told(self, luma: Bytes) -> tuple[int, int, tuple[int, int, int, int]] | None:
        """Which frame a picture is, and where in it: left, top, width and height."""
        height, width = luma.shape
        for size in self._sizes:
            place = fitted(size, (width, height))
            found = read_number(luma[place[1] : place[1] + place[3], place[0] : place[0] + place[2]])
            film = None if found is None else self._films.get(found[0])
            if found is not None and film is not None and film.plan.size == size and found[1] < film.plan.frames:
                return found[0], found[1], place
        return None

    def _judged(
        self, film: Film, number: int, place: tuple[int, int, int, int], planes: Planes, reds: int
    ) -> tuple[float | None, str]:
        box = film.boxes[number]
        area = place[2] * place[3] / (film.plan.size[0] * film.plan.size[1])
        if box is None:
            most = max(_FEWEST_RED, self._least_red * area * _MOST_RED_UNKNOWN)
            return None, f"{reds} samples of its colour, and it is not there" if reds > most else ""
        covered = black_share(moved(box, film.plan.size, place), planes)
        if covered < COVERED:
            return covered, f"{covered:.0%} covered"
        most = max(_FEWEST_RED, film.reds[number] * area * _MOST_RED)
        return covered, f"{reds} samples of its colour, of {film.reds[number] * area:.0f}" if reds > most else ""


def _rows(film: Film) -> Iterator[tuple[int, Box | None]]:
    return zip(film.reds, film.boxes, strict=True)


def _decoder(codec: str, extradata: bytes) -> Any:
    context = av.CodecContext.create(codec, "r")
    context.extradata = extradata
    if isinstance(context, VideoCodecContext):
        context.thread_type = "NONE"
    context.open()
    return context


def _packet(row: Record) -> Packet[Any]:
    packet = packet_of(row.data)
    packet.pts, packet.dts = row.pts, row.dts
    return packet


def fitted(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a picture of one size lies in one of another, its sides kept: left, top, width and height, all even."""
    if size == into:
        return 0, 0, *into
    factor = min(into[0] / size[0], into[1] / size[1])
    width, height = (max(2, min(most, round(side * factor / 2) * 2)) for side, most in zip(size, into, strict=True))
    return (into[0] - width) // 4 * 2, (into[1] - height) // 4 * 2, width, height


def moved(box: Box, size: tuple[int, int], place: tuple[int, int, int, int]) -> Box:
    """A box of a picture of some size, where that picture lies in another."""
    across, down = place[2] / size[0], place[3] / size[1]
    return (
        place[0] + box[0] * across,
        place[1] + box[1] * down,
        place[0] + box[2] * across,
        place[1] + box[3] * down,
    )


def black_share(box: Box, planes: Planes) -> float:
    """How much of a box is black, 0 to 1; pixels at its border count by what of them lies inside."""
    luma = planes.luma
    left, top, right, bottom = (
        int(box[0]) // 2 * 2,
        int(box[1]) // 2 * 2,
        min(luma.shape[1], int(np.ceil(box[2]))),
        min(luma.shape[0], int(np.ceil(box[3]))),
    )
    dark = luma[top:bottom, left:right] <= _BLACK + TOLERANCE
    rows, columns = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
    parts = (plane[rows, columns].astype(np.int16) for plane in (planes.u, planes.v))
    grey = np.logical_and.reduce([np.abs(part - 128) <= TOLERANCE for part in parts])
    black = dark & grey.repeat(2, axis=0).repeat(2, axis=1)[: dark.shape[0], : dark.shape[1]]
    weights = np.outer(_along(box[1], box[3], top, bottom), _along(box[0], box[2], left, right))
    return float((weights * black).sum() / max(weights.sum(), 1e-9))


def _along(low: float, high: float, first: int, last: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    at = np.arange(first, last)
    return np.asarray(np.clip(np.minimum(at + 1, high) - np.maximum(at, low), 0, 1), np.float64)


# -- what was sent, and what came of it ----------------------------------------------------------------------


class Log:
    """What publishers sent, and when."""

    def __init__(self, rows: Iterable[Sent]) -> None:
        self.rows = sorted(rows)
        self._times: dict[tuple[int, int], list[float]] = defaultdict(list)
        for row in self.rows:
            self._times[row.film, row.number].append(row.time)

    def when(self, frame: Shown) -> float | None:
        """When a frame was sent that a player got: the last time before; None if nobody knows."""
        if frame.film is None or frame.number is None:
            return None
        times = self._times.get((frame.film, frame.number), [])
        place = bisect.bisect_right(times, frame.time)
        found = times[place - 1] if place else None
        return found if found is not None and frame.time - found <= _LONGEST_SECONDS else None

    def first_after(self, time: float) -> float | None:
        """When the first frame was sent from a time on."""
        place = bisect.bisect_left(self.rows, time, key=lambda row: row.time)
        return self.rows[place].time if place < len(self.rows) else None


@dataclass(frozen=True, slots=True)
class Flow:
    """How frames went through in a span of time.

    Attributes:
        sent: Frames that were sent in it.
        clear: Of these, those that came, to be told by their bars.
        fps: Frames that came a second, covers included.
        longest_gap: Between two that came, in seconds of the stream's time.
        covers: Frames that are cover all over.
        unknown: Frames that are neither that nor can be told.
        delays: Of all that can be told, in seconds.
    """

    sent: int
    clear: int
    fps: float
    longest_gap: float
    covers: int
    unknown: int
    delays: tuple[float, ...] = field(repr=False)

    @property
    def lost(self) -> int:
        """Frames that did not come, or not so that they can be told."""
        return self.sent - self.clear


def flow(frames: Sequence[Shown], log: Log, start: float, end: float) -> Flow:
    """Of frames that were sent in [start, end)."""
    seen: set[tuple[float, int, int]] = set()
    delays = []
    for frame in frames:
        when = log.when(frame)
        if when is not None and start <= when < end:
            assert frame.film is not None
            assert frame.number is not None
            seen.add((when, frame.film, frame.number))
            delays.append(frame.time - when)
    usual = float(np.median(delays)) if delays else 0.0
    came = [frame for frame in frames if start + usual <= frame.time < end + usual]
    times = sorted(frame.seconds for frame in came)
    sent = sum(start <= row.time < end for row in log.rows)
    return Flow(
        sent=sent,
        clear=len(seen),
        fps=len(came) / (end - start),
        longest_gap=float(np.diff(times).max()) if len(times) > 1 else 0.0,
        covers=sum(frame.kind == "cover" for frame in came),
        unknown=sum(frame.kind == "unknown" for frame in came),
        delays=tuple(delays),
    )


@dataclass(frozen=True, slots=True)
class Safety:
    """Whether the target was to be seen.

    Attributes:
        frames: That left, all of them.
        targets: Of these, frames that have the target, and can be told.
        leaks: Those in which it is to be seen.
        lowest: The least that is covered of it in any.
        sent_targets, sent_others: Frames that were sent, with the target and without.
        clear_others: Frames without it that left in clear.
        covers, unknown: See :class:`Flow`.
    """

    frames: int
    targets: int
    leaks: tuple[Shown, ...] = field(repr=False)
    lowest: float
    sent_targets: int
    sent_others: int
    clear_others: int
    covers: int
    unknown: int


def safety(frames: Sequence[Shown], log: Log, films: Iterable[Film]) -> Safety:
    """Of all frames that a player got."""
    boxes = {film.plan.ident: film.boxes for film in films}
    had = [boxes[row.film][row.number] is not None for row in log.rows]
    shares = [frame.covered for frame in frames if frame.covered is not None]
    return Safety(
        frames=len(frames),
        targets=len(shares),
        leaks=tuple(frame for frame in frames if frame.leaks),
        lowest=min(shares, default=1.0),
        sent_targets=sum(had),
        sent_others=len(had) - sum(had),
        clear_others=sum(frame.kind == "clear" and not frame.has_target for frame in frames),
        covers=sum(frame.kind == "cover" for frame in frames),
        unknown=sum(frame.kind == "unknown" for frame in frames),
    )


def offsets(watched: Watched) -> list[tuple[float, float]]:
    """For every flash that has a tone near it: its time in the stream, and by how much the tone is late, in seconds."""
    onsets = sorted(watched.onsets)
    rows = []
    before = False
    for frame in watched.frames:
        if frame.is_flash and not before:
            place = bisect.bisect_left(onsets, frame.seconds)
            near = min(onsets[max(0, place - 1) : place + 1], key=lambda time: abs(time - frame.seconds), default=None)
            if near is not None and abs(near - frame.seconds) < 1:
                rows.append((frame.seconds, near - frame.seconds))
        before = frame.is_flash
    return rows


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line with the least squares through values, a second."""
    if len(times) < 2:
        return 0.0
    return float(np.polyfit(np.asarray(times) - times[0], np.asarray(values), 1)[0])
