"""Replacing some packets of a sound stream by others, and copying the rest as they are.

Blocks of most codecs overlap: what a packet says of its time is told apart only by the packet beside it. So packets are
replaced further than silence goes, by the same sound encoded again, until only such packets overlap with copied ones as
hold nothing of what is muted. An encoder's packets sit on the times of those that they replace: it is fed from a place
that makes up for its delay, and what it makes of the lead-in is thrown away.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet

from vidmod.media.packets import packet_of
from vidmod.media.silence import NotMutableError, Silence, meets
from vidmod.media.sound_coding import (
    NoSoundEncoderError,
    SoundLook,
    adts_header,
    adts_plain,
    as_floats,
    encode_samples,
    encoder_name,
    open_sound_encoder,
    opus_agrees,
    opus_samples,
    plain_aac,
    priming_of,
    samples_of,
    sound_decoder_like,
    with_adts,
)
from vidmod.timebase import Span

# Samples of a packet, where that is always the same; other packets of these codecs are not spliced.
_FRAME = {"aac": 1024, "ac3": 1536, "eac3": 1536, "mp2": 1152, "opus": 0}
SPLICED = tuple(_FRAME)
# So long decoders and encoders run before what they make counts: Opus converges in 80 ms (RFC 7845, 4.6).
_LEAD_PACKETS, _LEAD_SECONDS = 10, 0.25
_SETTLED_SECONDS = {"opus": 0.08}
# libopus filters out what is below 3 Hz, and a sound that is cut off swings for so long.
_SWING_SECONDS = {"opus": 0.25}
# Blocks overlap over two packets; the third makes up for times that jitter.
_OVERLAP_PACKETS = 3
# A time that is off by no more than this goes on from the one before.
_LATE_TICKS, _LATE_SAMPLES = 2, 2
_MOST_FLUSHED = 8


def silence_of_blocks(spans: tuple[Span, ...], codec: str, frame_seconds: float, tick: float) -> Silence:
    """What has to be silent so that coding in blocks of such a length leaves nothing in some spans."""
    around = _OVERLAP_PACKETS * frame_seconds + 2 * tick
    return Silence.around(spans, max(around, _SWING_SECONDS.get(codec, 0.0)), around)


class Splicer:
    """Replaces what sounds during some spans. Push and flush: `push` takes a packet and gives those that are ready.

    Packets come out in the order that they came in, as many, with the same times; memory does not grow.

    Args:
        stream: The source's.
        spans: When it is to be silent, in seconds of presentation time.

    Raises:
        NotMutableError: Its packets cannot be replaced; from `push`, what was given so far is of no use.
    """

    def __init__(self, stream: AudioStream, spans: tuple[Span, ...]) -> None:
        self.replaced = 0
        self._stream, self._spans = stream, spans
        self.base = stream.time_base or Fraction(1)
        try:
            self.look = SoundLook.of(stream)
        except NoSoundEncoderError as exc:
            raise self.error(str(exc)) from exc
        self.codec = self.look.codec
        if self.codec not in _FRAME:
            raise self.error(f"packets of {self.codec} cannot be replaced one by one")
        self._check_header()
        name = encoder_name(self.codec)
        if name is None:
            raise self.error(f"there is no encoder for {self.codec}")
        self.encoder_name = name
        self.adts: bytes | None = None
        self._end: Fraction | None = None
        self._run: _Run | None = None
        self._check_encoder()

    def error(self, why: str) -> NotMutableError:
        """Why not."""
        return NotMutableError(self._stream.index, why)

    def _check_header(self) -> None:
        context = self._stream.codec_context
        if self.codec == "aac":
            if context.profile not in (None, "LC"):
                raise self.error(f"it is {context.profile}, of which no packet can be encoded apart")
            if context.extradata and plain_aac(context.extradata) is None:
                raise self.error("its header is not plain AAC LC")

    @property
    def is_adts(self) -> bool:
        """Whether each packet has a header of its own, since the container has none."""
        return self.codec == "aac" and not self._stream.codec_context.extradata

    def _check_encoder(self) -> None:
        """That one opens, and makes what the header says."""
        frame = _FRAME[self.codec] or self.look.sample_rate // 50
        try:
            encoder = open_sound_encoder(self.encoder_name, self.look, frame_samples=frame)
        except NoSoundEncoderError as exc:
            raise self.error(str(exc)) from exc
        theirs = self._stream.codec_context.extradata
        if self.codec == "aac" and theirs and plain_aac(theirs) != plain_aac(encoder.extradata or b""):
            raise self.error("its header does not agree with the encoder's")
        if self.codec == "opus" and not opus_agrees(theirs, encoder.extradata):
            raise self.error("its header does not agree with the encoder's")
        self._plain = plain_aac(encoder.extradata or b"")

    def check(self, data: bytes) -> None:
        """That a packet's own header allows for others in its place.

        Raises:
            NotMutableError: It does not.
        """
        if self.is_adts and (header := adts_header(data)) is not None:
            if adts_plain(header) != self._plain:
                raise self.error("its header does not agree with the encoder's")
            self.adts = header

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Take a packet of the source."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return [packet]
        time = stamp * self.base
        frame = _FRAME[self.codec] or opus_samples(bytes(memoryview(packet)[:2]))
        self._check_time(time, frame or 0)
        if self._run is None:
            if not self._is_near(time):
                return [packet]
            if not frame:
                raise self.error("a packet says of itself what makes no sense")
            self._run = _Run(self, self._stream, self._spans, frame)
        ready = self._run.push(packet, time)
        if not self._run.waits and not self._is_near(time):
            ready += self._run.rest()
            self._run = None
        return ready

    def flush(self) -> list[Packet[Any]]:
        """All that is left."""
        run, self._run = self._run, None
        return [] if run is None else run.finish()

    def _is_near(self, time: Fraction) -> bool:
        frame = (_FRAME[self.codec] or self.look.sample_rate // 8) / self.look.sample_rate
        lead = max(_LEAD_SECONDS, _LEAD_PACKETS * frame) + _SWING_SECONDS.get(self.codec, 0.0)
        return meets(self._spans, time - lead, time + lead)

    def _check_time(self, time: Fraction, frame: int) -> None:
        """That no packet is missing near silence: what follows a gap would overlap with what sounds before it.

        Raises:
            NotMutableError: One is.
        """
        before, length = self._end, Fraction(frame, self.look.sample_rate)
        self._end = time + length if frame else None
        if before is None or abs(time - before) <= max(length / 2, _LATE_TICKS * self.base):
            return
        around = _LEAD_PACKETS * float(length) + _SWING_SECONDS.get(self.codec, 0.0)
        if meets(self._spans, min(before, time) - around, max(before, time) + around):
            raise self.error("packets are missing around what is muted")


class _Run:
    """One stretch of packets that goes through a decoder and an encoder, from lead-in to lead-out."""

    def __init__(self, splicer: Splicer, stream: AudioStream, spans: tuple[Span, ...], frame: int) -> None:
        self._splicer, self._look, self._frame = splicer, splicer.look, frame
        self._decoder = sound_decoder_like(stream)
        seconds = frame / self._look.sample_rate
        self._silence = silence_of_blocks(spans, splicer.codec, seconds, float(splicer.base))
        self._margin = max(seconds, _SETTLED_SECONDS.get(splicer.codec, 0.0))
        self._encoder, priming = self._encoders()
        # The encoder's packets then begin where the source's do, some of them earlier.
        self._skipped, self._early = priming % frame, priming // frame
        self._held: npt.NDArray[np.float32] = np.zeros((self._look.channels, 0), np.float32)
        self._slots: deque[tuple[Packet[Any], bool]] = deque()
        self._next: int | None = None
        self._fed = 0

    def _encoders(self) -> tuple[Any, int]:
        splicer, look = self._splicer, self._look
        try:
            probe, encoder = (
                open_sound_encoder(splicer.encoder_name, look, frame_samples=self._frame) for _ in range(2)
            )
            if encoder.frame_size not in (0, self._frame):
                raise splicer.error("its packets are of another length than the encoder's")
            return encoder, priming_of(probe, look, self._frame)
        except NoSoundEncoderError as exc:
            raise splicer.error(str(exc)) from exc

    @property
    def waits(self) -> bool:
        """Whether a packet is to be replaced and has not been yet."""
        return any(replaced for _, replaced in self._slots)

    def push(self, packet: Packet[Any], time: Fraction) -> list[Packet[Any]]:
        """Take a packet that is heard from `time` on."""
        rate = self._look.sample_rate
        start = self._placed(time)
        samples = self._decoded(packet)
        at = float(start) / rate
        seconds = self._frame / rate
        inside = self._silence.touches(at - self._margin, at + 2 * seconds + self._margin)
        self._slots.append((packet, inside or samples is None))
        if samples is None:
            samples = np.zeros((self._look.channels, self._frame), np.float32)
        self._silence.apply(samples, rate, start)
        return self._feed(samples)

    def _placed(self, time: Fraction) -> int:
        """The number of the first sample, counted on where the time is as exact as its unit allows."""
        rate = self._look.sample_rate
        start = round(time * rate)
        late = _LATE_TICKS * self._splicer.base * rate + _LATE_SAMPLES
        if self._next is not None and abs(start - self._next) <= late:
            start = self._next
        self._next = start + self._frame
        return start

    def _decoded(self, packet: Packet[Any]) -> npt.NDArray[np.float32] | None:
        """A packet's samples, None if it cannot be decoded.

        Raises:
            NotMutableError: They are not what the header says.
        """
        data = bytes(packet)
        self._splicer.check(data)
        if self._splicer.codec == "opus" and opus_samples(data) not in (None, self._frame):
            raise self._splicer.error("its packets are not all of the same length")
        try:
            frames = self._decoder.decode(packet_of(data))
        except FFmpegError:
            return None
        if not frames:
            return None
        look = self._look
        for frame in frames:
            if frame.sample_rate != look.sample_rate or frame.layout.name != look.layout:
                raise self._splicer.error("its rate or its channels change under way")
        if sum(frame.samples for frame in frames) != self._frame:
            raise self._splicer.error("its packets are not all of the same length")
        return np.concatenate([as_floats(samples_of(frame)) for frame in frames], axis=1)

    def _feed(self, samples: npt.NDArray[np.float32]) -> list[Packet[Any]]:
        """Encode, and give what is ready."""
        if self._skipped:
            leave = min(self._skipped, samples.shape[1])
            samples, self._skipped = samples[:, leave:], self._skipped - leave
        self._held = np.concatenate((self._held, samples), axis=1)
        ready: list[Packet[Any]] = []
        while self._held.shape[1] >= self._frame:
            chunk, self._held = self._held[:, : self._frame], self._held[:, self._frame :]
            try:
                encoded = encode_samples(self._encoder, chunk, self._fed)
            except NoSoundEncoderError as exc:
                raise self._splicer.error(str(exc)) from exc
            self._fed += self._frame
            for packet in encoded:
                ready += self._taken(packet)
        return ready

    def _taken(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """The packet of the source that one of the encoder's is about, or what replaces it."""
        if self._early:
            self._early -= 1
            return []
        if not self._slots:
            return []
        source, replaced = self._slots.popleft()
        return [self._replacement(source, bytes(packet)) if replaced else source]

    def _replacement(self, source: Packet[Any], data: bytes) -> Packet[Any]:
        """A packet with the times of the one in its place, in the source's form."""
        splicer = self._splicer
        if splicer.is_adts:
            if splicer.adts is None:
                raise splicer.error("its packets have no plain header")
            try:
                data = with_adts(data, splicer.adts)
            except OverflowError as exc:
                raise splicer.error("its packets have no room for what is encoded") from exc
        splicer.replaced += 1
        return stand_in(source, data)

    def rest(self) -> list[Packet[Any]]:
        """What was held back, none of which is replaced."""
        rest = [packet for packet, _ in self._slots]
        self._slots.clear()
        return rest

    def finish(self) -> list[Packet[Any]]:
        """All that is left, at the stream's end."""
        zeros = np.zeros((self._look.channels, self._frame), np.float32)
        ready: list[Packet[Any]] = []
        for _ in range(_MOST_FLUSHED):
            if not self.waits:
                return ready + self.rest()
            ready += self._feed(zeros)
        raise self._splicer.error(f"{self._splicer.encoder_name} holds packets back")


