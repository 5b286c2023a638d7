from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from hypothesis import given, settings
from hypothesis import strategies as st

from vidmod.errors import UsageError
from vidmod.media.frame import Orientation
from vidmod.predictions import Box
from vidmod.redaction import (
    BLACK,
    FORMATS,
    SLATE,
    STYLES,
    TOLERANCE,
    Blur,
    Component,
    Deviation,
    Fill,
    Mosaic,
    Plane,
    PlaneLayout,
    cover,
    deviation,
    find_region,
    is_covered,
    mute,
    slate,
    stored_boxes,
)
from vidmod.timebase import Span

AVERAGING = ("mosaic", "blur")
SIDES = (1, 2, 3, 5, 8, 17, 32)


def planes_of(frame: VideoFrame, *, full_range: bool = False) -> tuple[PlaneLayout, list[Plane]]:
    layout = PlaneLayout.of(frame.format.name, frame.width, frame.height, full_range=full_range)
    planes = frame.planes
    return layout, layout.arrays([memoryview(plane) for plane in planes], [plane.line_size for plane in planes])


def random_planes(layout: PlaneLayout, seed: int = 0) -> list[Plane]:
    rng = np.random.default_rng(seed)
    whole = [rng.integers(0, 1 << layout.bits, shape).astype(layout.dtype) for shape in layout.shapes]
    for plane in whole:
        plane <<= layout.padding
    return [plane[..., 0] if plane.shape[2] == 1 else plane for plane in whole]


def covered_cells(box: Box, layout: PlaneLayout) -> npt.NDArray[np.bool_]:
    """An oracle, pixel by pixel: which pixels share a chroma sample with a pixel that the box touches."""
    touched = np.zeros((layout.height, layout.width), np.bool_)
    for y, x in itertools.product(range(layout.height), range(layout.width)):
        if box[0] < box[2] and box[1] < box[3]:
            touched[y, x] = min(box[2], x + 1) > max(box[0], x) and min(box[3], y + 1) > max(box[1], y)
    return spread(touched, layout)


def spread(touched: npt.NDArray[np.bool_], layout: PlaneLayout) -> npt.NDArray[np.bool_]:
    width, height = layout.cell
    result = np.zeros_like(touched)
    for y, x in np.argwhere(touched):
        top, left = y // height * height, x // width * width
        result[top : top + height, left : left + width] = True
    return result


def samples_of(mask: npt.NDArray[np.bool_], component: Component) -> npt.NDArray[np.bool_]:
    """The component's samples of which any pixel is in the mask."""
    return mask[:: 1 << component.y_shift, :: 1 << component.x_shift]


coordinates = st.one_of(
    st.integers(-6, 40).map(float), st.floats(-6, 40, allow_nan=False), st.sampled_from([-1e300, 1e300, 0.0])
)
boxes = st.builds(
    lambda a, b, c, d: (min(a, c), min(b, d), max(a, c), max(b, d)), coordinates, coordinates, coordinates, coordinates
)
layouts = st.builds(
    lambda name, width, height, full_range: PlaneLayout.of(name, width, height, full_range=full_range),
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(SIDES),
    st.sampled_from(SIDES),
    st.booleans(),
)


# --- layouts, against FFmpeg ---


@pytest.mark.parametrize("name", FORMATS)
def test_a_layout_is_what_ffmpeg_says(name: str) -> None:
    frame = VideoFrame(5, 3, name)
    layout = PlaneLayout.of(name, 5, 3, full_range=False)
    ffmpeg = frame.format
    components = [item for item in layout.components if item.role != "X"]
    assert sorted((item.plane, item.bits) for item in components) == sorted(
        (item.plane, item.bits) for item in ffmpeg.components
    )
    assert all((item.role == "R") == ffmpeg.is_rgb for item in components if item.role != "A")
    assert sum(item.role == "A" for item in components) == sum(item.is_alpha for item in ffmpeg.components)
    assert layout.shapes == [
        (plane.height, plane.width, shape[2]) for plane, shape in zip(frame.planes, layout.shapes, strict=True)
    ]
    if layout.has_chroma:
        assert sum(item.role == "C" for item in components) == 2
        assert (ffmpeg.chroma_width(5), ffmpeg.chroma_height(3)) == layout.shapes[1][1::-1]


