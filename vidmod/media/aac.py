"""AAC on its way through: what can be copied into a stream of AAC-LC, and what is made into it.

The bits are those of AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) and of ADTS (the same, 1.A.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from vidmod.errors import OutputError, UndecodableError
from vidmod.media.live import AAC_SAMPLES
from vidmod.media.packets import packet_of

_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_LOW_COMPLEXITY = 2
_EXTENSION = 0x2B7
_ADTS_BYTES, _ADTS_CRC_BYTES = 7, 2
# Times of sound that differ by more from what came before begin anew.
_MOST_ASTRAY_SECONDS = 0.08


def is_plain(config: bytes, sample_rate: int, channels: int) -> bool:
    """Whether an AudioSpecificConfig says: AAC-LC of that rate and those channels, 1,024 samples a packet, no more."""
    bits = "".join(f"{byte:08b}" for byte in config)
    if len(bits) < 16:
        return False
    kind, rate, count = int(bits[:5], 2), int(bits[5:9], 2), int(bits[9:13], 2)
    # frameLengthFlag, dependsOnCoreCoder, extensionFlag
    is_usual = bits[13:16] == "000"
    is_extended = len(bits) >= 33 and int(bits[16:27], 2) == _EXTENSION and bits[32] == "1"
    return (
        kind == _LOW_COMPLEXITY and _is_rate(rate, sample_rate) and count == channels and is_usual and not is_extended
    )


def unwrapped(data: bytes, sample_rate: int, channels: int) -> bytes | None:
    """A packet without its ADTS header, if it has one; None if that says anything but AAC-LC of that kind."""
    if len(data) < _ADTS_BYTES or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return data
    profile, rate = data[2] >> 6, data[2] >> 2 & 0xF
    count = (data[2] & 1) << 2 | data[3] >> 6
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    blocks = data[6] & 3
    start = _ADTS_BYTES if data[1] & 1 else _ADTS_BYTES + _ADTS_CRC_BYTES
    is_known = profile + 1 == _LOW_COMPLEXITY and _is_rate(rate, sample_rate) and count == channels
    return data[start:] if is_known and blocks == 0 and length == len(data) > start else None


def _is_rate(index: int, sample_rate: int) -> bool:
    return index < len(_RATES) and _RATES[index] == sample_rate


class SoundRecoder:
    """Makes sound of any codec into AAC-LC of one rate and layout. Belongs to one thread.

    Args:
        codec: FFmpeg's name.
        extradata: What its container says of it.
        source_rate: In Hz, as the container says.
        source_layout: FFmpeg's name of it.
        sample_rate, layout: Of what leaves.

    Raises:
        UndecodableError: There is no such decoder.
        OutputError: There is no AAC of that rate and layout.
    """

    def __init__(
        self, codec: str, extradata: bytes, source_rate: int, source_layout: str, sample_rate: int, layout: str
    ) -> None:
        try:
            self._decoder = cast(AudioCodecContext, av.CodecContext.create(codec, "r"))
            self._decoder.extradata = extradata or None
            if source_rate:
                self._decoder.sample_rate = source_rate
            self._decoder.layout = source_layout
            self._decoder.open()
        except (FFmpegError, ValueError) as exc:
            raise UndecodableError(f"There is no decoder for {codec} ({exc}).") from exc
        try:
            self._encoder = av.CodecContext.create("aac", "w")
            self._encoder.sample_rate, self._encoder.layout, self._encoder.format = sample_rate, layout, "fltp"
            self._encoder.time_base = Fraction(1, sample_rate)
            self._encoder.open()
        except (FFmpegError, ValueError) as exc:
            raise OutputError(f"There is no AAC with {sample_rate} Hz and {layout} ({exc}).") from exc
        self._rate, self._layout = sample_rate, layout
        self._resampler = AudioResampler("fltp", layout, sample_rate)
        self._fifo = AudioFifo()
        self._taken = 0  # samples that went into the fifo
        self._coded = 0  # and into the encoder
        self._offset: float | None = None  # the time of sample 0

    def recode(self, data: bytes, seconds: float) -> Iterator[tuple[float, bytes]]:
        """Time and data of the AAC packets that a packet completes.

        Raises:
            UndecodableError: It is damaged. The next one may not be.
        """
        packet = packet_of(data)
        packet.pts = packet.dts = round(seconds * 1_000_000)
        packet.time_base = Fraction(1, 1_000_000)
        try:
            for frame in self._decoder.decode(packet):
                for row in self._resampler.resample(frame):
                    self._take(row, seconds)
                    seconds += row.samples / self._rate
            yield from self._encoded()
        except (FFmpegError, ValueError) as exc:
            raise UndecodableError(f"A packet of sound cannot be decoded ({exc}).") from exc

    def _take(self, frame: AudioFrame, seconds: float) -> None:
        offset = seconds - self._taken / self._rate
        if self._offset is None or abs(offset - self._offset) > _MOST_ASTRAY_SECONDS:
            self._offset = offset
        self._taken += frame.samples
        frame.pts = None
        self._fifo.write(frame)

    def _encoded(self) -> Iterator[tuple[float, bytes]]:
        while self._offset is not None and (frame := self._fifo.read(AAC_SAMPLES)) is not None:
            assert isinstance(frame, AudioFrame)
            frame.pts, frame.sample_rate = self._coded, self._rate
            frame.time_base = Fraction(1, self._rate)
            self._coded += AAC_SAMPLES
            for packet in self._encoder.encode(frame):
                yield self._offset + (packet.pts or 0) / self._rate, bytes(packet)
