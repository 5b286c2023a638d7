"""Video encoders, set up so that what they write can stand in for what a source has.

Quality is constant (crf, or a quantiser where there is no crf), a little above what is told from
the source by eye, for what is encoded here is the second generation: see `QUALITY`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import cast

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from vidmod.errors import UsageError, choose
from vidmod.media.groups import codec_of

# The encoder for each codec, as FFmpeg names both.
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
    "av1": "libsvtav1",
    "mpeg4": "mpeg4",
    "mpeg2video": "mpeg2video",
    "mpeg1video": "mpeg1video",
    "mjpeg": "mjpeg",
    "prores": "prores_ks",
    "ffv1": "ffv1",
}
# What an NVIDIA GPU may encode instead, where its encoder opens. H100 and H200 have none.
NVENC = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
# Constant quality by default, each in its encoder's own scale: lower is better. x264's and x265's are what their
# authors call visually lossless (x264: 18; x265 gives the same at 2 more), libvpx's and SVT-AV1's lie at about the
# same SSIM; the others are quantisers of 1 to 31.
QUALITY = {
    "libx264": 18,
    "libx265": 20,
    "libvpx-vp9": 24,
    "libvpx": 8,
    "libsvtav1": 22,
    # not compared with the others by eye: nobody who wrote this has run them
    "h264_nvenc": 18,
    "hevc_nvenc": 20,
    "av1_nvenc": 22,
    "mpeg4": 2,
    "mpeg2video": 2,
    "mpeg1video": 2,
    "mjpeg": 2,
}
_WORST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libvpx": 63, "libsvtav1": 63} | dict.fromkeys(
    NVENC.values(), 51
)
_WORST_QUANTISER = 31
# Speed in x264's words, and what comes near it elsewhere: SVT-AV1's preset, libvpx's cpu-used.
PRESETS: Mapping[str, tuple[int, int]] = {
    "ultrafast": (12, 8),
    "superfast": (11, 8),
    "veryfast": (10, 7),
    "faster": (9, 6),
    "fast": (8, 5),
    "medium": (7, 4),
    "slow": (6, 2),
}
# NVENC's own scale, p1 (fastest) to p7.
_NVENC_PRESETS = {
    "ultrafast": "p1",
    "superfast": "p2",
    "veryfast": "p3",
    "faster": "p4",
    "fast": "p5",
    "medium": "p6",
} | {"slow": "p7"}
# x264 at 1080p on one core: 131, 76 and 59 frames/s for ultrafast, superfast and veryfast; the slower ones halve that.
DEFAULT_PRESET = "veryfast"
# Profiles that x264 is asked for; those of more bits or chroma follow from the pixel format.
_X264_PROFILES = {"Baseline": "baseline", "Constrained Baseline": "baseline", "Main": "main", "High": "high"}
# Encoders whose bit streams count pictures at a fixed rate: they are given numbers for times, and never reorder here.
COUNTING = ("mpeg4", "mpeg2video", "mpeg1video")
_QP_TO_LAMBDA = 118  # FF_QP2LAMBDA
# libvpx asks VP8 for a bit rate that constant quality is not to exceed: bits per pixel, far above what it needs.
_VP8_BITS_PER_PIXEL = 2
# The best that can be said of a stream that claims no rate, or an absurd one.
_USUAL_RATE, _FASTEST_RATE = Fraction(25), Fraction(1000)


class NoEncoderError(Exception):
    """Why a stream cannot be encoded as it was; the message is for people."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an encoder is to keep of a stream.

    Attributes:
        codec: FFmpeg's codec name.
        size: Stored (width, height).
        pixel_format: FFmpeg's name.
        profile: FFmpeg's name, None if unknown.
        rate: Frames per second, for rate control only; times are taken from the pictures.
        time_base: Seconds per pts unit.
        sample_aspect: Width over height of a stored pixel, None if not said.
        colours: Range, primaries, transfer and matrix (ITU-T H.273), as FFmpeg numbers them.
        reorders: Whether it has pictures that are shown before others that are decoded first.
        interlaced: Whether it is coded as fields, or as pictures made of two.
    """

    codec: str
    size: tuple[int, int]
    pixel_format: str
    profile: str | None
    rate: Fraction
    time_base: Fraction
    sample_aspect: Fraction | None
    colours: tuple[int, int, int, int]
    reorders: bool
    interlaced: bool = False

    @classmethod
    def of(cls, stream: VideoStream) -> Look:
        """What the headers of a stream say, and what was probed of it.

        Raises:
            NoEncoderError: They do not say what a picture is.
        """
        context = stream.codec_context
        if context is None or context.pix_fmt is None or not (context.width and context.height):
            raise NoEncoderError("its pictures have no known size or format")
        rate = stream.average_rate or stream.guessed_rate
        return cls(
            codec=codec_of(context.name),
            size=(context.width, context.height),
            pixel_format=context.pix_fmt,
            profile=context.profile,
            rate=_USUAL_RATE if rate is None or not 0 < rate <= _FASTEST_RATE else rate,
            time_base=stream.time_base or context.time_base,
            sample_aspect=stream.sample_aspect_ratio or None,
            colours=(context.color_range, context.color_primaries, context.color_trc, context.colorspace),
            reorders=context.reorder_depth > 0,
            interlaced=context.field_order > 1,
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """How well, how fast and in what groups to encode.

    Attributes:
        crf: Constant quality in the encoder's own scale; None for its entry in `QUALITY`.
        preset: One of `PRESETS`.
        threads: Of the encoder; 1 starts none beside those that an encoder cannot do without.
        group: Most pictures from one key frame to the next.
        depth: By how many pictures the encoder may reorder, 0 to 2.
        parameter_sets: H.264: the id of the parameter sets.
        global_header: Whether parameter sets go to `extradata` and not into the packets.
        steady: H.264: whether to state the rate in the stream, where the container has no durations.
        gpu: Which NVIDIA GPU encodes a whole stream, if it can; None for the CPU.

    Raises:
        UsageError: The preset is not one of these.
    """

    crf: float | None = None
    preset: str = DEFAULT_PRESET
    threads: int = 1
    group: int = 250
    depth: int = 0
    parameter_sets: int | None = None
    global_header: bool = False
    steady: bool = False
    gpu: int | None = None

    def __post_init__(self) -> None:
        choose("preset", self.preset, PRESETS)
        if self.crf is not None and not 0 <= self.crf <= max(_WORST.values()):
            raise UsageError(
                f"Invalid crf ({self.crf:g}). Use 0 (best) to 51 for H.264 and HEVC, to 63 for VP9 and AV1."
            )


def nvenc_for(look: Look) -> tuple[str, Look]:
    """The GPU's encoder of a stream's own codec, and the stream as that takes it.

    Raises:
        NoEncoderError: There is none. Whether it opens is another matter.
    """
    name = NVENC.get(look.codec)
    if name is None or not _pixel_formats(name):
        raise NoEncoderError(f"NVENC has no encoder for {look.codec}")
    if look.interlaced:
        raise NoEncoderError(f"{name} is not used for interlaced pictures")
    if (kept := nearest_format(name, look)) != look.pixel_format:
        raise NoEncoderError(f"{name} cannot encode {look.pixel_format}, only {kept}")
    return name, replace(look, profile=None)


def encoder_for(look: Look) -> str:
    """The encoder of a stream's own codec that takes its pixel format.

    Raises:
        NoEncoderError: There is none.
    """
    name = ENCODERS.get(look.codec)
    formats = () if name is None else _pixel_formats(name)
    if name is None or not formats:
        raise NoEncoderError(f"there is no encoder for {look.codec}")
    if look.pixel_format not in formats:
        raise NoEncoderError(f"{name} cannot encode {look.pixel_format}")
    return name


def _pixel_formats(name: str) -> tuple[str, ...]:
    try:
        found = av.Codec(name, "w").video_formats
    except ValueError:
        return ()
    return tuple(item.name for item in found or ())


def nearest_format(name: str, look: Look) -> str:
    """What an encoder takes that loses least of a pixel format: bit depth first, then colour resolution."""
    formats = _pixel_formats(name)
    if look.pixel_format in formats:
        return look.pixel_format
    source = av.VideoFormat(look.pixel_format)
    depth = 10 if max(item.bits for item in source.components) > 8 else 8
    even = not (look.size[0] % 2 or look.size[1] % 2)
    fine = source.is_rgb or not even or source.chroma_width(64) == 64
    chroma = "444" if fine else "420" if source.chroma_height(64) < 64 else "422"
    wanted = [f"yuv{item}p{'10le' if depth == 10 else ''}" for item in (chroma, "444", "420")]
    return next((item for item in (*wanted, "yuv420p") if item in formats), formats[0])


def open_encoder(name: str, look: Look, effort: Effort) -> VideoCodecContext:
    """An encoder of its own, opened.

    Raises:
        NoEncoderError: It cannot be opened so.
    """
    try:
        context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
        configure(context, name, look, effort)
        context.open()
    except (FFmpegError, ValueError, OverflowError) as exc:
        raise NoEncoderError(f"{name} cannot be opened for it ({getattr(exc, 'strerror', None) or exc})") from exc
    return context


def configure(context: VideoCodecContext, name: str, look: Look, effort: Effort) -> None:
    """Set an encoder up, before it is opened."""
    context.width, context.height = look.size
    context.pix_fmt = look.pixel_format
    context.time_base = 1 / look.rate if name in COUNTING else look.time_base
    context.framerate = look.rate
    context.sample_aspect_ratio = look.sample_aspect or Fraction(0)
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = look.colours
    context.thread_count = effort.threads
    context.gop_size = effort.group
    context.max_b_frames = _b_pictures(name, effort)
    if effort.global_header:
        context.flags |= Flags.global_header
    if look.interlaced and name in ("libx264", "mpeg2video", "mpeg4"):
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    context.options = dict(_options(context, name, look, effort))


def _b_pictures(name: str, effort: Effort) -> int:
    # With a pyramid, three B pictures in a row reorder by two; without, any number reorders by one.
    return (0, 2, 3)[effort.depth] if name in ("libx264", "libx265") else 0


def _options(context: VideoCodecContext, name: str, look: Look, effort: Effort) -> Iterator[tuple[str, str]]:
    """The encoder's own options."""
    svt_preset, cpu_used = PRESETS[effort.preset]
    crf = _crf(name, effort)
    if name == "libx264":
        yield from (("preset", effort.preset), ("crf", crf))
        yield "x264-params", _params(_x264_parameters(effort))
        if look.profile in _X264_PROFILES and look.pixel_format in ("yuv420p", "yuvj420p"):
            yield "profile", _X264_PROFILES[look.profile]
    elif name == "libx265":
        yield from (("preset", effort.preset), ("crf", crf))
        yield "x265-params", _params(_x265_parameters(effort))
    elif name == "libsvtav1":
        # It reports to standard error what nobody asked for.
        os.environ.setdefault("SVT_LOG", "0")
        yield from (("preset", str(svt_preset)), ("crf", crf), ("svtav1-params", f"lp={effort.threads}"))
    elif name in NVENC.values():
        # Constant quality is a variable rate without a bound.
        yield from (("rc", "vbr"), ("cq", crf), ("b", "0"), ("preset", _NVENC_PRESETS[effort.preset]))
        yield from (("forced-idr", "1"), ("gpu", str(effort.gpu or 0)))
    elif name.startswith("libvpx"):
        if name == "libvpx":
            context.bit_rate = int(look.size[0] * look.size[1] * look.rate * _VP8_BITS_PER_PIXEL)
        yield from (("crf", crf), ("deadline", "good"), ("cpu-used", str(min(cpu_used, 5 if name == "libvpx" else 8))))
        # Without frames that are never shown, every packet is a picture, as in most sources.
        yield from (("auto-alt-ref", "0"), ("lag-in-frames", "0"))
    elif name in QUALITY:
        context.qscale = True
        context.global_quality = round(float(crf) * _QP_TO_LAMBDA)


