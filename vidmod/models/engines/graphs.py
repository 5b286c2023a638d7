"""Small deeds on the graph of an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from onnx import GraphProto, NodeProto, ValueInfoProto


def inputs_of(node: NodeProto) -> Iterator[str]:
    """What a node takes, with what the graphs inside of it take from outside."""
    yield from filter(None, node.input)
    for graph in (graph for attribute in node.attribute for graph in [*attribute.graphs, attribute.g]):
        made = {name for inner in graph.node for name in inner.output}
        made |= {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        yield from (name for inner in graph.node for name in inputs_of(inner) if name not in made)
        yield from (value.name for value in graph.output if value.name not in made)


def dims_of(value: ValueInfoProto) -> list[int | None] | None:
    """The sizes of a tensor, None for those that are not known; None if not even their number is."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]


def drop_unused(graph: GraphProto) -> None:
    """Drop nodes and constants that no output needs."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(inputs_of(node))
            kept.append(node)
    replace(graph.node, kept[::-1])
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    replace(graph.value_info, [value for value in graph.value_info if value.name in needed])


def replace(field: Any, values: Iterable[Any]) -> None:
    """Give a repeated field of a message other values."""
    copies = list(values)
    del field[:]
    field.extend(copies)
