"""Decoding one picture stream, with an account of everything that did not become a picture."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.frame import VideoFrame

from vidmod.errors import SourceUnreadableError
from vidmod.media.frame import Frame, Scaler
from vidmod.media.source import VideoTrack, configure_decoder, open_container
from vidmod.timebase import Span, to_pts, union

# A packet whose picture has not come out this many packets later never will: H.264 and HEVC
# reorder by at most 16 pictures, and every decoding thread holds one more.
_MAX_DELAY = 64
# So many read errors in a row mean that nothing more will come.
_MAX_READ_ERRORS = 16
_MAX_DRAIN_ERRORS = 64
# A hostile file can have a hole after every packet; past this many the nearest are joined.
_MAX_HOLES = 10_000
# A backward step longer than this is a clock that was set anew, not pictures out of order.
_RESET_SECONDS = 2


class PresentationClock:
    """Strictly increasing presentation times from what decoders and containers say.

    Where pts are missing or run backward the decoding times serve instead, chosen as in FFmpeg's
    `guess_correct_pts`: by which of the two has been wrong less often. A clock that was set back
    goes on from where it was.

    Args:
        frame_duration: Length of a picture in time base units where the stream gives none.
        time_base: Seconds per unit.
    """

    def __init__(self, frame_duration: int, time_base: Fraction) -> None:
        self._frame_duration = frame_duration
        self._reset = to_pts(Fraction(_RESET_SECONDS), time_base)
        self._last: int | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0
        self._offset = 0
        self.missing = 0
        self.backward = 0

    def tick(self, pts: int | None, dts: int | None, duration: int = 0) -> int:
        """The time of the next picture, later than every time before.

        `duration` is how long the picture before it was shown, 0 if unknown.
        """
        step = duration or self._frame_duration
        guess = self._guess(pts, dts)
        if guess is None:
            self.missing += 1
            time = 0 if self._last is None else self._last + step
        else:
            time = guess + self._offset
        if self._last is not None and time <= self._last:
            self.backward += 1
            if self._last - time > self._reset:
                self._offset += self._last + step - time
                time = self._last + step
            else:
                time = self._last + 1
        self._last = time
        return time

    def _guess(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts


@dataclass(slots=True)
class Ledger:
    """What became of every packet of one stream, complete once reading has ended.

    packets = frames + lost + hidden + without_picture for `video` and `cover`. A `view` has as
    many pictures again as the base view; `hidden` counts the hidden ones.

    Attributes:
        packets: Packets with data that the container gave.
        frames: Pictures decoded.
        lost: Packets whose picture could not be decoded.
        hidden: Packets that an edit list keeps from being shown; a player that ignores edit
            lists shows them.
        without_picture: Packets that hold no picture to show (invisible reference frames of VP8
            and VP9, placeholders of MPEG-4, second fields).
        damaged: Pictures that the decoder patched.
        unusable: Pictures of a size or format that nothing can scale.
        read_errors: Times that reading on failed.
        size_changes: Times that the picture size changed.
        missing_pts, backward_pts: Pictures whose time had to be inferred.
        first_pts: Time of the first picture or lost packet.
        end_pts: End of the last picture or lost packet.
        holes: Where pictures were lost, and from `end_pts` to the claimed end if the file was
            cut off.
        truncated: Whether it was.
    """

    packets: int = 0
    frames: int = 0
    lost: int = 0
    hidden: int = 0
    without_picture: int = 0
    damaged: int = 0
    unusable: int = 0
    read_errors: int = 0
    size_changes: int = 0
    missing_pts: int = 0
    backward_pts: int = 0
    first_pts: int | None = None
    end_pts: int | None = None
    holes: list[Span] = field(default_factory=list)
    truncated: bool = False

    def add_hole(self, start: int, end: int) -> None:
        """Record that what was to be shown in [start, end) is unknown."""
        self.holes.append(Span(start, end))
        self.extend(start, end)
        if len(self.holes) > 2 * _MAX_HOLES:
            self.holes = self._joined()

    def extend(self, start: int, end: int) -> None:
        """Widen the stream's extent."""
        self.first_pts = start if self.first_pts is None else min(self.first_pts, start)
        self.end_pts = end if self.end_pts is None else max(self.end_pts, end)

    def _joined(self) -> list[Span]:
        gap = 0
        holes = union(self.holes)
        while len(holes) > _MAX_HOLES:
            gap = max(1, gap * 2)
            holes = union(holes, gap)
        return holes


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A packet that the decoder was given; travels through it to the picture as `opaque`.

    One object a packet: PyAV finds opaque values by identity, so equal integers would be lost
    with the first of them that is freed.
    """

    serial: int
    pts: int | None
    duration: int
    expects_picture: bool
    hidden: bool


class Reader:
    """Decodes one picture stream of a file in presentation order.

    Use it as a context manager, and from one thread. Damaged packets are counted in `ledger`
    and reading goes on.

    Args:
        path: A local file.
        track: Which stream; for a `view`, its pictures other than the base view's.
        threads: Decoding threads.
        start: First presentation time wanted, in seconds; None for everything. Reading begins at
            the key frame before it and skips what ends before it.

    Raises:
        SourceError: The file cannot be opened.
    """

    def __init__(self, path: Path, track: VideoTrack, *, threads: int = 1, start: Fraction | None = None) -> None:
        self.track = track
        self.ledger = Ledger()
        self._path = path
        self._threads = threads
        self._start_pts = None if start is None else to_pts(start, track.time_base)
        self._scaler = Scaler()
        self._clock = PresentationClock(track.frame_duration_pts, track.time_base)
        self._sent: dict[int, _Sent] = {}
        self._serial = 0
        self._second_field: int | None = None
        self._size: tuple[int, int] | None = None
        self._other_end_pts = 0
        self._read_on = True
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._path)
        stream = self._container.streams[self.track.index]
        self._stream = self._container.streams.video[self._container.streams.video.index(stream)]
        configure_decoder(self._stream, self._threads, all_views=self.track.kind == "view")
        self._decoder = self._stream.codec_context
        if not self.track.shares_duration:
            for other in self._container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the decoder; more than once is fine."""
        self._container.close()

    def frames(self, end_pts: int | None = None) -> Generator[Frame, None, None]:
        """Every picture that can be decoded, each once the time of the next one is known.

        Args:
            end_pts: Stop before the first picture that is shown at or after this time.

        Raises:
            SourceUnreadableError: The decoder cannot be opened at all.
        """
        if self._start_pts is not None:
            self._seek(self._start_pts)
        held: Frame | None = None
        for picture in self._pictures():
            held_duration = 0 if held is None else held.picture.duration
            pts = self._clock.tick(picture.pts, picture.dts, held_duration)
            if held is not None:
                yield from self._shown(held, pts)
            if end_pts is not None and pts >= end_pts:
                return
            held = Frame(pts, pts, self.track.time_base, picture, self._scaler)
        if held is not None:
            duration = held.picture.duration or self.track.frame_duration_pts
            yield from self._shown(held, held.pts + duration)
        self._close_account()

    def _shown(self, frame: Frame, end_pts: int) -> Iterator[Frame]:
        if self._start_pts is not None and end_pts <= self._start_pts:
            return
        self.ledger.extend(frame.pts, end_pts)
        yield Frame(frame.pts, end_pts, frame.time_base, frame.picture, frame.scaler)

    def _seek(self, pts: int) -> None:
        """Go to the key frame before `pts`; where the container cannot, read from the start."""
        try:
            self._container.seek(pts, stream=self._stream, backward=True)
        except FFmpegError:
            self.close()
            self._open()

    def _pictures(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            yield from self._decode(packet)
            self._expire(self._serial - _MAX_DELAY)
            if self.track.kind == "hidden" and self.ledger.frames + self.ledger.lost >= self.track.frames:
                break
        for _ in range(_MAX_DRAIN_ERRORS):
            try:
                pictures = self._decoder.decode(None)
            except AvEOFError:
                break
            except FFmpegError:
                continue
            yield from self._counted(pictures)
            if not pictures:
                break
        self._expire(self._serial)

    def _packets(self) -> Iterator[Packet[Stream]]:
        """Packets with data; read errors are counted, and reading goes on past them."""
        errors = 0
        streams = self._container.streams if self.track.shares_duration else (self._stream,)
        while self._read_on and errors < _MAX_READ_ERRORS:
            try:
                for packet in self._container.demux(*streams):
                    errors = 0
                    if packet.size and packet.stream_index == self.track.index:
                        yield packet
                    elif packet.size:
                        self._note_other(packet)
                return
            except FFmpegError:
                errors += 1
                self.ledger.read_errors += 1

    def _note_other(self, packet: Packet[Stream]) -> None:
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._other_end_pts = max(self._other_end_pts, to_pts(end, self.track.time_base))

    def _decode(self, packet: Packet[Stream]) -> Iterator[VideoFrame]:
        self.ledger.packets += 1
        duration = packet.duration or self.track.frame_duration_pts
        hidden = packet.is_discard
        sent = _Sent(self._serial, packet.pts, duration, _holds_picture(self.track, packet), hidden)
        self._serial += 1
        if hidden:
            self.ledger.hidden += 1
            if self.track.kind == "hidden":
                packet = _shown_again(packet)
        if hidden == (self.track.kind == "hidden"):
            self._sent[sent.serial] = sent
        packet.opaque = sent
        try:
            pictures = self._decoder.decode(packet)
        except FFmpegError as exc:
            if not self._decoder.is_open:
                raise SourceUnreadableError(
                    f"{self._path}: stream {self.track.index} ({self.track.codec}) cannot be decoded ({exc.strerror})."
                ) from exc
            return
        yield from self._counted(pictures)

    def _counted(self, pictures: list[VideoFrame]) -> Iterator[VideoFrame]:
        for picture in pictures:
            serial = self._serial_of(picture)
            first_view = self._sent.pop(serial, None) is not None
            if picture.interlaced_frame:
                self._second_field = serial + 1
            if self.track.kind == "view" and first_view:
                continue
            if self.track.kind == "hidden" and not first_view:
                continue
            self.ledger.frames += 1
            self.ledger.damaged += picture.is_corrupt
            size = (picture.width, picture.height)
            self.ledger.size_changes += self._size is not None and size != self._size
            self._size = size
            yield picture

    def _serial_of(self, picture: VideoFrame) -> int:
        """Which packet a picture came from; a decoder that drops `opaque` is taken to keep the order."""
        if isinstance(picture.opaque, _Sent):
            return picture.opaque.serial
        return next((s.serial for s in self._sent.values() if s.pts == picture.pts), next(iter(self._sent), -1))

    def _expire(self, before: int) -> None:
        """Write off the packets sent before `before` whose picture never came."""
        while self._sent and (serial := next(iter(self._sent))) < before:
            sent = self._sent.pop(serial)
            if not sent.expects_picture or serial == self._second_field:
                self.ledger.without_picture += 1
            else:
                self._lose(sent)

    def _lose(self, sent: _Sent) -> None:
        self.ledger.lost += 1
        start = sent.pts if sent.pts is not None else self.ledger.end_pts or 0
        if self._start_pts is None or start + sent.duration > self._start_pts:
            self.ledger.add_hole(start, start + sent.duration)

    def _close_account(self) -> None:
        ledger = self.ledger
        ledger.missing_pts = self._clock.missing
        ledger.backward_pts = self._clock.backward
        if self.track.kind == "view":
            # The base view answers for the packet; what is missing here is another eye's picture.
            ledger.lost = max(ledger.lost, ledger.packets - ledger.hidden - ledger.without_picture - ledger.frames)
        declared_end = self._declared_end()
        if declared_end is not None and ledger.end_pts is not None:
            tolerance = 2 * self.track.frame_duration_pts
            if declared_end > ledger.end_pts + tolerance and self._ended_early(declared_end, tolerance):
                ledger.truncated = True
                ledger.add_hole(ledger.end_pts, declared_end)
        ledger.holes = union(ledger.holes)

    def _declared_end(self) -> int | None:
        if self.track.duration_pts is None or self.track.kind == "hidden":
            return None
        return (self.track.start_pts or 0) + self.track.duration_pts

    def _ended_early(self, declared_end: int, tolerance: int) -> bool:
        if self.track.shares_duration:
            return self._other_end_pts < declared_end - tolerance
        # With an edit list the track's claim can exceed what is shown; the index is then the judge.
        whole = self._start_pts is None
        return not (whole and self.track.frames and self.ledger.packets >= self.track.frames)


def _shown_again(packet: Packet[Stream]) -> Packet[Stream]:
    """A copy without the mark that makes decoders drop the picture."""
    copy: Packet[Stream] = Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    return copy


def _holds_picture(track: VideoTrack, packet: Packet[Stream]) -> bool:
    """Whether a packet is to give a picture; some codecs have packets that show nothing."""
    head = bytes(memoryview(packet)[:1])[0]
    if track.codec.startswith(("vp8", "libvpx")) and track.codec != "libvpx-vp9":
        return bool(head & 0x10)  # RFC 6386, 9.1: show_frame
    if track.codec in ("vp9", "libvpx-vp9"):
        return _vp9_shows(head)
    if track.codec.startswith(("mpeg4", "msmpeg4")):
        return packet.size > _MPEG4_PLACEHOLDER_BYTES
    return True


# DivX fills the place of a frame that travelled in the packet before with an empty VOP.
_MPEG4_PLACEHOLDER_BYTES = 20


def _vp9_shows(head: int) -> bool:
    """Read show_existing_frame and show_frame from the uncompressed header (VP9 spec, 6.2)."""
    bits = f"{head:08b}"
    if bits[:2] != "10":
        return True
    header = bits[5:] if bits[2:4] == "11" else bits[4:]
    show_existing, _key, show = header[0], header[1], header[2]
    return show_existing == "1" or show == "1"
