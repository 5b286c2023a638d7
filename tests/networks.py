"""Small ONNX networks that tests build: a user's own models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Shape = list[str | int | None]
Constant = NDArray[np.float32] | NDArray[np.int64]

CLASSIFIER_MANIFEST = """
schema = "vidmod.model/1"
name = "redness"
version = "1"
licence = "CC0-1.0"
[weights]
path = "redness.onnx"
[input]
name = "pixels"
layout = "NCHW"
channels = "rgb"
width = 8
height = 8
scale = [255.0, 255.0, 255.0]
[[preprocess]]
step = "resize"
width = 8
height = 8
interpolation = "area"
[output]
name = "probability"
decoding = "sigmoid"
labels = ["red"]
[batch]
best = 4
[thresholds]
red = { review = 0.6, block = 0.9 }
"""

DETECTOR_MANIFEST = """
schema = "vidmod.model/1"
name = "spot"
version = "1"
licence = "CC0-1.0"
[weights]
path = "spot.onnx"
[input]
name = "pixels"
layout = "NHWC"
channels = "rgb"
width = 64
height = 64
scale = [255.0, 255.0, 255.0]
[[preprocess]]
step = "letterbox"
width = 64
height = 64
interpolation = "area"
[output]
name = "boxes"
decoding = "yolov8"
labels = ["DARK", "BRIGHT"]
score_threshold = 0.3
[thresholds]
BRIGHT = { review = 0.5, block = 0.8 }
"""


def _save(path: Path, nodes: list[onnx.NodeProto], shapes: tuple[Shape, Shape], names: tuple[str, str],
          constants: dict[str, Constant]) -> None:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_classifier(folder: Path) -> Path:
    """A network that says how red a picture is: sigmoid(12 · (mean R - mean of G and B) - 6)."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "mix"], ["mixed"]),
        helper.make_node("Add", ["mixed", "offset"], ["probability"]),
    ]
    constants: dict[str, Constant] = {
        "mix": np.array([[12.0], [-6.0], [-6.0]], np.float32),
        "offset": np.array([-6.0], np.float32),
    }
    _save(folder / "redness.onnx", nodes, (["n", 3, 8, 8], ["n", 1]), ("pixels", "probability"), constants)
    manifest = folder / "redness.toml"
    manifest.write_text(CLASSIFIER_MANIFEST, "utf-8")
    return manifest


def write_detector(folder: Path) -> Path:
    """A network that gives two fixed boxes; the brightness of the picture is BRIGHT's score.

    Output N×6×2: cx, cy, w, h, DARK, BRIGHT per anchor. One anchor is at the input's top left
    quarter, the other at the same place, slightly larger and weaker.
    """
    boxes = np.array([[[16, 16], [16, 16], [32, 30], [32, 30], [0, 0], [0, 0]]], np.float32)
    weight = np.array([[[0, 0], [0, 0], [0, 0], [0, 0], [0.1, 0.1], [1.0, 0.9]]], np.float32)
    nodes = [
        helper.make_node("ReduceMax", ["pixels"], ["brightest"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["brightest", "last"], ["level"]),
        helper.make_node("Mul", ["level", "weight"], ["scores"]),
        helper.make_node("Add", ["scores", "fixed"], ["boxes"]),
    ]
    constants: dict[str, Constant] = {"last": np.array([3], np.int64), "weight": weight, "fixed": boxes}
    _save(folder / "spot.onnx", nodes, (["n", 64, 64, 3], ["n", 6, 2]), ("pixels", "boxes"), constants)
    manifest = folder / "spot.toml"
    manifest.write_text(DETECTOR_MANIFEST, "utf-8")
    return manifest
