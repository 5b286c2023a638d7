"""Plans for the make-believe TensorRT, of networks that are not built but taken as they are."""

from __future__ import annotations

from typing import Any

import onnx

from tests.nvidia.fake_tensorrt import VERSIONS
from tests.nvidia.tensorrt_running import pack
from vidmod.models.manifest import Batch
from vidmod.models.runtimes import SessionRequest


def plan_of(request: SessionRequest, **changes: Any) -> bytes:
    """A plan of a request's network, input and batches.

    Args:
        changes: What its header says instead.
    """
    network = request.weights.read_bytes()
    spec, batch = request.input, request.batch
    sides = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
    header = {
        "version": VERSIONS[-1],
        "profiles": {spec.name: [[size, *sides] for size in (batch.min, batch.best, batch.max)]},
        "inputs": [[spec.name, [-1, *sides], "float32"]],
        "outputs": [[request.output.name, [-1, *_output(network, request.output.name)], "float32"]],
    }
    return pack({**header, **changes}, network)


def _output(network: bytes, name: str) -> list[int]:
    model = onnx.load_model_from_string(network)
    (found,) = (output for output in model.graph.output if output.name == name)
    return [dimension.dim_value for dimension in found.type.tensor_type.shape.dim][1:]


SMALL = Batch(min=1, best=4, max=8)
