"""A decoded picture made ready to be drawn on and encoded: upright, in a plain format, with nothing attached.

What a decoder gives carries side data (EXIF with places and thumbnails, profiles, text), and FFmpeg's image encoders
write much of that again. So nothing of its frame is kept but samples and how their colours are to be read.

============================ ======================= =========================================================
decoded                      becomes                 how
============================ ======================= =========================================================
the formats of `CANVASES`    the same                copied
16 bits, big-endian          16 bits, little-endian  bytes exchanged
pal8                         rgb24, rgba             each index looked up; rgba if a colour is not opaque
monob, monow                 gray                    each bit 0 or 255
gbrp, argb, bgr0 and so on   rgb24, rgba             samples put into order; rgb24 if all of it is opaque
4:4:0, 4:1:1, 4:1:0          4:4:4                   each chroma sample repeated
anything else                rgb24, rgba, 16 bits    swscale
============================ ======================= =========================================================

All but the last are exact. A 4:2:0 or 4:2:2 picture stays what it is when it is turned, unless its chroma would then
lie elsewhere (an odd side that is flipped, 4:2:2 on its side): that one becomes 4:4:4, again exactly.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from vidmod.errors import UndecodableError
from vidmod.media.frame import UPRIGHT, Orientation, colour_matrix, colour_range, orientation_of

Plane = npt.NDArray[np.uint8 | np.uint16]

# Samples that lie side by side in each plane, and log2 of luma samples for each chroma sample across and down.
CANVASES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "gray": ((1,), 0, 0),
    "gray16le": ((1,), 0, 0),
    "ya8": ((2,), 0, 0),
    "ya16le": ((2,), 0, 0),
    "rgb24": ((3,), 0, 0),
    "rgba": ((4,), 0, 0),
    "rgb48le": ((3,), 0, 0),
    "rgba64le": ((4,), 0, 0),
    "yuv420p": ((1, 1, 1), 1, 1),
    "yuv422p": ((1, 1, 1), 1, 0),
    "yuv444p": ((1, 1, 1), 0, 0),
    "yuvj420p": ((1, 1, 1), 1, 1),
    "yuvj422p": ((1, 1, 1), 1, 0),
    "yuvj444p": ((1, 1, 1), 0, 0),
    "yuva420p": ((1, 1, 1, 1), 1, 1),
    "yuva444p": ((1, 1, 1, 1), 0, 0),
    "yuv420p10le": ((1, 1, 1), 1, 1),
    "yuv444p10le": ((1, 1, 1), 0, 0),
}
_BIG_ENDIAN = {"gray16be": "gray16le", "ya16be": "ya16le", "rgb48be": "rgb48le", "rgba64be": "rgba64le"}
# Where red, green, blue and alpha lie: planes, or samples of the one plane.
_PLANAR_RGB = {"gbrp": (2, 0, 1), "gbrap": (2, 0, 1, 3)}
_PACKED_RGB = {
    "bgr24": (2, 1, 0),
    "bgra": (2, 1, 0, 3),
    "argb": (1, 2, 3, 0),
    "abgr": (3, 2, 1, 0),
    "rgb0": (0, 1, 2),
    "bgr0": (2, 1, 0),
    "0rgb": (1, 2, 3),
    "0bgr": (3, 2, 1),
}
_COARSE_CHROMA = {
    "yuvj440p": "yuvj444p",
    "yuvj411p": "yuvj444p",
    "yuv440p": "yuv444p",
    "yuv411p": "yuv444p",
    "yuv410p": "yuv444p",
    "yuva422p": "yuva444p",
}
_FINE_CHROMA = {
    "yuv420p": "yuv444p",
    "yuv422p": "yuv444p",
    "yuvj420p": "yuvj444p",
    "yuvj422p": "yuvj444p",
    "yuva420p": "yuva444p",
    "yuv420p10le": "yuv444p10le",
}
_TIME_BASE = Fraction(1, 25)


def upright(picture: VideoFrame) -> VideoFrame:
    """A new picture with what a viewer sees of a decoded one, in one of the formats of `CANVASES`.

    Args:
        picture: As decoded, turned as its display matrix says; not changed.

    Raises:
        UndecodableError: swscale refuses its size or format.
    """
    return _turned(*_plain(picture), orientation_of(picture))


def plain(picture: VideoFrame) -> VideoFrame:
    """The same without turning it; the picture itself if its format is one of `CANVASES`.

    Raises:
        UndecodableError: swscale refuses its size or format.
    """
    return picture if picture.format.name in CANVASES else _turned(*_plain(picture), UPRIGHT)


def planes_of(picture: VideoFrame) -> list[Plane]:
    """Views of the samples of a picture in one of the formats of `CANVASES`: rows×columns×samples, no padding."""
    sides, x_shift, y_shift = CANVASES[picture.format.name]
    found = []
    for place, (plane, samples) in enumerate(zip(picture.planes, sides, strict=True)):
        chroma = place in (1, 2) and len(sides) > 2
        size = (picture.height, picture.width)
        rows, columns = (-(-size[0] >> y_shift), -(-size[1] >> x_shift)) if chroma else size
        found.append(_view(plane, rows, columns, samples, _word(picture.format.name)))
    return found


def blank(name: str, width: int, height: int, like: VideoFrame) -> VideoFrame:
    """A picture to fill, whose colours are to be read as those of `like`."""
    frame = VideoFrame(width, height, name)
    frame.pts, frame.time_base = 0, _TIME_BASE
    frame.colorspace, frame.color_range = like.colorspace, like.color_range
    frame.color_primaries, frame.color_trc = like.color_primaries, like.color_trc
    return frame


def converted(
    picture: VideoFrame, name: str, *, full_range: bool | None = None, matrix: int | None = None
) -> VideoFrame:
    """The picture in another format, by swscale.

    Args:
        picture: Any.
        name: FFmpeg's pixel format.
        full_range: Of YUV that is made; None for what the picture has.
        matrix: Of YUV that is made (`Colorspace`); None for what the picture has.

    Raises:
        UndecodableError: It refuses the size or the format.
    """
    # Nothing but samples may come along.
    whole = blank(name, picture.width, picture.height, picture)
    source_range, source_matrix = colour_range(picture), colour_matrix(picture)
    target_range = source_range if full_range is None else ColorRange.JPEG if full_range else ColorRange.MPEG
    try:
        made = VideoReformatter().reformat(
            picture,
            picture.width,
            picture.height,
            name,
            src_colorspace=source_matrix,
            dst_colorspace=source_matrix if matrix is None else matrix,
            src_color_range=source_range,
            dst_color_range=target_range,
            threads=1,
        )
    except (OSError, ValueError) as exc:
        raise UndecodableError(
            f"A {picture.width}x{picture.height} {picture.format.name} picture cannot be converted to {name}."
        ) from exc
    for target, plane in zip(whole.planes, made.planes, strict=True):
        _copy_lines(target, plane)
    if not whole.format.is_rgb:
        whole.color_range = target_range
        whole.colorspace = _tag_of(source_matrix if matrix is None else matrix)
    return whole


def _tag_of(matrix: int) -> int:
    """What ITU-T H.273 calls one of swscale's matrices."""
    return 1 if matrix == Colorspace.ITU709 else 9 if matrix == Colorspace.BT2020 else 5


