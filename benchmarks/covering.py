"""How much of what is to be covered `vidmod redact` covers, held against films of which every box is known.

    python benchmarks/covering.py
    python benchmarks/covering.py --only behind fast --sampling uniform

Makes films (`samples/make_samples.py`: faces that cross, leave, enter, come close, rush by, and pass behind things,
and a disc of colours that NudeNet reports, all over moving backgrounds), has the command redact each with the real
detector, decodes the output, and looks at its **pixels**. The detector looks at every frame; with `--sampling uniform`,
the command's default, at two a second, and at every frame around what it found there. A pixel is masked if it is the
fill's black within what encoding changes, and was not in the source. The truth is the box of what can be seen of a
thing.

* leaks: box-frames of which less than 95 % is masked, of all; lowest: the least that is masked of any.
* longest: the longest run of frames in which a thing leaks.
* masked / true: pixels masked, over pixels within true boxes, both summed over all frames.
* unseen: box-frames in which the detector itself, asked about every frame, reports nothing there: what the tracker
  has to bridge.

What the detector says of every frame is left in `--workdir` as `detections.json`, for

    python benchmarks/tracking.py --recorded WORKDIR/detections.json --peers-python PEERS/bin/python

which takes some of it away and gives the rest to one tracker after the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scan import ROOT, default_workdir, machine, table, tell, use_cores

from vidmod.redaction import TOLERANCE
from vidmod.scanning import Scanner, ScanSettings

FILMS = ("crossing", "leaving", "entering", "scaling", "fast", "behind", "pattern", "face", "chase")
FACES = ("FACE_FEMALE", "FACE_MALE")
COVERED, MOST_MASKED = 0.95, 2.5
# From where `vidmod redact` covers a label of which no policy says anything.
THRESHOLD = 0.4

Pixels = NDArray[np.bool_]
Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Result:
    """One film's figures.

    Attributes:
        coverages: Of every box-frame, by thing and frame.
        masked, true: Pixels in all frames.
        unseen: Box-frames of which the detector says nothing.
    """

    coverages: dict[int, dict[int, float]] = field(default_factory=dict)
    masked: float = 0.0
    true: float = 0.0
    unseen: int = 0

    @property
    def leaks(self) -> list[tuple[int, int]]:
        """Frame and thing of every box-frame that leaks."""
        return sorted(
            (number, thing)
            for thing, frames in self.coverages.items()
            for number, share in frames.items()
            if share < COVERED
        )

    @property
    def box_frames(self) -> int:
        """How many there are."""
        return sum(map(len, self.coverages.values()))

    @property
    def longest(self) -> int:
        """The longest run of frames in which a thing leaks."""
        longest = 0
        for thing in self.coverages:
            numbers = [number for number, other in self.leaks if other == thing]
            runs = itertools.groupby(enumerate(numbers), lambda row: row[1] - row[0])
            longest = max([longest, *(len(list(run)) for _, run in runs)])
        return longest

    def row(self, name: str) -> list[str]:
        """The columns of the table."""
        lowest = min((share for frames in self.coverages.values() for share in frames.values()), default=1.0)
        return [
            name,
            f"{self.box_frames}",
            f"{self.unseen}",
            f"{len(self.leaks)}",
            f"{self.longest}",
            f"{lowest:.0%}",
            f"{self.masked / max(self.true, 1):.2f}",
        ]


def make_film(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A film and the truth about it; kept for the next run."""
    sys.path.insert(0, str(ROOT))
    from samples.make_samples import make_sample, truth_path

    path = folder / f"{name}.mp4"
    if not truth_path(path).exists():
        make_sample(name, folder)
    return path, json.loads(truth_path(path).read_text("utf-8"))


def true_boxes(truth: dict[str, Any]) -> list[dict[int, Box]]:
    """For each frame, thing to box."""
    ticks = truth["fps"] / int(truth["time_base"].partition("/")[2])
    boxes: list[dict[int, Box]] = [{} for _ in range(truth["frames"])]
    for row in (*truth["faces"], *truth["patterns"]):
        boxes[round(row["pts"] * ticks)][row["thing"]] = tuple(row["box"])
    return boxes


def labels_of(truth: dict[str, Any]) -> tuple[str, ...]:
    """What is to be covered."""
    return tuple({row["label"]: None for row in truth["patterns"]}) or FACES


# -- what the detector says ----------------------------------------------------------------------------------


def detections(path: Path, truth: dict[str, Any], scanner: Scanner) -> list[list[dict[str, Any]]]:
    """What the detector finds of what is to be covered, for each frame."""
    timeline = scanner.scan(path)
    wanted = labels_of(truth)
    found = [
        [
            {"label": item.label, "score": item.score, "box": list(item.box)}
            for item in sample.predictions.detections
            if item.label in wanted
        ]
        for sample in timeline.samples
    ]
    if len(found) != truth["frames"]:
        raise SystemExit(f"{path}: {len(found)} frames of {truth['frames']} were looked at.")
    return found


