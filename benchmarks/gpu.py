"""What a GPU does for a scan: is it right there, how fast is each stage, and is the whole as fast as its slowest.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --film film.mp4 --clips a.mp4 b.mp4 --gpu 1 -o gpu.json
    python benchmarks/gpu.py --seconds 10 --budget 0.5        to see that it works

On your own GPU, in one call: ONNX Runtime on CUDA and TensorRT (if it is installed, and `vidmod engines build` was
run) against golden pictures, within the bounds of the CPU's runtimes; the CUDA kernels against the CPU; decoding,
preparing and inference alone, on the GPU and, to compare, on the CPU; and whole scans of every picture. What is not on
this machine is a row that says why, and no number. One table comes last.

Those who wrote it have run it only where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpu_stages import STAGES, NotHereError
from scan import default_workdir, get_film, table, tell

RATE = 30
SAMPLINGS = {"all": "every picture", "uniform": "2 a second"}
TARGET = 0.9
CPU_RUNTIMES, GPU_RUNTIMES = ("openvino", "onnxruntime"), ("onnxruntime", "tensorrt")
HEAD = ["", "on", "images/s", f"x real time at {RATE}/s", "result"]
NOT_HERE, FAILED = "not here", "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        stage: What was done: `facts`, `parity`, `decode`, `prepare`, `infer`, `whole`, `share`.
        what: Of that, in words.
        on: `cpu`, or `cuda:N`.
        result: In words; where nothing was measured it begins with `not here`, or `not measured` for what broke.
        rate: Pictures a second.
        times: Multiples of real time.
        passed: Whether a bound was kept; None where there is none.
    """

    stage: str
    what: str
    on: str
    result: str
    rate: float | None = None
    times: float | None = None
    passed: bool | None = None

    @property
    def cells(self) -> list[str]:
        """As the table shows it."""
        verdict = {None: "", True: "ok: ", False: "FAILED: "}[self.passed]
        numbers = [f"{self.rate:.1f}" if self.rate else "", f"{self.times:.2f}" if self.times else ""]
        return [f"{self.stage} {self.what}".strip(), self.on, *numbers, f"{verdict}{self.result}".replace("|", "/")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was asked for."""

    film: Path
    clips: tuple[Path, ...]
    gpu: int
    files: tuple[int, ...]
    batches: tuple[int, ...]
    budget: float
    patience: float

    @property
    def device(self) -> str:
        """The GPU's name."""
        return f"cuda:{self.gpu}"


def attempt(patience: float, stage: str, **arguments: Any) -> dict[str, Any] | str:
    """What a stage gives, or why it gives nothing; it runs in a process of its own."""
    tell(f"{stage} {' '.join(f'{name}={value}' for name, value in arguments.items())}")
    command = [sys.executable, str(Path(__file__).resolve()), "--do", stage, json.dumps(arguments)]
    # Should it hang, all that it has started ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"{FAILED}: it was not done after {patience:g} s"
    if process.returncode < 0:
        return f"{FAILED}: the process ended with signal {-process.returncode}"
    if process.returncode:
        return f"{FAILED}: {next(reversed(err.strip().splitlines()), f'status {process.returncode}')}"
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return f"{NOT_HERE}: {answer[NOT_HERE]}" if NOT_HERE in answer else answer


def fact_rows(wanted: Wanted) -> Iterator[Row]:
    """What the machine and the film are."""
    found = attempt(wanted.patience, "facts", gpu=wanted.gpu)
    if isinstance(found, str):
        yield Row("facts", "", "", found)
    else:
        yield from (Row("facts", name, "", value) for name, value in found.items())
    film = attempt(wanted.patience, "film", path=str(wanted.film))
    yield Row("facts", "film", "", film if isinstance(film, str) else film["text"])


def parity_rows(wanted: Wanted) -> Iterator[Row]:
    """Whether scores and pictures are what they should be."""
    for model in ("open_nsfw", "nudenet"):
        found = attempt(wanted.patience, "runtimes", model=model, gpu=wanted.gpu)
        if isinstance(found, str):
            yield Row("parity", model, "", found)
            continue
        for row in found["rows"]:
            yield Row("parity", model, row["on"], row["text"], passed=row["passed"])
        for runtime, why in found["missing"].items():
            yield Row("parity", model, f"{runtime} {wanted.device}", f"{NOT_HERE}: {why}")
    compared: list[tuple[str, str, dict[str, str]]] = [("kernels_drawn", "of kernels", {})]
    compared += [("kernels_film", f"of kernels, {clip.name}", {"path": str(clip)}) for clip in wanted.clips]
    for stage, what, arguments in compared:
        result = attempt(wanted.patience, stage, gpu=wanted.gpu, **arguments)
        if isinstance(result, str):
            yield Row("parity", what, wanted.device, result)
        else:
            yield Row("parity", what, wanted.device, result["text"], passed=result["passed"])


def speed_rows(wanted: Wanted) -> Iterator[Row]:
    """Each stage alone, and all together."""
    path = str(wanted.film)
    for gpu in (None, wanted.gpu):
        on = "cpu" if gpu is None else wanted.device
        for files in wanted.files:
            yield _timed(wanted, "decode", f"{files} at once", on, path=path, gpu=gpu, files=files)
        yield _timed(wanted, "prepare", "", on, path=path, gpu=gpu, seconds=wanted.budget)
        for runtime in CPU_RUNTIMES if gpu is None else GPU_RUNTIMES:
            for batch in wanted.batches:
                given = {"runtime": runtime, "device": on, "batch": batch, "seconds": wanted.budget}
                yield _timed(wanted, "infer", f"{runtime}, batch {batch}", on, **given)
        for runtime in ("openvino",) if gpu is None else GPU_RUNTIMES:
            for sampling, what in SAMPLINGS.items():
                settings = {"runtime": runtime, "device": on, "sampling": sampling}
                settings |= {} if gpu is None else {"decoder": "cuda"}
                yield _timed(wanted, "whole", f"{runtime}, {what}", on, path=path, settings=settings)


def _timed(wanted: Wanted, stage: str, what: str, on: str, **arguments: Any) -> Row:
    found = attempt(wanted.patience, stage, **arguments)
    if isinstance(found, str):
        return Row(stage, what, on, found)
    return Row(stage, what, on, found["text"], found["rate"], found.get("times", found["rate"] / RATE))


def share_rows(rows: list[Row]) -> Iterator[Row]:
    """Of each whole scan, what its slowest stage alone would take of its time; on a GPU, what that is of NVDEC's rate.

    Where every picture is looked at, every stage works on every picture, so shares of time are inverse shares of rates.
    Where two a second are, what is compared with NVDEC is how fast the film went by.
    """
    for row in rows:
        if row.stage != "whole":
            continue
        if row.rate is None:
            yield Row("share", f"of the slowest stage, {row.what}", row.on, f"{NOT_HERE}: there is no whole scan")
            if row.on != "cpu":
                yield Row("share", f"of NVDEC alone, {row.what}", row.on, f"{NOT_HERE}: there is no whole scan")
            continue
        alone = {name: best for name in ("decode", "prepare", "infer") if (best := _best(rows, name, row))}
        if len(alone) == 3 and row.what.endswith(SAMPLINGS["all"]):
            slowest = min(alone, key=lambda name: alone[name])
            result = f"{slowest} alone would take {row.rate / alone[slowest]:.2f} of the time"
            yield Row("share", f"of the slowest stage, {row.what}", row.on, result)
        if row.on != "cpu" and "decode" in alone:
            share = (row.rate if row.times is None else row.times * RATE) / alone["decode"]
            result = f"{share:.2f} of decoding alone; {TARGET} is wanted"
            yield Row("share", f"of NVDEC alone, {row.what}", row.on, result, passed=share >= TARGET)


def _best(rows: list[Row], stage: str, whole: Row) -> float | None:
    """The best rate of a stage on a device, of its inference with the runtime of that whole scan."""
    return max(
        (
            row.rate
            for row in rows
            if row.stage == stage
            and row.on == whole.on
            and row.rate
            and (stage != "infer" or whole.what.partition(",")[0] in row.what)
        ),
        default=None,
    )


def measured(wanted: Wanted) -> list[Row]:
    """All rows of the table."""
    rows = [*fact_rows(wanted), *parity_rows(wanted), *speed_rows(wanted)]
    return [*rows, *share_rows(rows)]


def shortened(rows: list[Row]) -> Iterator[Row]:
    """Rows of which each says why something is not here only if no other has said so."""
    said: set[str] = set()
    for row in rows:
        is_repeated = row.rate is None and row.result.startswith((NOT_HERE, FAILED)) and row.result in said
        said.add(row.result)
        yield replace(row, result=f"{row.result.partition(':')[0]}: as above") if is_repeated else row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Is a GPU right, and how fast is each stage of a scan there?")
    parser.add_argument("--film", type=Path, help="use this one (default: one is drawn, 1080p30 H.264)")
    parser.add_argument("--seconds", type=float, default=60, help="length of the drawn film (default: 60)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="further films to compare the kernels on")
    parser.add_argument("--gpu", type=int, default=0, help="which GPU (default: 0)")
    parser.add_argument("--files", type=int, nargs="+", default=[1, 2, 4, 8], help="films decoded at once")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="pictures in a batch")
    parser.add_argument("--budget", type=float, default=5, help="seconds for each stage that is repeated (default: 5)")
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds after which one is given up (default: 900)"
    )
    parser.add_argument("--workdir", type=Path, default=default_workdir())
    parser.add_argument("-o", "--output", type=Path, help="write every row here, as JSON")
    return parser


def main() -> None:
    """Measure all, print the table."""
    args = _parser().parse_args()
    film = args.film or get_film(args.workdir, args.seconds).path
    wanted = Wanted(
        film, (film, *args.clips), args.gpu, tuple(args.files), tuple(args.batches), args.budget, args.patience
    )
    rows = measured(wanted)
    if args.output:
        args.output.write_text(json.dumps([asdict(row) for row in rows], indent=1), "utf-8")
    print(table(HEAD, [row.cells for row in shortened(rows)]))


def _do(stage: str, arguments: str) -> None:
    """What the processes do that this program starts."""
    from vidmod.errors import VidmodError

    try:
        answer = STAGES[stage](**json.loads(arguments))
    except (NotHereError, VidmodError) as exc:
        answer = {NOT_HERE: str(exc)}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        _do(sys.argv[2], sys.argv[3])
    else:
        main()
