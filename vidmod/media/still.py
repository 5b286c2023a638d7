"""Writing an image again with something drawn on it: decoded, turned upright, drawn on, encoded, nothing else kept.

An image is always encoded anew, also where nothing is drawn: so no byte of the source is in the output, and nothing
that was hidden in it. PNG, BMP, TIFF, GIF and lossless WebP keep every sample outside of what is drawn (a GIF of more
than 256 colours in one picture does not); JPEG, lossy WebP and AVIF lose a little, see `QUALITY`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from vidmod.errors import OutputError, UndecodableError
from vidmod.media.canvas import blank, converted, planes_of, upright
from vidmod.media.demuxer import Demuxer
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.imagefiles import apng_plays, attachments, gif_loops, is_animated_webp, is_cut_off, is_known_tiff
from vidmod.media.reader import Reader
from vidmod.media.source import configure_decoder

# FFmpeg's demuxers, and what vidmod calls the format.
_DEMUXERS = {
    "jpeg_pipe": "jpeg",
    "png_pipe": "png",
    "webp_pipe": "webp",
    "webp": "webp",
    "bmp_pipe": "bmp",
    "tiff_pipe": "tiff",
    "gif": "gif",
    "gif_pipe": "gif",
    "apng": "apng",
}
# The brands of ISO/IEC 23008-12 and of AVIF; the second row is of sequences.
_STILL_BRANDS = ("avif", "heic", "heix", "heim", "heis", "mif1")
_SEQUENCE_BRANDS = ("avis", "hevc", "hevx", "msf1")
ANIMATED = ("gif", "apng")
# What any picture can be written as that cannot be written as what it was.
ANY = ("png", "jpeg", "webp", "tiff")
ENCODERS = {
    "jpeg": "mjpeg",
    "png": "png",
    "webp": "libwebp",
    "bmp": "bmp",
    "tiff": "tiff",
    "gif": "gif",
    "apng": "apng",
    "avif": "libsvtav1",
}
# On frames of five films (benchmarks/stills.py) the PSNR against what was decoded is 47 to 53 dB for JPEG, 45 to 50 for
# lossy WebP at quality 95 (100 - 5), 46 to 50 for AVIF; at JPEG's quantiser 2 it would be 43 to 51.
QUALITY = {"jpeg": 1, "webp": 5, "avif": 5}
_WORST = {"jpeg": 31, "webp": 100, "avif": 63}
# SVT-AV1's smallest picture.
_LEAST_AVIF = 64
_TAKES: dict[str, dict[str, str]] = {
    "png": {
        "gray": "gray",
        "gray16le": "gray16be",
        "ya8": "ya8",
        "ya16le": "ya16be",
        "rgb24": "rgb24",
        "rgba": "rgba",
        "rgb48le": "rgb48be",
        "rgba64le": "rgba64be",
    },
    "tiff": {name: name for name in ("gray", "gray16le", "ya8", "ya16le", "rgb24", "rgba", "rgb48le", "rgba64le")},
    "bmp": {"gray": "gray", "rgb24": "bgr24", "rgba": "bgra"},
    "jpeg": {name: name for name in ("yuvj420p", "yuvj422p", "yuvj444p")} | {"gray": "yuvj420p"},
    "webp": {"rgb24": "bgra", "rgba": "bgra", "yuv420p": "yuv420p", "yuva420p": "yuva420p"},
    "avif": {"yuv420p": "yuv420p", "yuv420p10le": "yuv420p10le"},
    "gif": {"rgb24": "pal8", "rgba": "pal8"},
}
_TAKES["apng"] = _TAKES["png"]
# Effort, not loss: 1.5 times as fast as libwebp's own choice, at 1.002 times the size.
_LOSSLESS_WEBP = (("lossless", "1"), ("quality", "40"), ("compression_level", "1"))
_BLUE_FIRST = {"bgr24": [2, 1, 0], "bgra": [2, 1, 0, 3]}
_COLOURS = 256
# What both formats can say, in seconds.
_LONGEST_DELAY = Fraction(300)
_HALF = 128

Draw = Callable[[VideoFrame, int], bool]


@dataclass(frozen=True, slots=True)
class ImageWritten:
    """What was done.

    Attributes:
        format: What vidmod calls it, a key of `ENCODERS`.
        encoder: FFmpeg's name.
        pictures: How many were encoded.
        drawn: When those that were drawn on are shown, [start, end) in pts of the source.
        lost: Pictures of an animation that could not be decoded, and are left out.
        notes: In words, what is other than in the source.
    """

    format: str
    encoder: str
    pictures: int
    drawn: tuple[tuple[int, int], ...]
    lost: int
    notes: tuple[str, ...]


def image_formats(medium: Medium, container: InputContainer, track: VideoTrack) -> tuple[str, ...]:
    """As what an image can be written, first of all as what it is; nothing for what is a video.

    Args:
        medium: The file.
        container: The same, opened.
        track: Its picture.

    Raises:
        UndecodableError: Its picture is not whole, or consists of several.
    """
    name = _DEMUXERS.get(container.format.name) or _of_brand(medium, container)
    if name is None:
        return ()
    if name == "tiff" and not is_known_tiff(medium) and not is_cut_off(medium, "tiff_pipe"):
        raise UndecodableError(f"{medium}: its compression is not decoded here. Convert it to PNG, and redact that.")
    if name == "webp" and is_animated_webp(medium):
        raise UndecodableError(
            f"{medium}: animated WebP is not decoded here. Convert it to GIF or MP4, and redact that."
        )
    if is_cut_off(medium, container.format.name):
        raise _incomplete(medium)
    if name in ANIMATED:
        return (name,)
    picture = _only_picture(medium, track)
    if name == "heif":
        tall_enough = min(picture.width, picture.height) >= _LEAST_AVIF
        is_av1 = track.codec in ("av1", "libdav1d")
        return ("avif", *ANY) if is_av1 and tall_enough else ("", *ANY)
    return (name,)


def _of_brand(medium: Medium, container: InputContainer) -> str | None:
    """Whether it is one of the image formats that descend from QuickTime, which hold pictures as tracks."""
    if not container.format.name.startswith("mov"):
        return None
    brand = container.metadata.get("major_brand", "")
    if brand not in (*_STILL_BRANDS, *_SEQUENCE_BRANDS):
        return None
    count = len(container.streams.video)
    if brand in _SEQUENCE_BRANDS or count > 1:
        raise UndecodableError(
            f"{medium}: consists of {count} pictures (tiles, transparency, or a sequence), which are not put together "
            "here. Convert it to PNG, or a sequence to MP4, and redact that."
        )
    return "heif"


def _incomplete(medium: Medium) -> UndecodableError:
    return UndecodableError(
        f"{medium}: a part of its picture is missing or damaged, and what it shows is not known. Get the whole file."
    )


def _only_picture(medium: Medium, track: VideoTrack) -> VideoFrame:
    """The first picture of a file, decoded with all that its decoder has against damage.

    Raises:
        UndecodableError: It is damaged.
    """
    with Demuxer(medium, track) as demuxer:
        stream = demuxer.stream
        if stream.codec_context is None:
            raise _incomplete(medium)
        configure_decoder(stream, medium.max_pixels)
        if track.codec == "mjpeg":
            # Others take it ill where EXIF is not what they expect, or always refuse damage.
            stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
        packet = next(demuxer.packets(), None)
        try:
            pictures = (
                [] if packet is None else [*stream.codec_context.decode(packet), *stream.codec_context.decode(None)]
            )
        except FFmpegError as exc:
            raise _incomplete(medium) from exc
        if len(pictures) != 1 or pictures[0].is_corrupt:
            raise _incomplete(medium)
        return pictures[0]


def rewrite_image(
    medium: Medium,
    track: VideoTrack,
    output: BinaryIO,
    name: str,
    draw: Draw,
    *,
    crf: float | None = None,
    alive: Callable[[], None] = lambda: None,
) -> ImageWritten:
    """Write an image, or an animated one, with something drawn on it.

    Args:
        medium: The source.
        track: Its picture.
        output: A binary file to write and seek in, empty.
        name: The format to write, one of those that `image_formats` gave.
        draw: Changes an upright picture in place, given its pts, and says whether it did.
        crf: JPEG's quantiser, 100 less WebP's quality, AVIF's crf; None for `QUALITY`.
        alive: Called now and then.

    Raises:
        SourceError: It cannot be decoded.
        OutputError: It cannot be encoded or written.
    """
    job = _Rewriting(medium, track, name, draw, crf, alive)
    try:
        return job.animation(output) if name in ANIMATED else job.still(output)
    except FFmpegError as exc:
        raise OutputError(f"{medium}: cannot be written as {name} ({exc.strerror}).") from exc


class _Rewriting:
    def __init__(
        self, medium: Medium, track: VideoTrack, name: str, draw: Draw, crf: float | None, alive: Callable[[], None]
    ) -> None:
        self._medium, self._track, self._name = medium, track, name
        self._draw, self._crf, self._alive = draw, crf, alive
        self._drawn: list[tuple[int, int]] = []
        self._decoded = self._written = ""

    def still(self, output: BinaryIO) -> ImageWritten:
        """The first picture of the file."""
        with Demuxer(self._medium, self._track) as demuxer:
            further = sum(1 for _ in demuxer.packets()) - 1
            format_name = demuxer.container.format.name
        picture = self._prepared(_only_picture(self._medium, self._track), 0, 1)
        if self._name == "avif":
            self._mux(output, "avif", [picture], {})
        else:
            output.write(_encoded(self._opened(picture), [picture]))
        left_out = attachments(self._medium, format_name)
        left_out += [f"{further} further pictures"] * (further > 0)
        return self._result(1, 0, format_name, left_out)

    def animation(self, output: BinaryIO) -> ImageWritten:
        """All pictures, each when it was shown."""
        with Reader(self._medium, self._track) as reader:
            pictures = (self._prepared(row.picture, row.pts, row.end_pts) for row in reader.frames())
            count = self._mux(output, self._name, pictures, self._timing())
            lost = reader.ledger.lost
        return self._result(count, lost, self._name, attachments(self._medium, self._name))

    def _timing(self) -> dict[str, str]:
        """How often an animation is shown, and how long its last picture, as options of the muxer."""
        last = 0
        with Demuxer(self._medium, self._track) as demuxer:
            for packet in demuxer.packets():
                last = packet.duration or 0
        seconds = min(max(last, 0) * self._track.time_base, _LONGEST_DELAY)
        if self._name == "gif":
            return {"loop": str(gif_loops(self._medium)), "final_delay": str(round(seconds * 100))}
        exact = seconds.limit_denominator(0x7FFF)
        return {"plays": str(apng_plays(self._medium)), "final_delay": f"{exact.numerator}/{exact.denominator}"}

    def _prepared(self, decoded: VideoFrame, pts: int, end_pts: int) -> VideoFrame:
        """Upright, drawn on, and as the encoder takes it."""
        self._alive()
        canvas = upright(decoded)
        if self._draw(canvas, pts):
            self._drawn.append((pts, end_pts))
        made = _arranged(canvas, self._name)
        self._decoded, self._written = decoded.format.name, made.format.name
        made.pts, made.time_base, made.pict_type = pts, self._track.time_base, PictureType.NONE
        self._alive()
        return made

    def _opened(self, like: VideoFrame) -> VideoCodecContext:
        context = cast(VideoCodecContext, av.CodecContext.create(ENCODERS[self._name], "w"))
        self._configure(context, like)
        context.time_base = self._track.time_base
        return context

    def _configure(self, context: VideoCodecContext, like: VideoFrame) -> None:
        context.width, context.height, context.pix_fmt = like.width, like.height, like.format.name
        context.color_range, context.colorspace = like.color_range, like.colorspace
        context.color_primaries, context.color_trc = like.color_primaries, like.color_trc
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.options = dict(self._options(like))

    def _options(self, like: VideoFrame) -> Iterator[tuple[str, str]]:
        wanted = QUALITY.get(self._name, 0) if self._crf is None else self._crf
        quality = f"{min(max(wanted, 1 if self._name == 'jpeg' else 0), _WORST.get(self._name, 0)):g}"
        if self._name == "jpeg":
            # A picture's own quantiser cannot be set from here; both bounds can.
            yield from (("qmin", quality), ("qmax", quality), ("huffman", "optimal"))
        elif self._name in ("png", "apng"):
            yield "pred", "mixed"
        elif self._name == "tiff":
            yield "compression_algo", "deflate"
        elif self._name == "webp":
            lossless = like.format.name == "bgra"
            yield from (_LOSSLESS_WEBP if lossless else (("quality", f"{100 - float(quality):g}"),))
        elif self._name == "avif":
            yield from (("crf", quality), ("preset", "6"), ("svtav1-params", "lp=1:avif=1"))

    def _mux(self, output: BinaryIO, muxer: str, pictures: Any, options: dict[str, str]) -> int:
        """Through a muxer; how many pictures that were."""
        pictures = iter(pictures)
        first = next(pictures, None)
        if first is None:
            raise _incomplete(self._medium)
        container: OutputContainer = av.open(
            output, "w", format=muxer, container_options={"fflags": "+bitexact", **options}
        )
        count = 0
        with container:
            stream = cast(VideoStream, container.add_stream(ENCODERS[self._name], rate=Fraction(25)))
            self._configure(stream.codec_context, first)
            stream.codec_context.time_base = stream.time_base = self._track.time_base
            for picture in chain([first], pictures):
                container.mux(stream.encode(picture))
                count += 1
            container.mux(stream.encode(None))
        return count

    def _result(self, count: int, lost: int, format_name: str, left_out: list[str]) -> ImageWritten:
        notes = []
        if left_out:
            notes.append(f"left out: {', '.join(left_out)}")
        if "a colour profile (ICC)" in left_out:
            notes.append("without its colour profile it may look more or less colourful")
        if _look(self._decoded) != _look(self._written):
            notes.append(f"its pixel format {self._decoded} is written as {self._written}")
        own = _DEMUXERS.get(format_name, "avif" if self._track.codec in ("av1", "libdav1d") else "heic")
        if own != self._name:
            notes.append(f"{own.upper()} is written as {self._name.upper()}, as its name asks for")
        return ImageWritten(self._name, ENCODERS[self._name], count, tuple(self._drawn), lost, tuple(notes))


def _look(name: str) -> tuple[object, ...]:
    """What of a pixel format a viewer could tell."""
    known = av.VideoFormat(name)
    alpha = any(component.is_alpha for component in known.components)
    grey = name.startswith(("gray", "ya", "mono")) and not name.startswith("yuv")
    rgb = known.is_rgb or known.has_palette
    chroma = () if rgb or grey else (known.chroma_width(64), known.chroma_height(64))
    opaque = name in ("argb", "bgra", "rgba", "abgr")
    return (rgb, grey, max(item.bits for item in known.components), None if opaque or rgb else alpha, chroma)


def _encoded(context: VideoCodecContext, pictures: list[VideoFrame]) -> bytes:
    """A file of one packet."""
    parts = [bytes(packet) for picture in (*pictures, None) for packet in context.encode(picture)]
    if len(parts) != 1:
        raise OutputError(f"{context.name} gave {len(parts)} packets for one picture.")
    return parts[0]


def _arranged(canvas: VideoFrame, name: str) -> VideoFrame:
    """What the encoder of a format takes."""
    if canvas.format.name not in _TAKES[name]:
        canvas = _nearest(canvas, name)
    wanted = _TAKES[name][canvas.format.name]
    if wanted == canvas.format.name:
        return canvas
    if wanted == "pal8":
        return _indexed(canvas)
    if canvas.format.name == "gray" and name == "jpeg":
        return _with_neutral_chroma(canvas, wanted)
    if wanted in _BLUE_FIRST:
        return _blue_first(canvas, wanted)
    made = blank(wanted, canvas.width, canvas.height, canvas)
    (words,) = planes_of(canvas)
    _rows(made, words.shape[2], ">u2")[...] = words
    return made


def _nearest(canvas: VideoFrame, name: str) -> VideoFrame:
    """By swscale, in one of the formats that are taken."""
    source = canvas.format.name
    deep = source.endswith("le")
    alpha = source.startswith(("ya", "yuva", "rgba")) and not source.startswith(("yuv4", "yuvj"))
    if name == "jpeg":
        fine = not source.startswith("yuv420")
        return converted(canvas, "yuvj444p" if fine else "yuvj420p", full_range=True, matrix=Colorspace.ITU601)
    if name == "webp":
        return converted(canvas, "yuva420p" if alpha else "yuv420p", full_range=False, matrix=Colorspace.ITU601)
    if name == "avif":
        return converted(canvas, "yuv420p10le" if deep else "yuv420p")
    if deep and name in ("png", "apng", "tiff"):
        return converted(canvas, "rgba64le" if alpha else "rgb48le")
    return converted(canvas, "rgba" if alpha else "rgb24")


def _rows(frame: VideoFrame, samples: int, word: str) -> Any:
    """A view of the one plane of a picture."""
    plane = frame.planes[0]
    size = frame.width * samples * np.dtype(word).itemsize
    data = np.frombuffer(memoryview(plane), np.uint8)
    lines = np.lib.stride_tricks.as_strided(data, (frame.height, size), (plane.line_size, 1))
    return lines.view(word).reshape(frame.height, frame.width, samples, copy=False)


def _blue_first(canvas: VideoFrame, wanted: str) -> VideoFrame:
    made = blank(wanted, canvas.width, canvas.height, canvas)
    (colours,) = planes_of(canvas)
    order = _BLUE_FIRST[wanted]
    target = _rows(made, len(order), "u1")
    target[...] = 255
    for place, source in enumerate(order[: colours.shape[2]]):
        target[:, :, place] = colours[:, :, source]
    return made


def _with_neutral_chroma(canvas: VideoFrame, wanted: str) -> VideoFrame:
    made = blank(wanted, canvas.width, canvas.height, canvas)
    luma, *chroma = planes_of(made)
    luma[...] = planes_of(canvas)[0]
    for plane in chroma:
        plane[...] = _HALF
    return made


def _indexed(canvas: VideoFrame) -> VideoFrame:
    """With a palette: exact up to 256 colours, else of FFmpeg's choice; half transparent is clear or not."""
    (colours,) = planes_of(canvas)
    words = np.zeros(colours.shape[:2], np.uint32)
    for place in range(3):
        words |= colours[:, :, place].astype(np.uint32) << (8 * (2 - place))
    words |= np.uint32(0xFF000000)
    if colours.shape[2] == 4:
        words[colours[:, :, 3] < _HALF] = 0
    found, indexes = np.unique(words, return_inverse=True)
    if len(found) > _COLOURS:
        return _quantised(canvas)
    made = blank("pal8", canvas.width, canvas.height, canvas)
    _rows(made, 1, "u1")[:, :, 0] = indexes.reshape(words.shape)
    palette = np.frombuffer(memoryview(made.planes[1]), np.uint32)
    # Opaque black in all that is not used: what is transparent there would make FFmpeg's encoder clear every picture.
    palette[:] = 0xFF000000
    palette[: len(found)] = found
    return made


def _quantised(canvas: VideoFrame) -> VideoFrame:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=canvas.width, height=canvas.height, format=canvas.format, time_base=canvas.time_base
    )
    split = graph.add("split")
    choice = graph.add("palettegen", "stats_mode=single:reserve_transparent=" + str(int(canvas.format.name == "rgba")))
    # Without dithering: its noise would reach into what is covered.
    use, sink = graph.add("paletteuse", "new=1:dither=none"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choice, 0, 0)
    split.link_to(use, 1, 0)
    choice.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.vpush(canvas)
    graph.vpush(None)
    return graph.vpull()
