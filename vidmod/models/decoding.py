"""Network outputs to Scores and Detections. What an output means is no runtime's business."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmod.errors import InferenceError
from vidmod.models.images import Geometry
from vidmod.models.manifest import Manifest
from vidmod.predictions import Detection, Predictions, Scores

Output = NDArray[np.float32]
# What a stored score keeps: far below what any runtime agrees on, and short to read.
_SCORE_DIGITS = 4
_BOX_DIGITS = 1


def decode(output: Output, manifest: Manifest, geometries: Sequence[Geometry]) -> list[Predictions]:
    """Read a batch's output as the manifest's `output.decoding` says.

    Args:
        output: float32, N first.
        manifest: Names the decoding, the labels and the thresholds.
        geometries: N of them, one per picture.

    Raises:
        InferenceError: The output's shape is not the manifest's, or it is not finite.
    """
    decoder = _detections if manifest.is_detector else _scores
    expected = (
        (len(geometries), 4 + len(manifest.output.labels))
        if manifest.is_detector
        else (len(geometries), len(manifest.output.labels))
    )
    if output.shape[:2] != expected or output.ndim != (3 if manifest.is_detector else 2):
        raise InferenceError(
            f"{manifest.name}: gave {output.shape}, which is not what its manifest says of its output."
        )
    if not np.isfinite(output).all():
        raise InferenceError(f"{manifest.name}: gave a score that is not a number. Try --precision fp32.")
    return [decoder(picture, manifest, geometry) for picture, geometry in zip(output, geometries, strict=True)]


def _scores(picture: Output, manifest: Manifest, _geometry: Geometry) -> Predictions:
    """A classifier's row: one value per label."""
    labels = manifest.output.labels
    row = np.round(np.clip(_probabilities(picture.astype(np.float64), manifest), 0.0, 1.0), _SCORE_DIGITS).tolist()
    reported = {label: row[labels.index(label)] for label in manifest.output.report}
    return Predictions(scores=(Scores(manifest.name, reported),))


def _probabilities(values: NDArray[np.float64], manifest: Manifest) -> NDArray[np.float64]:
    if manifest.output.decoding == "softmax":
        powers = np.exp(values - values.max())
        result: NDArray[np.float64] = powers / powers.sum()
        return result
    if manifest.output.decoding == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))
    return values


def _detections(picture: Output, manifest: Manifest, geometry: Geometry) -> Predictions:
    """A YOLOv8 head: per anchor a box (centre, size, in input pixels) and a score per class.

    The best class counts, and non-maximum suppression is across classes, as in NudeNet's own code.
    """
    classes = picture[4:]
    scores = classes.max(axis=0)
    candidates = np.flatnonzero(scores >= manifest.output.score_threshold)
    if not candidates.size:
        return Predictions()
    boxes = _boxes(picture[:4, candidates].T.astype(np.float64), geometry)
    kept = cv2.dnn.NMSBoxes(
        np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2])).tolist(),
        scores[candidates].tolist(),
        manifest.output.score_threshold,
        manifest.output.nms_threshold,
    )
    best = classes[:, candidates].argmax(axis=0)
    found = tuple(
        Detection(
            manifest.name,
            manifest.output.labels[best[index]],
            round(min(1.0, float(scores[candidates[index]])), _SCORE_DIGITS),
            (x1, y1, x2, y2),
        )
        for index in np.asarray(kept, dtype=int).ravel()
        for x1, y1, x2, y2 in [np.round(boxes[index], _BOX_DIGITS).tolist()]
    )
    return Predictions(detections=found)


def _boxes(centred: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """(centre x, centre y, width, height) in input pixels to corners in displayed pixels, clipped."""
    half = centred[:, 2:] / 2
    corners = np.column_stack((centred[:, :2] - half, centred[:, :2] + half))
    scaled: NDArray[np.float64] = corners * np.tile(geometry.scale, 2)
    return np.clip(scaled, 0.0, np.tile(np.asarray(geometry.size, np.float64), 2))
