"""Decoders and encoders of sound, set up so that packets can stand in for those of a source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.error import FFmpegError
from av.packet import Packet

# Where FFmpeg's encoder has another name than the codec.
_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "mp3float": "libmp3lame", "amr_nb": "libopencore_amrnb"}
# Its decoder gives each packet's samples with it; FFmpeg's own holds some of SILK's back.
_DECODERS = {"opus": "libopus"}
# Bits per second and channel: what is encoded here is the second generation, so never less.
_LEAST_RATE, _MOST_RATE = 96_000, 320_000
_LEAST_SAMPLE_RATE, _MOST_SAMPLE_RATE = 1_000, 768_000
# Those whose packets all have the rate that their headers say.
CONSTANT = ("ac3", "eac3", "mp2")
_PROBED_FRAMES = 8
# PyAV 18.1 takes frames of eight planes or more to have planes beyond the last.
_MANY_CHANNELS = 8
_OPUS_SILK_OR_HYBRID = 16
_OPUS_SILK, _OPUS_HYBRID, _OPUS_CELT = (10, 20, 40, 60), (10, 20), (2.5, 5, 10, 20)
_MOST_OPUS_MILLISECONDS = 120


class NoSoundEncoderError(Exception):
    """Why sound cannot be encoded so; the message is for people."""


@dataclass(frozen=True, slots=True)
class SoundLook:
    """What an encoder is to keep of a sound stream.

    Attributes:
        codec: FFmpeg's name of the codec.
        sample_rate: Per second and channel.
        layout: FFmpeg's name of the channel layout.
        sample_format: FFmpeg's name, planar or packed.
        bit_rate: As claimed, 0 if it is not.
    """

    codec: str
    sample_rate: int
    layout: str
    sample_format: str
    bit_rate: int

    @classmethod
    def of(cls, stream: AudioStream) -> SoundLook:
        """What was probed of a stream.

        Raises:
            NoSoundEncoderError: Nothing can decode it, or it does not say what its samples are.
        """
        context = cast("AudioCodecContext | None", stream.codec_context)
        if context is None:
            raise NoSoundEncoderError("nothing can decode it")
        if context.layout.nb_channels < 1 or context.format is None:
            raise NoSoundEncoderError("it does not say what its samples are")
        if not credible(context.sample_rate):
            raise NoSoundEncoderError(f"it claims {context.sample_rate} samples a second")
        codec = context.codec.canonical_name
        return cls(codec, context.sample_rate, context.layout.name, context.format.name, context.bit_rate or 0)

    @property
    def channels(self) -> int:
        """How many there are."""
        return av.AudioLayout(self.layout).nb_channels


def credible(sample_rate: int) -> bool:
    """Whether a claimed rate is one that sound has; what is sized by it stays small."""
    return _LEAST_SAMPLE_RATE <= sample_rate <= _MOST_SAMPLE_RATE


def encoder_name(codec: str) -> str | None:
    """FFmpeg's encoder of a codec, None if there is none that is fit for use."""
    name = _ENCODERS.get(codec, codec)
    try:
        found = av.Codec(name, "w")
    except ValueError:
        return None
    return None if found.experimental else name


def bits_per_second(look: SoundLook) -> int:
    """What to encode with."""
    if encoder_name(look.codec) in CONSTANT and look.bit_rate:
        return look.bit_rate
    return min(max(look.bit_rate, _LEAST_RATE * look.channels), _MOST_RATE * look.channels)


def sample_format_for(name: str, wanted: str) -> str:
    """What an encoder takes that loses least of a sample format.

    Raises:
        NoSoundEncoderError: It takes none that is known here.
    """
    known = [item.name for item in av.Codec(name, "w").audio_formats or ()]
    packed, planar = AudioFormat(wanted).packed.name, AudioFormat(wanted).planar.name
    more = ("s32p", "s32", "fltp", "flt") if AudioFormat(wanted).bytes > 2 else ()
    found = next((item for item in (wanted, packed, planar, *more) if item in known), None)
    if found is None and not known:
        raise NoSoundEncoderError(f"{name} says of no samples that it takes them")
    return found or known[0]