@pytest.mark.parametrize("name", FORMATS)
def test_planes_are_the_frames_own_pixels(name: str) -> None:
    frame = VideoFrame(34, 6, name)
    layout, planes = planes_of(frame)
    for seed, plane in enumerate(planes):
        plane[...] = random_planes(layout, seed)[planes.index(plane) if len(planes) == 1 else seed]
    for plane, stored in zip(planes, frame.planes, strict=True):
        rows = np.frombuffer(memoryview(stored), np.uint8).reshape(stored.height, stored.line_size)
        words = rows[:, : plane[0].size * plane.itemsize].copy().view(layout.dtype)
        assert np.array_equal(words, plane.reshape(plane.shape[0], -1))


@pytest.mark.parametrize(
    "name",
    ["yuv420p", "yuv420p10le", "yuv444p", "gray", "gray10le", "gbrp", "gbrp10le", "nv12", "rgb24", "rgba", "argb"],
)
def test_planes_agree_with_pyav(name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name)
    _, planes = planes_of(frame)
    pyav = frame.to_ndarray()
    if name == "gbrp" or name.startswith("gbrp10"):
        planes = [np.stack([planes[2], planes[0], planes[1]], axis=2)]
    ours = planes[0] if len(planes) == 1 else np.concatenate([plane.ravel() for plane in planes])
    assert np.array_equal(ours.ravel(), np.ascontiguousarray(pyav).ravel())


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_filled_pixels_are_black_to_ffmpeg_and_others_unchanged(name: str, full_range: bool) -> None:
    colours = ColorRange.JPEG if full_range or name.startswith("yuvj") else ColorRange.MPEG
    rgb = np.random.default_rng(0).integers(60, 200, (24, 40, 3), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name, dst_color_range=colours)
    frame.color_range = colours

    def seen() -> npt.NDArray[np.int32]:
        return (
            frame.reformat(format="rgb24", src_color_range=colours, dst_color_range=ColorRange.JPEG)
            .to_ndarray()
            .astype(np.int32)
        )

    before = seen()
    layout, planes = planes_of(frame, full_range=full_range)
    cover(planes, layout, [(8, 8, 24, 20)])
    after = seen()
    # swscale blends chroma at the border, and takes any grey for full range.
    black = 16 if name.startswith(("gray", "ya")) and not full_range else 0
    assert after[10:18, 10:22].max() <= black + 2
    outside = np.ones((24, 40), np.bool_)
    outside[4:24, 4:28] = False
    assert np.abs(after - before)[outside].max() <= 1
    assert before[10:18, 10:22].min() > black + 2


def test_unknown_formats_are_refused() -> None:
    for name in ("pal8", "monob", "yuyv422", "rgb48be", "nope"):
        with pytest.raises(UsageError, match=f"pixel format \\('{name}'\\)"):
            PlaneLayout.of(name, 4, 4, full_range=False)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "cmyk"},
        {"width": 0},
        {"height": 65_536},
        {"width": 4.0},
        {"bits": 11},
        {"x_shift": 3},
        {"y_shift": -1},
        {"padding": 1},
        {"bits": 10, "padding": 7},
        {"kind": "rgb", "x_shift": 1},
    ],
)
def test_layouts_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"Invalid {list(change)[-1]}"):
        PlaneLayout(**{"kind": "yuv", "width": 4, "height": 4, **change})


def test_planes_are_checked() -> None:
    layout = PlaneLayout.of("yuv420p", 6, 4, full_range=False)
    planes = random_planes(layout)
    read_only = [plane.copy() for plane in planes]
    for plane in read_only:
        plane.flags.writeable = False
    bad: list[list[Plane]] = [
        planes[:2],
        [planes[0].astype(np.uint16), *planes[1:]],
        [planes[0][:, :5], *planes[1:]],
        read_only,
    ]
    for wrong in bad:
        with pytest.raises(UsageError, match="Invalid plane"):
            cover(wrong, layout, [(0, 0, 2, 2)])
    assert deviation(read_only, layout, [(0, 0, 2, 2)]).mean > 0


def test_buffers_are_checked() -> None:
    layout = PlaneLayout.of("gray", 6, 4, full_range=False)
    data = memoryview(bytes(range(30)))
    assert layout.arrays([data], [8])[0].tolist()[3] == [24, 25, 26, 27, 28, 29]
    for buffers, line_sizes in (([data], [9]), ([data], [5]), ([data], [-8]), ([data, data], [8, 8]), ([], [])):
        with pytest.raises(UsageError, match="Invalid plane"):
            layout.arrays(buffers, line_sizes)


