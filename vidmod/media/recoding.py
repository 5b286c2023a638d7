"""Decoding, muting and encoding all of a sound stream, where single packets of it cannot be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.packet import Packet

from vidmod.media.muxer import Muxer
from vidmod.media.silence import NotMutableError
from vidmod.media.sound_coding import (
    NoSoundEncoderError,
    SoundLook,
    configure_sound,
    credible,
    encode_samples,
    encoder_name,
    frame_of,
    open_sound_encoder,
    sample_format_for,
    samples_of,
)
from vidmod.media.splicing import silence_of_blocks
from vidmod.timebase import Span

# What each format holds, the first that is of use; what it had comes before.
_OTHERS = {"webm": ("libopus",), "matroska": ("libopus", "aac"), "mpegts": ("aac", "mp2")}
_USUAL_OTHERS = ("aac", "libopus", "pcm_s16le")
# FFmpeg does not say what MPEG-TS holds.
_TS_ENCODERS = ("aac", "ac3", "eac3", "mp2", "libmp3lame")
_MEDIUM_RATE = 48_000
# Times that are off by less are jitter; a gap is filled with silence, unless it is so long that it is a jump.
_JITTER_SECONDS, _JUMP_SECONDS = Fraction(1, 25), 10
_ANY_SAMPLES = 4096
_SILENT_FRAMES = 3
_MAX_DRAIN_ERRORS = 64


class Recoder:
    """Encodes a sound stream anew with some spans of it silent. Push and flush.

    What cannot be decoded becomes silence. Times are kept, but for jitter.

    Args:
        stream: The source's.
        spans: When it is to be silent, in seconds of presentation time.
        muxer: Where it gets its place.

    Raises:
        NotMutableError: It cannot be decoded, or nothing encodes it; from `flush`, if nothing came of it.
    """

    def __init__(self, stream: AudioStream, spans: tuple[Span, ...], muxer: Muxer) -> None:
        self._stream, self._spans = stream, spans
        self._drops_priming = muxer.format_name == "mpegts"
        try:
            look = SoundLook.of(stream)
            self.encoder_name, self._look = self._chosen(look, muxer)
            out = cast(AudioStream, muxer.container.add_stream(self.encoder_name, rate=self._look.sample_rate))
            configure_sound(out.codec_context, self.encoder_name, self._look)
            out.codec_context.open()
        except (NoSoundEncoderError, FFmpegError, ValueError) as exc:
            raise self._error(str(exc)) from exc
        muxer.adopt(stream, out)
        stream.codec_context.thread_count = 1
        self._encoder = out.codec_context
        self._frame = self._encoder.frame_size or _ANY_SAMPLES
        lossless = av.Codec(self.encoder_name, "w").lossless
        seconds = 0.0 if lossless else self._frame / self._look.sample_rate
        self._silence = silence_of_blocks(spans, self._encoder.codec.canonical_name, seconds, 1e-3)
        self._held = np.zeros((self._look.channels, 0), np.float32)
        self._resampler: AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self._next: Fraction | None = None
        self._position: int | None = None
        self._first = 0
        self._last: int | None = None

    def _error(self, why: str) -> NotMutableError:
        return NotMutableError(self._stream.index, why, encoded=True)

    def _chosen(self, look: SoundLook, muxer: Muxer) -> tuple[str, SoundLook]:
        """An encoder that opens, and what it is to make."""
        own = encoder_name(look.codec)
        names = (*(() if own is None else (own,)), *_OTHERS.get(muxer.format_name, _USUAL_OTHERS))
        why = f"there is no encoder for {look.codec}"
        for name in names:
            if name not in _TS_ENCODERS if muxer.format_name == "mpegts" else not muxer.takes(name, ""):
                continue
            for other in _looks(name, look):
                try:
                    open_sound_encoder(name, other)
                except NoSoundEncoderError as exc:
                    why = str(exc)
                    continue
                return name, other
        raise NoSoundEncoderError(why)

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Take a packet of the source; packets of the encoder."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        # As where packets are copied, those that are out of order are left out.
        if stamp is None or (self._last is not None and stamp < self._last):
            return []
        self._last = stamp
        try:
            frames = self._stream.codec_context.decode(packet)
        except FFmpegError:
            return []
        return [ready for frame in frames for ready in self._take(frame)]

    def flush(self) -> list[Packet[Any]]:
        """All that is left."""
        ready = [item for frame in self._drained() for item in self._take(frame)]
        ready += self._end_stretch(whole=False)
        if self._next is None:
            raise self._error("nothing of it can be decoded")
        try:
            return ready + self._fit(self._encoder.encode(None))
        except FFmpegError as exc:
            raise self._error(f"{self.encoder_name} failed ({exc.strerror})") from exc

    def _drained(self) -> Iterator[AudioFrame]:
        for _ in range(_MAX_DRAIN_ERRORS):
            try:
                yield from self._stream.codec_context.decode(None)
            except AvEOFError:
                return
            except FFmpegError:
                continue
            return

    def _take(self, frame: AudioFrame) -> list[Packet[Any]]:
        rate = frame.sample_rate
        try:
            samples = samples_of(frame)
        except ValueError as exc:
            raise self._error(str(exc)) from exc
        if not credible(rate):
            raise self._error(f"it claims {rate} samples a second")
        if not samples.shape[1]:
            return []
        claimed = self._time_of(frame)
        ready = self._bridged(claimed, frame, samples)
        assert self._next is not None
        early = max(0, round((self._next - claimed) * rate)) if self._next - claimed > _JITTER_SECONDS else 0
        samples = samples[:, early:]
        if not samples.shape[1]:
            return ready
        for time in {self._next, claimed + Fraction(early, rate)}:
            self._silence.apply(samples, rate, round(time * rate))
        self._next += Fraction(samples.shape[1], rate)
        return ready + self._resampled(samples, frame)

    def _time_of(self, frame: AudioFrame) -> Fraction:
        base = frame.time_base or self._stream.time_base
        if frame.pts is None or base is None:
            return self._next or Fraction(0)
        return frame.pts * base

    def _bridged(self, claimed: Fraction, frame: AudioFrame, samples: npt.NDArray[Any]) -> list[Packet[Any]]:
        """Go on to where a frame is heard, over what is missing before it."""
        ready: list[Packet[Any]] = []
        if self._next is not None and claimed - self._next > _JUMP_SECONDS:
            ready += self._end_stretch(whole=True)
            self._next = None
        if self._next is None:
            place = round(claimed * self._look.sample_rate)
            if self._position is None:
                self._position = self._first = place
            self._next, self._position = claimed, max(place, self._position)
        elif claimed - self._next > _JITTER_SECONDS:
            missing = round((claimed - self._next) * frame.sample_rate)
            silent = 128 if samples.dtype == np.uint8 else 0
            for start in range(0, missing, _ANY_SAMPLES):
                shape = (samples.shape[0], min(_ANY_SAMPLES, missing - start))
                ready += self._resampled(np.full(shape, silent, samples.dtype), frame)
            self._next = claimed
        return ready

    def _resampled(self, samples: npt.NDArray[Any], like: AudioFrame) -> list[Packet[Any]]:
        """What an encoder makes of samples that are like those of a frame of the source."""
        shape = (like.format.planar.name, like.layout.name, like.sample_rate)
        if self._resampler is None or shape != self._shape:
            self._drain_resampler()
            self._shape = shape
            wanted = sample_format_for(self.encoder_name, self._look.sample_format)
            self._resampler = AudioResampler(wanted, self._look.layout, self._look.sample_rate)
        frame = frame_of(samples, like.format.planar, like.layout.name, like.sample_rate)
        self._hold(self._resampler.resample(frame))
        return self._encoded()

    def _hold(self, frames: list[AudioFrame]) -> None:
        parts = [samples_of(frame) for frame in frames]
        self._held = np.concatenate((self._held.astype(parts[0].dtype), *parts), axis=1) if parts else self._held

    def _drain_resampler(self) -> None:
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            # Where there is nothing to convert it gives back what it was given.
            self._hold([frame for frame in resampler.resample(None) if frame is not None])

    def _encoded(self) -> list[Packet[Any]]:
        ready: list[Packet[Any]] = []
        while self._held.shape[1] >= self._frame:
            chunk, self._held = self._held[:, : self._frame], self._held[:, self._frame :]
            ready += self._encode(chunk)
        return ready

    def _encode(self, chunk: npt.NDArray[Any]) -> list[Packet[Any]]:
        position = self._position or 0
        try:
            made = encode_samples(self._encoder, chunk, position)
        except NoSoundEncoderError as exc:
            raise self._error(str(exc)) from exc
        self._position = position + chunk.shape[1]
        return self._fit(made)

    def _end_stretch(self, *, whole: bool) -> list[Packet[Any]]:
        """Encode what is held, to a whole packet where more is to come."""
        self._drain_resampler()
        ready = self._encoded()
        rest, self._held = self._held, self._held[:, :0]
        silent = 128 if rest.dtype == np.uint8 else 0
        if whole:
            # What comes after a jump must not overlap with what sounds before it.
            missing = -rest.shape[1] % self._frame + _SILENT_FRAMES * self._frame
            rest = np.pad(rest, ((0, 0), (0, missing)), constant_values=silent)
        for start in range(0, rest.shape[1], self._frame):
            ready += self._encode(rest[:, start : start + self._frame])
        return ready

    def _fit(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        """Without what is heard before the sound begins, where a container would move everything for it."""
        if not self._drops_priming:
            return packets
        return [item for item in packets if item.pts is None or item.pts >= self._first]


def _looks(name: str, look: SoundLook) -> Iterator[SoundLook]:
    """What to encode with an encoder, the nearest first."""
    rates = av.Codec(name, "w").audio_rates
    higher = sorted(rate for rate in rates or () if rate >= look.sample_rate)
    rate = look.sample_rate if not rates or look.sample_rate in rates else (*higher, _MEDIUM_RATE)[0]
    for layout in dict.fromkeys((look.layout, "5.1", "stereo", "mono")):
        if av.AudioLayout(layout).nb_channels <= look.channels:
            yield replace(look, sample_rate=rate, layout=layout)
