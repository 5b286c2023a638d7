"""The benchmark of the GPU, where there is none: it measures the CPU, says what is not here, and makes nothing up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from tests.benchmarked import BENCHMARKS, script
from vidmod.models import nvidia


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with script("gpu") as module:
        yield module


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "short.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(30):
            picture = np.full((180, 320, 3), 8 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode())
    return path


@pytest.mark.slow
def test_it_runs_to_its_end_without_a_gpu(film: Path, tmp_path: Path) -> None:
    if nvidia.look().gpus:
        pytest.skip("this machine has a GPU")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--film", str(film), "-o", str(tmp_path / "rows.json")]
    few = ["--files", "1", "--batches", "2", "--budget", "0.01"]
    done = subprocess.run([*command, *few], capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads((tmp_path / "rows.json").read_text("utf-8"))

    on_cpu = {(row["stage"], row["what"]): row for row in rows if row["on"] == "cpu"}
    for stage, what in (
        ("decode", "1 at once"),
        ("prepare", ""),
        ("infer", "openvino, batch 2"),
        ("infer", "onnxruntime, batch 2"),
        ("whole", "openvino, every picture"),
    ):
        row = on_cpu[stage, what]
        assert row["rate"] > 0, row
        assert row["times"] == pytest.approx(row["rate"] / 30, rel=0.01)
    assert "30 pictures" in on_cpu["decode", "1 at once"]["result"]
    assert "30 pictures" in on_cpu["whole", "openvino, every picture"]["result"]
    assert "alone would take" in on_cpu["share", "of the slowest stage, openvino, every picture"]["result"]
    parity = [row for row in rows if row["stage"] == "parity" and row["on"].endswith(" cpu")]
    assert {row["what"] for row in parity} == {"open_nsfw", "nudenet"}
    assert all(row["passed"] for row in parity)

    on_gpu = [row for row in rows if "cuda:0" in row["on"]]
    assert {row["stage"] for row in on_gpu} == {"parity", "decode", "prepare", "infer", "whole", "share"}
    for row in on_gpu:
        assert (row["rate"], row["times"], row["passed"]) == (None, None, None)
        assert row["result"].startswith("not here: "), row
    # The table is all that standard output has.
    lines = done.stdout.splitlines()
    assert len(lines) == len(rows) + 2
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    assert not any("not measured" in line for line in lines)


def rates(bench: ModuleType, on: str, **values: float) -> list[Any]:
    """Rows of a device: the keyword's first part is the stage, the second what; whole scans look at every picture."""
    rows = []
    for name, rate in values.items():
        stage, _, what = name.partition("_")
        rows.append(bench.Row(stage, f"{what}, every picture" if stage == "whole" else what, on, "", rate))
    return rows


def test_shares_are_of_the_best_rate_of_each_stage(bench: ModuleType) -> None:
    rows = rates(bench, "cuda:0", decode_one=400.0, decode_four=1000.0, prepare=2000.0, infer_onnxruntime=5000.0)
    rows += rates(bench, "cuda:0", infer_tensorrt=9000.0, whole_onnxruntime=950.0, whole_tensorrt=800.0)
    rows += rates(bench, "cpu", decode_one=50.0, prepare=100.0, infer_openvino=25.0, whole_openvino=20.0)
    found = {(row.what, row.on): (row.result, row.passed) for row in bench.share_rows(rows)}
    assert found == {
        ("of the slowest stage, onnxruntime, every picture", "cuda:0"): (
            "decode alone would take 0.95 of the time",
            None,
        ),
        ("of NVDEC alone, onnxruntime, every picture", "cuda:0"): ("0.95 of decoding alone; 0.9 is wanted", True),
        ("of the slowest stage, tensorrt, every picture", "cuda:0"): ("decode alone would take 0.80 of the time", None),
        ("of NVDEC alone, tensorrt, every picture", "cuda:0"): ("0.80 of decoding alone; 0.9 is wanted", False),
        ("of the slowest stage, openvino, every picture", "cpu"): ("infer alone would take 0.80 of the time", None),
    }
    # Of two pictures a second, how fast the film goes by is compared: 40 times real time is 1,200 pictures a second.
    (sparse,) = bench.share_rows(
        [
            *rates(bench, "cuda:0", decode_one=1000.0),
            bench.Row("whole", "tensorrt, 2 a second", "cuda:0", "", 80.0, 40.0),
        ]
    )
    assert (sparse.result, sparse.passed) == ("1.20 of decoding alone; 0.9 is wanted", True)


def test_what_is_missing_makes_no_share(bench: ModuleType) -> None:
    rows = rates(bench, "cuda:0", prepare=2000.0, infer_tensorrt=9000.0, whole_tensorrt=800.0)
    assert list(bench.share_rows(rows)) == []
    rows = [bench.Row("whole", "tensorrt", "cuda:0", "not here: no GPU")]
    assert [row.result[:8] for row in bench.share_rows(rows)] == ["not here", "not here"]


def test_a_stage_that_breaks_is_told_from_one_that_is_not_here(bench: ModuleType, tmp_path: Path) -> None:
    broken = bench.attempt(60, "decode", path=str(tmp_path / "none.mp4"), gpu=None, files=1)
    assert broken.startswith("not measured: ")
    assert "No such file" in broken
    assert bench.attempt(0.01, "facts", gpu=0) == "not measured: it was not done after 0.01 s"


def test_the_same_reason_is_given_once(bench: ModuleType) -> None:
    rows = [bench.Row("infer", str(number), "cuda:0", "not here: no driver") for number in range(2)]
    rows += [bench.Row("infer", "x", "cpu", "same", 1.0), bench.Row("infer", "y", "cpu", "same", 1.0)]
    assert [row.result for row in bench.shortened(rows)] == [
        "not here: no driver",
        "not here: as above",
        "same",
        "same",
    ]
