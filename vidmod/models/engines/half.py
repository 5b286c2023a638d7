"""Half precision inside a network, float32 around it.

TensorRT 11 computes in the types that the network says, and nothing else; TensorRT 10 can be told to. So half
precision is a matter of the ONNX file.

ONNX Runtime's converter (and onnxconverter-common's, from which it comes) is not used: it comes with one of two
packages that exclude each other, and what it leaves in float32 goes through float16 at every step all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from vidmod.models.engines.graphs import drop_unused, inputs_of, replace

# Where the time goes.
_HEAVY = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
_FLOAT, _HALF = "tensor(float)", "tensor(float16)"
_LARGEST = float(np.finfo(np.float16).max)


def in_half(model: ModelProto) -> ModelProto:
    """Convert all up to the last convolution or matrix product to float16; inputs and outputs stay float32.

    What follows it stays float32: there a detector's boxes become pixels, and float16 knows pixels beyond 256 only
    to a quarter; a classifier's softmax costs nothing. Where ONNX does not allow float16 for an operator or for one of
    its inputs, these stay float32, too. Constants are rounded to the nearest, and those beyond 65504 become 65504.

    Args:
        model: Its graph in topological order, with the types of what is in between (`value_info`).
    """
    converted = ModelProto()
    converted.CopyFrom(model)
    _Conversion(converted).run()
    return converted


def _up_to_the_last_heavy(graph: GraphProto) -> set[int]:
    """The places of the heavy nodes, and of all that these need."""
    needed: set[str] = set()
    places = set()
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type in _HEAVY or needed & set(node.output):
            needed.update(inputs_of(node))
            places.add(place)
    return places


class _Conversion:
    """Goes through the nodes once. The float16 form of a tensor has a name of its own; the float32 one keeps its."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = graph = model.graph
        self._opset = {entry.domain: entry.version for entry in model.opset_import}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        values = (*graph.input, *graph.value_info, *graph.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats |= {name for name, tensor in self._constants.items() if tensor.data_type == TensorProto.FLOAT}
        # In which forms a tensor is there already: (name, whether it is the float16 one).
        self._there = {(name, False) for name in (*self._constants, *(value.name for value in graph.input))}
        self._suffix = "_float16"
        while any(name.endswith(self._suffix) for node in graph.node for name in (*node.input, *node.output)):
            self._suffix += "_"
        self._nodes: list[NodeProto] = []

    def run(self) -> None:
        graph = self._graph
        first = _up_to_the_last_heavy(graph)
        for place, node in enumerate(list(graph.node)):
            self._add(node, self._halves(node) if place in first else frozenset())
        for value in graph.output:
            self._require(value.name, half=False)
        replace(graph.node, self._nodes)
        replace(graph.value_info, [])
        drop_unused(graph)

    def _halves(self, node: NodeProto) -> frozenset[str]:
        """The type variables of a node that can be float16 instead of float32."""
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return frozenset()
        schema = self._schema(node)
        if schema is None:
            return frozenset()
        given = {kind for _, kind in _typed(node.input, schema.inputs)}
        allowed = {rule.type_param_str: rule.allowed_type_strs for rule in schema.type_constraints}
        return frozenset(kind for kind in given if {_FLOAT, _HALF} <= set(allowed.get(kind, ())))

    def _schema(self, node: NodeProto) -> defs.OpSchema | None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            return defs.get_schema(node.op_type, self._opset.get(domain, 1), domain)
        except defs.SchemaError:
            return None

    def _add(self, node: NodeProto, halves: frozenset[str]) -> None:
        """Add a node, in float16 where its type variables say so, after the casts that it needs."""
        schema = self._schema(node) if halves else None
        if schema is None:
            for name in inputs_of(node):
                self._require(name, half=False)
        else:
            replace(node.input, [self._form(name, kind in halves) for name, kind in _typed(node.input, schema.inputs)])
            outputs = list(_typed(node.output, schema.outputs))
            replace(node.output, [self._made(name, kind in halves) for name, kind in outputs])
        self._nodes.append(node)
        if schema is None:
            self._there |= {(name, False) for name in node.output}

    def _form(self, name: str, half: bool) -> str:
        """What a node is to take for a tensor."""
        half = half and name in self._floats
        if name:
            self._require(name, half=half)
        return name + self._suffix if half else name

    def _made(self, name: str, half: bool) -> str:
        """What a node gives a tensor as."""
        half = half and name in self._floats
        self._there.add((name, half))
        return name + self._suffix if half else name

    def _require(self, name: str, *, half: bool) -> None:
        """See that a tensor is there in one of its forms."""
        # What is not known here comes from a graph around, and is as it was.
        if (name, half) in self._there or (name, not half) not in self._there:
            return
        self._there.add((name, half))
        if half and name in self._constants:
            self._graph.initializer.append(_rounded(self._constants[name], name + self._suffix))
            return
        here, there = (name, name + self._suffix) if half else (name + self._suffix, name)
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes.append(helper.make_node("Cast", [here], [there], to=kind, name=f"{there}_cast"))


def _typed(names: Iterable[str], formal: Sequence[defs.OpSchema.FormalParameter]) -> Iterator[tuple[str, str]]:
    """Each name with its type variable, or with its type where that is always the same."""
    for place, name in enumerate(names):
        # The last parameter may stand for any number.
        yield name, formal[min(place, len(formal) - 1)].type_str


def _rounded(tensor: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    # Infinities stay: they are meant.
    clamped = np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values)
    return numpy_helper.from_array(clamped.astype(np.float16), name)