def count_unseen(truth: Sequence[dict[int, Box]], found: Sequence[Sequence[dict[str, Any]]]) -> int:
    """Box-frames with no detection that is sure enough and has its middle in the box."""
    return sum(
        not any(row["score"] >= THRESHOLD and _holds(box, row["box"]) for row in rows)
        for boxes, rows in zip(truth, found, strict=True)
        for box in boxes.values()
    )


def _holds(box: Box, other: Sequence[float]) -> bool:
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


# -- what the output shows -----------------------------------------------------------------------------------


def blacks(path: Path) -> Iterator[Pixels]:
    """For each frame, bool [height, width]: which pixels are the fill's black within what encoding changes."""
    with av.open(str(path), "r") as source:
        for frame in source.decode(video=0):
            planes = frame.to_ndarray(format="yuv420p")
            height, width = frame.height, frame.width
            luma = np.abs(planes[:height].astype(np.int16) - 16) <= TOLERANCE
            chroma = planes[height:].reshape(2, height // 2, width // 2).astype(np.int16)
            grey = (np.abs(chroma - 128) <= TOLERANCE).all(axis=0)
            yield luma & grey.repeat(2, axis=0).repeat(2, axis=1)


def weights(box: Box, height: int, width: int) -> NDArray[np.float64]:
    """float64 [height, width]: how much of each pixel lies inside a box."""

    def along(low: float, high: float, count: int) -> NDArray[np.float64]:
        at = np.arange(count)
        return np.asarray(np.clip(np.minimum(at + 1, high) - np.maximum(at, low), 0, 1), np.float64)

    return np.outer(along(box[1], box[3], height), along(box[0], box[2], width))


def measure(source: Path, output: Path, truth: Sequence[dict[int, Box]]) -> Result:
    """Hold an output's pixels against the truth."""
    result = Result()
    for number, (before, after, boxes) in enumerate(zip(blacks(source), blacks(output), truth, strict=True)):
        masked = after & ~before
        result.masked += int(masked.sum())
        inside = [weights(box, *masked.shape) for box in boxes.values()]
        if inside:
            result.true += float(np.maximum.reduce(inside).sum())
        for thing, weight in zip(boxes, inside, strict=True):
            visible = weight * ~before  # what is black by itself shows nothing
            share = float((visible * masked).sum() / max(visible.sum(), 1e-9))
            result.coverages.setdefault(thing, {})[number] = share
    return result


def redact(source: Path, output: Path, labels: Sequence[str], sampling: str) -> None:
    """Run the command.

    Raises:
        SystemExit: It failed.
    """
    command = [sys.executable, "-m", "vidmod", "redact", str(source), str(output), "--labels", ",".join(labels)]
    done = subprocess.run([*command, "--sampling", sampling], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{source}: exit status {done.returncode}\n{done.stderr}")


def main() -> None:
    """Make, redact, measure, print."""
    parser = argparse.ArgumentParser(description="Measure what vidmod redact covers.")
    parser.add_argument("--only", nargs="*", choices=FILMS, default=FILMS)
    parser.add_argument("--sampling", default="all", help="of the first look (default: all; the command's: uniform)")
    parser.add_argument("--workdir", type=Path, default=default_workdir() / "covering", help="where films are kept")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    parser.add_argument("--show-leaks", action="store_true", help="list every box-frame that leaks")
    args = parser.parse_args()
    use_cores(args.cores)
    args.workdir.mkdir(parents=True, exist_ok=True)
    rows, total, recorded = [], Result(), {}
    with Scanner(ScanSettings(models=("nudenet",), sampling="all")) as scanner:
        for turn, name in enumerate(args.only):
            tell(f"{name} …")
            path, document = make_film(name, args.workdir)
            truth = true_boxes(document)
            found = detections(path, document, scanner)
            recorded[name] = _recording(document, truth, found)
            output = path.with_name(f"{name}.redacted.mp4")
            redact(path, output, labels_of(document), args.sampling)
            result = measure(path, output, truth)
            result.unseen = count_unseen(truth, found)
            rows.append(result.row(name))
            if args.show_leaks:
                tell("\n".join(f"  frame {n}, thing {t}: {result.coverages[t][n]:.1%}" for n, t in result.leaks))
            total.masked, total.true = total.masked + result.masked, total.true + result.true
            total.unseen += result.unseen
            total.coverages.update({100 * turn + thing: row for thing, row in result.coverages.items()})
    (args.workdir / "detections.json").write_text(json.dumps(recorded), "utf-8")
    print(f"{machine()}.\n")
    print(
        table(
            ["film", "box-frames", "unseen", "leaks", "longest", "lowest", "masked / true"], [*rows, total.row("all")]
        )
    )
    print(f"\nWanted: no leaks, masked / true at most {MOST_MASKED:g}.")


def _recording(document: dict[str, Any], truth: Sequence[dict[int, Box]], found: Any) -> dict[str, Any]:
    return {
        "width": document["width"],
        "height": document["height"],
        "rate": document["fps"],
        "truth": [{str(thing): list(box) for thing, box in boxes.items()} for boxes in truth],
        "found": found,
    }


if __name__ == "__main__":
    main()
