"""The vocabulary head in one pass, where a bundle has two: for kernels that read a float matrix anyway.

With `embedding.shortlist` a head multiplies by the leading bits of every code, and scores the best tokens again from
whole codes (docs/design/graphs.md). That saves bytes in a low-bit kernel. Where the matrix is float at load it saves
nothing, so the head takes the whole codes at once, and all logits are exact.
"""

from __future__ import annotations

import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.editing import rename_output


def one_pass(graph: ir.Graph) -> None:
    """Rewrite a decoder's head in place; a head that has one pass, or an integer kernel, stays as it is."""
    logits = next((value for value in graph.outputs if value.name == "logits"), None)
    scattered = _made_by(logits, "ScatterElements")
    lowered = None if scattered is None else _made_by(scattered.inputs[0], "Sub")
    product = None if lowered is None else _made_by(lowered.inputs[0], "MatMul")
    matrix = None if product is None else _made_by(product.inputs[1], "DequantizeLinear")
    if logits is None or lowered is None or matrix is None:
        return
    coarse = lowered.inputs[0]
    assert coarse is not None
    rename_output(graph, logits, coarse)
    shift = _shift(matrix.inputs[0])
    # Whole codes come from a Transpose: another shift would be one that unpacks them.
    if shift is None or _made_by(shift.inputs[0], "Transpose") is None:
        return
    widened = _made_by(matrix.inputs[1], "Mul")
    assert widened is not None
    matrix.replace_input_with(0, shift.inputs[0])
    matrix.replace_input_with(1, widened.inputs[0])
    if len(matrix.inputs) > 2 and (points := _shift(matrix.inputs[2])) is not None:
        matrix.replace_input_with(2, points.inputs[0])


def _made_by(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node that makes a value, if it is of that kind."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind else None


def _shift(value: ir.Value | None) -> ir.Node | None:
    """The BitShift that drops the last bits of codes, before the Cast to the kernel's type."""
    cast = _made_by(value, "Cast")
    return _made_by(value if cast is None else cast.inputs[0], "BitShift")
