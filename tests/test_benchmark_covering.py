from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from tests.benchmarked import script

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with script("covering") as module:
        yield module


def write(path: Path, covers: list[tuple[int, int, int, int] | None]) -> Path:
    """Grey pictures with a black box in some, and a black stripe at the left of all."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "0", "preset": "ultrafast"}
        for cover in covers:
            planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
            planes[:HEIGHT, :4] = 16
            if cover is not None:
                x1, y1, x2, y2 = cover
                planes[y1:y2, x1:x2] = 16
            output.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        output.mux(stream.encode(None))
    return path


def test_a_box_weighs_as_much_as_its_area(bench: ModuleType) -> None:
    weight = bench.weights((3.25, 4.0, 10.75, 9.5), HEIGHT, WIDTH)
    assert weight.sum() == pytest.approx(7.5 * 5.5)
    assert weight[4, 3] == pytest.approx(0.75)
    assert weight[9, 10] == pytest.approx(0.75 * 0.5)
    assert weight[4, 2] == 0


def test_pixels_are_held_against_boxes(bench: ModuleType, tmp_path: Path) -> None:
    source = write(tmp_path / "source.mkv", [None] * 4)
    output = write(tmp_path / "output.mkv", [(10, 10, 30, 30), (10, 10, 30, 30), None, (10, 10, 30, 30)])
    truth: list[dict[int, Any]] = [
        {0: (12.0, 12.0, 28.0, 28.0)},
        {0: (12.0, 12.0, 32.0, 32.0)},
        {0: (12.0, 12.0, 32.0, 32.0), 1: (40.0, 0.0, 50.0, 10.0)},
        {},
    ]
    result = bench.measure(source, output, truth)
    assert result.coverages[0] == {0: 1.0, 1: pytest.approx(0.81), 2: 0.0}
    assert result.leaks == [(1, 0), (2, 0), (2, 1)]
    assert result.longest == 2
    assert result.masked == 3 * 400
    assert result.true == pytest.approx(256 + 400 + 500)


def test_what_is_black_by_itself_is_neither_masked_nor_to_be_masked(bench: ModuleType, tmp_path: Path) -> None:
    source = write(tmp_path / "source.mkv", [None])
    output = write(tmp_path / "output.mkv", [(4, 0, 10, 10)])
    result = bench.measure(source, output, [{0: (0.0, 0.0, 10.0, 10.0)}])
    assert result.coverages[0] == {0: 1.0}
    assert result.masked == 60


def test_what_the_detector_does_not_see_is_counted(bench: ModuleType) -> None:
    box = (10.0, 10.0, 20.0, 20.0)
    found = [
        [{"score": 0.5, "box": [9, 9, 21, 21]}],
        [{"score": 0.3, "box": [9, 9, 21, 21]}],
        [{"score": 0.9, "box": [40, 9, 50, 21]}],
        [],
    ]
    assert bench.count_unseen([{0: box}] * 4, found) == 3
