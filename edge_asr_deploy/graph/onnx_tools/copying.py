"""Copying a part of a graph to where it is needed: out of a branch, or into another model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir


def copy_into(graph: ir.Graph, wanted: Sequence[ir.Value], given: Mapping[ir.Value, ir.Value]) -> list[ir.Value]:
    """Copy into `graph` all nodes and initializers of their own graph that `wanted` values need; returns the copies.

    `given` are values to read instead, where the copying ends. Values from outside the wanted values' graph stay as
    they are, so that a branch can be copied into the graph around it. Nodes keep their names.
    """
    copies = dict(given)
    source = next(value.producer() for value in wanted).graph  # type: ignore[union-attr]
    for node in _needed(wanted, given, source):
        inputs = [None if value is None else _copied(value, graph, source, copies) for value in node.inputs]
        copy = ir.Node(
            node.domain, node.op_type, inputs, node.attributes, num_outputs=len(node.outputs), name=node.name
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            copies[old] = new
        graph.append(copy)
    return [copies[value] for value in wanted]


def _copied(value: ir.Value, graph: ir.Graph, source: object, copies: dict[ir.Value, ir.Value]) -> ir.Value:
    """What stands for a value in `graph`."""
    if value not in copies and value.is_initializer() and value.graph is source:
        copy = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
        graph.register_initializer(copy)
        copies[value] = copy
    return copies.get(value, value)


def _needed(wanted: Sequence[ir.Value], given: Mapping[ir.Value, ir.Value], source: object) -> Iterator[ir.Node]:
    """The nodes of `source` that make the wanted values, each behind those that it reads."""
    done: set[ir.Node] = set()
    waiting: list[tuple[ir.Node, bool]] = [(node, False) for value in wanted if (node := value.producer()) is not None]
    while waiting:
        node, is_ready = waiting.pop()
        if node in done:
            continue
        if is_ready:
            done.add(node)
            yield node
            continue
        waiting.append((node, True))
        makers = (value.producer() for value in node.inputs if value is not None and value not in given)
        waiting += [(maker, False) for maker in makers if maker is not None and maker.graph is source]
