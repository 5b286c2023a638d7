"""How well each tracker covers what a detector finds, when it looks seldom and misses much.

    python benchmarks/tracking.py [--seed S] [--clips N] [--peers-python PEERS/bin/python]
                                [--mot15 FOLDER | --recorded FILE]

Simulated truth: 1280x720 at 30 frames per second, ten seconds for each clip. Things cross each other, enter and
leave, come closer and go away, are fast, wander about, and pass behind pillars. The simulated detector errs on
every side of every box by 2 to 4 % of its size, independently from frame to frame, flips labels, reports what
is not there, and misses what is hidden: the more of a thing is hidden, the likelier, and the lower its score.

On top of that, it looks at every 1st, 2nd, 5th or 15th frame only, and of what it found there 0, 10, 30 or 50 %
are dropped at random. Every contestant gets the very same detections:

* **raw boxes**: what was found, held until the next look.
* **ByteTrack**: roboflow's `trackers`, called at every look with its time; the boxes it returns are held until
  the next look. Those that it has not given a number yet count too.
* **ByteTrack, coasting**: as well, in every frame, the Kalman filter's box of every track that it has not given up.
* **vidmod**, and **vidmod, live**, which must settle every frame within a second.

All cover a fifth more than their box, in width and in height. A box-frame is a true box in one frame, cut at the
picture's border, of which three tenths or more are inside the picture and not hidden. It leaks if less than 95 % of it
is covered.

* leaks: box-frames that leak, of all. tracks: things that leak at least once, of all. longest: the longest run
  of frames in which a thing leaks.
* over-mask: area covered, over the area of the truth, both summed over all frames.
* jitter: second difference of the mask's centre over the thing's diagonal, the mean in percent, where a mask
  overlaps the thing in three frames on end.

`--mot15 FOLDER` takes pedestrians instead, and what a real detector said of them: TUD-Campus and TUD-Stadtmitte
from MOT15, as in the folder `motmetrics/data` of the package motmetrics. The boxes there come without scores, and
from a tracker with gaps; what they never hold, nobody covers.

`--recorded FILE` takes what the real detector says of every frame of the films of `covering.py`, which wrote the file.
There every frame in which anything shows of a thing counts, however little.

The peers' environment: `python -m venv PEERS`, then `PEERS/bin/pip install trackers motmetrics`. Without it, there
are no lines for ByteTrack. The simulation takes some three minutes with peers, MOT15 half a minute.
"""

# Only numpy and the standard library up here: the peers' interpreter runs this file too.
from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]
# What was found in each frame; None where nobody looked.
Looks = list["list[Found] | None"]
Masks = list[list[Box]]

STRIDES = (1, 2, 5, 15)
DROPOUTS = (0.0, 0.1, 0.3, 0.5)
WIDTH, HEIGHT, RATE, FRAMES = 1280, 720, 30, 300
MARGIN = 0.2
HIGH, LOW = 0.4, 0.1
LEAST_VISIBLE = 0.3
COVERED = 0.95
LABELS = ("FACE_FEMALE", "FACE_MALE")


