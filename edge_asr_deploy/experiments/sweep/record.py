"""What a sweep found, cell by cell, as `results.jsonl` holds it: figures, differences, hashes and versions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.experiments.sweep.cells import Finding
from edge_asr_deploy.experiments.sweep.grid import FLOAT, Cell
from edge_asr_deploy.experiments.sweep.keys import Keys, recipe_hash
from edge_asr_deploy.harness.evaluation.bootstrap import difference_intervals
from edge_asr_deploy.harness.evaluation.result import Accuracy, Interval, NormalizerName, WordErrors
from edge_asr_deploy.harness.inspection.cost import GraphCost, paper_memory_io, paper_size, relative_bops
from edge_asr_deploy.harness.machine.environment import Environment
from edge_asr_deploy.recipe.overlay import BLOCKS, Document

RESULTS = "results.jsonl"
# One document, which sweeps of version 0.1 wrote.
OLDER_RESULTS = "results.json"
# One forward pass as the paper counts it: the encoder, and the decoder's call that also makes the cross-attention K/V.
ENCODER, FIRST_CALL = 0, 1
FLOAT_BYTES = 4


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Model):
    """WER minus another cell's on the same utterances (fractions), with its 95 % paired bootstrap interval."""

    value: float
    interval: Interval

    @property
    def is_worse(self) -> bool:
        """True when the whole interval lies above zero: worse by more than noise."""
        return self.interval[0] > 0


class PaperCost(_Model):
    """Cost by the Edge-ASR paper's formulas (arXiv 2507.07877), 30 s of audio.

    `weight_bits` b_w is the mean of the bits of all stored matrices by their elements, without scales. `size` = W b_w
    / 8 bytes; `memory_io` = W b_w / 8 + A b_a / 8 bytes with A the elements that the float graphs of the encoder and
    the decoder's first call read and wrote; `bops` = MACs b_w b_a of these two; `relative_bops` = b_w b_a / 1024.
    """

    parameters: int
    weight_bits: float
    activation_bits: int
    size: float
    memory_io: float | None
    bops: float | None
    relative_bops: float


class Measured(_Model):
    """The figures of a cell that is done. Bytes are of files; effective bits count codes, scales and zero points."""

    checkpoint_sha256: str
    bundle_hash: str
    accuracy_level: int
    accuracy_level_note: str
    pooled: WordErrors
    by_corpus: dict[str, WordErrors]
    runaway: int
    empty: int
    rise: Difference | None = Field(description="against the float baseline")
    against_reference: Difference | None = Field(description="against the reference method at the same setting")
    onnx_bytes: int
    total_bytes: int
    effective_bits: float = Field(description="of all matrices")
    effective_bits_blocks: float = Field(description="of the Linear layers of the blocks")
    paper: PaperCost
    counted_macs: int = Field(description="of the exported graphs: encoder and the decoder's first call")
    counted_bytes: int = Field(description="moved by these")
    quantize_seconds: float | None
    peak_memory: int | None = Field(None, description="bytes, of the process that calibrated, quantized and exported")
    versions: dict[str, str]
    environment: Environment
    created: str


class Record(_Model):
    """One cell. `error` is set where it failed, `measured` where it is done; neither where it is pending.

    `judged`: the settings of its evaluation without the speech. `earlier`: measured by an earlier run, with another
    source, other versions or on another machine (see `measured`).
    """

    name: str
    values: dict[str, str]
    recipe_hash: str
    recipe: Document
    judged: Document
    keys: dict[str, str | None]
    measured: Measured | None = None
    error: str | None = None
    earlier: bool = False

    @property
    def state(self) -> Literal["done", "failed", "pending"]:
        """How far it is."""
        return "done" if self.measured else "failed" if self.error else "pending"


class SweepResult(_Model):
    """A whole sweep. `command` made it; `reference` is the method that the others are compared with."""

    schema_version: Literal[1] = 1
    name: str
    command: str
    created: str
    speech: str
    normalizer: NormalizerName | None
    reference: str
    axes: list[str]
    cells: list[Record]


def to_lines(result: SweepResult) -> str:
    """The text of `results.jsonl`: a JSON line about the whole sweep, then a JSON line for each cell."""
    head = result.model_dump_json(exclude={"cells"})
    return "".join(f"{line}\n" for line in (head, *(record.model_dump_json() for record in result.cells)))


def from_lines(text: str) -> SweepResult:
    """The sweep of a `results.jsonl`; ValueError where the text is not one."""
    head, *cells = (json.loads(line) for line in text.removesuffix("\n").split("\n"))
    if not isinstance(head, dict):
        raise ValueError("the first line is not a JSON object")
    return SweepResult.model_validate({**head, "cells": cells})


def read_results(folder: Path) -> SweepResult | None:
    """The sweep of an output folder, None where it has none. ValueError and OSError for files that cannot be read."""
    if (folder / RESULTS).exists():
        return from_lines((folder / RESULTS).read_text(encoding="utf-8"))
    if (folder / OLDER_RESULTS).exists():
        return SweepResult.model_validate_json((folder / OLDER_RESULTS).read_bytes())
    return None


@dataclass(frozen=True)
class CellState:
    """A cell and how it ended, if it has; `keys` and `checkpoint` (the weights' hash) are None if not computable."""

    cell: Cell
    keys: Keys | None
    finding: Finding | None = None
    error: str | None = None
    checkpoint: str | None = None