def _copy_lines(target: Any, source: Any) -> None:
    lines = min(target.line_size, source.line_size)
    rows = min(target.buffer_size // target.line_size, source.buffer_size // source.line_size)
    to = np.frombuffer(memoryview(target), np.uint8)[: rows * target.line_size].reshape(rows, -1)
    given = np.frombuffer(memoryview(source), np.uint8)[: rows * source.line_size].reshape(rows, -1)
    to[:, :lines] = given[:, :lines]


def _word(name: str) -> str:
    return "<u2" if name.endswith("le") else ">u2" if name.endswith("be") else "u1"


def _view(plane: Any, rows: int, columns: int, samples: int, word: str) -> Plane:
    data = np.frombuffer(memoryview(plane), np.uint8)
    size = columns * samples * np.dtype(word).itemsize
    lines = np.lib.stride_tricks.as_strided(data, (rows, size), (plane.line_size, 1))
    view: Plane = lines.view(word).reshape(rows, columns, samples, copy=False)
    return view


def _plain(picture: VideoFrame) -> tuple[VideoFrame, str, list[Plane]]:
    """The picture, the name of a format of `CANVASES`, and the samples in it."""
    name, (height, width) = picture.format.name, (picture.height, picture.width)
    if name in CANVASES:
        return picture, name, planes_of(picture)
    if name in _BIG_ENDIAN:
        target = _BIG_ENDIAN[name]
        (samples,), _, _ = CANVASES[target]
        return picture, target, [_view(picture.planes[0], height, width, samples, ">u2").astype("<u2")]
    if name == "pal8":
        return picture, *_looked_up(picture)
    if name in ("monob", "monow"):
        packed = _view(picture.planes[0], height, -(-width // 8), 1, "u1")[:, :, 0]
        bits = np.unpackbits(packed.astype(np.uint8), axis=1)[:, :width, None]
        # In monow 0 is white, in monob black.
        return picture, "gray", [np.where(bits == (name == "monob"), np.uint8(255), np.uint8(0))]
    if name in _PLANAR_RGB:
        sides = [_view(picture.planes[place], height, width, 1, "u1") for place in _PLANAR_RGB[name]]
        return picture, *_opaque(np.concatenate(sides, axis=2))
    if name in _PACKED_RGB:
        order = _PACKED_RGB[name]
        samples = 3 if name == "bgr24" else 4
        return picture, *_opaque(_view(picture.planes[0], height, width, samples, "u1")[:, :, list(order)])
    if name in _COARSE_CHROMA:
        return picture, _COARSE_CHROMA[name], _refined(picture)
    made = converted(picture, _nearest(picture.format))
    return made, made.format.name, planes_of(made)


def _nearest(source: VideoFormat) -> str:
    """The format of RGB that keeps what a picture of some other format has."""
    deep = any(component.bits > 8 for component in source.components)
    alpha = any(component.is_alpha for component in source.components)
    return {(False, False): "rgb24", (False, True): "rgba", (True, False): "rgb48le", (True, True): "rgba64le"}[
        deep, alpha
    ]


def _opaque(colours: Plane) -> tuple[str, list[Plane]]:
    """rgb24 where alpha says nothing, else rgba."""
    if colours.shape[2] == 4 and int(colours[:, :, 3].min()) < 255:
        return "rgba", [colours]
    return "rgb24", [colours[:, :, :3]]


def _looked_up(picture: VideoFrame) -> tuple[str, list[Plane]]:
    indexes = _view(picture.planes[0], picture.height, picture.width, 1, "u1")[:, :, 0]
    # A palette's words are 0xAARRGGBB in the machine's order.
    words = np.frombuffer(memoryview(picture.planes[1]), np.uint32)[:256]
    palette = np.stack([(words >> shift) & 255 for shift in (16, 8, 0, 24)], axis=1).astype(np.uint8)
    # Of an image without transparency unused entries may say anything.
    used = np.bincount(indexes.reshape(-1), minlength=256) > 0
    clear = bool((palette[used, 3] < 255).any())
    return ("rgba" if clear else "rgb24"), [palette[indexes][:, :, : 3 + clear]]


def _refined(picture: VideoFrame) -> list[Plane]:
    """The planes of a YUV picture, each chroma sample repeated for every luma sample that shares it."""
    source, size = picture.format, (picture.height, picture.width)
    planes = []
    for place, plane in enumerate(picture.planes):
        chroma = place in (1, 2)
        rows = source.chroma_height(size[0]) if chroma else size[0]
        columns = source.chroma_width(size[1]) if chroma else size[1]
        view = _view(plane, rows, columns, 1, _word(source.name))
        planes.append(_repeated(view, size))
    return planes


def _repeated(plane: Plane, size: tuple[int, int]) -> Plane:
    """At full size: a chroma sample belongs to a power of two of luma samples."""
    for axis in (0, 1):
        while plane.shape[axis] < size[axis]:
            plane = plane.repeat(2, axis)
    return plane[: size[0], : size[1]]


def _turned(like: VideoFrame, name: str, planes: list[Plane], orientation: Orientation) -> VideoFrame:
    height, width = planes[0].shape[:2]
    _, x_shift, y_shift = CANVASES[name]
    displayed = orientation.size(width, height)
    moved = (orientation.flip_x and x_shift and displayed[0] % 2) or (
        orientation.flip_y and y_shift and displayed[1] % 2
    )
    if name in _FINE_CHROMA and (moved or (orientation.transposed and x_shift != y_shift)):
        planes = [_repeated(plane, (height, width)) for plane in planes]
        name = _FINE_CHROMA[name]
    frame = blank(name, *displayed, like)
    frame.color_range = colour_range(like)
    for target, plane in zip(planes_of(frame), planes, strict=True):
        target[...] = orientation.apply(plane)
    return frame