def _crf(name: str, effort: Effort) -> str:
    value = QUALITY.get(name, 0) if effort.crf is None else effort.crf
    return f"{min(value, _WORST.get(name, _WORST_QUANTISER)):g}"


def _x264_parameters(effort: Effort) -> dict[str, object]:
    parameters: dict[str, object] = {"open-gop": 0, "b-pyramid": "normal" if effort.depth > 1 else "none"}
    if effort.parameter_sets is not None:
        parameters["sps-id"] = effort.parameter_sets
    if effort.steady:
        parameters["force-cfr"] = 1
    return parameters


def _x265_parameters(effort: Effort) -> dict[str, object]:
    parameters: dict[str, object] = {"log-level": "none", "open-gop": 0, "b-pyramid": int(effort.depth > 1), "info": 0}
    if effort.threads == 1:
        parameters |= {"pools": "none", "frame-threads": 1}
    return parameters


def _params(parameters: Mapping[str, object]) -> str:
    return ":".join(f"{key}={value}" for key, value in parameters.items())


@dataclass(slots=True)
class Shaper:
    """Makes every picture what the encoder was opened for; belongs to one thread.

    Attributes:
        size, pixel_format: What that is.
    """

    size: tuple[int, int]
    pixel_format: str
    _reformatter: av.video.reformatter.VideoReformatter = field(default_factory=av.video.reformatter.VideoReformatter)

    def shaped(self, frame: VideoFrame, pts: int, time_base: Fraction) -> VideoFrame:
        """A picture to encode, to be shown at `pts`; the encoder decides on its type."""
        if (frame.width, frame.height, frame.format.name) != (*self.size, self.pixel_format):
            frame = self._reformatter.reformat(frame, *self.size, self.pixel_format, threads=1)
        frame.pts = pts
        frame.time_base = time_base
        frame.pict_type = PictureType.NONE
        return frame
