"""The tied table: the embedding that is also the vocabulary head, stored once and read both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.packing import float_nodes, store, unpack_nodes
from edge_asr_deploy.graph.storing.weights import (
    check,
    dequantize,
    int8_products,
    middle,
    middle_points,
    multiplied,
    widen,
)
from edge_asr_deploy.quantized.scales import CodedScales, TwoLevelScales
from edge_asr_deploy.quantized.weight import QuantizedWeight

FLOAT = ir.DataType.FLOAT
# Neighbours in the vocabulary whose maxima are looked at first.
GROUP_SIZES = range(64, 15, -1)


@dataclass(frozen=True)
class TiedTable:
    """The embedding that is also the head, stored once: rows are looked up packed, the head unpacks all of them."""

    codes: list[ir.Value]
    """Planes of the codes; where some rows are rare, without the bits that those lack."""
    low: list[ir.Value]
    """Planes of these bits: the rows before the rare ones, one of zeros for all of them, and the rows behind."""
    statistics: list[ir.Value] | None
    """Zero points, packed; wider ones than 4 bits as bytes. Where the weight has two levels, a byte for each group: its
    zero point and above it its multiplier less one. None where nothing differs between groups but the scale."""
    scales: ir.Value
    """One per row where the weight has two levels."""
    weight: QuantizedWeight

    @classmethod
    def store(cls, builder: Builder, weight: QuantizedWeight) -> TiedTable:
        """Initializers [vocabulary, ...], packed along the channels, so that a row is a row of bytes."""
        check(weight)
        zeros = np.zeros_like(weight.zero_points) if weight.symmetric else weight.zero_points
        dropped = 0 if weight.rare is None else weight.rare.dropped
        codes = store(builder, weight.codes >> np.uint8(dropped), weight.bits - dropped, 1, "codes")
        low = []
        if weight.rare is not None:
            few = np.delete(weight.codes, np.arange(weight.rare.start + 1, weight.rare.stop), axis=0)
            low = store(builder, few & np.uint8((1 << dropped) - 1), dropped, 1, "low")
        statistics = None
        match weight.scales:
            case TwoLevelScales(floats, multipliers):
                both = zeros | (multipliers - np.uint8(1)) << np.uint8(weight.bits)
                statistics = store(builder, both, 8, 1, "statistics")
            case CodedScales():
                raise ValueError(f"{weight.name}: the tied table has no coded scales")
            case plain:
                floats = plain.values
                if not weight.symmetric:
                    statistics = store(builder, zeros, _zero_width(weight), 1, "zeros")
        return cls(codes, low, statistics, builder.constant(floats, "scales"), weight)

    def head(self, builder: Builder, bits: int | None = None) -> ir.Value:
        """The whole table as a matrix [channels, vocabulary] for the last MatMul; folded and fused at load.

        With `bits` only that many leading bits of every code and zero point, on a grid as much wider.
        """
        weight = self.weight
        dropped = weight.bits - (bits or weight.bits)
        codes, zeros, multipliers = self._whole(builder, dropped)
        if zeros is None:
            zeros = _shifted(builder, middle_points(builder, weight), dropped, "RIGHT")
        scales = self._channel_scales(builder)
        if multipliers is not None:
            scales = multiplied(builder, multipliers, scales)
        if dropped:
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

    def _whole(self, builder: Builder, dropped: int = 0) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
        """Codes [channels, vocabulary], zero points and multipliers [groups, vocabulary], all uint8.

        Codes and zero points come without their `dropped` lowest bits.
        """

        def transposed(planes: list[ir.Value], bits: int, length: int) -> ir.Value:
            return builder.op("Transpose", unpack_nodes(builder, planes, bits, axis=1, length=length), perm=[1, 0])

        columns, lacking = self.weight.codes.shape[1], self._lacking
        codes = transposed(self.codes, self.weight.bits - lacking, columns)
        if lacking > dropped:
            low = transposed([self._for_all(builder, plane) for plane in self.low], lacking, columns)
            codes = builder.op("BitwiseOr", _shifted(builder, codes, lacking, "LEFT"), low)
            lacking = 0
        codes = _shifted(builder, codes, dropped - lacking, "RIGHT")
        if self.statistics is None:
            return codes, None, None
        statistics = transposed(self.statistics, _zero_width(self.weight), self._groups)
        zeros, multipliers = self._apart(builder, statistics)
        return codes, None if zeros is None else _shifted(builder, zeros, dropped, "RIGHT"), multipliers

    @property
    def _lacking(self) -> int:
        """Bits that the codes of rare rows lack; 0 where no rows are rare."""
        return 0 if self.weight.rare is None else self.weight.rare.dropped

    def _for_all(self, builder: Builder, plane: ir.Value) -> ir.Value:
        """A plane of `low` with a row for every token."""
        rare, rows = self.weight.rare, builder.integers(0)
        assert rare is not None
        zeros, behind = builder.integers(rare.start), builder.integers(rare.start + 1)
        parts = [
            builder.op("Slice", plane, builder.integers(0), zeros, rows),
            builder.op("Expand", builder.op("Slice", plane, zeros, behind, rows), builder.integers(rare.number, 1, 1)),
            builder.op("Slice", plane, behind, builder.integers(len(self.weight.codes)), rows),
        ]
        return builder.op("Concat", *parts, axis=0)

    def _apart(self, builder: Builder, statistics: ir.Value) -> tuple[ir.Value | None, ir.Value | None]:
        """Zero points and multipliers less one, of unpacked statistics."""
        weight = self.weight
        if not self._has_two_levels:
            return statistics, None
        low, high = (builder.constant(np.array(bits, dtype=np.uint8)) for bits in (weight.bits, 8 - weight.bits))
        multipliers = builder.op("BitShift", statistics, low, direction="RIGHT")
        if weight.symmetric:
            return None, multipliers
        zeros = builder.op("BitShift", statistics, high, direction="LEFT")
        return builder.op("BitShift", zeros, high, direction="RIGHT"), multipliers

    def _channel_scales(self, builder: Builder) -> ir.Value:
        """What is stored of the scales, float32 [groups or 1, vocabulary]."""
        return builder.op("Cast", builder.op("Transpose", self.scales, perm=[1, 0]), to=FLOAT)

    def refine(self, builder: Builder, hidden: ir.Value, coarse: ir.Value, number: int) -> ir.Value:
        """Logits (batch, steps, vocabulary) that are exact for the `number` best tokens of the `coarse` ones.

        Exact: the table's own values times `hidden` (batch, steps, channels) in float32. All others are lowered by the
        largest overestimate among the best, so that none of them can pass one that was looked at.
        """
        values, best = _best(builder, coarse, len(self.weight.codes), number)
        exact = self._scores(builder, hidden, best, number)
        excess = builder.op("ReduceMax", builder.op("Sub", values, exact), builder.integers(-1), keepdims=1)
        return builder.op("ScatterElements", builder.op("Sub", coarse, excess), best, exact, axis=-1)

    def embed(self, builder: Builder, tokens: ir.Value) -> ir.Value:
        """Rows for `tokens` (batch, steps): float32 (batch, steps, channels), only these rows unpacked."""
        columns = self.weight.codes.shape[1]
        codes, zeros, scales = self._rows(builder, tokens)
        last = builder.integers(3)
        if not self.weight.symmetric:
            zeros = builder.op("Unsqueeze", zeros, last)
        values = builder.op("Mul", builder.op("Sub", codes, zeros), builder.op("Unsqueeze", scales, last))
        values = builder.op("Reshape", values, builder.integers(0, 0, -1))
        if self._ragged:
            values = builder.op("Slice", values, builder.integers(0), builder.integers(columns), builder.integers(2))
        return values

    def _scores(self, builder: Builder, hidden: ir.Value, tokens: ir.Value, number: int) -> ir.Value:
        """Rows for `tokens` (batch, steps, number) times `hidden` (batch, steps, channels): (batch, steps, number).

        By groups, scale (codes hidden - zero sum(hidden)): a row is read once and never written out dequantized.
        """
        codes, zeros, scales = self._rows(builder, builder.op("Reshape", tokens, builder.integers(0, -1)))
        groups, width, last = self._groups, self._width, builder.integers(-1)
        if self._ragged:
            hidden = builder.op("Pad", hidden, builder.integers(0, 0, 0, 0, 0, self._ragged))
        split = builder.op("Reshape", hidden, builder.integers(0, -1, 1, groups, width))
        codes = builder.op("Reshape", codes, builder.integers(0, -1, number, groups, width))
        products = builder.op("ReduceSum", builder.op("Mul", codes, split), last, keepdims=0)
        sums = builder.op("ReduceSum", split, last, keepdims=0)
        apart = builder.integers(0, -1, number, groups)
        if not self.weight.symmetric:
            zeros = builder.op("Reshape", zeros, apart)
        products = builder.op("Sub", products, builder.op("Mul", zeros, sums))
        scales = builder.op("Reshape", scales, builder.integers(0, -1, number, self._scale_groups))
        return builder.op("ReduceSum", builder.op("Mul", products, scales), last, keepdims=0)

    def _rows(self, builder: Builder, tokens: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Of the rows for `tokens` (batch, rows), all float32: codes (batch, rows, groups, width), padded to whole
        groups; zero points (batch, rows, groups), or one for all; scales (batch, rows, groups or 1)."""
        weight = self.weight
        columns, lacking = weight.codes.shape[1], self._lacking
        codes = [builder.op("Gather", plane, tokens, axis=0) for plane in self.codes]
        values = float_nodes(builder, codes, weight.bits - lacking, columns)
        if weight.rare is not None:
            # All rare tokens read the row of zeros.
            behind = builder.op("Sub", tokens, builder.integers(weight.rare.stop - 1))
            places = builder.op("Min", tokens, builder.integers(weight.rare.start))
            places = builder.op("Add", places, builder.op("Max", behind, builder.integers(0)))
            low = [builder.op("Gather", plane, places, axis=0) for plane in self.low]
            higher = builder.op("Mul", values, builder.constant(np.array(2**lacking, dtype=np.float32)))
            values = builder.op("Add", higher, float_nodes(builder, low, lacking, columns))
        if self._ragged:
            values = builder.op("Pad", values, builder.integers(0, 0, 0, 0, 0, self._ragged))
        values = builder.op("Reshape", values, builder.integers(0, 0, self._groups, self._width))
        scales = builder.op("Cast", builder.op("Gather", self.scales, tokens, axis=0), to=FLOAT)
        few = [builder.op("Gather", plane, tokens, axis=0) for plane in self.statistics or ()]
        points = None
        if self._has_two_levels:
            points, multipliers = self._apart(
                builder, builder.op("Reshape", few[0], builder.integers(0, 0, self._groups))
            )
            assert multipliers is not None
            scales = multiplied(builder, multipliers, scales)
        if weight.symmetric:
            zeros = builder.constant(np.array(middle(weight), dtype=np.float32))
        elif points is not None:
            zeros = builder.op("Cast", points, to=FLOAT)
        else:
            zeros = float_nodes(builder, few, _zero_width(weight), self._groups)
        return values, zeros, scales

    @property
    def _has_two_levels(self) -> bool:
        return isinstance(self.weight.scales, TwoLevelScales)

    @property
    def _groups(self) -> int:
        return int(self.weight.zero_points.shape[1])

    @property
    def _scale_groups(self) -> int:
        return self._groups

    @property
    def _width(self) -> int:
        """Channels of a group."""
        return self.weight.group or self.weight.codes.shape[1]

    @property
    def _ragged(self) -> int:
        """Channels that the last group lacks."""
        return -int(self.weight.codes.shape[1]) % self._width


