"""Evolve harmless pictures that the moderation models react to.

Nobody should need explicit media to test a moderation engine. A 14 x 14 grid of colours, blown up smoothly,
is enough to make open_nsfw sure of itself, a drawn cartoon is enough for NudeNet to report a face, and a disc of
10 x 10 colours is enough for a body part. All are found here by antithetic evolution strategies (Salimans et
al., 2017, https://arxiv.org/abs/1703.03864): try a random change and its opposite, look which scores better, step
that way. No gradient is needed, only the model's answers.

Each candidate is scored through what a film does to it: another zoom and position, the softness of video
compression, another exposure, and the model's own preprocessing, JPEG included. Without that a grid reaches
0.9999 in the lab and 0.2 in a film.

    python samples/evolve.py --weights open-nsfw.onnx --seed 1
    python samples/evolve.py --weights 320n.onnx --target face --seed 1
    python samples/evolve.py --weights 320n.onnx --target disc --seed 1
"""

from __future__ import annotations

import argparse
import base64
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if not __package__:  # started as a script: the repository is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples import faces
from samples.patterns import DISC_SIDE, GRID_SIDE, disc_sprite, enlarge, stamp_disc, to_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

BGR_MEAN = np.array((104, 117, 123), np.float32)  # Yahoo's, subtracted from BGR


def load(weights: Path, threads: int) -> Callable[[Floats], Floats]:
    """Compile an ONNX model for the CPU.

    Args:
        weights: The .onnx file.
        threads: Number of CPU threads.

    Returns:
        A function from an input batch to the model's first output.
    """
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(str(weights), "CPU", settings)
    return lambda batch: np.asarray(model(batch)[0], np.float32)


def log_odds(probability: Floats) -> Floats:
    """Spread probabilities out at both ends, so that 0.99 against 0.999 still counts as progress."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)), np.float32)


# --- open_nsfw ------------------------------------------------------------------------------------------


def disturb(grid: Floats, rng: np.random.Generator) -> Image:
    """Show a grid as a film might: zoomed, shifted, softened, at another exposure. 256 x 256 RGB."""
    zoom = rng.uniform(1.0, 1.35)
    shift = (rng.uniform(-1, 1), rng.uniform(-1, 1))
    picture = enlarge(grid, 256, 256, zoom=zoom, shift=shift)
    picture = picture * np.float32(rng.uniform(0.94, 1.04)) + np.float32(rng.uniform(-5, 5))
    softness = rng.uniform(0.0, 2.0)
    if softness > 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), softness), np.float32)
    return to_pixels(picture)


def open_nsfw_input(picture: Image, quality: int = 75) -> Floats:
    """Preprocess an RGB picture the way Yahoo's script does: 256 x 256, JPEG, centre 224, BGR minus mean."""
    if picture.shape[:2] != (256, 256):
        picture = np.asarray(cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    bgr = np.ascontiguousarray(picture[:, :, ::-1])
    coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32)
    return decoded[16:240, 16:240] - BGR_MEAN


def nsfw_scores(model: Callable[[Floats], Floats], grids: Floats, shows: list[int]) -> Floats:
    """Score disturbed grids.

    Args:
        model: open_nsfw.
        grids: float32 [n, 588], 0 to 1.
        shows: n seeds, one for each grid's disturbance.

    Returns:
        float32 [n], the probability of nsfw.
    """
    batch = []
    for grid, show in zip(grids, shows, strict=True):
        rng = np.random.default_rng(show)
        colours = (grid * 255).reshape(GRID_SIDE, GRID_SIDE, 3).astype(np.float32)
        # A film is compressed before the model's own JPEG step: twice is the rule, not the exception.
        seen = disturb(colours, rng)
        if rng.random() < 0.5:
            seen = recompressed(seen, int(rng.integers(35, 90)))
        batch.append(open_nsfw_input(seen, 75 if rng.random() < 0.7 else int(rng.integers(60, 96))))
    return model(np.stack(batch))[:, 1]


