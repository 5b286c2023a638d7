"""A network as an engine is built of it: pictures of one size in, one output, any batch, and no more than that.

TensorRT's parser takes less than ONNX allows: a `Range` over floating-point numbers, say, only of constants (its list
of operators says so). An exported detector computes its grid with that from the size of the input, at every run. Here
the size is fixed first, whatever then depends on constants alone is computed once, and what is left is plain.

It needs the package `onnx`, which comes with the extra `tensorrt`, and is only imported when a network is prepared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from vidmod.errors import WeightsError
from vidmod.models.engines.graphs import dims_of, drop_unused, replace
from vidmod.models.engines.half import in_half
from vidmod.models.manifest import InputSpec

_BATCH = "batch"
_CONSTANTS_APART = 4
# Arithmetic on shapes, and what makes grids of them. Nothing random, nothing that weights are kept in.
# fmt: off
_FOLDED = frozenset({
    "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
    "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "Reciprocal",
    "Reshape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
# What is folded into a file is to be a grid or a shape, no blown-up weights.
_MAX_FOLDED = 1 << 20
# Each round of folding gives shapes that were not known before.
_MAX_ROUNDS = 16
_Constants = dict[str, NDArray[Any]]


def as_built(source: bytes, spec: InputSpec, output: str, precision: str, shown: str) -> bytes:
    """The ONNX file that an engine is built of.

    It is the same for the same arguments and version of `onnx`.

    Args:
        source: The ONNX file of the weights, in float32.
        spec: Its input: name, layout and size. It becomes batch×H×W×3 or batch×3×H×W, float32.
        output: The name of the output that is wanted; others are dropped, and what only they need.
        precision: `fp32`, or `fp16` for half precision inside (see :mod:`vidmod.models.engines.half`).
        shown: What messages call it.

    Returns:
        An ONNX file with float32 input and output, and a batch of any size.

    Raises:
        WeightsError: It is no ONNX file, or not one that an engine can be built of.
    """
    try:
        model = onnx.load_model_from_string(source)
        _refuse_parts_elsewhere(model, shown)
        onnx.checker.check_model(model)
        _keep_one_input_and_output(model, spec, output, shown)
        model = _simplified(model)
        _check_output(model, shown)
        if precision == "fp16":
            model = in_half(model)
        # Types that do not fit are found here, and not by TensorRT.
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except WeightsError:
        raise
    except Exception as exc:  # protobuf's, onnx's and NumPy's errors share no base class
        detail = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise WeightsError(f"{shown}: cannot be made ready for TensorRT ({detail}).") from exc
    return bytes(model.SerializeToString(deterministic=True))


def _refuse_parts_elsewhere(model: ModelProto, shown: str) -> None:
    """The hash of the weights would not cover what is in another file, and a manifest names one."""
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise WeightsError(f"{shown}: keeps its weights in further files. Save it as a single ONNX file.")


def _keep_one_input_and_output(model: ModelProto, spec: InputSpec, output: str, shown: str) -> None:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    (wanted,) = _named(inputs, [spec.name], "input", shown)
    others = [value.name for value in inputs if value.name != spec.name]
    if others:
        raise WeightsError(f"{shown}: wants further inputs ({', '.join(others)}); a picture is all that it can have.")
    (kept,) = _named(graph.output, [output], "output", shown)
    for kind, value in (("input", wanted), ("output", kept)):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise WeightsError(f"{shown}: its {kind} {value.name!r} is not float32. Export it in float32.")
    shape: list[str | int | None] = [_BATCH, *_picture_shape(spec)]
    _refuse_another_size(wanted, shape, shown)
    # Before the fourth version of the format, constants were inputs as well.
    model.ir_version = max(model.ir_version, _CONSTANTS_APART)
    # Shapes are found out anew: those in the file may be of pictures of any size, or of a batch of one.
    replace(graph.input, [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, shape)])
    sizes = dims_of(kept) or []
    replace(graph.output, [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, *sizes[1:]])])
    replace(graph.value_info, [])


def _picture_shape(spec: InputSpec) -> list[int]:
    return [3, spec.height, spec.width] if spec.layout == "NCHW" else [spec.height, spec.width, 3]


def _named(values: Iterable[ValueInfoProto], names: list[str], kind: str, shown: str) -> list[ValueInfoProto]:
    present = {value.name: value for value in values}
    for name in names:
        if name not in present:
            raise WeightsError(f"{shown}: has no {kind} named {name!r}; it has {', '.join(present)}.")
    return [present[name] for name in names]


def _refuse_another_size(value: ValueInfoProto, wanted: list[str | int | None], shown: str) -> None:
    declared = dims_of(value)
    if declared is None:
        return
    fits = len(declared) == len(wanted) and all(
        size is None or size == other for size, other in zip(declared[1:], wanted[1:], strict=True)
    )
    if not fits:
        raise WeightsError(
            f"{shown}: its input {value.name!r} is {_sizes(declared)}, but the manifest says {_sizes(wanted)}."
        )


def _sizes(shape: Sequence[int | str | None]) -> str:
    return " by ".join("any" if size is None else str(size) for size in shape)


def _check_output(model: ModelProto, shown: str) -> None:
    shape = dims_of(model.graph.output[0])
    if shape and shape[0] is not None:
        raise WeightsError(
            f"{shown}: gives {shape[0]} rows whatever the batch is. Export it with a batch of any size (dynamic axes)."
        )


# Folding -----------------------------------------------------------------------------------------


def _simplified(model: ModelProto) -> ModelProto:
    for _ in range(_MAX_ROUNDS):
        replace(model.graph.value_info, [])
        model = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        if not _fold(model.graph, _opset(model)):
            break
    drop_unused(model.graph)
    return model


def _opset(model: ModelProto) -> dict[str, int]:
    return {entry.domain: entry.version for entry in model.opset_import}


def _fold(graph: GraphProto, opset: dict[str, int]) -> bool:
    """Replace nodes by what they always give; whether there were any."""
    shapes = {value.name: dims_of(value) for value in [*graph.input, *graph.value_info]}
    constants: _Constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes.update((name, list(value.shape)) for name, value in constants.items())
    partly: dict[str, list[int | None]] = {}
    outputs = {value.name for value in graph.output}
    kept, folded = [], []
    for node in graph.node:
        found = None if outputs & set(node.output) else _value_of(node, constants, shapes, partly, opset)
        if found is None:
            kept.append(node)
        else:
            constants.update(found)
            folded += [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in found.items()]
    replace(graph.node, kept)
    graph.initializer.extend(folded)
    return bool(folded)


def _value_of(
    node: NodeProto,
    constants: _Constants,
    shapes: dict[str, list[int | None] | None],
    partly: dict[str, list[int | None]],
    opset: dict[str, int],
) -> _Constants | None:
    """The outputs of a node that are always the same, None if they are not.

    `partly` gets the shapes of which only some sizes are known, since what is picked of them may be known.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Shape":
        sizes = shapes.get(node.input[0])
        if sizes is None or node.attribute:
            return None
        partly[node.output[0]] = sizes
        return None if None in sizes else {node.output[0]: np.array(sizes, np.int64)}
    if node.op_type == "Gather" and node.input[0] in partly and node.input[1] in constants:
        return _picked(node, partly[node.input[0]], constants[node.input[1]])
    if node.op_type not in _FOLDED or not all(name in constants for name in filter(None, node.input)):
        return None
    return _computed(node, constants, opset)


def _picked(node: NodeProto, sizes: list[int | None], where: NDArray[Any]) -> _Constants | None:
    picked = [sizes[int(index)] for index in where.ravel()]
    return None if None in picked else {node.output[0]: np.array(picked, np.int64).reshape(where.shape)}


def _computed(node: NodeProto, constants: _Constants, opset: dict[str, int]) -> _Constants | None:
    names = sorted(set(filter(None, node.input)))
    graph = helper.make_graph(
        [node],
        "folded",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(constants[n].dtype), None) for n in names],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*pair) for pair in opset.items()])
    values = [np.asarray(value) for value in ReferenceEvaluator(model).run(None, {n: constants[n] for n in names})]
    if sum(value.size for value in values) > _MAX_FOLDED:
        return None
    return dict(zip(node.output, values, strict=True))
