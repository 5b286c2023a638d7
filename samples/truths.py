"""What a perfect scan of a sample would say, as JSON beside the video."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.plans import TICKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from samples.plans import Plan
    from samples.things import Shown


# Of the labels of what moves.
_CATEGORIES = {"FACE_FEMALE": "face", "FEMALE_BREAST_EXPOSED": "explicit"}


def truth_path(video: Path) -> Path:
    """Where the truth about a video lies: demo.mp4, demo.truth.json."""
    return video.with_suffix(".truth.json")


def runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Half-open runs of true values."""
    edges = np.flatnonzero(np.diff(np.array([False, *flags, False], np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def truth(plan: Plan, shown: list[list[Shown]], size: tuple[int, int]) -> dict[str, Any]:
    """What a perfect scan would say.

    Args:
        plan: The plan.
        shown: What moves in every frame.
        size: Width and height, pixels.

    Returns:
        A document for JSON. Segments are half open and exact to the frame; a fade counts from half covered.
    """
    times = plan.ticks()

    def seconds(ticks: int) -> float:
        return round(float(Fraction(ticks, TICKS)), 6)

    def rows(wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
        return [
            {
                "pts": times[number],
                "time_seconds": seconds(times[number]),
                "thing": one.thing,
                "label": one.label,
                "box": [round(side, 2) for side in one.box],
            }
            for number, seen in enumerate(shown)
            for one in seen
            if wanted(one.label)
        ]

    explicit = [False] * plan.frames
    for stretch in plan.stretches:
        for number in range(stretch.start, min(stretch.end, plan.frames)):
            explicit[number] = explicit[number] or stretch.alpha(number) >= 0.5
    spans = [("explicit", "nsfw", a, b) for a, b in runs(explicit)]
    for label, category in _CATEGORIES.items():
        there = [any(one.label == label for one in seen) for seen in shown]
        spans += [(category, label, a, b) for a, b in runs(there)]
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
        "faces": rows(lambda label: label.startswith("FACE_")),
        "patterns": rows(lambda label: not label.startswith("FACE_")),
    }


def write_truth(video: Path, found: dict[str, Any]) -> None:
    """Write a truth document, one row to a line."""
    lines = []
    for key, value in found.items():
        if isinstance(value, list) and value:
            rows = ",\n    ".join(json.dumps(row) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    truth_path(video).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