def recompressed(picture: Image, quality: int) -> Image:
    """Lose detail the way intra-coded video does."""
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


# --- NudeNet --------------------------------------------------------------------------------------------

FACE_FEMALE, BREAST = 1, 3  # NudeNet's class numbers


def _backdrop(rng: np.random.Generator) -> Image:
    """Something soft to draw on. 320 x 180 RGB."""
    backdrop = enlarge(rng.uniform(0, 255, (5, 6, 3)).astype(np.float32), 320, 180, zoom=rng.uniform(1, 4))
    return to_pixels(backdrop * np.float32(0.6) + np.float32(50))


def _filmed(frame: Image, rng: np.random.Generator) -> Image:
    """Soft and compressed, as films are."""
    softness = rng.uniform(0, 1.2)
    if softness > 0.3:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), softness), np.uint8)
    return recompressed(frame, int(rng.integers(30, 95)))


def staged(look: Floats, rng: np.random.Generator) -> tuple[Image, faces.Box]:
    """Draw a face somewhere in front of something, soft and compressed. 320 x 180 RGB, and its box."""
    frame = _backdrop(rng)
    height = float(rng.uniform(50, 120))
    reach = height / 2
    centre = (float(rng.uniform(reach, 320 - reach)), float(rng.uniform(reach, 180 - 0.8 * reach)))
    faces.stamp(frame, faces.sprite(look, 64), centre, height)
    return _filmed(frame, rng), faces.head_box(look, centre, height)


def _boxed_batch(stages: list[tuple[Image, faces.Box]]) -> Floats:
    """Pictures as NudeNet wants them: n x 3 x 320 x 320."""
    batch = np.zeros((len(stages), 3, 320, 320), np.float32)
    for row, (frame, _) in zip(batch, stages, strict=True):
        row[:, :180] = frame.transpose(2, 0, 1) / np.float32(255)
    return batch