@dataclass(frozen=True, slots=True)
class Found:
    """One detection."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Clip:
    """A video's truth and what a detector says of every frame of it.

    Attributes:
        truth: For each frame, thing to box.
        found: For each frame, the detections.
    """

    width: int
    height: int
    rate: int
    truth: list[dict[int, Box]]
    found: list[list[Found]]


# -- the simulated world -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """Where a thing is, in every frame: centres float64[N, 2], sizes float64[N, 2], NaN where it is not there."""

    centres: np.ndarray[Any, Any]
    sizes: np.ndarray[Any, Any]


def _straight(start: Sequence[float], velocity: Sequence[float], size: Sequence[float]) -> Course:
    times = np.arange(FRAMES)[:, None] / RATE
    return Course(np.array(start) + times * np.array(velocity), np.tile(np.array(size, dtype=float), (FRAMES, 1)))


def _crossing(rng: np.random.Generator) -> list[Course]:
    """Two things walk towards each other and pass."""
    y, height = rng.uniform(150, 570), rng.uniform(80, 160)
    size = (height * rng.uniform(0.6, 1), height)
    speed = rng.uniform(80, 200, 2)
    meet = rng.uniform(3, 7)
    x = rng.uniform(500, 780)
    return [
        _straight((x - meet * speed[0], y), (speed[0], 0), size),
        _straight((x + meet * speed[1], y + rng.uniform(-20, 20)), (-speed[1], 0), size),
    ]


def _fast(rng: np.random.Generator) -> list[Course]:
    """A thing rushes through the picture."""
    size = rng.uniform(70, 130)
    speed, side = rng.uniform(450, 800), rng.choice([-1, 1])
    enters = rng.uniform(1, 7)
    start = (WIDTH / 2 - side * (WIDTH / 2 + size + enters * speed), rng.uniform(150, 570))
    return [_straight(start, (side * speed, rng.uniform(-60, 60)), (size, size))]


def _walker(rng: np.random.Generator) -> list[Course]:
    """A thing enters at one side, and leaves at the other or at the top."""
    size, side = rng.uniform(60, 140), rng.choice([-1, 1])
    speed = rng.uniform(130, 280)
    start = (WIDTH / 2 - side * (WIDTH / 2 + size + rng.uniform(0, 1.5) * speed), rng.uniform(150, 570))
    return [_straight(start, (side * speed, rng.uniform(-50, 50)), (size, size * rng.uniform(1, 1.4)))]


def _scaling(rng: np.random.Generator) -> list[Course]:
    """A thing comes closer, then goes away."""
    path = _wanderer(rng)[0]
    times = np.arange(FRAMES) / RATE
    factor = np.exp(rng.uniform(0.3, 0.7) * np.sin(2 * np.pi * (times / rng.uniform(4, 8) + rng.random())))
    return [Course(path.centres, path.sizes * factor[:, None])]


def _wanderer(rng: np.random.Generator) -> list[Course]:
    """A thing that moves as people do who talk: it starts, stops and turns (Ornstein-Uhlenbeck velocity)."""
    size = rng.uniform(70, 180)
    velocity = np.zeros((FRAMES, 2))
    scale, memory = size * rng.uniform(0.3, 1.0), math.exp(-1 / (RATE * rng.uniform(0.4, 1.0)))
    kicks = rng.normal(size=(FRAMES, 2)) * scale * math.sqrt(1 - memory**2)
    for index in range(1, FRAMES):
        velocity[index] = memory * velocity[index - 1] + kicks[index]
    centres = np.array([rng.uniform(250, 1030), rng.uniform(200, 520)]) + np.cumsum(velocity, axis=0) / RATE
    return [Course(centres, np.tile([size, size * rng.uniform(1, 1.4)], (FRAMES, 1)))]


def _visitor(rng: np.random.Generator) -> list[Course]:
    """A thing that is there from one frame to the next, and gone again: somebody turns to the camera and away."""
    path = _wanderer(rng)[0]
    start = int(rng.uniform(0, FRAMES - 100))
    gone = np.ones(FRAMES, dtype=bool)
    gone[start : start + int(rng.uniform(20, 120))] = False
    centres = path.centres.copy()
    centres[gone] = np.nan
    return [Course(centres, path.sizes)]


KINDS: tuple[Callable[[np.random.Generator], list[Course]], ...] = (
    _crossing,
    _fast,
    _walker,
    _scaling,
    _wanderer,
    _visitor,
)


def simulate(seed: Sequence[int]) -> Clip:
    """Return one clip, the same for the same seed: every kind of thing once, and two pillars."""
    rng = np.random.default_rng(list(seed))
    paths = [path for kind in KINDS for path in kind(rng)]
    pillars = [(x, 0.0, x + rng.uniform(40, 130), float(HEIGHT)) for x in rng.uniform(100, 1150, 2).tolist()]
    behind = (rng.random(len(paths)) < 0.5).tolist()
    labels = rng.choice(LABELS, len(paths)).tolist()
    noise = rng.uniform(0.02, 0.04, len(paths)).tolist()
    truth: list[dict[int, Box]] = []
    found: list[list[Found]] = []
    for index in range(FRAMES):
        visible = _visible(paths, index, pillars, behind)
        truth.append({thing: box for thing, (box, seen) in visible.items() if seen >= LEAST_VISIBLE})
        boxes = [_detected(rng, box, seen, labels[thing], noise[thing]) for thing, (box, seen) in visible.items()]
        found.append([one for one in [*boxes, _imagined(rng)] if one is not None])
    return Clip(WIDTH, HEIGHT, RATE, truth, found)


def _visible(
    paths: Sequence[Course], index: int, pillars: Sequence[Box], behind: Sequence[bool]
) -> dict[int, tuple[Box, float]]:
    """The box inside the picture of everything there, and the share of the thing that shows: the last is in front."""
    result: dict[int, tuple[Box, float]] = {}
    front: list[Box] = []
    for thing in reversed(range(len(paths))):
        (x, y), (width, height) = paths[thing].centres[index].tolist(), paths[thing].sizes[index].tolist()
        box = intersection((x - width / 2, y - height / 2, x + width / 2, y + height / 2), (0, 0, WIDTH, HEIGHT))
        if not math.isnan(x) and box is not None:
            hidden = covered_area(box, [*front, *(pillars if behind[thing] else ())])
            result[thing] = box, (area(box) - hidden) / (width * height)
            front.append(box)
    return dict(sorted(result.items()))


def _detected(rng: np.random.Generator, box: Box, seen: float, label: str, noise: float) -> Found | None:
    if rng.random() > 0.99 / (1 + math.exp(-(seen - 0.35) / 0.07)):
        return None
    score = 1 / (1 + math.exp(-rng.normal(-0.5 + 2.5 * seen, 0.6)))
    width, height = box[2] - box[0], box[3] - box[1]
    # What is partly hidden is measured worse.
    errors = rng.normal(size=4) * noise * (1 + (1 - seen)) * np.array([width, height, width, height])
    x1, y1, x2, y2 = (np.array(box) + errors).tolist()
    box = intersection((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), (0, 0, WIDTH, HEIGHT)) or box
    flipped = rng.random() < 0.05
    return Found(LABELS[1 - LABELS.index(label)] if flipped else label, score, box)


def _imagined(rng: np.random.Generator) -> Found | None:
    """What is not there: mostly with low scores."""
    if rng.random() > 0.05:
        return None
    size, x, y = rng.uniform(40, 120), rng.uniform(0, WIDTH - 120), rng.uniform(0, HEIGHT - 120)
    return Found(LABELS[0], float(rng.beta(2, 6)), (x, y, x + size, y + size))


def degrade(clip: Clip, stride: int, dropout: float, rng: np.random.Generator) -> Looks:
    """What is left of a clip's detections if only every `stride`-th frame is looked at, and some are dropped."""
    return [
        [one for one in found if rng.random() >= dropout] if index % stride == 0 else None
        for index, found in enumerate(clip.found)
    ]