def test_interleaved_samples_may_lie_in_rows() -> None:
    layout = PlaneLayout.of("nv12", 6, 4, full_range=False)
    solid, flat = random_planes(layout), random_planes(layout)
    flat[1] = flat[1].reshape(2, 6)
    for planes in (solid, flat):
        cover(planes, layout, [(1, 1, 3, 3)])
    assert all(np.array_equal(a.ravel(), b.ravel()) for a, b in zip(solid, flat, strict=True))
    assert (solid[1][:2, :2] == 128).all()


@pytest.mark.parametrize(
    ("name", "full_range", "black", "chroma", "white"),
    [
        ("yuv420p", False, 16, 128, 235),
        ("yuv420p", True, 0, 128, 255),
        ("yuvj420p", False, 0, 128, 255),
        ("yuv420p10le", False, 64, 512, 940),
        ("yuv422p12le", True, 0, 2048, 4095),
        ("p010le", False, 64 << 6, 512 << 6, 940 << 6),
        ("yuv444p16le", False, 4096, 32768, 60160),
    ],
)
def test_black_and_white(name: str, full_range: bool, black: int, chroma: int, white: int) -> None:
    layout = PlaneLayout.of(name, 4, 4, full_range=full_range)
    luma, first, *_ = layout.components
    assert (luma.gray(0), first.gray(0), first.gray(1), luma.gray(1)) == (black, chroma, chroma, white)


# --- fill, and where it goes ---


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_are_rounded_outward_on_every_format(name: str) -> None:
    layout = PlaneLayout.of(name, 13, 9, full_range=False)
    for box in ((3.2, 3.0, 5.0, 4.9), (1, 1, 2, 2), (11.5, 7.5, 99, 99), (-5, -5, 0.1, 0.1)):
        planes, before = random_planes(layout), random_planes(layout)
        cover(planes, layout, [box])
        mask = covered_cells(box, layout)
        for (component, view), (_, old) in zip(layout.views(planes), layout.views(before), strict=True):
            inside = samples_of(mask, component)
            assert (view[inside] == component.gray(0)).all()
            assert np.array_equal(view[~inside], old[~inside])