def open_sound_encoder(
    name: str, look: SoundLook, *, frame_samples: int | None = None, bit_rate: int | None = None
) -> AudioCodecContext:
    """An encoder of its own, opened.

    Args:
        name: FFmpeg's.
        look: What to encode.
        frame_samples: How many samples each packet is to have, where the encoder leaves that open.
        bit_rate: Of all channels; None for what fits.

    Raises:
        NoSoundEncoderError: It cannot be opened so.
    """
    context = cast(AudioCodecContext, av.CodecContext.create(name, "w"))
    try:
        configure_sound(context, name, look, frame_samples=frame_samples, bit_rate=bit_rate)
        context.flags |= Flags.global_header
        context.open()
    except (FFmpegError, ValueError, OverflowError) as exc:
        raise NoSoundEncoderError(f"{name} cannot be opened for it ({getattr(exc, 'strerror', None) or exc})") from exc
    return context


def configure_sound(
    context: AudioCodecContext,
    name: str,
    look: SoundLook,
    *,
    frame_samples: int | None = None,
    bit_rate: int | None = None,
) -> None:
    """Set an encoder up, before it is opened."""
    context.sample_rate = look.sample_rate
    context.layout = look.layout
    context.format = sample_format_for(name, look.sample_format)
    context.time_base = Fraction(1, look.sample_rate)
    context.thread_count = 1
    context.flags |= Flags.bitexact
    if not av.Codec(name, "w").lossless:
        context.bit_rate = bits_per_second(look) if bit_rate is None else bit_rate
    if name == "aac":
        # Noise substitution would have every decoder's noise after a splice differ from before.
        context.options = {"aac_pns": "0"}
    if name == "libopus" and frame_samples is not None:
        context.options = {"frame_duration": f"{frame_samples * 1000 / look.sample_rate:g}"}


def sound_decoder_like(stream: AudioStream) -> AudioCodecContext:
    """A decoder of its own that has seen nothing yet, and gives all samples, of priming too."""
    source = stream.codec_context
    name = _DECODERS.get(source.codec.canonical_name, source.name)
    decoder = cast(AudioCodecContext, av.CodecContext.create(name, "r"))
    extradata = source.extradata
    if name == "libopus" and extradata is not None and len(extradata) >= 12:
        # It would leave out what its header calls pre-skip.
        extradata = extradata[:10] + b"\0\0" + extradata[12:]
    decoder.extradata = extradata
    decoder.sample_rate = source.sample_rate
    decoder.layout = source.layout.name
    decoder.thread_count = 1
    return decoder


def priming_of(encoder: AudioCodecContext, look: SoundLook, frame_samples: int) -> int:
    """By how many samples what a new encoder gives is late; the encoder is of no use afterwards.

    Raises:
        NoSoundEncoderError: It gives nothing.
    """
    zeros = np.zeros((look.channels, frame_samples), np.float32)
    for number in range(_PROBED_FRAMES):
        for packet in encode_samples(encoder, zeros, number * frame_samples):
            if packet.pts is not None:
                return -packet.pts
    raise NoSoundEncoderError(f"{encoder.name} gives no packets")


def encode_samples(encoder: AudioCodecContext, samples: npt.NDArray[Any], pts: int) -> list[Packet[Any]]:
    """Encode channels×time samples, float32 in -1 to 1 or of the encoder's own type.

    Raises:
        NoSoundEncoderError: It does not.
    """
    frame = frame_of(samples, encoder.format, encoder.layout.name, encoder.sample_rate)
    frame.pts = pts
    try:
        return encoder.encode(frame)
    except (FFmpegError, ValueError) as exc:
        raise NoSoundEncoderError(f"{encoder.name} failed ({getattr(exc, 'strerror', None) or exc})") from exc


