"""Decoding one picture stream, with an account of everything that did not become a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from vidmod.closing import Closing
from vidmod.errors import SourceUnreadableError
from vidmod.media.clock import PresentationClock
from vidmod.media.demuxer import Demuxer
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.frame import Frame, Scaler
from vidmod.media.imagefiles import is_cut_off
from vidmod.media.ledger import Ledger
from vidmod.media.packets import cut_off, hidden_positions, holds_picture, packet_of
from vidmod.media.parts import ELSEWHERE, Part
from vidmod.media.source import configure_decoder
from vidmod.timebase import to_pts, union

# A packet whose picture has not come out this many packets later never will: H.264 and HEVC
# reorder by at most 16 pictures, and every decoding thread holds one more.
_MAX_DELAY = 64
_MAX_DRAIN_ERRORS = 64
# How far before the wanted time to look for a key frame; containers whose index is a guess
# land too late at times. After the last, reading begins at the start of the file.
_SEEK_MARGINS_SECONDS = (0, 2, 10, 60)
_MAX_PEEKED_PACKETS = 2000
_MAX_INT64 = (1 << 63) - 1


@dataclass(slots=True, eq=False)
class _Sent:
    """A packet that the decoder was given; travels through it to the picture as `opaque`.

    Attributes:
        near: The time of the last picture when it was sent.
        elsewhere: Another part accounts for it and gives its picture.
    """

    serial: int
    pts: int | None
    dts: int | None
    duration: int
    expects_picture: bool
    near: int | None
    elsewhere: bool = False


class Reader(Closing):
    """Decodes one picture stream of a file in presentation order.

    Use it as a context manager, and from one thread. Damaged packets are counted in `ledger`
    and reading goes on.

    Args:
        source: A local file.
        track: Which stream; for a `view`, its pictures other than the base view's.
        start: First presentation time wanted, in seconds; None for everything. Reading begins at
            the key frame before it and skips what ends before it.
        part: Which packets of it; None for all, and a check that the stream ends where it was to.

    Raises:
        SourceError: The file cannot be opened, or is another one by now.
    """

    def __init__(
        self,
        source: Path | Medium,
        track: VideoTrack,
        *,
        start: Fraction | None = None,
        part: Part | None = None,
    ) -> None:
        self.track = track
        self.ledger = Ledger()
        self._medium = Medium.of(source)
        self._part = part
        self._start_pts = None if start is None else min(to_pts(start, track.time_base), _MAX_INT64)
        self._scaler = Scaler()
        self._clock = PresentationClock(track.frame_duration_pts, track.time_base)
        self._sent: dict[int, _Sent] = {}
        self._serial = 0
        self._interlaced: dict[int, _Sent] = {}
        self._size: tuple[int, int] | None = None
        self._hidden_at: frozenset[int] = frozenset()
        self._awaits_key = False
        self._demuxer = self._open()
        try:
            self._configure()
            if track.kind == "hidden":
                self._open_hidden()
        except BaseException:
            self.close()
            raise

    def _open(self, *, edit_lists: bool = True) -> Demuxer:
        return Demuxer(
            self._medium,
            self.track,
            edit_lists=edit_lists,
            others=self.track.shares_duration and self._part is None,
        )

    def _configure(self) -> None:
        stream = self._demuxer.stream
        if stream.codec_context is None:
            raise SourceUnreadableError(
                f"{self._medium}: stream {self.track.index} has a codec that FFmpeg does not know."
            )
        configure_decoder(stream, self._medium.max_pixels, all_views=self.track.kind == "view")
        stream.codec_context.copy_opaque = True
        self._decoder = stream.codec_context

    def _open_hidden(self) -> None:
        self._hidden_at = hidden_positions(self._medium, self._demuxer.container, self.track.index)
        if self._hidden_at:
            self._demuxer.close()
            self._demuxer = self._open(edit_lists=False)
            self._configure()

    def close(self) -> None:
        """Release the file and the decoder; more than once is fine."""
        self._demuxer.close()

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
        done_until: int | None = None
        try:
            for picture in self._pictures():
                pts = self._clock.tick(picture.pts, picture.dts, 0 if held is None else held.picture.duration)
                if held is not None:
                    yield from self._shown(held, pts)
                done_until = pts
                if end_pts is not None and pts >= end_pts:
                    return
                held = Frame(pts, pts, self.track.time_base, picture, self._scaler)
            if held is not None:
                yield from self._shown(held, self._end_of(held))
            done_until = None
            if self._part is None:
                self._check_end()
        finally:
            self._close_account(done_until)

    def _end_of(self, last: Frame) -> int:
        """When the last picture ends: where the next part begins, or by its own duration."""
        part = self._part
        if part is not None and not part.last and part.end_pts is not None and part.end_pts > last.pts:
            return part.end_pts
        return last.pts + self._length(last.picture.duration)

    def _length(self, duration: int | None) -> int:
        """A claimed duration, or the usual one where that is missing or makes no sense."""
        return duration if duration is not None and duration > 0 else self.track.frame_duration_pts

    def _shown(self, frame: Frame, end_pts: int) -> Iterator[Frame]:
        if self._start_pts is not None and end_pts <= self._start_pts:
            return
        self.ledger.extend(frame.pts, end_pts)
        yield Frame(frame.pts, end_pts, frame.time_base, frame.picture, frame.scaler)

    def _seek(self, pts: int) -> None:
        """Go to a key frame that is shown before `pts`; where there is none, to the start."""
        for margin in _SEEK_MARGINS_SECONDS:
            target = max(pts - to_pts(Fraction(margin), self.track.time_base), -_MAX_INT64)
            with contextlib.suppress(FFmpegError):
                self._rewind(target)
                packets = islice(self._demuxer.packets(), _MAX_PEEKED_PACKETS)
                key = next((packet for packet in packets if packet.is_keyframe), None)
                if key is not None and key.pts is not None and key.pts <= pts:
                    self._rewind(target)
                    return
        self._demuxer.reopen()
        self._configure()
        self._awaits_key = False

    def _rewind(self, target: int) -> None:
        self._demuxer.container.seek(target, stream=self._demuxer.stream, backward=True)
        self._awaits_key = True

    def _pictures(self) -> Iterator[VideoFrame]:
        for packet in self._wanted():
            yield from self._decode(packet)
            self._expire(self._serial - _MAX_DELAY)
            if self.track.kind == "hidden" and self.ledger.frames + self.ledger.lost >= self.track.frames:
                break
        yield from self._drain()
        self._expire(self._serial)

    def _drain(self) -> Iterator[VideoFrame]:
        """The pictures that the decoder still holds."""
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

    def _wanted(self) -> Iterator[Packet[Any]]:
        """Packets from where reading is to begin: after a seek, the first key frame."""
        demuxer, part = self._demuxer, self._part
        for packet in demuxer.packets() if part is None else demuxer.part(part):
            if self._awaits_key and not packet.is_keyframe:
                continue
            self._awaits_key = False
            yield packet

    def _decode(self, packet: Packet[Any]) -> Iterator[VideoFrame]:
        sent, packet = self._registered(packet)
        packet.opaque = sent
        try:
            pictures = self._decoder.decode(packet)
        except FFmpegError as exc:
            if not self._decoder.is_open:
                raise self._undecodable(exc) from exc
            sent.expects_picture = True
            return
        yield from self._counted(pictures)

    def _undecodable(self, exc: FFmpegError) -> SourceUnreadableError:
        return SourceUnreadableError(
            f"{self._medium}: stream {self.track.index} ({self.track.codec}) cannot be decoded ({exc.strerror})."
        )

    def _registered(self, packet: Packet[Any]) -> tuple[_Sent, Packet[Any]]:
        """Enter a packet in the account; the packet to decode can be another."""
        track, ledger = self.track, self.ledger
        hidden = packet.pos in self._hidden_at if self._hidden_at else packet.is_discard
        expects = holds_picture(track.codec, packet)
        sent = _Sent(self._serial, packet.pts, packet.dts, self._length(packet.duration), expects, self._clock.now)
        self._serial += 1
        if self._part is not None and _is_elsewhere(self._part, sent.serial):
            sent.elsewhere = True
            return sent, packet
        ledger.packets += 1
        ledger.hidden += hidden
        if hidden and track.kind == "hidden":
            packet = _shown_again(packet)
        if hidden == (track.kind == "hidden"):
            self._sent[sent.serial] = sent
        return sent, packet

    def _counted(self, pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Enter pictures in the account, and give those that are this track's."""
        for picture in pictures:
            if isinstance(picture.opaque, _Sent) and picture.opaque.elsewhere:
                continue
            sent = self._sent.pop(self._serial_of(picture), None)
            if sent is not None and picture.interlaced_frame:
                self._note_interlaced(sent)
            if sent is None if self.track.kind == "hidden" else sent is not None and self.track.kind == "view":
                continue
            # A packet can give two pictures; both are shown, and the packet is counted once.
            self.ledger.frames += sent is not None or self.track.kind == "view"
            self.ledger.damaged += picture.is_corrupt
            size = (picture.width, picture.height)
            self.ledger.size_changes += self._size is not None and size != self._size
            self._size = size
            yield picture

    def _serial_of(self, picture: VideoFrame) -> int:
        """Which packet a picture came from, -1 if none that is waited for.

        Where a decoder drops `opaque`, the time tells; without one it is taken to keep the order.
        """
        if isinstance(picture.opaque, _Sent):
            return picture.opaque.serial
        usual = next(iter(self._sent), -1)
        return next((sent.serial for sent in self._sent.values() if sent.pts == picture.pts), usual)

    def _note_interlaced(self, sent: _Sent) -> None:
        self._interlaced[sent.serial] = sent
        if len(self._interlaced) > 2 * _MAX_DELAY:
            del self._interlaced[next(iter(self._interlaced))]

    def _expire(self, before: int) -> None:
        """Write off the packets sent before `before` whose picture never came."""
        while self._sent and (serial := next(iter(self._sent))) < before:
            self._write_off(self._sent.pop(serial))

    def _write_off(self, sent: _Sent) -> None:
        start = self._time_of(sent)
        if self._start_pts is not None and start + sent.duration <= self._start_pts:
            self.ledger.packets -= 1
            return
        if not sent.expects_picture or self._is_second_field(sent):
            self.ledger.without_picture += 1
            return
        self.ledger.lost += 1
        self.ledger.add_hole(start, start + sent.duration)

    def _time_of(self, sent: _Sent) -> int:
        """When a picture that never came was to be shown."""
        time = self._clock.place(sent.pts, sent.dts, sent.near)
        if time is not None:
            return time
        return (self.ledger.first_pts or 0) + sent.serial * self.track.frame_duration_pts

    def _is_second_field(self, sent: _Sent) -> bool:
        """Whether a packet completes the picture of the one before: less than a picture later."""
        first = self._interlaced.get(sent.serial - 1)
        if first is None:
            return False
        times = ((sent.pts, first.pts), (sent.dts, first.dts))
        steps = [own - other for own, other in times if own is not None and other is not None]
        return all(4 * step < 3 * self.track.frame_duration_pts for step in steps)

    def _check_end(self) -> None:
        """At the end of the file: is that where the stream was to end, and was everything shown?"""
        ledger, track = self.ledger, self.track
        if track.kind == "view":
            # The base view answers for the packet; what is missing here is another eye's picture.
            ledger.lost = max(ledger.lost, ledger.packets - ledger.hidden - ledger.without_picture - ledger.frames)
        if track.kind == "video":
            never_given = len(hidden_positions(self._medium, self._demuxer.container, track.index)) - ledger.hidden
            ledger.packets += max(0, never_given)
            ledger.hidden += max(0, never_given)
        # After a seek, how many packets there are from the beginning is not known.
        counted = ledger.packets if self._start_pts is None else 0
        ends_early = ledger.end_pts is not None and track.ends_early(
            ledger.end_pts, self._demuxer.other_end_pts, counted
        )
        container = self._demuxer.container
        missing = cut_off(container, track.index, container.size)
        ledger.truncated = ends_early or missing > 0 or is_cut_off(self._medium, container.format.name)
        if ledger.truncated and ledger.end_pts is not None:
            declared_end = track.declared_end_pts or ledger.end_pts + missing * track.frame_duration_pts
            ledger.add_hole(ledger.end_pts, max(ledger.end_pts, declared_end))

    def _close_account(self, done_until: int | None) -> None:
        """Settle what is open; `done_until` is how far pictures were given, if not to the end."""
        ledger = self.ledger
        if done_until is not None:
            for sent in self._sent.values():
                if self._time_of(sent) < done_until:
                    self._write_off(sent)
                else:
                    ledger.packets -= 1
            self._sent.clear()
        if self._part is None:  # else the survey has counted them
            ledger.read_errors = self._demuxer.read_errors
        ledger.missing_pts = self._clock.missing
        ledger.backward_pts = self._clock.backward
        ledger.holes = union(ledger.holes)


def _is_elsewhere(part: Part, place: int) -> bool:
    """Whether another part accounts for a packet."""
    return bool(part.marks[place] & ELSEWHERE) if part.marks else 0 < place <= part.borrowed


def _shown_again(packet: Packet[Any]) -> Packet[Any]:
    """A copy without the mark that makes decoders drop the picture."""
    shown = packet_of(bytes(packet))
    shown.pts, shown.dts, shown.time_base = packet.pts, packet.dts, packet.time_base
    return shown
