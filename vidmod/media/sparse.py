"""Decoding only what a sampler wants: the same pictures as decoding everything gives, for less.

Packets are read a group of pictures at a time, so that presentation times are known before
anything is decoded. What nothing refers to and nobody wants is not decoded (H.264's nal_ref_idc
of 0), nor is what follows a group's last wanted picture where the next group begins anew (an IDR
picture, ITU-T H.264 and H.265, 3). What remains is decoded from the same references, so it is the
same to the bit.

This is for streams without a flaw. At the first sign of damage, doubt or trickery the reading is
given up with :class:`NotSparseError`, and :class:`vidmod.media.reader.Reader` takes the file
from the start, with its full account.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame

from vidmod.media.frame import Frame, Scaler
from vidmod.media.ledger import Ledger
from vidmod.media.packets import cut_off, hidden_positions, is_well_formed, nal_length_size, starts_anew
from vidmod.media.source import VideoTrack, configure_decoder, open_container, release
from vidmod.timebase import to_pts

SPARSE_CODECS = ("h264", "hevc")
# Only H.264 says of a picture that nothing at all refers to it; HEVC's mark leaves out other layers.
_MARKS_UNREFERENCED = ("h264",)
_MAX_GROUP_PACKETS = 2000
_MAX_GROUP_BYTES = 1 << 26


class NotSparseError(Exception):
    """This stream has to be read whole; nothing is wrong with the caller."""


@dataclass(frozen=True, slots=True)
class Shown:
    """When a picture is shown, half open, in the stream's time base."""

    pts: int
    end_pts: int


class Chooser(Protocol):
    """What says which pictures are wanted, from their times alone; a sampler."""

    def update(self, frame: Shown) -> list[Shown]:
        """Take the next picture's times; give those that are wanted."""

    def finish(self) -> list[Shown]:
        """Give what is still wanted."""


@dataclass(slots=True)
class _Group:
    """A key picture and the packets up to the next one, in decoding order."""

    packets: list[Packet[Any]]
    size: int = 0

    @property
    def key_pts(self) -> int:
        return _pts(self.packets[0])