def records(states: Sequence[CellState], reference: str) -> list[Record]:
    """Every cell's record, with its differences to its model's baseline and to the reference method's cell."""
    by_values = {_identity(one.cell.values): one.finding for one in states}
    pairs: dict[tuple[int, int], tuple[Finding, Finding]] = {}
    partners: list[tuple[Finding | None, Finding | None]] = []
    for one in states:
        values = one.cell.values
        baseline = by_values.get(_identity({"model": values["model"], "method": FLOAT}))
        compared = by_values.get(_identity({**values, "method": reference}))
        partners.append((baseline, compared))
        for other in (baseline, compared):
            if one.finding is not None and other is not None and other is not one.finding:
                pairs[id(one.finding), id(other)] = (one.finding, other)
    differences = dict(zip(pairs, _differences(list(pairs.values())), strict=True))

    def difference(ours: Finding, other: Finding | None) -> Difference | None:
        return None if other is None else differences.get((id(ours), id(other)))

    result = []
    for one, (baseline, compared) in zip(states, partners, strict=True):
        ours = one.finding
        measured = None
        if ours is not None:
            measured = _measured(one.cell, ours, baseline, difference(ours, baseline), difference(ours, compared))
        result.append(
            Record(
                name=one.cell.name,
                values=one.cell.values,
                recipe_hash=recipe_hash(one.cell.recipe),
                recipe=one.cell.recipe.model_dump(mode="json"),
                judged=one.cell.evaluation.model_dump(mode="json", exclude={"data"}),
                keys={} if one.keys is None else asdict(one.keys),
                measured=measured,
                error=one.error,
            )
        )
    return result


def with_earlier(
    cell_records: Sequence[Record], states: Sequence[CellState], earlier: Iterable[Record]
) -> list[Record]:
    """The records; an earlier run's record of the same recipe, checkpoint and evaluation replaces a pending one."""
    before = {old.name: old for old in earlier if old.measured}

    def replaced(record: Record, checkpoint: str | None) -> Record:
        old = before.get(record.name)
        if record.state != "pending" or old is None or old.measured is None:
            return record
        asked = record.recipe_hash, record.judged, checkpoint
        is_same = asked == (old.recipe_hash, old.judged, old.measured.checkpoint_sha256)
        return old.model_copy(update={"earlier": True}) if is_same else record

    return [replaced(record, one.checkpoint) for record, one in zip(cell_records, states, strict=True)]


def _measured(
    cell: Cell, finding: Finding, baseline: Finding | None, rise: Difference | None, compared: Difference | None
) -> Measured:
    ours, result = finding.result.bundle, finding.result
    return Measured(
        checkpoint_sha256=ours.model_sha256,
        bundle_hash=ours.hash,
        accuracy_level=result.settings.accuracy_level,
        accuracy_level_note=result.settings.accuracy_level_note,
        pooled=ours.accuracy.pooled,
        by_corpus=ours.accuracy.by_corpus,
        runaway=ours.accuracy.runaway,
        empty=ours.accuracy.empty,
        rise=rise,
        against_reference=compared,
        onnx_bytes=ours.size.onnx,
        total_bytes=ours.size.total,
        effective_bits=_effective_bits(finding.layers),
        effective_bits_blocks=_effective_bits([layer for layer in finding.layers if layer.component in BLOCKS]),
        paper=_paper(finding.layers, cell.evaluation.activation_bits, baseline),
        counted_macs=sum(cost.macs for cost in _forward(finding.costs)),
        counted_bytes=sum(cost.bytes_moved for cost in _forward(finding.costs)),
        quantize_seconds=None if cell.is_float else finding.quantize_seconds,
        peak_memory=None if cell.is_float else finding.peak_memory,
        versions=finding.versions,
        environment=result.environment,
        created=result.created,
    )


def _differences(pairs: Sequence[tuple[Finding, Finding]]) -> list[Difference]:
    """Of each pair the first's WER minus the second's; pairs on the same speech are resampled together."""
    accuracies = [(ours.result.bundle.accuracy, other.result.bundle.accuracy) for ours, other in pairs]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, (ours, _) in enumerate(accuracies):
        groups.setdefault(tuple(row.words for row in ours.rows), []).append(index)
    intervals: dict[int, Interval] = {}
    for words, indices in groups.items():
        extra = np.array([_errors(accuracies[i][0]) for i in indices]) - [_errors(accuracies[i][1]) for i in indices]
        intervals.update(zip(indices, difference_intervals(extra, words), strict=True))
    return [
        Difference(value=ours.pooled.wer - other.pooled.wer, interval=intervals[index])
        for index, (ours, other) in enumerate(accuracies)
    ]


def _errors(accuracy: Accuracy) -> list[int]:
    return [row.errors for row in accuracy.rows]


def _effective_bits(layers: Iterable[Layer]) -> float:
    stored = list(layers)
    return 8 * sum(layer.bytes for layer in stored) / max(1, sum(math.prod(layer.shape) for layer in stored))


def _paper(layers: Sequence[Layer], activation_bits: int, baseline: Finding | None) -> PaperCost:
    parameters = sum(math.prod(layer.shape) for layer in layers)
    bits = sum(layer.bits * math.prod(layer.shape) for layer in layers) / parameters
    elements = macs = None
    if baseline is not None:
        graphs = _forward(baseline.costs)
        elements = sum(operator.activation_bytes for graph in graphs for operator in graph.operators) // FLOAT_BYTES
        macs = sum(graph.macs for graph in graphs)
    return PaperCost(
        parameters=parameters,
        weight_bits=bits,
        activation_bits=activation_bits,
        size=paper_size(parameters, bits),
        memory_io=None if elements is None else paper_memory_io(parameters, elements, bits, activation_bits),
        bops=None if macs is None else macs * bits * activation_bits,
        relative_bops=relative_bops(bits, activation_bits),
    )


def _forward(costs: Sequence[GraphCost]) -> list[GraphCost]:
    return [costs[ENCODER], costs[FIRST_CALL]]


def _identity(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))