def overlap(boxes: Floats, box: faces.Box) -> Floats:
    """Intersection over union of boxes [n, 4] as cx, cy, w, h with one x1, y1, x2, y2."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    inner = np.clip(np.minimum(high, box[2:]) - np.maximum(low, box[:2]), 0, None).prod(1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return np.asarray(inner / (boxes[:, 2:].prod(1) + area - inner), np.float32)


def face_scores(model: Callable[[Floats], Floats], looks: Floats, shows: list[int]) -> Floats:
    """Score drawn faces.

    Args:
        model: NudeNet.
        looks: float32 [n, parameters], 0 to 1.
        shows: n seeds, one for each drawing's stage.

    Returns:
        float32 [n, 3]: the best face's score, its overlap with the drawn box, the best score of other labels.
    """
    stages = [staged(look, np.random.default_rng(show)) for look, show in zip(looks, shows, strict=True)]
    found = []
    for answer, (_, box) in zip(model(_boxed_batch(stages)), stages, strict=True):
        best = int(answer[4 + FACE_FEMALE].argmax())
        others = np.delete(answer[4:], FACE_FEMALE, 0).max()
        found.append((answer[4 + FACE_FEMALE, best], overlap(answer[:4, [best]].T, box)[0], others))
    return np.array(found, np.float32)


def staged_disc(values: Floats, rng: np.random.Generator) -> tuple[Image, faces.Box]:
    """Draw a disc of colours somewhere in front of something, soft and compressed. 320 x 180 RGB, and its box."""
    frame = _backdrop(rng)
    height = float(rng.uniform(65, 140))
    reach = height / 2
    centre = (float(rng.uniform(reach, 320 - reach)), float(rng.uniform(reach, 180 - reach)))
    stamp_disc(frame, disc_sprite(values, 48), centre, height)
    box = (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
    return _filmed(frame, rng), box


def disc_scores(model: Callable[[Floats], Floats], grids: Floats, shows: list[int]) -> Floats:
    """Score discs of colours, like `face_scores`; a fourth column is the best score of boxes that overlap by half."""
    stages = [staged_disc(values, np.random.default_rng(show)) for values, show in zip(grids, shows, strict=True)]
    found = []
    for answer, (_, box) in zip(model(_boxed_batch(stages)), stages, strict=True):
        scores, others = answer[4 + BREAST], np.delete(answer[4:], BREAST, 0).max()
        best, shared = int(scores.argmax()), overlap(answer[:4].T, box)
        found.append((scores[best], shared[best], others, (scores * (shared > 0.5)).max()))
    return np.array(found, np.float32)


def disc_value(found: Floats) -> Floats:
    """What a disc is worth: sure where it is drawn, from the first hint on, and nothing else besides."""
    return np.asarray(
        np.minimum(log_odds(found[:, 3]), 1.2)
        + 12 * np.minimum(found[:, 1], 0.92)
        - 6 * np.maximum(found[:, 2] - 0.15, 0),
        np.float32,
    )


def face_value(found: Floats) -> Floats:
    """What a face is worth: sure, in the right place, and nothing else besides."""
    return np.asarray(
        np.minimum(log_odds(found[:, 0]), 3.0)
        + 6 * np.minimum(found[:, 1], 0.9)
        - 10 * np.maximum(found[:, 2] - 0.1, 0),
        np.float32,
    )


# --- the search -----------------------------------------------------------------------------------------


def evolve(
    start: Floats,
    worth: Callable[[Floats, list[int]], Floats],
    *,
    steps: int,
    pairs: int,
    sigma: float,
    rate: float,
    rng: np.random.Generator,
) -> Floats:
    """Climb by antithetic evolution strategies.

    Args:
        start: float32 [n], every value 0 to 1.
        worth: From candidates [2 * pairs, n] and one disturbance seed each to what is to be climbed.
        steps: Number of steps.
        pairs: Changes tried in a step, each with its opposite.
        sigma: Standard deviation of a change.
        rate: Step size at the start; it falls to a tenth.
        rng: The only source of chance.

    Returns:
        The mean of the search distribution after the last step.
    """
    centre, momentum, began = start.copy(), np.zeros_like(start), time.monotonic()
    for step in range(steps):
        noise = rng.standard_normal((pairs, start.size)).astype(np.float32)
        change = sigma * noise
        tries = np.clip(np.concatenate((centre + change, centre - change)), 0, 1)
        # A change and its opposite are disturbed alike, so the difference is the change's own doing.
        shows = [int(seed) for seed in rng.integers(0, 2**31, pairs)] * 2
        value = worth(tries, shows)
        difference = value[:pairs] - value[pairs:]
        direction = difference @ noise / (np.linalg.norm(difference) * np.sqrt(pairs) + 1e-6)
        momentum = (0.9 * momentum + 0.1 * direction).astype(np.float32)
        pace = rate * max(0.1, 1 - step / steps)
        move = momentum / (np.sqrt(np.mean(momentum**2)) + 1e-6)
        centre = np.clip(centre + pace * move, 0, 1)
        if step % 20 == 0 or step == steps - 1:
            print(
                f"step {step:5d}  mean {value.mean():.3f}  lowest {value.min():.3f}  {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return centre


def as_text(values: Floats) -> str:
    """Write values of 0 to 1 as base64 of one byte each."""
    return base64.b64encode(np.round(values * 255).astype(np.uint8).tobytes()).decode("ascii")


def from_text(text: str) -> Floats:
    """Read what `as_text` wrote."""
    return np.frombuffer(base64.b64decode(text), np.uint8).astype(np.float32) / np.float32(255)


def report(name: str, trials: Floats) -> None:
    """Print how a finding holds up."""
    low = np.percentile(trials, 1)
    print(f"# {name}: mean {trials.mean():.4f}, 1 % {low:.4f}, lowest {trials.min():.4f} of {trials.size}")


def find_nsfw(args: argparse.Namespace) -> Floats:
    """Evolve a colour grid for open_nsfw and print how it holds up."""
    model, rng = load(args.weights, args.threads), np.random.default_rng(args.seed)
    start = np.clip(0.5 + 0.12 * rng.standard_normal(GRID_SIDE**2 * 3), 0, 1).astype(np.float32)
    if args.start is not None:
        start = from_text(args.start.read_text(encoding="ascii"))
    grid = evolve(
        start,
        # Beyond 0.999 there is nothing to gain: work on the shifts that do worse.
        lambda grids, shows: np.minimum(log_odds(nsfw_scores(model, grids, shows)), 7.0),
        steps=args.steps or 1500,
        pairs=args.pairs,
        sigma=0.12,
        rate=args.rate,
        rng=rng,
    )
    grid = (np.round(grid * 255) / 255).astype(np.float32)
    held_out = range(10**9, 10**9 + 1024, 16)
    trials = [nsfw_scores(model, np.stack([grid] * 16), [seed + k for k in range(16)]) for seed in held_out]
    report("nsfw", np.concatenate(trials))
    return grid


def find_face(args: argparse.Namespace) -> Floats:
    """Evolve the looks of a cartoon face for NudeNet and print how it holds up."""
    model, rng = load(args.weights, args.threads), np.random.default_rng(args.seed)
    look = evolve(
        faces.FIRST_GUESS if args.start is None else from_text(args.start.read_text(encoding="ascii")),
        lambda looks, shows: face_value(face_scores(model, looks, shows)),
        steps=args.steps or 200,
        pairs=args.pairs,
        sigma=0.08,
        rate=0.01,
        rng=rng,
    )
    look = (np.round(look * 255) / 255).astype(np.float32)
    held_out = range(10**9, 10**9 + 512, 16)
    trials = [face_scores(model, np.stack([look] * 16), [seed + k for k in range(16)]) for seed in held_out]
    for name, column in zip(("face", "overlap", "other labels"), np.concatenate(trials).T, strict=True):
        report(name, column)
    return look


def find_disc(args: argparse.Namespace) -> Floats:
    """Evolve a disc of colours for NudeNet and print how it holds up."""
    model, rng = load(args.weights, args.threads), np.random.default_rng(args.seed)
    start = np.clip(0.5 + 0.15 * rng.standard_normal(DISC_SIDE**2 * 3), 0, 1).astype(np.float32)
    values = evolve(
        start if args.start is None else from_text(args.start.read_text(encoding="ascii")),
        lambda grids, shows: disc_value(disc_scores(model, grids, shows)),
        steps=args.steps or 1500,
        pairs=args.pairs,
        sigma=0.08,
        rate=args.rate,
        rng=rng,
    )
    values = (np.round(values * 255) / 255).astype(np.float32)
    held_out = range(10**9, 10**9 + 512, 16)
    trials = [disc_scores(model, np.stack([values] * 16), [seed + k for k in range(16)]) for seed in held_out]
    for name, column in zip(("disc", "overlap", "other labels"), np.concatenate(trials).T, strict=False):
        report(name, column)
    return values


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(description="Evolve harmless pictures that moderation models react to.")
    parser.add_argument("--weights", type=Path, required=True, help="open-nsfw.onnx or 320n.onnx")
    parser.add_argument("--target", choices=("nsfw", "face", "disc"), default="nsfw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="default: 1500 for nsfw and disc, 200 for face")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.02, help="step size, for nsfw and disc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="go on from this result instead of from noise")
    parser.add_argument("-o", "--output", type=Path, help="also write the result here")
    args = parser.parse_args()
    find = {"nsfw": find_nsfw, "face": find_face, "disc": find_disc}[args.target]
    found = as_text(find(args))
    print("\n".join(textwrap.wrap(found, 100)))
    if args.output is not None:
        args.output.write_text(found + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