@given(layouts, st.lists(boxes, max_size=3), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_fill_is_exact_inside_and_changes_nothing_outside(layout: PlaneLayout, found: list[Box], seed: int) -> None:
    planes = random_planes(layout, seed)
    before = [plane.copy() for plane in planes]
    cover(planes, layout, found)
    mask = np.zeros((layout.height, layout.width), np.bool_)
    for box in found:
        mask |= covered_cells(box, layout)
    for (component, view), (_, old) in zip(layout.views(planes), layout.views(before), strict=True):
        inside = samples_of(mask, component)
        assert (view[inside] == component.black << component.padding).all()
        assert np.array_equal(view[~inside], old[~inside])


@given(layouts, boxes, st.sampled_from(["box", "ellipse"]), st.sampled_from(sorted(STYLES)))
@settings(max_examples=80, deadline=None)
def test_no_style_and_no_shape_draws_outside(layout: PlaneLayout, box: Box, shape: str, style: str) -> None:
    planes = random_planes(layout)
    before = [plane.copy() for plane in planes]
    cover(planes, layout, [box], STYLES[style], shape)
    region = find_region(box, layout, shape)
    for (component, view), (_, old) in zip(layout.views(planes), layout.views(before), strict=True):
        inside = np.zeros(view.shape, np.bool_)
        if region is not None:
            mask = region.mask(component, layout)
            inside[region.window(component)] = True if mask is None else mask
            assert inside.any()
        assert np.array_equal(view[~inside], old[~inside])
        assert not (view & ((1 << component.padding) - 1)).any()
        if component.role in "AX":
            assert (view[inside] == (1 << component.bits) - 1).all()


@given(layouts, boxes)
@settings(max_examples=80, deadline=None)
def test_an_ellipse_covers_all_of_its_box_and_all_that_it_touches(layout: PlaneLayout, box: Box) -> None:
    planes = random_planes(layout)
    marked = [np.full_like(plane, 1 << layout.padding) for plane in planes]
    cover(marked, layout, [box], Fill(1.0), "ellipse")
    mask = layout.views(marked)[0][1] != 1 << layout.padding
    expected = covered_cells(box, layout)
    assert mask[expected].all()
    if not expected.any():
        assert not mask.any()
        return
    (x1, y1, x2, y2), root = box, math.sqrt(0.5)
    columns, rows = np.arange(layout.width) + 0.5, np.arange(layout.height) + 0.5
    away_x = (columns - (x1 / 2 + x2 / 2)) / max((x2 / 2 - x1 / 2) / root, 1e-6)
    away_y = (rows - (y1 / 2 + y2 / 2)) / max((y2 / 2 - y1 / 2) / root, 1e-6)
    centres = away_x[None, :] ** 2 + away_y[:, None] ** 2 < 1 - 1e-9
    assert mask[spread(centres, layout)].all()
    assert np.array_equal(spread(mask, layout), mask)


def test_an_ellipse_covers_half_as_much_again() -> None:
    layout = PlaneLayout.of("yuv420p", 800, 600, full_range=False)
    region = find_region((300, 200, 500, 360), layout, "ellipse")
    assert region is not None
    assert region.cells is not None
    assert region.cells.sum() * 4 / (200 * 160) == pytest.approx(math.pi / 2, rel=0.03)
    assert np.array_equal(region.cells, region.cells[::-1, ::-1])


@pytest.mark.parametrize(
    "box", [(2, 2, 2, 5), (2, 2, 5, 2), (-3, 0, 0, 5), (0, -3, 5, 0), (8, 0, 9, 5), (0, 8, 5, 9.5), (-9, -9, -1, -1)]
)
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_boxes_without_area_or_outside_do_nothing(box: Box, shape: str) -> None:
    layout = PlaneLayout.of("yuv420p", 8, 8, full_range=False)
    planes = random_planes(layout)
    before = [plane.copy() for plane in planes]
    assert find_region(box, layout, shape) is None
    cover(planes, layout, [box], shape=shape)
    assert all(map(np.array_equal, planes, before))
    assert deviation(planes, layout, [box], shape) == Deviation()


def test_the_smallest_box_covers_a_cell() -> None:
    layout = PlaneLayout.of("yuv420p", 5, 3, full_range=False)
    planes = random_planes(layout)
    cover(planes, layout, [(4.5, 2.5, 4.5 + 1e-12, 2.6)])
    assert planes[0][2, 4] == 16
    assert planes[1][1, 2] == planes[2][1, 2] == 128
    assert (planes[0] == 16).sum() == 1


@pytest.mark.parametrize("box", [(math.nan, 0, 1, 1), (0, 0, math.inf, 1), (3, 0, 2, 1), (0, 3, 1, 2)])
def test_damaged_boxes_are_refused(box: Box) -> None:
    layout = PlaneLayout.of("gray", 8, 8, full_range=False)
    with pytest.raises(UsageError, match="Invalid box"):
        cover(random_planes(layout), layout, [box])
    with pytest.raises(UsageError, match="Invalid box"):
        stored_boxes([box], Orientation(), (8, 8))


def test_unknown_shapes_are_refused() -> None:
    layout = PlaneLayout.of("gray", 8, 8, full_range=False)
    with pytest.raises(UsageError, match="box, ellipse"):
        cover(random_planes(layout), layout, [(0, 0, 1, 1)], shape="circle")


@given(
    st.builds(Orientation, st.booleans(), st.booleans(), st.booleans()), st.integers(1, 9), st.integers(1, 9), st.data()
)
@settings(max_examples=100, deadline=None)
def test_displayed_boxes_become_stored_ones(orientation: Orientation, width: int, height: int, data: Any) -> None:
    size = orientation.size(width, height)
    x1, x2 = sorted((data.draw(st.integers(0, size[0])), data.draw(st.integers(0, size[0]))))
    y1, y2 = sorted((data.draw(st.integers(0, size[1])), data.draw(st.integers(0, size[1]))))
    layout = PlaneLayout.of("rgb24", width, height, full_range=True)
    stored = np.full((height, width, 3), 200, np.uint8)
    cover([stored], layout, stored_boxes([(x1, y1, x2, y2)], orientation, size))
    expected = np.full((size[1], size[0], 3), 200, np.uint8)
    expected[y1:y2, x1:x2] = 0
    assert np.array_equal(orientation.apply(stored), expected)


# --- mosaic and blur ---


@pytest.mark.parametrize("style", AVERAGING)
@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "p010le", "rgba", "gbrp12le"])
def test_what_is_drawn_comes_from_inside_alone(style: str, shape: str, name: str) -> None:
    layout = PlaneLayout.of(name, 97, 61, full_range=False)
    box = (20.5, 11.0, 55.0, 49.2)
    region = find_region(box, layout, shape)
    assert region is not None
    drawn = []
    for seed in (1, 2):
        planes, inner = random_planes(layout, seed), random_planes(layout, 3)
        for (component, view), (_, other) in zip(layout.views(planes), layout.views(inner), strict=True):
            view[region.window(component)] = other[region.window(component)]
        cover(planes, layout, [box], STYLES[style], shape)
        drawn += [view[region.window(c)][region.mask(c, layout)].copy() for c, view in layout.views(planes)]
    half = len(drawn) // 2
    assert half >= 3
    assert all(map(np.array_equal, drawn[:half], drawn[half:]))


