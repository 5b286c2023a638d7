"""The kernels of `kernels.cu` in NumPy: the same arithmetic, to be read and to be tested against.

Scaling and colours follow FFmpeg's swscale, see `filters`, `colours` and `scaling`. The JPEG round trip follows ITU-T
T.81 and JFIF as libjpeg and libjpeg-turbo do them: 16-bit fixed point for colours, chroma halved by a mean that rounds
up and down by turns, the 12-multiplication DCT of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT
algorithms with 11 multiplications", ICASSP 1989) with 13 bits after the point, and triangle interpolation of chroma.
What is left out, coding the coefficients, loses nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidmod.models.cuda.filters import Taps
from vidmod.models.cuda.jpeg import quantisers
from vidmod.models.cuda.scaling import Blend, Layout, Scaling, scaling
from vidmod.models.images import Image
from vidmod.models.manifest import ChannelOrder, InputSpec, Preparation
from vidmod.models.preprocessing import placed

Plane = NDArray[np.uint8 | np.uint16]
Rows = NDArray[np.int16]
Values = NDArray[np.int64]


def normalise(images: Image, spec: InputSpec) -> NDArray[np.float32]:
    """N×H×W×3 images to a network's input: (value - mean) / scale, in its layout."""
    values = images.astype(np.float32)
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.scale, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if spec.layout == "NCHW" else values


def prepare(luma: Plane, chroma: Plane, layout: Layout, preparation: Preparation) -> Image:
    """A stored picture to the image that a manifest's steps end in.

    Args:
        luma: height×width.
        chroma: Half of that, rounded up, ×2: Cb and Cr.
    """
    first, *rest = preparation.steps
    _, size = placed(layout.displayed_size, first)
    scaled = scaling(layout, *layout.orientation.size(*size), first.interpolation, preparation.channels)
    rows = scale_rows(luma[..., None], scaled.luma_across)[..., 0], scale_rows(chroma, scaled.chroma_across)
    picture = layout.orientation.apply(compose(*rows, scaled))
    image = np.zeros((first.height, first.width, 3), np.uint8)
    image[: picture.shape[0], : picture.shape[1]] = picture
    if preparation.channels == "bgr":
        image = np.ascontiguousarray(image[..., ::-1])
    for step in rest:
        if step.step == "crop":
            top, left = (image.shape[0] - step.height) // 2, (image.shape[1] - step.width) // 2
            image = image[top : top + step.height, left : left + step.width]
        else:
            image = jpeg(image, step.quality, preparation.channels)
    return np.ascontiguousarray(image)


def scale_rows(plane: Plane, across: Taps) -> Rows:
    """Rows×columns×channels to rows×samples×channels of 15 bits."""
    total = np.zeros((plane.shape[0], len(across.first), plane.shape[2]), np.int64)
    for tap in range(across.count):
        total += plane[:, across.first + tap].astype(np.int64) * across.weights[:, tap, None]
    return np.asarray(np.minimum(total >> (7 if plane.itemsize == 1 else 15), 32767), np.int16)


def compose(luma: Rows, chroma: Rows, scaled: Scaling) -> Image:
    """The scaled picture, height×width×3 RGB, as stored."""
    image = np.empty((scaled.height, scaled.width, 3), np.uint8)
    pairs = np.arange(scaled.width) >> scaled.chroma_shift
    for blend in map(Blend, np.unique(scaled.blends)):
        rows = np.flatnonzero(scaled.blends == blend)
        grey = _blended(luma, scaled.luma_down, rows, scaled.row_step, blend)
        colour = _blended(chroma, scaled.chroma_down, rows, scaled.row_step, blend)[:, pairs]
        image[rows] = _converted(grey, colour[..., 0], colour[..., 1], blend, scaled.colours)
    return image


def _blended(samples: Rows, down: Taps, rows: NDArray[np.intp], step: int, blend: Blend) -> Values:
    """Output rows out of stored ones."""
    weights = down.weights[rows].astype(np.int64).reshape(-1, down.count, *[1] * (samples.ndim - 1))
    last = (samples.shape[0] - 1 - down.first[rows]) // step

    def row(tap: int) -> Values:
        return np.asarray(samples[down.first[rows] + np.minimum(tap, last) * step], np.int64)

    if blend == Blend.WORDS_PAIR:
        return (row(1) >> 4) + (((row(0) - row(1)) * weights[:, 0]) >> 16)
    products = [row(tap) * weights[:, tap] for tap in range(down.count)]
    if blend == Blend.WORDS:
        return 4 + sum((product >> 16 for product in products), np.zeros_like(products[0]))
    rounding = {Blend.ROUNDED: 1 << 18, Blend.FINE_ROUNDED: 1 << 9}.get(blend, 0)
    shift = 16 if blend >= Blend.WORDS else 10 if blend >= Blend.FINE_ROUNDED else 19
    return (sum(products, np.zeros_like(products[0])) + rounding) >> shift