def stand_in(source: Packet[Any], data: bytes) -> Packet[Any]:
    """A packet of other bytes in the place of one of the source's."""
    packet = packet_of(data)
    packet.time_base = source.time_base
    packet.pts, packet.dts, packet.duration = source.pts, source.dts, source.duration
    packet.is_keyframe = True
    packet.stream = source.stream
    if source.has_sidedata("skip_samples"):
        packet.set_sidedata(source.get_sidedata("skip_samples"))
    return packet


class PcmSplicer:
    """The same for samples as they are: nothing overlaps, and what is not muted stays as it is in every packet."""

    def __init__(self, stream: AudioStream, spans: tuple[Span, ...]) -> None:
        self.replaced = 0
        self._index = stream.index
        self._base = stream.time_base or Fraction(1)
        tick = 2 * float(self._base)
        self._silence = Silence.around(spans, tick, tick)
        try:
            self._look = SoundLook.of(stream)
            self._decoder = sound_decoder_like(stream)
            name = encoder_name(self._look.codec)
            if name is None:
                raise NoSoundEncoderError(f"there is no encoder for {self._look.codec}")
            self.encoder_name = name
            self._encoder = open_sound_encoder(name, self._look)
        except NoSoundEncoderError as exc:
            raise NotMutableError(self._index, str(exc)) from exc

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Take a packet of the source."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return [packet]
        look, time = self._look, stamp * self._base
        # A byte a sample is the least, so it is no longer than that.
        if not self._silence.touches(time, time + Fraction(packet.size, look.channels * look.sample_rate)):
            return [packet]
        data = bytes(packet)
        try:
            frames = [samples_of(frame) for frame in self._decoder.decode(packet_of(data))]
            samples = np.concatenate(frames, axis=1)
            if not self._silence.apply(samples, look.sample_rate, round(time * look.sample_rate)):
                return [packet]
            made = b"".join(bytes(item) for item in encode_samples(self._encoder, samples, 0))
        except (FFmpegError, ValueError, NoSoundEncoderError) as exc:
            raise NotMutableError(self._index, f"a packet cannot be encoded in its place ({exc})") from exc
        if len(made) != len(data):
            raise NotMutableError(self._index, "a packet in its place would be of another length")
        self.replaced += 1
        return [stand_in(packet, made)]

    def flush(self) -> list[Packet[Any]]:
        """All that is left: nothing."""
        return []