def _shifted(builder: Builder, codes: ir.Value, bits: int, direction: str) -> ir.Value:
    if not bits:
        return codes
    return builder.op("BitShift", codes, builder.constant(np.array(bits, dtype=np.uint8)), direction=direction)


def _zero_width(weight: QuantizedWeight) -> int:
    """Bits that zero points are stored in. As bytes they take no operators, and every step looks some up."""
    return 8 if weight.bits > 4 or isinstance(weight.scales, TwoLevelScales) else weight.bits


def _best(builder: Builder, scores: ir.Value, length: int, number: int) -> tuple[ir.Value, ir.Value]:
    """The `number` largest of `scores` (batch, steps, length) and their places, in no order.

    They lie among as many groups of neighbours, those with the largest maxima: half the time of one TopK over all.
    """
    many = builder.integers(number)
    size = next((size for size in GROUP_SIZES if length % size == 0 and length // size >= number), None)
    if size is None:
        best, places = builder.several("TopK", 2, scores, many, axis=-1, sorted=0)
        return best, places
    last = builder.integers(-1)
    groups = builder.op("Reshape", scores, builder.integers(0, 0, length // size, size))
    peaks = builder.op("ReduceMax", groups, last, keepdims=0)
    _, highest = builder.several("TopK", 2, peaks, many, axis=-1, sorted=0)
    starts = builder.op("Mul", builder.op("Unsqueeze", highest, last), builder.integers(size))
    places = builder.op("Add", starts, builder.integers(*range(size)))
    places = builder.op("Reshape", places, builder.integers(0, 0, number * size))
    few = builder.op("GatherElements", scores, places, axis=-1)
    values, chosen = builder.several("TopK", 2, few, many, axis=-1, sorted=0)
    return values, builder.op("GatherElements", places, chosen, axis=-1)