def _converted(luma: Values, cb: Values, cr: Values, blend: Blend, colours: NDArray[np.int32]) -> Image:
    numbers = [int(number) for number in colours]
    if blend >= Blend.WORDS:
        rgb = _by_words(luma, cb - (128 << 3), cr - (128 << 3), numbers)
    elif blend >= Blend.FINE_ROUNDED:
        rgb = _finely(luma, cb - (128 << 9), cr - (128 << 9), numbers)
    else:
        rgb = _by_tables(luma, np.clip(cb, 0, 255), np.clip(cr, 0, 255), numbers)
    return np.clip(np.stack(rgb, axis=-1), 0, 255).astype(np.uint8)


def _by_tables(luma: Values, cb: Values, cr: Values, numbers: list[int]) -> list[Values]:
    base, gain, red, green_blue, green_red, blue = numbers[:6]
    steps = (
        _steps(cr, red),
        _steps(cb, green_blue) + _steps(cr, green_red),
        _steps(cb, blue),
    )
    return [(base + (1 << 15) + (luma + step) * gain) >> 16 for step in steps]


def _steps(chroma: Values, factor: int) -> Values:
    return ((chroma * factor) >> 16) - (factor >> 9)


def _finely(luma: Values, cb: Values, cr: Values, numbers: list[int]) -> list[Values]:
    gain, red, green_blue, green_red, blue = numbers[8:]
    grey = (luma - numbers[7]) * gain + (1 << 21)
    return [(grey + cr * red) >> 22, (grey + cb * green_blue + cr * green_red) >> 22, (grey + cb * blue) >> 22]


def _by_words(luma: Values, cb: Values, cr: Values, numbers: list[int]) -> list[Values]:
    gain, red, green_blue, green_red, blue = numbers[8:]
    grey = ((luma - numbers[6]) * gain) >> 16
    green = grey + ((cb * green_blue) >> 16) + ((cr * green_red) >> 16)
    return [grey + ((cr * red) >> 16), green, grey + ((cb * blue) >> 16)]


def jpeg(image: Image, quality: int, order: ChannelOrder) -> Image:
    """An image as it comes back from a JPEG of that quality, 4:2:0."""
    rgb = image[..., ::-1] if order == "bgr" else image
    steps = quantisers(quality)
    planes = [jpeg_blocks(plane, steps[min(number, 1)]) for number, plane in enumerate(jpeg_samples(rgb))]
    back = jpeg_colours(planes, *image.shape[:2])
    return np.ascontiguousarray(back[..., ::-1]) if order == "bgr" else back


def jpeg_samples(rgb: Image) -> list[Image]:
    """Planes of Y, Cb and Cr, the last two halved, filled up to whole blocks by repeating the last sample."""
    red, green, blue = np.moveaxis(rgb.astype(np.int64), -1, 0)
    middle = (128 << 16) + 32767
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    cb = (-11059 * red - 21709 * green + 32768 * blue + middle) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + middle) >> 16
    return [_filled(luma), *(_filled(_halved(plane)) for plane in (cb, cr))]


