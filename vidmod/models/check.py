"""Golden inputs: does every runtime here give what the model gave when its manifest was written?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidmod.errors import ManifestError, RuntimeUnavailableError
from vidmod.media.frame import Frame
from vidmod.models.manifest import Manifest
from vidmod.models.model import Model
from vidmod.models.preprocessing import prepare
from vidmod.models.runtimes import RUNTIMES, Precision
from vidmod.models.weights import obtain
from vidmod.predictions import Box, Predictions

# How far scores may be from the golden ones, which are fp32: what fp32 runtimes differ by is below
# 0.001, what swscale and libjpeg versions do to the pictures is below 0.02, bf16 adds 0.03.
_TOLERANCE: dict[Precision, float] = {"fp32": 0.02, "bf16": 0.06, "fp16": 0.03}
_MIN_IOU = 0.8
# Weaker detections come and go with rounding.
_SURE = 0.4
# Pictures for models that name no golden inputs.
_SEED, _SIZE, _CELLS = 7, (320, 240), (2, 5, 9, 14, 28, 56)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One model on one runtime.

    Attributes:
        worst: The largest difference from a golden score; 1.0 if a golden detection is missing.
    """

    model: str
    runtime: str
    device: str
    precision: Precision
    inputs: int
    worst: float
    passed: bool

    @property
    def tolerance(self) -> float:
        """How far scores may be from the golden ones in this precision."""
        return _TOLERANCE[self.precision]

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.model:<12} {self.runtime:<12} {self.precision:<5} {self.device:<7} "
            f"{self.inputs} inputs, scores within {self.worst:.4f}"
        )


def check(
    manifest: Manifest,
    overrides: Mapping[str, Path] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Iterator[CheckResult]:
    """Run a model's golden inputs through every installed runtime, device and precision.

    Raises:
        ManifestError: The model has no golden inputs, or they are damaged.
        WeightsError: Its weights cannot be had.
    """
    golden = read_golden(manifest)
    obtain(manifest, overrides, notify)
    for runtime in RUNTIMES.values():
        if not runtime.installed:
            continue
        for device in runtime.devices():
            for precision in _TOLERANCE:
                try:
                    model = Model.load(
                        manifest, runtime=runtime.name, device=device, precision=precision, weights=overrides
                    )
                except (RuntimeUnavailableError, ValueError):
                    continue
                with model:
                    yield check_model(model, golden)


def read_golden(manifest: Manifest) -> list[tuple[Frame, dict[str, Any]]]:
    """Golden pictures and what the model says of them.

    Raises:
        ManifestError: There are none, or they are damaged.
    """
    path = manifest.golden
    if path is None:
        raise ManifestError(f"{manifest.origin}: names no golden inputs, so there is nothing to check against.")
    try:
        rows = json.loads(path.read_text("utf-8"))["inputs"]
        return [(golden_frame(path.parent / row["image"]), row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ManifestError(f"{path}: golden inputs cannot be read ({exc}).") from exc


def golden_frame(path: Path) -> Frame:
    """A picture file as a frame.

    Raises:
        ValueError: It is no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path.name} is not a picture")
    return Frame.from_ndarray(pixels.astype(np.uint8, copy=False), "bgr")


def predict_golden(model: Model, frame: Frame) -> Predictions:
    """What a model says of one frame."""
    return model.predict([prepare(frame, model.manifest.preparation)])[0]


def references(manifest: Manifest, overrides: Mapping[str, Path] | None = None) -> list[tuple[Frame, dict[str, Any]]]:
    """Pictures and what a model is to say of them: the golden ones; for a model without, what the CPU says.

    Raises:
        ManifestError: Its golden inputs are damaged.
        WeightsError: Its weights cannot be had.
    """
    if manifest.golden is not None:
        return read_golden(manifest)
    frames = _made_up_frames()
    with Model.load(manifest, device="cpu", precision="fp32", weights=overrides) as model:
        return [(frame, _row(predict_golden(model, frame))) for frame in frames]


def _made_up_frames() -> list[Frame]:
    """Blurred colour noise, coarse and fine: nothing to see, but it drives a network through its range."""
    rng = np.random.default_rng(_SEED)
    grids = [rng.integers(0, 256, (cells, cells, 3), np.uint8) for cells in _CELLS]
    pictures = (cv2.resize(grid, _SIZE, interpolation=cv2.INTER_CUBIC) for grid in grids)
    return [Frame.from_ndarray(picture.astype(np.uint8, copy=False), "bgr") for picture in pictures]


def _row(found: Predictions) -> dict[str, Any]:
    labels = {label: score for scores in found.scores for label, score in scores.labels.items()}
    detections = [{"label": item.label, "score": item.score, "box": item.box} for item in found.detections]
    return {"scores": labels, "detections": detections}


def check_model(model: Model, golden: list[tuple[Frame, dict[str, Any]]]) -> CheckResult:
    """Hold a model that is loaded to what :func:`read_golden` or :func:`references` gave."""
    worst = max(_difference(predict_golden(model, frame), row) for frame, row in golden)
    info = model.info
    passed = worst <= _TOLERANCE[info.precision]
    return CheckResult(model.name, info.runtime, info.device, info.precision, len(golden), worst, passed)


def _difference(found: Predictions, golden: dict[str, Any]) -> float:
    """The largest difference of a score; a sure golden detection that is not found counts as 1."""
    differences = [0.0]
    for scores in found.scores:
        differences += [abs(score - golden["scores"][label]) for label, score in scores.labels.items()]
    for wanted in golden.get("detections", []):
        if wanted["score"] < _SURE:
            continue
        matches = [
            item
            for item in found.detections
            if item.label == wanted["label"] and iou(item.box, tuple(wanted["box"])) >= _MIN_IOU
        ]
        differences.append(min((abs(item.score - wanted["score"]) for item in matches), default=1.0))
    return max(differences)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
