"""Make the golden inputs that `vidmod models check` runs: `python tests/make_goldens.py`.

The pictures are the samples' own. What the models say of them is taken from ONNX Runtime in fp32.
Run it again only when a manifest changes, and look at the difference before you commit it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samples.faces import draw_face
from samples.patterns import explicit_pattern
from samples.scenes import calm_scene
from vidmod.models import Model, find
from vidmod.models.check import golden_frame, predict_golden

FOLDER = Path(__file__).resolve().parent.parent / "engines" / "golden"
WIDTH, HEIGHT = 256, 144


def blended(index: int, share: float) -> NDArray[np.uint8]:
    """A pattern laid over a calm scene."""
    calm = calm_scene(160, 160, 1.0, kind="hills", seed=1)
    return np.asarray(explicit_pattern(160, 160, index) * share + calm * (1 - share), np.uint8)


def make_pictures() -> list[Path]:
    """Draw a calm scene, a scene with a face, and patterns."""
    face = calm_scene(WIDTH, HEIGHT, 2.0, kind="hills", seed=1)
    draw_face(face, (WIDTH * 0.6, HEIGHT * 0.5), HEIGHT * 0.6)
    pictures = {
        "calm": calm_scene(WIDTH, HEIGHT, 1.0, kind="hills", seed=1),
        "face": face,
        "pattern": explicit_pattern(160, 160, 0),
        # Where the network is in doubt a wrong channel order or a missing step shows at once.
        "doubtful_1": blended(0, 0.45),
        "doubtful_2": blended(1, 0.40),
    }
    paths = []
    for name, picture in pictures.items():
        path = FOLDER / f"{name}.png"
        cv2.imwrite(str(path), picture[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 9))
        paths.append(path)
    return paths


def describe(model: Model, path: Path) -> dict[str, object]:
    """One golden row."""
    found = predict_golden(model, golden_frame(path))
    return {
        "image": path.name,
        "scores": {label: score for scores in found.scores for label, score in scores.labels.items()},
        "detections": [{"label": d.label, "score": d.score, "box": list(d.box)} for d in found.detections],
    }


def main() -> None:
    """Write the pictures, and one JSON file per model."""
    FOLDER.mkdir(exist_ok=True)
    paths = make_pictures()
    for name in ("open_nsfw", "nudenet"):
        with Model.load(find(name), runtime="onnxruntime", device="cpu", precision="fp32") as model:
            rows = [describe(model, path) for path in paths]
        document = {"model": name, "runtime": model.info.runtime, "version": model.info.version, "inputs": rows}
        (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