@pytest.mark.parametrize("style", AVERAGING)
@pytest.mark.parametrize(
    ("name", "bits"), [("yuv420p", 8), ("yuv444p", 8), ("yuv422p10le", 10), ("p010le", 10), ("rgb24", 8)]
)
@pytest.mark.parametrize("size", [(200, 200), (161, 240), (400, 90), (48, 48)])
def test_detail_finer_than_a_quarter_is_gone(style: str, name: str, bits: int, size: tuple[int, int]) -> None:
    layout = PlaneLayout.of(name, 480, 320, full_range=True)
    box = (31.0, 21.0, 31.0 + size[0], 21.0 + size[1])
    region = find_region(box, layout)
    assert region is not None
    coarsest = min(max(size) / 4, min(size) / 2)
    for period in (coarsest / 1.01, coarsest / 1.2, coarsest / 1.5, coarsest / 3):
        for wave in (stripes, checker, rings):
            planes = pattern(layout, wave, period)
            before = [contrast(view[region.window(component)]) for component, view in layout.views(planes)]
            cover(planes, layout, [box], STYLES[style])
            for (component, view), old in zip(layout.views(planes), before, strict=True):
                left = contrast(view[region.window(component)])
                assert old >= 0.4 * (1 << bits << component.padding)
                assert left <= 0.05 * old, (wave.__name__, period, component.role, left / old)


def stripes(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.sin(x) + 0 * y)


def checker(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.sign(np.sin(x)) * np.sign(np.sin(y)))


def rings(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.sin(np.hypot(x - 60, y - 40)))


def pattern(layout: PlaneLayout, wave: Any, period: float) -> list[Plane]:
    """The wave on every component, with the same period in pixels."""
    planes = random_planes(layout)
    for component, view in layout.views(planes):
        x = (np.arange(view.shape[1]) + 0.5) * (1 << component.x_shift) * 2 * np.pi / period
        y = (np.arange(view.shape[0]) + 0.5) * (1 << component.y_shift) * 2 * np.pi / period
        middle = 1 << (component.bits - 1)
        samples = np.rint(middle + 0.7 * middle * wave(x[None, :], y[:, None]))
        view[...] = samples.astype(view.dtype) << component.padding
    return planes


def contrast(view: Plane) -> float:
    return float(view.max()) - float(view.min())


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "rgba"])
def test_a_mosaic_is_a_few_flat_blocks(name: str) -> None:
    layout = PlaneLayout.of(name, 300, 300, full_range=False)
    planes = random_planes(layout)
    for _, view in layout.views(planes):
        view[...] = np.add.outer(np.arange(view.shape[0]), np.arange(view.shape[1])) * 255 // sum(view.shape)
    region = find_region((40, 60, 160, 220), layout)
    assert region is not None
    cover(planes, layout, [(40, 60, 160, 220)], Mosaic())
    for component, view in layout.views(planes):
        if component.role != "A":
            patch = view[region.window(component)].astype(np.int32)
            steps = [np.diff(patch, axis=axis) for axis in (0, 1)]
            counts = [np.any(step, axis=1 - axis).sum() for axis, step in enumerate(steps)]
            assert counts == [5, 3], "6x4 blocks in a box of 160x120 pixels"
            assert all((step >= 0).all() for step in steps), "bright stays where it was"