def frame_of(samples: npt.NDArray[Any], sample_format: AudioFormat, layout: str, sample_rate: int) -> AudioFrame:
    """A frame of channels×time samples; float32 becomes 16 bits where that is what the format has.

    Of many channels it is packed: an encoder takes that as well.
    """
    if samples.shape[0] >= _MANY_CHANNELS:
        sample_format = sample_format.packed
    if sample_format.packed.name == "s16" and samples.dtype.kind == "f":
        samples = np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)
    if not sample_format.is_planar:
        samples = samples.T.reshape(1, -1)
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=sample_format.name, layout=layout)
    frame.sample_rate = sample_rate
    frame.time_base = Fraction(1, sample_rate)
    return frame


def samples_of(frame: AudioFrame) -> npt.NDArray[Any]:
    """A frame's channels×time samples, as they are; an array of its own."""
    if frame.format.is_planar and frame.layout.nb_channels >= _MANY_CHANNELS:
        (frame,) = AudioResampler(frame.format.packed).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    return np.array(samples, order="C")


def as_floats(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The same in -1 to 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    middle = 128 if samples.dtype == np.uint8 else 0
    return ((samples.astype(np.float64) - middle) / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)


def plain_aac(config: bytes) -> tuple[int, int] | None:
    """The indexes of sampling frequency and channels in an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).

    Returns:
        None if it is not AAC LC of 1024 samples a frame with a usual layout, and without SBR.
    """
    if len(config) < 2:
        return None
    bits = int.from_bytes(config[:5].ljust(5, b"\0"), "big")

    def field(at: int, length: int) -> int:
        return bits >> (40 - at - length) & ((1 << length) - 1)

    kind, frequency, channels = field(0, 5), field(5, 4), field(9, 4)
    # Frame length, dependence on a core coder and an extension have a flag each.
    if kind != 2 or frequency > 12 or not 1 <= channels <= 7 or field(13, 3):
        return None
    if len(config) >= 5 and field(16, 11) == 0x2B7 and field(32, 1):
        return None
    return frequency, channels


def adts_header(packet: bytes) -> bytes | None:
    """The fixed part of the header of an ADTS frame of AAC LC with one block, None if it is something else."""
    if len(packet) < 7 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return None
    length = (packet[3] & 3) << 11 | packet[4] << 3 | packet[5] >> 5
    profile, channels, blocks = packet[2] >> 6, (packet[2] & 1) << 2 | packet[3] >> 6, packet[6] & 3
    return packet[:4] if profile == 1 and channels and not blocks and length == len(packet) else None


def adts_plain(header: bytes) -> tuple[int, int]:
    """What `plain_aac` gives, of an ADTS header's fixed part."""
    return header[2] >> 2 & 15, (header[2] & 1) << 2 | header[3] >> 6


def with_adts(data: bytes, header: bytes) -> bytes:
    """A block of AAC in an ADTS frame, its header like another's.

    Raises:
        OverflowError: It has no room for it.
    """
    length = len(data) + 7
    if length >= 1 << 13:
        raise OverflowError
    # No checksum; how full the decoder's buffer is (0x7FF) is left open.
    fixed = bytes((header[0], header[1] | 1, header[2], header[3] & 0xFC | length >> 11))
    return fixed + bytes((length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC)) + data


def opus_samples(packet: bytes) -> int | None:
    """How many samples at 48 kHz an Opus packet gives (RFC 6716, 3.1), None if it makes no sense."""
    if not packet:
        return None
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        milliseconds: float = _OPUS_SILK[config % 4]
    elif config < _OPUS_SILK_OR_HYBRID:
        milliseconds = _OPUS_HYBRID[config % 2]
    else:
        milliseconds = _OPUS_CELT[config % 4]
    count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    whole = milliseconds * count
    return round(whole * 48) if 0 < whole <= _MOST_OPUS_MILLISECONDS else None


def opus_agrees(theirs: bytes | None, ours: bytes | None) -> bool:
    """Whether two Opus headers (RFC 7845, 5.1) say the same of how packets become channels, and no gain."""
    if theirs is None or ours is None or len(theirs) < 19 or len(ours) < 19:
        return False
    return theirs[9] == ours[9] and theirs[16:18] == b"\0\0" and theirs[18:] == ours[18:]