def read_mot15(folder: Path) -> list[Clip]:
    """Return the two films of TUD, with the boxes of a real detector without their numbers.

    The format has no pictures' sizes; both films are 640x480 at 25 frames per second (motchallenge.net).
    """
    return [_read_film(folder / name) for name in ("TUD-Campus", "TUD-Stadtmitte")]


def read_recorded(path: Path) -> list[Clip]:
    """Return the films of which `covering.py` has recorded what the real detector says."""
    return [_recorded(film) for film in json.loads(path.read_text("utf-8")).values()]


def _recorded(film: Mapping[str, Any]) -> Clip:
    truth: list[dict[int, Box]] = [
        {int(thing): (box[0], box[1], box[2], box[3]) for thing, box in boxes.items()} for boxes in film["truth"]
    ]
    found = [[Found(row["label"], row["score"], tuple(row["box"])) for row in rows] for rows in film["found"]]
    return Clip(film["width"], film["height"], film["rate"], truth, found)


def _read_film(folder: Path) -> Clip:
    rows = {name: np.loadtxt(folder / f"{name}.txt", delimiter=",", ndmin=2) for name in ("gt", "test")}
    count = int(max(one[:, 0].max() for one in rows.values()))
    truth: list[dict[int, Box]] = [{} for _ in range(count)]
    found: list[list[Found]] = [[] for _ in range(count)]
    for row in rows["gt"].tolist():
        box = intersection((row[2], row[3], row[2] + row[4], row[3] + row[5]), (0, 0, 640, 480))
        if box is not None and area(box) >= LEAST_VISIBLE * row[4] * row[5]:
            truth[int(row[0]) - 1][int(row[1])] = box
    for row in rows["test"].tolist():  # these boxes have no scores
        found[int(row[0]) - 1].append(Found("PERSON", 0.9, (row[2], row[3], row[2] + row[4], row[3] + row[5])))
    return Clip(640, 480, 25, truth, found)