@pytest.mark.parametrize(("name", "unit"), [("yuv420p", 1), ("yuv444p12le", 16), ("p010le", 4 << 6)])
def test_colours_stay_on_the_whole(name: str, unit: int) -> None:
    layout = PlaneLayout.of(name, 200, 200, full_range=False)
    for style in AVERAGING:
        planes = random_planes(layout)
        luma, *chroma = (view for _, view in layout.views(planes))
        luma[:, :100], luma[:, 100:], chroma[0][...], chroma[1][...] = 81 * unit, 181 * unit, 90 * unit, 240 * unit
        cover(planes, layout, [(0, 0, 200, 200)], STYLES[style])
        assert (chroma[0] == 90 * unit).all()
        assert (chroma[1] == 240 * unit).all()
        assert (luma == luma[:1]).all()
        left, right = int(luma[0, 10]), int(luma[0, 190])
        assert 81 * unit <= left < 100 * unit < 160 * unit < right <= 181 * unit


def test_a_box_half_outside_keeps_no_finer_detail() -> None:
    layout = PlaneLayout.of("gray", 300, 300, full_range=False)
    planes = random_planes(layout)
    cover(planes, layout, [(-100, 0, 20, 120)], Mosaic())
    patch = planes[0][:120, :20]
    assert (patch == patch[:, :1]).all(), "20 pixels are one block of a box of 120"
    assert len(np.unique(patch)) <= 6


def test_small_boxes_have_fewer_blocks() -> None:
    layout = PlaneLayout.of("gray", 64, 64, full_range=False)
    for side, most in ((4, 1), (15, 1), (20, 2), (33, 4), (48, 6), (64, 6)):
        planes = random_planes(layout)
        cover(planes, layout, [(0, 0, side, side)], Mosaic())
        assert np.any(np.diff(planes[0][:side, :side].astype(int), axis=1), axis=0).sum() <= most - 1


@pytest.mark.parametrize("style", [Mosaic, Blur])
def test_styles_are_checked(style: type[Mosaic | Blur]) -> None:
    for wrong in ({"blocks": 0}, {"blocks": 9}, {"min_block": 7}):
        with pytest.raises(UsageError, match=f"Invalid {next(iter(wrong))}"):
            style(**wrong)
    with pytest.raises(UsageError, match="Invalid level"):
        Fill(1.5)


# --- is it covered? ---


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p10le", "p010le", "rgb0"])
def test_a_slate_is_flat(name: str) -> None:
    layout = PlaneLayout.of(name, 33, 21, full_range=False)
    planes = random_planes(layout)
    slate(planes, layout)
    assert all(len(np.unique(view)) == 1 for _, view in layout.views(planes))
    assert deviation(planes, layout, [layout.bounds], fill=SLATE) == Deviation()
    assert not is_covered(planes, layout, [layout.bounds], fill=BLACK)


