"""A stream's groups of pictures, each from a picture on which nothing depends on what was before to the next such.

Read from the packets alone, to find which groups have to be encoded again and which can be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from av.packet import Packet

from vidmod.media.bitstreams import ParameterSets, begins_anew
from vidmod.media.demuxer import Demuxer
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.packets import first_unit, hidden_positions, holds_picture, is_well_formed, nal_length_size
from vidmod.timebase import overlaps

# FFmpeg's decoder names, and the codecs that they decode.
CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9", "libvpx": "vp8"}
NAL_CODECS = ("h264", "hevc")
_GROUPED = (*NAL_CODECS, "vp8", "vp9", "av1", "mjpeg")
_SIGN_OF_LIFE_PACKETS = 5000
# A group so long that nobody meant it; what is known of its packets would grow with the film.
_MAX_PICTURES = 20_000
# So many pictures that stay as they are are worth a key frame more.
_LEAST_LEAD = 8
# Encoders here reorder by two pictures at most (B pictures that others refer to).
_MAX_DEPTH = 2


class NotApartError(Exception):
    """Why a stream's groups cannot be encoded apart; the message is for people."""


def codec_of(decoder: str) -> str:
    """The codec that a decoder decodes."""
    return CODECS.get(decoder, decoder)


@dataclass(frozen=True, slots=True)
class Group:
    """Packets that can be replaced by themselves, and decoded, if need be after some that come before them.

    Attributes:
        first, count: Its packets with data, in decoding order; `first` counts from 0.
        start_pts, end_pts: When its first picture is shown, and when the next group's first one is.
        pictures: How many it shows.
        depth: By how many pictures an encoder may reorder so that its packets fit into the decoding
            times of those that they replace.
        flaw: Why it cannot be encoded apart; None if it can. For people.
        lead: How many packets before `first` have to be decoded first.
        times: When its pictures are shown, in that order; empty where groups were joined.
        slots: Its decoding times, in that order.
    """

    first: int
    count: int
    start_pts: int
    end_pts: int
    pictures: int
    depth: int
    flaw: str | None = None
    lead: int = 0
    times: tuple[int, ...] = ()
    slots: tuple[int | None, ...] = ()

    def joined(self, following: Group) -> Group:
        """The two as one; their decoding times follow each other, so the smaller depth holds for both."""
        return Group(
            self.first,
            self.count + following.count,
            self.start_pts,
            following.end_pts,
            self.pictures + following.pictures,
            min(self.depth, following.depth),
            self.flaw or following.flaw,
            self.lead,
        )


@dataclass(slots=True)
class _Open:
    """A group of which more packets may come."""

    first: int
    flaw: str | None = None
    count: int = 0
    times: list[int] = field(default_factory=list)
    slots: list[int | None] = field(default_factory=list)
    last_duration: int = 0

    def spoil(self, why: str) -> None:
        self.flaw = self.flaw or why

    def low(self) -> int | None:
        return min(self.times, default=None)

    def high(self) -> int | None:
        return max(self.times, default=None)

    def parting(self, spans: Sequence[tuple[int, int]], end_pts: int) -> int:
        """How many packets come before the first that a touched picture needs to be encoded with.

        All of them are shown before all that follow, so that a key frame can be put behind them. 0 if they are too
        few to be worth it, or if a packet gives no picture.
        """
        times = self.times
        if self.count != len(times):
            return 0
        shown = [*sorted(times), end_pts]
        touched = (start for start, end in pairwise(shown) if overlaps(spans, start, end))
        first = next(touched, None)
        if first is None:
            return 0
        low = [*accumulate(reversed(times), min)][::-1]
        high = [*accumulate(times, max)]
        places = (k for k in range(len(times) - 1, 0, -1) if low[k] <= first and high[k - 1] < low[k])
        place = next(places, 0)
        return place if place >= _LEAST_LEAD else 0

    def depth(self, lead: int = 0) -> int:
        """The largest depth at which no packet is shown before it is decoded, -1 if there is none.

        An encoder that reorders by d pictures gives the k-th packet a picture not earlier than the
        (k - d)-th shown.

        Args:
            lead: Without so many of the first.
        """
        shown = sorted(self.times[lead:])
        rows = [(slot, place) for place, slot in enumerate(self.slots[lead:]) if slot is not None]
        fitting = (
            depth
            for depth in range(_MAX_DEPTH, -1, -1)
            if all(slot <= shown[max(0, place - depth)] for slot, place in rows)
        )
        return next(fitting, -1)


