"""Ask the real models whether a sample shows what its truth says, frame by frame.

python samples/check.py samples/demo.mp4 --nsfw open-nsfw.onnx --nudenet 320n.onnx
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

if not __package__:  # started as a script: the repository is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples.evolve import FACE_FEMALE, load, open_nsfw_input, overlap
from samples.truths import truth_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from samples.evolve import Floats

SIDE = 320  # NudeNet's input


@dataclass(frozen=True)
class Look:
    """What the models said about one frame.

    Attributes:
        pts: The frame's presentation time stamp.
        seconds: The same in seconds.
        nsfw: open_nsfw's probability.
        face: NudeNet's best score for FACE_FEMALE.
        box: That box as cx, cy, w, h in the frame's pixels.
        other: NudeNet's best score for any other label.
    """

    pts: int
    seconds: float
    nsfw: float
    face: float
    box: Floats
    other: float


def _nudenet_input(frame: av.VideoFrame, tool: VideoReformatter) -> tuple[Floats, float]:
    """Fit a frame into the top left of a black square. Returns 1 x 3 x 320 x 320, and pixels for a pixel."""
    scale = max(frame.width, frame.height) / SIDE
    width, height = round(frame.width / scale), round(frame.height / scale)
    rgb = tool.reformat(frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1).to_ndarray()
    padded = np.zeros((1, 3, SIDE, SIDE), np.float32)
    padded[0, :, :height, :width] = rgb.transpose(2, 0, 1) / np.float32(255)
    return padded, scale


def look_at(
    path: Path, nsfw: Callable[[Floats], Floats], nudenet: Callable[[Floats], Floats], stride: int = 1
) -> Iterator[Look]:
    """Decode a video and ask both models about its frames."""
    small, boxed = VideoReformatter(), VideoReformatter()
    with av.open(str(path), "r") as source:
        for number, frame in enumerate(source.decode(video=0)):
            if number % stride or frame.pts is None or frame.time is None:
                continue
            rgb = small.reformat(frame, 256, 256, "rgb24", interpolation=Interpolation.BILINEAR, threads=1)
            score = float(nsfw(open_nsfw_input(np.asarray(rgb.to_ndarray(), np.uint8))[None])[0, 1])
            picture, scale = _nudenet_input(frame, boxed)
            answer = nudenet(picture)[0]
            best = int(answer[4 + FACE_FEMALE].argmax())
            others = float(np.delete(answer[4:], FACE_FEMALE, 0).max())
            face = float(answer[4 + FACE_FEMALE, best])
            yield Look(frame.pts, frame.time, score, face, answer[:4, best] * np.float32(scale), others)


def summarise(looks: list[Look], truth: dict[str, Any]) -> list[str]:
    """One line for each segment, and one for everything outside all of them."""
    lines, rest = [], looks
    for segment in truth["segments"]:
        start, end = segment["start_seconds"], segment["end_seconds"]
        inside = [look for look in looks if start - 1e-6 <= look.seconds < end - 1e-6]
        rest = [look for look in rest if not start - 1e-6 <= look.seconds < end - 1e-6]
        lines.append(_line(f"{segment['label']:12} {start:6.2f} to {end:6.2f}", inside))
    lines.append(_line("the rest", rest))
    boxes = {face["pts"]: face["box"] for face in truth["faces"]}
    # A face that is half outside is drawn half: its score says nothing about the drawing.
    edge = truth["width"] - 1
    whole = [look for look in looks if look.pts in boxes and boxes[look.pts][0] > 1 and boxes[look.pts][2] < edge]
    if whole:
        shared = [float(overlap(look.box[None], tuple(boxes[look.pts]))[0]) for look in whole]
        faces = [look.face for look in whole]
        lines.append(
            f"whole faces: {len(whole)} frames, score min {min(faces):.3f} mean {np.mean(faces):.3f}, "
            f"IoU min {min(shared):.3f} mean {np.mean(shared):.3f}"
        )
    return lines


def _line(name: str, looks: list[Look]) -> str:
    if not looks:
        return f"{name:32} no frames"
    nsfw, face, other = (np.array([getattr(look, key) for look in looks]) for key in ("nsfw", "face", "other"))
    return (
        f"{name:32} {len(looks):5d} frames  nsfw min {nsfw.min():.3f} mean {nsfw.mean():.3f} max {nsfw.max():.3f}  "
        f"face max {face.max():.3f}  other labels max {other.max():.3f}"
    )


def main() -> None:
    """Parse, look, print."""
    parser = argparse.ArgumentParser(description="Check a sample against the real models.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--nsfw", type=Path, required=True, help="open-nsfw.onnx")
    parser.add_argument("--nudenet", type=Path, required=True, help="320n.onnx")
    parser.add_argument("--stride", type=int, default=1, help="look at every n-th frame")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    truth = json.loads(truth_path(args.video).read_text(encoding="utf-8"))
    models = (load(args.nsfw, args.threads), load(args.nudenet, args.threads))
    print("\n".join(summarise(list(look_at(args.video, *models, args.stride)), truth)))


if __name__ == "__main__":
    main()
