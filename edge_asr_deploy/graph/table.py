"""The tied table: the embedding that is also the vocabulary head, stored once and read both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.packing import store, unpack_nodes
from edge_asr_deploy.graph.weights import check, dequantize, int8_products, middle, middle_points, multiplied, widen
from edge_asr_deploy.ptq.weight import QuantizedWeight

FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class TiedTable:
    """The embedding that is also the head, stored once: rows are looked up packed, the head unpacks all of them."""

    codes: list[ir.Value]
    zeros: list[ir.Value] | None
    """None where the grid is symmetric: every zero point is then the middle of the codes."""
    scales: ir.Value
    multipliers: list[ir.Value] | None
    """Of the scales, less one, where the weight has two levels: then the scales are one per row."""
    weight: QuantizedWeight

    @classmethod
    def store(cls, builder: Builder, weight: QuantizedWeight) -> TiedTable:
        """Initializers [vocabulary, ...], packed along the channels, so that a row is a row of bytes."""
        check(weight)
        factors = weight.multipliers
        return cls(
            store(builder, weight.codes, weight.bits, 1, "codes"),
            None if weight.symmetric else store(builder, weight.zero_points, weight.bits, 1, "zeros"),
            builder.constant(weight.scales, "scales"),
            None if factors is None else store(builder, factors - np.uint8(1), 8 - weight.bits, 1, "multipliers"),
            weight,
        )

    def head(self, builder: Builder, bits: int | None = None) -> ir.Value:
        """The whole table as a matrix [channels, vocabulary] for the last MatMul; folded and fused at load.

        With `bits` only that many leading bits of every code and zero point, on a grid as much wider.
        """
        weight = self.weight
        dropped = weight.bits - (bits or weight.bits)
        codes, zeros, multipliers = self._whole(builder)
        if zeros is None:
            zeros = middle_points(builder, weight)
        scales = self._channel_scales(builder)
        if multipliers is not None:
            scales = multiplied(builder, multipliers, scales)
        if dropped:
            shift = builder.constant(np.array(dropped, dtype=np.uint8))
            codes, zeros = (builder.op("BitShift", v, shift, direction="RIGHT") for v in (codes, zeros))
            scales = builder.op("Mul", scales, builder.constant(np.array(2**dropped, dtype=np.float32)))
        codes, zeros = (widen(builder, v, weight.bits - dropped) for v in (codes, zeros))
        return dequantize(builder, codes, scales, zeros, weight)

    def int8_head(self, builder: Builder) -> tuple[ir.Value, ir.Value]:
        """The whole table as an int8 matrix [channels, vocabulary], and its rows' float32 scales (vocabulary,)."""
        codes, zeros, multipliers = self._whole(builder)
        matrix = int8_products(
            builder, codes, middle(self.weight) if zeros is None else zeros, multipliers, self.weight
        )
        return matrix, builder.op("Squeeze", self._channel_scales(builder), builder.integers(0))

    def _whole(self, builder: Builder) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
        """Codes [channels, vocabulary], zero points and multipliers [groups, vocabulary], all uint8."""
        weight = self.weight
        columns, groups = weight.codes.shape[1], weight.zero_points.shape[1]

        def turned(planes: list[ir.Value], bits: int, length: int) -> ir.Value:
            return builder.op("Transpose", unpack_nodes(builder, planes, bits, axis=1, length=length), perm=[1, 0])  # type: ignore[no-any-return]

        return (
            turned(self.codes, weight.bits, columns),
            None if self.zeros is None else turned(self.zeros, weight.bits, groups),
            None if self.multipliers is None else turned(self.multipliers, 8 - weight.bits, groups),
        )

    def _channel_scales(self, builder: Builder) -> ir.Value:
        """What is stored of the scales, float32 [groups or 1, vocabulary]."""
        return builder.op("Cast", builder.op("Transpose", self.scales, perm=[1, 0]), to=FLOAT)  # type: ignore[no-any-return]

    def refine(self, builder: Builder, hidden: ir.Value, coarse: ir.Value, number: int) -> ir.Value:
        """Logits (batch, steps, vocabulary) that are exact for the `number` best tokens of the `coarse` ones.

        Exact: the table's own values times `hidden` (batch, steps, channels) in float32. All others are lowered by the
        largest overestimate among the best, so that none of them can pass one that was looked at.
        """
        columns = self.weight.codes.shape[1]
        values, best = builder.op("TopK", coarse, builder.integers(number), outputs=2, axis=-1, sorted=0)
        rows = self.embed(builder, builder.op("Reshape", best, builder.integers(0, -1)))
        rows = builder.op("Reshape", rows, builder.integers(0, -1, number, columns))
        last = builder.integers(-1)
        exact = builder.op("Squeeze", builder.op("MatMul", rows, builder.op("Unsqueeze", hidden, last)), last)
        excess = builder.op("ReduceMax", builder.op("Sub", values, exact), last, keepdims=1)
        return builder.op("ScatterElements", builder.op("Sub", coarse, excess), best, exact, axis=-1)  # type: ignore[no-any-return]

    def embed(self, builder: Builder, tokens: ir.Value) -> ir.Value:
        """Rows for `tokens` (batch, steps): float32 (batch, steps, channels), only these rows unpacked."""
        weight = self.weight
        columns, groups = weight.codes.shape[1], weight.zero_points.shape[1]
        rows = [builder.op("Gather", plane, tokens, axis=0) for plane in self.codes]
        scales = builder.op("Cast", builder.op("Gather", self.scales, tokens, axis=0), to=FLOAT)
        if self.multipliers is not None:
            few = [builder.op("Gather", plane, tokens, axis=0) for plane in self.multipliers]
            factors = unpack_nodes(builder, few, 8 - weight.bits, axis=2, length=groups)
            scales = multiplied(builder, factors, scales)
        codes = builder.op("Cast", unpack_nodes(builder, rows, weight.bits, axis=2, length=columns), to=FLOAT)
        width = columns if weight.group is None else weight.group
        if ragged := -columns % width:
            codes = builder.op("Pad", codes, builder.integers(0, 0, 0, 0, 0, ragged))
        codes = builder.op("Reshape", codes, builder.integers(0, 0, groups, width))
        last = builder.integers(3)
        if self.zeros is None:
            zeros = builder.constant(np.array(middle(weight), dtype=np.float32))
        else:
            row_zeros = [builder.op("Gather", plane, tokens, axis=0) for plane in self.zeros]
            zeros = builder.op("Cast", unpack_nodes(builder, row_zeros, weight.bits, axis=2, length=groups), to=FLOAT)
            zeros = builder.op("Unsqueeze", zeros, last)
        values = builder.op("Mul", builder.op("Sub", codes, zeros), builder.op("Unsqueeze", scales, last))
        values = builder.op("Reshape", values, builder.integers(0, 0, -1))
        if ragged:
            values = builder.op("Slice", values, builder.integers(0), builder.integers(columns), builder.integers(2))
        return values  # type: ignore[no-any-return]
