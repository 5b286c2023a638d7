"""What a perfect scan of a sample would say, as JSON beside the video."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.plans import TICKS

if TYPE_CHECKING:
    from pathlib import Path

    from samples.faces import Box
    from samples.plans import Plan


def truth_path(video: Path) -> Path:
    """Where the truth about a video lies: demo.mp4, demo.truth.json."""
    return video.with_suffix(".truth.json")


def runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Half-open runs of true values."""
    edges = np.flatnonzero(np.diff(np.array([False, *flags, False], np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def truth(plan: Plan, boxes: list[Box | None], size: tuple[int, int]) -> dict[str, Any]:
    """What a perfect scan would say.

    Args:
        plan: The plan.
        boxes: The face's box in every frame, clipped, or None.
        size: Width and height, pixels.

    Returns:
        A document for JSON. Segments are half open and exact to the frame; a fade counts from half covered.
    """
    times = plan.ticks()

    def seconds(ticks: int) -> float:
        return round(float(Fraction(ticks, TICKS)), 6)

    explicit = [False] * plan.frames
    for stretch in plan.stretches:
        for number in range(stretch.start, min(stretch.end, plan.frames)):
            explicit[number] = explicit[number] or stretch.alpha(number) >= 0.5
    spans = [("explicit", "nsfw", a, b) for a, b in runs(explicit)]
    spans += [("face", "FACE_FEMALE", a, b) for a, b in runs([box is not None for box in boxes])]
    return {
        "fps": plan.fps,
        "width": size[0],
        "height": size[1],
        "frames": plan.frames,
        "time_base": f"1/{TICKS}",
        "start_seconds": seconds(times[0]),
        "duration_seconds": seconds(times[-1] - times[0]),
        "segments": [
            {"category": c, "label": label, "start_seconds": seconds(times[a]), "end_seconds": seconds(times[b])}
            for c, label, a, b in sorted(spans, key=lambda span: span[2])
        ],
        "faces": [
            {"pts": times[n], "time_seconds": seconds(times[n]), "box": [round(v, 2) for v in box]}
            for n, box in enumerate(boxes)
            if box is not None
        ],
    }


def write_truth(video: Path, found: dict[str, Any]) -> None:
    """Write a truth document, one face to a line."""
    lines = []
    for key, value in found.items():
        if isinstance(value, list) and value:
            rows = ",\n    ".join(json.dumps(row) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    truth_path(video).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