class Groups:
    """One reading of a stream's packets.

    Args:
        medium: The file.
        track: Which stream.
        alive: Called now and then.
        touched: When pictures are changed, in pts, sorted and disjoint: what comes before the first of them in its
            group is a group of its own.
    """

    def __init__(
        self,
        medium: Medium,
        track: VideoTrack,
        alive: Callable[[], None],
        touched: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.packets = 0
        self.sets: ParameterSets | None = None
        self._medium = medium
        self._track = track
        self._codec = codec_of(track.codec)
        self._alive = alive
        self._touched = touched
        self._slot: int | None = None

    def run(self) -> Iterator[Group]:
        """The groups in order, each once the next has begun.

        Raises:
            NotApartError: Nothing of the stream can be encoded apart.
        """
        with Demuxer(self._medium, self._track) as demuxer:
            self._prepare(demuxer)
            group: _Open | None = None
            for packet in demuxer.packets():
                if group is None or self._begins(packet):
                    following = _Open(
                        self.packets, None if self._begins(packet) else "it does not begin with a key frame"
                    )
                    if group is not None and self._is_apart(group, packet):
                        yield from self._closed(group, packet.pts)
                    elif group is not None:
                        following = group
                        group.spoil("groups of pictures overlap in time")
                    group = following
                self._enter(group, packet)
            if demuxer.read_errors:
                raise NotApartError("parts of the file cannot be read")
            if group is not None:
                yield from self._closed(group, None)

    def _prepare(self, demuxer: Demuxer) -> None:
        container, track = demuxer.container, self._track
        if self._codec not in _GROUPED:
            raise NotApartError(f"{track.codec} is not a codec of which single groups of pictures are encoded")
        if container.format.name == "avi":
            raise NotApartError("AVI has no presentation times")
        if hidden_positions(self._medium, container, track.index):
            raise NotApartError("an edit list hides some of its pictures")
        if self._codec in NAL_CODECS:
            extradata = demuxer.stream.codec_context.extradata
            self.sets = ParameterSets(self._codec, extradata, nal_length_size(self._codec, extradata))

    def _begins(self, packet: Packet[Any]) -> bool:
        if self.sets is not None:
            return first_unit(self._codec, packet, self.sets.length_size).anew
        return begins_anew(self._codec, packet)

    def _is_apart(self, group: _Open, packet: Packet[Any]) -> bool:
        """Whether all of a group is shown before a packet that begins another."""
        high = group.high()
        return high is not None and packet.pts is not None and packet.pts > high

    def _enter(self, group: _Open, packet: Packet[Any]) -> None:
        self.packets += 1
        if self.packets % _SIGN_OF_LIFE_PACKETS == 0:
            self._alive()
        if self.sets is not None:
            if packet.has_sidedata("new_extradata"):
                self.sets.declare(bytes(packet.get_sidedata("new_extradata")))
            self.sets.note(packet, begins_group=group.count == 0)
            if not is_well_formed(self._codec, packet, self.sets.length_size):
                group.spoil("a packet is damaged")
        group.count += 1
        self._note_times(group, packet)
        if packet.is_corrupt or packet.is_discard:
            group.spoil("a packet is marked as damaged or hidden")
        if packet.has_sidedata("matroska_block_additional"):
            group.spoil("pictures have an alpha channel, or something else, beside them")
        if len(group.times) > _MAX_PICTURES:
            group.spoil(f"a group of pictures is longer than {_MAX_PICTURES} pictures")
            group.times, group.slots = [min(group.times), max(group.times)], []

    def _note_times(self, group: _Open, packet: Packet[Any]) -> None:
        pts, dts = packet.pts, packet.dts
        if pts is None:
            group.spoil("a presentation time is missing")
        elif holds_picture(self._track.codec, packet):
            # Packets that show nothing (VP9) are never written, and may share a time.
            if dts is not None:
                if self._slot is not None and dts <= self._slot:
                    group.spoil("decoding times do not rise")
                self._slot = dts
            if group.times and pts < group.times[0]:
                # RADL pictures (ITU-T H.265, 3.116) lead their IDR picture on the screen; no encoder here makes any.
                group.spoil("pictures are shown before the key frame that they follow")
            group.times.append(pts)
            group.slots.append(dts)
            group.last_duration = packet.duration or 0

    def _closed(self, group: _Open, following: int | None) -> Iterator[Group]:
        low, high = group.low(), group.high()
        if low is None or high is None:
            raise NotApartError("a group of pictures shows nothing")
        if len(set(group.times)) != len(group.times):
            group.spoil("two pictures are shown at the same time")
        depth = -1 if group.flaw else group.depth()
        if depth < 0:
            group.spoil("pictures are shown before they are decoded")
        end = (
            following if following is not None else high + max(1, group.last_duration or self._track.frame_duration_pts)
        )
        lead = 0 if group.flaw else group.parting(self._touched, end)
        if lead and (later := group.depth(lead)) >= 0:
            start = min(group.times[lead:])
            yield Group(group.first, lead, low, start, lead, depth)
            pictures = len(group.times) - lead
            yield Group(group.first + lead, group.count - lead, start, end, pictures, later, None, lead)
        else:
            yield Group(
                group.first,
                group.count,
                low,
                end,
                len(group.times),
                depth,
                group.flaw,
                0,
                tuple(sorted(group.times)),
                tuple(group.slots),
            )