@given(layouts, boxes, st.sampled_from(["box", "ellipse"]), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_what_was_filled_does_not_deviate(layout: PlaneLayout, box: Box, shape: str, level: float) -> None:
    planes = random_planes(layout)
    cover(planes, layout, [box], Fill(level), shape)
    assert deviation(planes, layout, [box], shape, fill=Fill(level), rim=0) == Deviation()
    assert is_covered(planes, layout, [box], shape, fill=Fill(level))


@pytest.mark.parametrize(("name", "unit"), [("yuv420p", 1), ("yuv420p10le", 4), ("p010le", 4 << 6), ("gbrp16le", 256)])
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_one_sample_is_found_but_on_the_rim(name: str, unit: int, shape: str) -> None:
    layout = PlaneLayout.of(name, 100, 100, full_range=False)
    planes = random_planes(layout)
    box = (20, 20, 80, 80)
    cover(planes, layout, [box], BLACK, shape)
    for plane, (y, x) in zip(planes, ((50, 50), (30, 30), (30, 30)), strict=False):
        filled = plane[y, x].tolist()
        for change in (40, -10) if np.all(filled) else (40,):
            plane[y, x] = np.add(filled, change * unit)
            found = deviation(planes, layout, [box], shape)
            assert found.worst == abs(change)
            assert found.mean == pytest.approx(abs(change) / covered_samples(plane.shape, box, layout, shape))
        plane[y, x] = filled
    if shape == "box":
        planes[0][27, 50] += 40 * unit
        assert deviation(planes, layout, [box]).worst == 0
        assert deviation(planes, layout, [box], rim=7).worst == 40
        assert deviation(planes, layout, [box]).mean > 0


def covered_samples(plane: tuple[int, ...], box: Box, layout: PlaneLayout, shape: str) -> int:
    region = find_region(box, layout, shape)
    assert region is not None
    component = layout.components[0 if plane == (layout.height, layout.width) else 1]
    mask, window = region.mask(component, layout), np.zeros(plane[:2], np.bool_)[region.window(component)]
    return window.size if mask is None else int(mask.sum())


def test_alpha_has_to_be_opaque_and_the_byte_without_meaning_not() -> None:
    for name, worst in (("rgba", 248), ("rgb0", 0)):
        layout = PlaneLayout.of(name, 40, 40, full_range=True)
        planes = random_planes(layout)
        slate(planes, layout)
        planes[0][..., 3] = 7
        assert deviation(planes, layout, [layout.bounds], fill=SLATE).worst == worst


def test_the_worst_of_several_boxes_counts() -> None:
    layout = PlaneLayout.of("gray", 100, 100, full_range=True)
    planes: list[Plane] = [np.zeros((100, 100), np.uint8)]
    planes[0][60:, 60:] = 90
    assert deviation(planes, layout, [(0, 0, 30, 30), (60, 60, 90, 90)]) == Deviation(90, 90)
    assert deviation(planes, layout, [(60, 60, 68, 68)]) == Deviation(0, 90), "all rim: the mean tells"
    assert not is_covered(planes, layout, [(60, 60, 68, 68), (0, 0, 30, 30)])


def encoded(frames: Sequence[VideoFrame], crf: int) -> list[VideoFrame]:
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
    encoder.time_base, encoder.options = Fraction(1, 25), {"crf": str(crf), "preset": "veryfast"}
    decoder: Any = av.CodecContext.create("h264", "r")
    packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
    return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]


def moving_scene(kind: str, name: str, count: int) -> list[VideoFrame]:
    noise = np.random.default_rng(1).integers(0, 256, (240, 360, 3), dtype=np.uint8)
    if kind == "edges":
        noise = noise[::10, ::10].repeat(10, 0).repeat(10, 1)
    frames = []
    for pts in range(count):
        image = np.ascontiguousarray(noise[pts : pts + 180, 2 * pts : 2 * pts + 320])
        frame = VideoFrame.from_ndarray(image, "rgb24").reformat(format=name)
        frame.pts, frame.pict_type = pts, 0
        frames.append(frame)
    return frames


