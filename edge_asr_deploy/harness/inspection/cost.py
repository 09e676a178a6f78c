"""Counts what a bundle costs to run: multiply-accumulates and bytes moved, from the operators that onnxruntime ran.

Each graph is run once under onnxruntime's profiler, which reports the shapes that reached every operator. Of an If, the
branch that was taken counts. The module also has the formulas of the Edge-ASR paper (arXiv 2507.07877, tables of
section 4): model size = W b_w / 8, memory I/O = W b_w / 8 + A b_a / 8, BOPs = sum of MACs b_w b_a.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS

# Mel frames of Whisper's window of 30 s.
WINDOW = 3000
# Operators that multiply matrices by stored weights, in all fused forms of onnxruntime.
PRODUCTS = (
    "MatMul",
    "MatMulNBits",
    "FusedMatMul",
    "Gemm",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger",
)
CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")
# These operators only give the same memory another shape, so they move no bytes.
VIEWS = ("Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class OperatorCost:
    """The cost of one kind of operator in one run. `activation_bytes` are those that it read and wrote."""

    kind: str
    calls: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class GraphCost:
    """The cost of one run of one graph, which `what` names. `weight_bytes` counts the stored matrices that it reads."""

    what: str
    weight_bytes: int
    operators: tuple[OperatorCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operators."""
        return sum(operator.macs for operator in self.operators)

    @property
    def bytes_moved(self) -> int:
        """The bytes moved: stored weights are read once, activations are read and written."""
        return self.weight_bytes + sum(operator.activation_bytes for operator in self.operators)


def cost_of(bundle: Path, seconds: float = 30.0) -> list[GraphCost]:
    """The costs of the encoder on `seconds` of audio, of the decoder's first call, and of one later step.

    UserError when the bundle is damaged or its graphs do not run.
    """
    manifest = verify(bundle)
    samples = round(16_000 * seconds)
    encoder, decoder = _session(bundle / "encoder_model.onnx"), _session(bundle / "decoder_model_merged.onnx")
    shapes = {value.name: value.shape for value in encoder.get_inputs()}
    if manifest.family == "whisper":
        # The encoder accepts any length. Without --audio-context it gets the full window.
        features = np.zeros([1, shapes["input_features"][1], WINDOW], np.float32)
        inputs: dict[str, Any] = {"input_features": features}
    else:
        inputs = {"input_values": np.zeros((1, samples), np.float32), "attention_mask": np.ones((1, samples), np.int64)}
    hidden = encoder.run(None, {name: value for name, value in inputs.items() if name in shapes})[0]
    weights = {
        component: sum(layer.bytes for layer in manifest.layers if layer.component == component)
        for component in COMPONENTS
    }
    what = f"encoder, {hidden.shape[1]} frames"
    costs = [GraphCost(what, weights["encoder"], _operators(_events(encoder)))]

    feeds: dict[str, Any] = {"input_ids": np.ones((1, 1), np.int64), "encoder_hidden_states": hidden}
    for value in decoder.get_inputs():
        if value.name.startswith("past_key_values"):
            feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
        elif value.name == "encoder_attention_mask":
            feeds[value.name] = inputs["attention_mask"]
    accepted = {value.name for value in decoder.get_inputs()}
    names = [value.name for value in decoder.get_outputs()]
    first = dict(zip(names, _run(decoder, {**feeds, "use_cache_branch": np.array([False])}, accepted), strict=True))
    past = {name.replace("present", "past_key_values"): value for name, value in first.items() if name != "logits"}
    _run(decoder, {**feeds, **past, "use_cache_branch": np.array([True])}, accepted)
    call, step = _split(_events(decoder))
    # Looking up the embedding reads few rows, but the vocabulary head multiplies by the whole table.
    per_step = weights["decoder"] + weights["embedding"]
    costs.append(GraphCost("decoder, first call", per_step + weights["cross_attention"], _operators(call)))
    costs.append(GraphCost("decoder, one step", per_step, _operators(step)))
    return costs


def paper_size(parameters: int, weight_bits: float) -> float:
    """Model size in bytes: W b_w / 8."""
    return parameters * weight_bits / 8


def paper_memory_io(parameters: int, activations: int, weight_bits: float, activation_bits: float) -> float:
    """Bytes moved for one input: weights once, and all activation elements read or written: W b_w / 8 + A b_a / 8."""
    return paper_size(parameters, weight_bits) + activations * activation_bits / 8


def relative_bops(weight_bits: float, activation_bits: float) -> float:
    """Bit operations relative to 32-bit weights and activations: b_w b_a / 1024."""
    return weight_bits * activation_bits / 1024


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.mkdtemp()) / "profile")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no public base class
        reason = str(error).strip().splitlines()[0]
        raise UserError("bundle", path, f"onnxruntime does not load it ({reason}); export it again") from error


def _run(session: onnxruntime.InferenceSession, feeds: dict[str, Any], accepted: set[str]) -> list[Any]:
    outputs: list[Any] = session.run(None, {name: value for name, value in feeds.items() if name in accepted})
    return outputs


def _events(session: onnxruntime.InferenceSession) -> list[dict[str, Any]]:
    """The profiler's records in time order. Its file and folder are removed."""
    path = Path(session.end_profiling())
    events: list[dict[str, Any]] = json.loads(path.read_text())
    path.unlink()
    path.parent.rmdir()
    return events


def _split(events: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The records of each `run` call, by the times at which the calls began and ended."""
    runs = [event for event in events if event.get("name") == "model_run"]
    calls = []
    for run in runs:
        start, end = run["ts"], run["ts"] + run["dur"]
        calls.append([event for event in events if start <= event.get("ts", -1) <= end])
    return calls


def _operators(events: Sequence[dict[str, Any]]) -> tuple[OperatorCost, ...]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for event in events:
        # The operators of an If's branch have records of their own.
        if event.get("cat") != "Node" or not event["name"].endswith("kernel_time") or event["args"]["op_name"] == "If":
            continue
        arguments = event["args"]
        moved = int(arguments["activation_size"]) + int(arguments["output_size"])
        if arguments["op_name"] in VIEWS:
            moved = 0
        figures = (1, _macs(arguments), moved)
        total = sums[arguments["op_name"]]
        for index, figure in enumerate(figures):
            total[index] += figure
    costs = (OperatorCost(kind, *figures) for kind, figures in sums.items())
    return tuple(sorted(costs, key=lambda cost: (-cost.macs, -cost.activation_bytes, cost.kind)))


def _macs(arguments: dict[str, Any]) -> int:
    kind = arguments["op_name"]
    inputs: list[list[int]] = [next(iter(shape.values())) for shape in arguments["input_type_shape"]]
    outputs: list[list[int]] = [next(iter(shape.values())) for shape in arguments["output_type_shape"]]
    if kind in PRODUCTS:
        return math.prod(outputs[0]) * inputs[0][-1]
    if kind in CONVOLUTIONS:
        # A kernel has the shape (out, in / groups, width), and each output value takes one whole kernel.
        return math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if kind == "Attention":
        return _attention_macs(inputs, outputs)
    return 0


def _attention_macs(inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """Queries x keys x channels, for the scores and again for the weighted sum. Cached keys count."""
    query, key = inputs[0], inputs[1]
    channels = query[-1] * (query[1] if len(query) == 4 else 1)
    keys = outputs[1][2] if len(outputs) > 1 else key[-2]
    return 2 * query[0] * query[-2] * keys * channels