# -- geometry ------------------------------------------------------------------------------------------------


def area(box: Box) -> float:
    """Width times height."""
    return (box[2] - box[0]) * (box[3] - box[1])


def intersection(first: Box, second: Box) -> Box | None:
    """What both boxes share, None if it has no area."""
    x1, y1 = max(first[0], second[0]), max(first[1], second[1])
    x2, y2 = min(first[2], second[2]), min(first[3], second[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def covered_area(window: Box, boxes: Sequence[Box]) -> float:
    """The area of a window that boxes cover together."""
    inside = [box for one in boxes if (box := intersection(window, one)) is not None]
    if len(inside) < 2:
        return area(inside[0]) if inside else 0.0
    columns = sorted({side for box in inside for side in (box[0], box[2])})
    total = 0.0
    for left, right in itertools.pairwise(columns):
        spans = sorted((box[1], box[3]) for box in inside if box[0] <= left and box[2] >= right)
        covered, reached = 0.0, -math.inf
        for start, end in spans:
            covered += max(end - max(start, reached), 0.0)
            reached = max(reached, end)
        total += covered * (right - left)
    return total


def overlap(first: Box, second: Box) -> float:
    """Intersection over union."""
    shared = intersection(first, second)
    return 0.0 if shared is None else area(shared) / (area(first) + area(second) - area(shared))


def with_margin(box: Box, clip: Clip) -> Box | None:
    """A box grown by the margin, inside the picture."""
    x, y = (box[2] - box[0]) * MARGIN / 2, (box[3] - box[1]) * MARGIN / 2
    return intersection((box[0] - x, box[1] - y, box[2] + x, box[3] + y), (0, 0, clip.width, clip.height))


# -- the contestants -----------------------------------------------------------------------------------------


def raw_boxes(clip: Clip, looks: Looks) -> Masks:
    """What was found at the last look."""
    masks: Masks = []
    for found in looks:
        if found is None:
            masks.append(masks[-1])
        else:
            boxes = (with_margin(one.box, clip) for one in found if one.score >= HIGH)
            masks.append([box for box in boxes if box is not None])
    return masks


def vidmod(clip: Clip, looks: Looks, look_ahead_seconds: float | None = None) -> Masks:
    """The regions of vidmod's tracker, with its defaults."""
    from vidmod.predictions import Detection
    from vidmod.tracking import FrameDetections, Tracker, Tracking

    settings = Tracking(high=HIGH, low=LOW, margin=MARGIN, look_ahead_seconds=look_ahead_seconds)
    tracker = Tracker(settings, time_base=Fraction(1, clip.rate), width=clip.width, height=clip.height)
    done = []
    for pts, found in enumerate(looks):
        boxes = None if found is None else tuple(Detection("", one.label, one.score, one.box) for one in found)
        done += tracker.update(FrameDetections(pts, pts + 1, boxes))
    return [[region.box for region in frame.regions] for frame in done + tracker.finish()]


def bytetrack(python: str, jobs: Sequence[tuple[Clip, Looks]]) -> list[tuple[Masks, Masks]]:
    """For each job the masks of what ByteTrack returns, and those when its tracks coast: one process for all."""
    work = [
        {"rate": clip.rate, "looks": [None if one is None else [(*f.box, f.score) for f in one] for one in looks]}
        for clip, looks in jobs
    ]
    command = [python, str(Path(__file__).resolve()), "--be-bytetrack"]
    answer = subprocess.run(command, input=json.dumps(work), capture_output=True, text=True, check=True).stdout
    both = [
        [[[with_margin(tuple(box), clip) for box in frame] for frame in masks] for masks in pair]
        for (clip, _), pair in zip(jobs, json.loads(answer), strict=True)
    ]
    return [tuple([[box for box in frame if box] for frame in masks] for masks in pair) for pair in both]  # type: ignore[misc]


def _be_bytetrack() -> None:
    """In the peers' interpreter: read jobs from standard input, write boxes to standard output."""
    answers = [_bytetracked(job) for job in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


def _bytetracked(job: Mapping[str, Any]) -> tuple[Any, Any]:
    import supervision as sv  # type: ignore[import-not-found]
    from trackers import ByteTrackTracker  # type: ignore[import-not-found]

    tracker = ByteTrackTracker(frame_rate=job["rate"], track_activation_threshold=HIGH, high_conf_det_threshold=HIGH)
    held: list[list[list[float]]] = []
    coasting: list[list[list[float]]] = []
    for index, found in enumerate(job["looks"]):
        if found is not None:
            rows = np.array(found, dtype=float).reshape(-1, 5)
            looked = sv.Detections(xyxy=rows[:, :4], confidence=rows[:, 4], class_id=np.zeros(len(rows), dtype=int))
            result = tracker.update(looked, timestamp=index / job["rate"])
            # Low ones without a track are what ByteTrack ignores.
            kept = [n for n in range(len(result)) if result.tracker_id[n] >= 0 or result.confidence[n] >= HIGH]
            held.append(result.xyxy[kept].tolist())
        else:
            held.append(held[-1])
        coasting.append(held[-1] + [_sorted_box(one) for one in _coasted(tracker, index, job["rate"], found is None)])
    return held, coasting


def _coasted(tracker: Any, index: int, rate: float, between: bool) -> Iterator[list[float]]:
    """The boxes of all live tracks, moved on to this frame without telling the tracker."""
    for track in tracker.tracks:
        box = track.get_state_bbox()
        if between:  # its velocities are per frame
            frames = index - tracker._last_timestamp * rate
            box = box + frames * track.state_estimator.kf.state.ravel()[4:8]
        yield box.tolist()


def _sorted_box(box: Sequence[float]) -> list[float]:
    return [min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]


# -- what it is worth ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Score:
    """Sums over clips."""

    box_frames: int = 0
    leaks: int = 0
    things: int = 0
    leaking_things: int = 0
    longest: int = 0
    masked: float = 0.0
    true: float = 0.0
    jitters: list[float] = field(default_factory=list)

    def add(self, clip: Clip, masks: Masks) -> None:
        """Hold the masks of one clip against its truth."""
        picture = (0.0, 0.0, float(clip.width), float(clip.height))
        for boxes, truth in zip(masks, clip.truth, strict=True):
            self.masked += covered_area(picture, boxes)
            self.true += covered_area(picture, list(truth.values()))
        for thing in sorted({thing for frame in clip.truth for thing in frame}):
            self._add_thing([frame.get(thing) for frame in clip.truth], masks)

    def _add_thing(self, truth: Sequence[Box | None], masks: Masks) -> None:
        leaks = [
            box is not None and covered_area(box, boxes) < COVERED * area(box)
            for box, boxes in zip(truth, masks, strict=True)
        ]
        self.box_frames += sum(box is not None for box in truth)
        self.leaks += sum(leaks)
        self.things += 1
        self.leaking_things += any(leaks)
        run = 0
        for leak in leaks:
            run = run + 1 if leak else 0
            self.longest = max(self.longest, run)
        centres = [None if box is None else _best_centre(box, boxes) for box, boxes in zip(truth, masks, strict=True)]
        for box, *three in zip(truth[1:], centres, centres[1:], centres[2:], strict=False):
            if box is not None and None not in three:
                first, second, third = (np.array(one) for one in three)
                diagonal = math.hypot(box[2] - box[0], box[3] - box[1])
                self.jitters.append(float(np.hypot(*(first - 2 * second + third))) / diagonal)

    def figures(self) -> list[str]:
        """The columns of the table."""
        return [
            f"{self.leaks / max(self.box_frames, 1):.3%}",
            f"{self.leaking_things} of {self.things}",
            f"{self.longest}",
            f"{self.masked / self.true:.2f}",
            f"{100 * float(np.mean(self.jitters or [math.nan])):.2f}",
        ]


def _best_centre(truth: Box, masks: Sequence[Box]) -> tuple[float, float] | None:
    best = max(masks, key=lambda box: overlap(truth, box), default=None)
    if best is None or overlap(truth, best) <= 0:
        return None
    return (best[0] + best[2]) / 2, (best[1] + best[3]) / 2


def compare(clips: Sequence[Clip], stride: int, dropout: float, seed: int, python: str) -> dict[str, Score]:
    """Return every contestant's score on the same detections."""
    rng = np.random.default_rng([seed, stride, int(100 * dropout)])
    jobs = [(clip, degrade(clip, stride, dropout, rng)) for clip in clips]
    masks = {"raw boxes": [raw_boxes(*job) for job in jobs]}
    if python:
        peer = bytetrack(python, jobs)
        masks["ByteTrack"] = [held for held, _ in peer]
        masks["ByteTrack, coasting"] = [coasting for _, coasting in peer]
    masks["vidmod"] = [vidmod(*job) for job in jobs]
    masks["vidmod, live"] = [vidmod(*job, look_ahead_seconds=1.0) for job in jobs]
    scores = {name: Score() for name in masks}
    for name, score in scores.items():
        for clip, boxes in zip(clips, masks[name], strict=True):
            score.add(clip, boxes)
    return scores


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare what trackers cover.")
    parser.add_argument("--seed", type=int, default=1, help="any number; the defaults were chosen on 11 to 30 and 100")
    parser.add_argument("--clips", type=int, default=8, help="simulated clips of ten seconds with seven things each")
    parser.add_argument("--strides", type=int, nargs="*", default=STRIDES)
    parser.add_argument("--dropouts", type=float, nargs="*", default=DROPOUTS)
    parser.add_argument("--mot15", type=Path, help="the folder motmetrics/data")
    parser.add_argument("--recorded", type=Path, help="what covering.py has recorded of the real detector")
    parser.add_argument("--peers-python", default="", help="interpreter of an environment with `trackers`")
    parser.add_argument("--be-bytetrack", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_bytetrack:
        _be_bytetrack()
        return
    seeds = range(arguments.clips)
    if arguments.mot15:
        name, clips = "MOT15 TUD", read_mot15(arguments.mot15)
    elif arguments.recorded:
        name, clips = "The real detector", read_recorded(arguments.recorded)
    else:
        name, clips = f"Simulated, seed {arguments.seed}", [simulate((arguments.seed, one)) for one in seeds]
    print(f"{name}: {len(clips)} clips\n")
    if not arguments.peers_python:
        print("ByteTrack: not installed (no --peers-python)\n")
    print("| stride | dropout | tracker | leaks | tracks | longest | over-mask | jitter (%) |\n" + "|---" * 8 + "|")
    for stride in arguments.strides:
        for dropout in arguments.dropouts:
            scores = compare(clips, stride, dropout, arguments.seed, arguments.peers_python)
            for name, score in scores.items():
                print(f"| {stride} | {dropout:.0%} | {name} | {' | '.join(score.figures())} |", flush=True)


if __name__ == "__main__":
    main()
