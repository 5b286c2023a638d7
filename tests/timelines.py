"""Timelines for tests, without video or models."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from vidmod.coverage import Covered
from vidmod.policy import Policy, Verdict
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.timeline import Sample, Segment, Status, StreamKind, StreamScan, Timeline

VIDEO = {
    "codec": "h264",
    "width": 640,
    "height": 360,
    "rotation": 0,
    "mirrored": False,
    "pixel_format": "yuv420p",
    "average_rate": "25/1",
    "time_base": "1/1000",
}


def sample(time: float, nsfw: float, *detections: tuple[str, float], shown: float = 0.04) -> Sample:
    """A sample at `time` seconds."""
    return Sample(
        round(time * 1000),
        time,
        shown,
        Predictions(
            scores=(Scores("open_nsfw", {"nsfw": nsfw}),),
            detections=tuple(Detection("nudenet", label, score, (1.0, 2.0, 30.0, 40.5)) for label, score in detections),
        ),
    )


def stream(samples: Sequence[Sample], number: int = 0, kind: StreamKind = "video") -> StreamScan:
    """A stream of which everything was analysed."""
    end = samples[-1].end_seconds if samples else 1.0
    return StreamScan(number, kind, VIDEO, (Covered(0.0, end, "analysed"),), tuple(samples), {"packets": len(samples)})


def timeline(*streams: StreamScan, status: Status = "complete") -> Timeline:
    """A timeline that nobody has judged yet."""
    policy = Policy.default()
    return Timeline(
        source={
            "name": "film.mp4",
            "sha256": "0" * 64,
            "size_bytes": 1000,
            "format": "mov,mp4,m4a,3gp,3g2,mj2",
            "start_seconds": 0.0,
            "duration_seconds": streams[0].coverage[-1].end_seconds,
            "stream": 0,
            "video": VIDEO,
            "audio": [{"codec": "aac", "sample_rate": 48000, "channels": 2}],
        },
        status=status,
        verdict="pass",
        notes=(),
        coverage=streams[0].coverage,
        segments=(),
        streams=streams,
        provenance={
            "vidmod": "0",
            "created": "2026-01-01T00:00:00+00:00",
            "models": [],
            "sampling": {"mode": "uniform", "fps": 2.0, "max_gap_seconds": 0.5},
            "smoothing": policy.smoothing.as_dict(),
            "policy": policy.as_document(),
        },
    )


def long_timeline(hours: float = 2, fps: float = 2, *, segments: int = 60, seed: int = 7) -> Timeline:
    """As a scan of a film gives it: a score for every sample, and a box or two in most, with as many digits."""
    chance = random.Random(seed)
    labels = ("FACE_FEMALE", "FACE_MALE", "FEMALE_BREAST_EXPOSED", "BELLY_EXPOSED", "FEET_EXPOSED")
    rows = []
    for number in range(round(hours * 3600 * fps)):
        found = []
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            x, y = (round(chance.uniform(0, size), 1) for size in (500, 250))
            box = (x, y, round(x + chance.uniform(10, 140), 1), round(y + chance.uniform(10, 110), 1))
            found.append(Detection("nudenet", chance.choice(labels), round(chance.uniform(0.2, 0.9), 4), box))
        scores = (Scores("open_nsfw", {"nsfw": round(chance.random() ** 3, 4)}),)
        time = number / fps
        rows.append(Sample(round(time * 90_000), time, round(1 / 24, 6), Predictions(scores, tuple(found))))
    made = timeline(stream(rows))
    step = hours * 3600 / max(1, segments)
    marked = tuple(
        Segment(f"s{n + 1}", "explicit", "block", "cover", n * step, n * step + 4, 0.9, 0.8, {labels[2]: 0.9})
        for n in range(segments)
    )
    return dataclasses.replace(made, segments=marked, verdict="block" if segments else "pass")


def segment(start: float, end: float, category: str = "explicit", verdict: Verdict = "block", **more: Any) -> Segment:
    """A segment as a scan might have found it."""
    known: dict[str, Any] = {
        "id": "s1", "action": "cover", "peak": 0.91, "mean": 0.8, "labels": {"FEMALE_BREAST_EXPOSED": 0.91},
    }  # fmt: skip
    return Segment(category=category, verdict=verdict, start_seconds=start, end_seconds=end, **{**known, **more})
