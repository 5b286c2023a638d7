"""Reading a stream's packets, without decoding, to cut it into parts.

A cut is made before a packet from which on nothing refers to anything before, and after which
nothing is shown earlier. The packets in between are looked at for what their form gives away: see
:func:`vidmod.media.packets.is_well_formed`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.packet import Packet

from vidmod.media.demuxer import Demuxer, position_of
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.imagefiles import is_cut_off
from vidmod.media.packets import (
    Unit,
    cut_off,
    first_unit,
    hidden_positions,
    holds_picture,
    is_well_formed,
    nal_length_size,
)
from vidmod.media.parts import ANEW, ELSEWHERE, PICTURE, REFERENCE, Part, Surveyed
from vidmod.timebase import to_pts

# Codecs of which a packet tells whether anything after it refers to what was before.
CUT_CODECS = ("h264", "hevc", "vp9", "vp8", "libvpx-vp9", "libvpx", "av1", "libdav1d", "libaom-av1", "mjpeg")
_NAL_CODECS = ("h264", "hevc")
# Short enough that a film keeps many cores busy and that a loss is small, long enough that a part is worth its
# messages.
_PART_SECONDS = 6
# A group of pictures so long that nobody meant it; its packets are no longer listed.
_MAX_LISTED_PACKETS = 20_000
_SIGN_OF_LIFE_PACKETS = 5000
# A backward step longer than this is a clock that was set anew, as in `PresentationClock`.
_RESET_SECONDS = 2


@dataclass(slots=True)
class _Run:
    """Packets from one at which decoding can begin up to the next.

    Attributes:
        leading: How many packets after the first are pictures that are shown before it, and that
            the run before has to decode.
        follow: How many packets of the next run belong to this one's pictures.
        lent: How many of `leading` the run before has taken.
        low, high: The first and the last time at which a picture is shown.
        end: When the last picture ends by its own duration.
    """

    first: int
    position: tuple[int | None, int | None, int | None, int]
    anew: bool
    sound: bool = True
    count: int = 0
    leading: int = 0
    follow: int = 0
    lent: int = 0
    low: int | None = None
    high: int | None = None
    end: int | None = None
    times: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def merge(self, other: _Run) -> None:
        """Take in the run that follows, which cannot be decoded apart."""
        self.spoil()
        self.count += other.count
        if other.high is not None and (self.high is None or other.high > self.high):
            self.high, self.end = other.high, other.end
        if other.low is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)

    def spoil(self) -> None:
        """It has to be decoded whole; what is known of its packets is of no use."""
        self.sound = False
        self.times, self.sizes, self.marks = [], [], []

    def is_distinct(self) -> bool:
        """Whether no two pictures are shown at the same time."""
        times = [time for time, mark in zip(self.times, self.marks, strict=True) if mark & PICTURE]
        return len(set(times)) == len(times)

    def lend(self, to: _Run) -> None:
        """Give the leading pictures to the run before, which has what they refer to."""
        if not self.leading:
            return
        led = slice(1, 1 + self.leading)
        self.lent = self.leading
        to.follow = 1 + self.leading
        to.times += self.times[: to.follow]
        to.sizes += self.sizes[: to.follow]
        to.marks += [REFERENCE | ELSEWHERE, *self.marks[led]]
        self.marks[led] = [ELSEWHERE] * self.leading
        self.low = self.times[0]


class Survey:
    """One reading of all packets of a stream.

    Args:
        source: A local file.
        track: Which stream.
        until: Stop before the first part that begins at or after this pts.
        max_packets: Stop after so many; a small file can claim billions.
    """

    def __init__(
        self,
        source: Path | Medium,
        track: VideoTrack,
        *,
        until: int | None = None,
        max_packets: int = 10_000_000,
    ) -> None:
        self._medium = Medium.of(source)
        self._track = track
        self._until = until
        self._max_packets = max_packets
        self._reset = to_pts(Fraction(_RESET_SECONDS), track.time_base)
        self._part_pts = to_pts(Fraction(_PART_SECONDS), track.time_base)
        self._number = 0
        self._highest: int | None = None
        self._packets = 0
        self._cutting = True
        self._ended_at: int | None = None
        self._pending: list[_Run] = []

    def run(self) -> Iterator[Part | Surveyed | None]:
        """The parts in order, each once the one after it is known, then what is known of the whole.

        In between a None now and then, to show that it is getting on.
        """
        track = self._track
        with Demuxer(self._medium, track, others=track.shares_duration) as demuxer:
            if not self._can_cut(demuxer):
                yield Part(number=0, first=0, count=-1, last=True, sound=False)
                yield Surveyed(packets=0)
                return
            ended = yield from self._parts(demuxer)
            yield from self._emit(following=None, last=True)
            yield self._surveyed(demuxer, ended=ended)

    def _can_cut(self, demuxer: Demuxer) -> bool:
        track, container = self._track, demuxer.container
        if track.kind != "video" or track.codec not in CUT_CODECS or demuxer.stream.codec_context is None:
            return False
        # AVI has no presentation times, only an order.
        if container.format.name == "avi":
            return False
        return not hidden_positions(self._medium, container, track.index)

    def _parts(self, demuxer: Demuxer) -> Generator[Part | None, None, bool]:
        """The parts that are complete; whether the stream's end was reached."""
        track = self._track
        extradata = demuxer.stream.codec_context.extradata
        length_size = nal_length_size(track.codec, extradata) if track.codec in _NAL_CODECS else None
        run: _Run | None = None
        for packet in demuxer.packets():
            if self._packets >= self._max_packets:
                if run is not None:
                    yield from self._close(run)
                return False
            unit = self._unit(packet, length_size)
            if run is None or unit.anew or unit.entry:
                if run is not None:
                    yield from self._close(run)
                    if self._until is not None and packet.pts is not None and packet.pts >= self._until:
                        return False
                run = _Run(self._packets, position_of(packet), anew=unit.anew, sound=unit.anew or unit.entry)
            self._packets += 1
            if self._packets % _SIGN_OF_LIFE_PACKETS == 0:
                yield None
            self._enter(run, packet, unit, length_size)
        if run is not None:
            yield from self._close(run)
        return True

    def _unit(self, packet: Packet[Any], length_size: int | None) -> Unit:
        if self._track.codec in _NAL_CODECS:
            return first_unit(self._track.codec, packet, length_size)
        return Unit(anew=packet.is_keyframe)

    def _enter(self, run: _Run, packet: Packet[Any], unit: Unit, length_size: int | None) -> None:
        """Take a packet into the run, and note what is wrong with it."""
        track = self._track
        run.count += 1
        shows = holds_picture(track.codec, packet)
        pts = packet.pts
        if pts is None:
            run.spoil()
            return
        if shows:
            run.low = pts if run.low is None else min(run.low, pts)
            if run.high is None or pts > run.high:
                length = packet.duration if packet.duration and packet.duration > 0 else track.frame_duration_pts
                run.high, run.end = pts, pts + length
        formed = track.codec not in _NAL_CODECS or is_well_formed(track.codec, packet, length_size)
        if packet.is_corrupt or packet.is_discard or not formed or run.count > _MAX_LISTED_PACKETS:
            run.spoil()
        if unit.leading:
            # Leading pictures come before all others (ITU-T H.265, 7.4.2.2), and before the entry on the screen.
            if run.leading != run.count - 2 or pts >= (run.times or [pts])[0]:
                run.spoil()
            run.leading += 1
        if run.sound:
            run.times.append(pts)
            run.sizes.append(packet.size)
            run.marks.append(ANEW * unit.anew | REFERENCE * unit.reference | PICTURE * shows)

    def _close(self, run: _Run) -> Iterator[Part]:
        """A run is complete: does it begin a part, go on with one, or belong to the run before?"""
        if not run.is_distinct():
            run.spoil()
        pending = self._pending
        if not pending:
            if run.leading:  # they refer to what is not there
                run.spoil()
            pending.append(run)
        elif self._is_apart(run):
            if self._begins_part(run):
                run.lend(pending[-1])
                yield from self._emit(following=run.low)
            pending.append(run)
        else:
            place = max((place for place, item in enumerate(pending) if item.anew), default=0)
            base, *others = pending[place:]
            if place:
                del pending[place:]
                yield from self._emit(following=base.low)
            for other in (*others, run):
                base.merge(other)
            pending[:] = [base]
        if run.high is not None:
            self._highest = run.high if self._highest is None else max(self._highest, run.high)

    def _is_apart(self, run: _Run) -> bool:
        """Whether nothing of a run is shown before, or refers to, what came before it."""
        before = self._pending[-1]
        if not self._cutting or run.low is None or self._highest is None:
            return False
        if self._highest - run.low > self._reset:
            # From here on times are not what the packets say.
            self._cutting = False
            return False
        if run.anew:
            return run.low > self._highest
        if not (run.sound and before.sound):
            return False
        # What leads is shown after everything before, and all else from the entry on.
        others = [run.times[0], *run.times[1 + run.leading :]]
        return run.low > self._highest and min(others) == run.times[0]

    def _begins_part(self, run: _Run) -> bool:
        first = self._pending[0]
        long = run.low is not None and first.low is not None and run.low - first.low >= self._part_pts
        listed = sum(len(item.times) for item in self._pending) > _MAX_LISTED_PACKETS
        return long or listed or run.sound != first.sound

    def _emit(self, following: int | None, *, last: bool = False) -> Iterator[Part]:
        """What is pending is a part; `following` is when the next picture is shown."""
        runs, self._pending[:] = list(self._pending), []
        if not runs:
            return
        sound = all(run.sound for run in runs)
        yield Part(
            number=self._number,
            first=runs[0].first,
            count=sum(run.count for run in runs) + runs[-1].follow,
            last=last,
            sound=sound,
            position=runs[0].position,
            start_pts=min((run.low for run in runs if run.low is not None), default=None),
            end_pts=following if following is not None else self._end_of(runs),
            times=[time for run in runs for time in run.times] if sound else [],
            sizes=[size for run in runs for size in run.sizes] if sound else [],
            marks=[mark for run in runs for mark in run.marks] if sound else [],
            borrowed=runs[0].lent,
        )
        self._number += 1

    def _end_of(self, runs: list[_Run]) -> int | None:
        ends = [run.end for run in runs if run.end is not None]
        self._ended_at = max(ends, default=None)
        return self._ended_at

    def _surveyed(self, demuxer: Demuxer, *, ended: bool) -> Surveyed:
        """Is the end of the file where the stream was to end?"""
        track, end_pts = self._track, self._ended_at
        declared_end = track.declared_end_pts
        truncated = not ended and self._until is None
        if ended:
            missing = cut_off(demuxer.container, track.index, demuxer.container.size)
            truncated = missing > 0
            if missing:
                declared_end = declared_end or (end_pts or 0) + missing * track.frame_duration_pts
            elif end_pts is not None:
                truncated = track.ends_early(end_pts, demuxer.other_end_pts, self._packets)
            truncated |= is_cut_off(self._medium, demuxer.container.format.name)
        return Surveyed(
            packets=self._packets,
            read_errors=demuxer.read_errors,
            truncated=truncated,
            declared_end=declared_end if truncated else None,
            ended=ended,
        )