@pytest.mark.parametrize("kind", ["noise", "edges"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_the_tolerance_is_what_x264_needs(kind: str, name: str, shape: str) -> None:
    # Two boxes on a path of odd steps: one with an inside, and one of 15x16 pixels, all rim.
    paths = [
        [(51.0 + 3 * i, 37.0 + i, 151.0 + 3 * i, 107.0 + i), (201.0, 111.0 + i, 216.0, 127.0 + i)] for i in range(10)
    ]
    frames = moving_scene(kind, name, len(paths))
    for frame, found in zip(frames, paths, strict=True):
        layout, planes = planes_of(frame)
        cover(planes, layout, found, BLACK, shape)
    decoded = encoded(frames, crf=23)
    assert len(decoded) == len(paths)
    for frame, found in zip(decoded, paths, strict=True):
        layout, planes = planes_of(frame)
        measured = [deviation(planes, layout, [box], shape) for box in found]
        assert max(item.level for item in measured) <= TOLERANCE, measured
        assert is_covered(planes, layout, found, shape)
        beside = [(x1 + 30, y1, x2 + 30, y2) for x1, y1, x2, y2 in found]
        for box in beside:
            assert deviation(planes, layout, [box], shape).level > 2 * TOLERANCE


# --- sound ---

SOUND_TYPES = {
    "uint8": (0, 255),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "float32": (-1, 1),
    "float64": (-1, 1),
}
RATE = 1000
spans = st.lists(
    st.tuples(st.integers(-300, 700), st.integers(0, 300)).map(lambda pair: Span(pair[0] / 1024, sum(pair) / 1024)),
    max_size=4,
)


def sound(kind: str, length: int, channels: int = 2) -> npt.NDArray[Any]:
    rng, (low, high) = np.random.default_rng(length), SOUND_TYPES[kind]
    if kind.startswith("float"):
        return rng.uniform(low, high, (channels, length)).astype(kind)
    return rng.integers(low, high, (channels, length), dtype=kind, endpoint=True)


@given(
    st.sampled_from(sorted(SOUND_TYPES)),
    spans,
    st.lists(st.integers(1, 200), max_size=6),
    st.integers(-200, 200),
    st.sampled_from([0, 0.01, 0.05]),
)
@settings(max_examples=80, deadline=None)
def test_sound_is_muted_the_same_in_any_chunks(
    kind: str, flagged: list[Span], cuts: list[int], start: int, fade: float
) -> None:
    whole = sound(kind, 600)
    original = whole.copy()
    chunks = np.split(whole.copy(), np.cumsum(cuts)[np.cumsum(cuts) < 600], axis=1)
    changed = mute(whole, RATE, start, flagged, fade)
    place, told = start, False
    for chunk in chunks:
        told |= mute(chunk, RATE, place, flagged, fade)
        place += chunk.shape[1]
    assert np.array_equal(np.concatenate(chunks, axis=1), whole)
    assert told == changed
    assert changed or np.array_equal(whole, original)


@given(st.sampled_from(sorted(SOUND_TYPES)), spans, st.integers(-200, 200))
@settings(max_examples=100, deadline=None)
def test_spans_are_silent_and_only_fades_lie_outside(kind: str, flagged: list[Span], start: int) -> None:
    samples = sound(kind, 400)
    before = samples.copy()
    mute(samples, RATE, start, flagged, 0.02)
    silence = 128 if kind == "uint8" else 0
    first = np.arange(start, start + 400)
    ends = [(span.start * RATE, span.end * RATE) for span in flagged if span.length]
    silent = np.any([(first < end) & (first + 1 > low) for low, end in ends], axis=0) if ends else first > 1e9
    near = np.any([(first < end + 21) & (first + 21 > low) for low, end in ends], axis=0) if ends else first > 1e9
    assert (samples[:, silent] == silence).all()
    assert np.array_equal(samples[:, ~near], before[:, ~near])
    assert (np.abs(samples - float(silence)) <= np.abs(before - float(silence))).all()


def test_fades_are_straight_lines() -> None:
    samples = np.full((1, 40), 1.0)
    assert mute(samples, RATE, 100, [Span(0.115, 0.12)], 0.004)
    down = [0.8, 0.6, 0.4, 0.2]
    expected = [1.0] * 11 + down + [0.0] * 5 + down[::-1] + [1.0] * 16
    assert samples[0].tolist() == pytest.approx(expected)


def test_whole_samples_are_rounded() -> None:
    samples = np.full((1, 5), 999, np.int16)
    assert mute(samples, RATE, 0, [Span(0.004, 1)], 0.004)
    assert samples[0].tolist() == [799, 599, 400, 200, 0]


def test_samples_between_spans_stay_bit_for_bit() -> None:
    samples = np.full((1, 300), -0.0, np.float32)
    assert mute(samples, RATE, 0, [Span(0, 0.05), Span(0.25, 0.3)])
    assert np.signbit(samples[0, 60:240]).all()


def test_packed_sound() -> None:
    planar = sound("int16", 300)
    packed = np.ascontiguousarray(planar.T)
    flagged = [Span(0.1, 0.15)]
    assert mute(planar, RATE, 0, flagged)
    assert mute(packed, RATE, 0, flagged, time_axis=0)
    assert np.array_equal(packed.T, planar)
    assert (planar[:, 100:150] == 0).all()


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_silence_is_silent_whatever_was_there(kind: str) -> None:
    samples = np.array([[np.nan, np.inf, -np.inf, -1.0, 1.0]], kind)
    mute(samples, RATE, 0, [Span(0, 0.004)], 0)
    assert samples[0].tolist() == [0, 0, 0, 0, 1]
    assert not np.signbit(samples).any()


def test_sound_is_checked() -> None:
    with pytest.raises(UsageError, match="Invalid samples \\(int64\\)"):
        mute(np.zeros((1, 4), np.int64), RATE, 0, [])
    for rate, fade in ((0, 0.01), (RATE, -1.0), (RATE, math.inf)):
        with pytest.raises(UsageError, match="Invalid sample_rate or fade_seconds"):
            mute(np.zeros((1, 4), np.int16), rate, 0, [], fade)
    assert not mute(np.zeros((2, 0), np.int16), RATE, 0, [Span(0, 9)])