def _halved(plane: Values) -> Values:
    """The mean of each four, rounded up and down by turns; filled up to whole blocks across before that."""
    height, width = plane.shape
    across = -(-width // 16) * 16
    filled = np.pad(plane, ((0, height % 2), (0, across - width)), "edge")
    total = filled[0::2, 0::2] + filled[0::2, 1::2] + filled[1::2, 0::2] + filled[1::2, 1::2]
    return np.asarray((total + 1 + np.arange(across // 2) % 2) >> 2, np.int64)


def _filled(plane: Values) -> Image:
    height, width = plane.shape
    return np.pad(plane, ((0, -height % 8), (0, -width % 8)), "edge").astype(np.uint8)


def jpeg_blocks(plane: Image, steps: NDArray[np.int32]) -> Image:
    """What quantising leaves of a plane of whole blocks of 8×8."""
    down, across = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane.reshape(down, 8, across, 8).swapaxes(1, 2).astype(np.int64) - 128
    coefficients = _forward(_forward(blocks, -1, second=False), -2, second=True)
    sizes = steps.reshape(8, 8).astype(np.int64)
    # The DCT's results are 8 times too large.
    quantised = np.sign(coefficients) * ((np.abs(coefficients) + 4 * sizes) // (8 * sizes)) * sizes
    values = _inverse(_inverse(quantised, -2, second=False), -1, second=True) + 128
    return np.clip(values, 0, 255).astype(np.uint8).swapaxes(1, 2).reshape(plane.shape)


def _forward(values: Values, axis: int, *, second: bool) -> Values:
    v = np.moveaxis(values, axis, 0)
    s0, s1, s2, s3 = v[0] + v[7], v[1] + v[6], v[2] + v[5], v[3] + v[4]
    bits = 15 if second else 11
    out = np.empty_like(v)
    for place, even in ((0, s0 + s3 + s1 + s2), (4, s0 + s3 - s1 - s2)):
        out[place] = _descaled(even, 2) if second else even * 4
    a, b = s0 - s3, s1 - s2
    z = (a + b) * 4433
    out[2], out[6] = _descaled(z + a * 6270, bits), _descaled(z - b * 15137, bits)
    odd = _odd_part(v[3] - v[4], v[2] - v[5], v[1] - v[6], v[0] - v[7])
    out[7], out[5], out[3], out[1] = (_descaled(one, bits) for one in odd)
    return np.moveaxis(out, 0, axis)


def _inverse(values: Values, axis: int, *, second: bool) -> Values:
    v = np.moveaxis(values, axis, 0)
    z = (v[2] + v[6]) * 4433
    a, b = z - v[6] * 15137, z + v[2] * 6270
    total, difference = (v[0] + v[4]) << 13, (v[0] - v[4]) << 13
    even = (total + b, difference + a, difference - a, total - b)
    odd = reversed(_odd_part(v[7], v[5], v[3], v[1]))
    bits = 18 if second else 11
    out = np.empty_like(v)
    for place, (one, other) in enumerate(zip(even, odd, strict=True)):
        out[place], out[7 - place] = _descaled(one + other, bits), _descaled(one - other, bits)
    return np.moveaxis(out, 0, axis)


def _odd_part(a: Values, b: Values, c: Values, d: Values) -> tuple[Values, Values, Values, Values]:
    """The odd half that both directions share; 13 bits after the point."""
    every = (a + b + c + d) * 9633
    ad, bc = (a + d) * -7373, (b + c) * -20995
    ac, bd = (a + c) * -16069 + every, (b + d) * -3196 + every
    return a * 2446 + ad + ac, b * 16819 + bc + bd, c * 25172 + bc + ac, d * 12299 + ad + bd


def _descaled(value: Values, bits: int) -> Values:
    return (value + (1 << (bits - 1))) >> bits


def jpeg_colours(planes: list[Image], height: int, width: int) -> Image:
    """RGB out of the three planes, chroma interpolated."""
    luma = planes[0][:height, :width].astype(np.int64)
    size = (-(-height // 2), -(-width // 2))
    cb, cr = (_upsampled(plane[: size[0], : size[1]], height, width) - 128 for plane in planes[1:])
    red = luma + ((91881 * cr + 32768) >> 16)
    green = luma + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = luma + ((116130 * cb + 32768) >> 16)
    return np.asarray(np.clip(np.stack([red, green, blue], axis=-1), 0, 255), np.uint8)


def _upsampled(plane: Image, height: int, width: int) -> Values:
    """Twice the size: three quarters of the sample and a quarter of the one beside it, down and across."""
    samples = plane.astype(np.int64)
    rows, columns = np.arange(height), np.arange(width)
    if plane.shape[1] <= 2:
        return samples[rows // 2][:, columns // 2]
    beside = np.clip(rows // 2 + np.where(rows % 2, 1, -1), 0, plane.shape[0] - 1)
    blended = 3 * samples[rows // 2] + samples[beside]
    beside = np.clip(columns // 2 + np.where(columns % 2, 1, -1), 0, plane.shape[1] - 1)
    return (3 * blended[:, columns // 2] + blended[:, beside] + 8 - columns % 2) >> 4