class SparseReader:
    """Decodes the pictures that `chooser` wants, in presentation order.

    Use it as a context manager, and from one thread.

    Args:
        path: A local file.
        track: Which stream, of one of `SPARSE_CODECS`.
        chooser: Says which pictures are wanted.
        threads: Decoding threads.
        start, end: The part wanted, in seconds; None for the whole.

    Raises:
        NotSparseError: The stream cannot be read like this. Also from `frames`, at any time.
    """

    def __init__(
        self,
        path: Path,
        track: VideoTrack,
        chooser: Chooser,
        *,
        threads: int = 1,
        start: Fraction | None = None,
        end: Fraction | None = None,
    ) -> None:
        if track.kind != "video" or track.codec not in SPARSE_CODECS:
            raise NotSparseError(f"{track.codec} ({track.kind}) is always decoded whole.")
        self.track = track
        self.ledger = Ledger()
        self._chooser = chooser
        self._start_pts = None if start is None else to_pts(start, track.time_base)
        self._end_pts = None if end is None else to_pts(end, track.time_base)
        self._scaler = Scaler()
        self._wanted: set[int] = set()
        self._due: deque[Shown] = deque()
        self._ended = False
        self._closed = False
        self._container = open_container(path)
        try:
            self._stream = self._container.streams.video[0]
            self._stream = next(item for item in self._container.streams.video if item.index == track.index)
            self._check_container(path)
            configure_decoder(self._stream, threads)
        except (StopIteration, IndexError) as exc:
            self.close()
            raise NotSparseError("The file changed.") from exc
        except NotSparseError:
            self.close()
            raise
        self._decoder = self._stream.codec_context
        # Pictures are known by their pts here; Python objects in the decoder would only cost.
        self._decoder.copy_opaque = False
        self._length_size = nal_length_size(track.codec, self._decoder.extradata)
        self._frame_duration = track.frame_duration_pts

    def _check_container(self, path: Path) -> None:
        track = self.track
        if self._container.format.name == "avi":
            raise NotSparseError("AVI has no presentation times, only an order.")
        if track.shares_duration:
            raise NotSparseError("Whether the file is whole shows only in its other streams.")
        if hidden_positions(path, self._container, track.index):
            raise NotSparseError("An edit list hides pictures.")
        if cut_off(self._container, track.index, self._container.size):
            raise NotSparseError("The file is cut off.")
        for other in self._container.streams:
            if other.index != track.index:
                other.discard = Discard.all

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder; more than once is fine."""
        if not self._closed:
            self._closed = True
            release(self._container)

    def frames(self) -> Generator[Frame, None, None]:
        """The wanted pictures.

        Raises:
            NotSparseError: From here on the stream has to be read whole. What was given is right.
        """
        try:
            yield from self._frames()
        except FFmpegError as exc:
            raise NotSparseError(f"Damage: {exc}.") from exc

    def _frames(self) -> Iterator[Frame]:
        if self._start_pts is not None:
            if abs(self._start_pts) >= 1 << 63:
                raise NotSparseError("A start out of range.")
            self._container.seek(self._start_pts, stream=self._stream, backward=True)
        group: _Group | None = None
        for following in self._groups():
            if group is None:
                self._check_beginning(following)
            else:
                yield from self._decode(group, following)
            group = following
            if self._ended:
                break
        if group is not None and not self._ended:
            yield from self._decode(group, None)
        yield from self._drained()
        if self._due:
            raise NotSparseError("A wanted picture did not come out.")
        self.ledger.skipped = self.ledger.packets - self.ledger.frames
        if self._end_pts is None or (self.ledger.end_pts or 0) < self._end_pts:
            self._check_end()

    def _check_beginning(self, group: _Group) -> None:
        """After a seek the first key picture has to lie before what is wanted."""
        if self._start_pts is not None and group.key_pts > self._start_pts:
            raise NotSparseError("Seeking went too far.")
        if any(_pts(packet) < group.key_pts for packet in group.packets) and self._start_pts is None:
            raise NotSparseError("Pictures at the start depend on what is not there.")

    def _groups(self) -> Iterator[_Group]:
        group: _Group | None = None
        for packet in self._container.demux(self._stream):
            if not packet.size:
                continue
            self._check_packet(packet)
            if packet.is_keyframe:
                if group is not None:
                    yield group
                group = _Group([])
            elif group is None:
                if self._start_pts is None:
                    raise NotSparseError("The stream does not begin with a key picture.")
                continue
            group.packets.append(packet)
            group.size += packet.size
            if len(group.packets) > _MAX_GROUP_PACKETS or group.size > _MAX_GROUP_BYTES:
                raise NotSparseError("A group of pictures is too long to be held.")
        if group is not None:
            yield group

    def _check_packet(self, packet: Packet[Any]) -> None:
        if packet.pts is None or packet.is_corrupt or packet.is_discard:
            raise NotSparseError("A packet without a time, or one that is marked.")
        if not is_well_formed(self.track.codec, packet, self._length_size):
            raise NotSparseError("A packet is damaged.")

    def _decode(self, group: _Group, following: _Group | None) -> Iterator[Frame]:
        """Decode what is wanted of a group; `following` is None at the end of the stream."""
        self._plan(group, following)
        packets = group.packets
        self.ledger.packets += len(packets)
        anew = following is None or starts_anew(self.track.codec, following.packets[0], self._length_size)
        if anew:
            last = max((place for place, packet in enumerate(packets) if packet.pts in self._wanted), default=-1)
            packets = packets[: last + 1]
        for packet in packets:
            if self.track.codec in _MARKS_UNREFERENCED:
                self._decoder.skip_frame = "DEFAULT" if packet.pts in self._wanted else "NONREF"
            yield from self._given(self._decoder.decode(packet))

    def _plan(self, group: _Group, following: _Group | None) -> None:
        """Ask for every picture that is shown before the following key picture."""
        times = [_pts(packet) for packet in group.packets if _pts(packet) >= group.key_pts]
        if following is not None:
            border = following.key_pts
            # Pictures that follow a key picture in the file and precede it on the screen.
            times += [_pts(packet) for packet in following.packets if _pts(packet) < border]
            ends = [border]
        else:
            last = max(group.packets, key=_pts)
            ends = [_pts(last) + (last.duration or self._frame_duration)]
        times.sort()
        if len(set(times)) != len(times) or times[-1] >= ends[0] or times[0] < (self.ledger.end_pts or times[0]):
            raise NotSparseError("Times that repeat or run backward.")
        for pts, end in zip(times, [*times[1:], *ends], strict=True):
            self._consider(Shown(pts, end))
        if following is None or (self._end_pts is not None and ends[0] >= self._end_pts):
            self._finish()

    def _consider(self, shown: Shown) -> None:
        if self._ended or (self._start_pts is not None and shown.end_pts <= self._start_pts):
            return
        if self._end_pts is not None and shown.pts >= self._end_pts:
            self._finish()
            return
        self.ledger.extend(shown.pts, shown.end_pts)
        self._want(self._chooser.update(shown))

    def _finish(self) -> None:
        if not self._ended:
            self._ended = True
            self._want(self._chooser.finish())

    def _want(self, chosen: list[Shown]) -> None:
        for shown in chosen:
            self._wanted.add(shown.pts)
            self._due.append(shown)

    def _given(self, pictures: list[VideoFrame]) -> Iterator[Frame]:
        for picture in pictures:
            if picture.is_corrupt:
                raise NotSparseError("The decoder patched a picture.")
            self.ledger.frames += 1
            if picture.pts not in self._wanted:
                continue
            if picture.pts != self._due[0].pts:
                raise NotSparseError("A wanted picture did not come out.")
            shown = self._due.popleft()
            self._wanted.discard(shown.pts)
            yield Frame(shown.pts, shown.end_pts, self.track.time_base, picture, self._scaler)

    def _drained(self) -> Iterator[Frame]:
        try:
            yield from self._given(self._decoder.decode(None))
        except AvEOFError:
            return

    def _check_end(self) -> None:
        """A stream that ends before its header says is for the full account."""
        track, ledger = self.track, self.ledger
        if track.duration_pts is None or ledger.end_pts is None:
            return
        declared_end = (track.start_pts or 0) + track.duration_pts
        whole = self._start_pts is None and track.frames and ledger.packets >= track.frames
        if declared_end >= ledger.end_pts + self._frame_duration and not whole:
            raise NotSparseError("The file ends before the stream does.")


def _pts(packet: Packet[Any]) -> int:
    assert packet.pts is not None
    return packet.pts
