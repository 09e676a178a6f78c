"""After every export: is the graph valid, does it run on low-bit kernels, does it compute what PyTorch computes?

Run through onnxruntime, as deployed. Each check raises UserError with the figure that failed; none is optional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from edge_asr_deploy.bundle import Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.build import MERGED
from edge_asr_deploy.graph.export import ENCODER
from edge_asr_deploy.graph.integer import INTEGER_KERNELS
from edge_asr_deploy.harness.inspect import large_dequantize, operators
from edge_asr_deploy.ptq.activations import fake_activations
from edge_asr_deploy.ptq.calibration import Sample
from edge_asr_deploy.ptq.weight import QuantizedWeight
from edge_asr_deploy.runtime.session import SessionSettings, open_session

# Same weights and float activations on both sides: what is left is the order of float32 sums.
TOLERANCE = 2e-3
TOKEN_AGREEMENT = 0.99
# Steps that are decoded one by one through the cache, to compare with all positions at once.
CACHED_STEPS = 4


@dataclass(frozen=True)
class Agreement:
    """Distance of the exported graphs from PyTorch, on teacher-forced clips, activations in float."""

    encoder: float
    """Largest difference of the encoder's output, relative to its largest magnitude."""
    logits: float
    """The same of the decoder's logits."""
    tokens: float
    """Share of positions with the same most likely token."""
    cached: float
    """Largest relative difference of logits decoded through the cache from those of one call."""


def check_files(folder: Path) -> None:
    """onnx's checker on both graphs, shapes inferred."""
    for name in (ENCODER, MERGED):
        try:
            onnx.checker.check_model(folder / name, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError("export", name, f"is not a valid ONNX model ({reason}); report this") from error


def check_operators(folder: Path, layers: Sequence[Layer]) -> dict[str, Counter[str]]:
    """Every integer matrix runs in the kernel that the layers promise, and none is expanded to float.

    That is onnxruntime's low-bit MatMul where activations are float, one of `INTEGER_KERNELS` where they are int8.
    Returns the operators of the optimized graphs, by file.
    """
    low_bit, whole = Counter[str](), Counter[str]()
    for layer in layers:
        if layer.group is not None or layer.symmetric is not None:
            wanted = low_bit if layer.activations == "float" else whole
            wanted[ENCODER if layer.component == "encoder" else MERGED] += 1
    counts = {name: operators(folder / name) for name in (ENCODER, MERGED)}
    for name, count in counts.items():
        if (found := count["MatMulNBits"]) != (expected := low_bit[name]):
            remedy = f"{found} of {expected} integer matrices run in a low-bit kernel; choose other bits or group sizes"
            raise UserError("export", name, remedy)
        if (found := sum(count[kernel] for kernel in INTEGER_KERNELS)) != (expected := whole[name]):
            raise UserError("export", name, f"{found} of {expected} int8 layers run in an integer kernel; report this")
        if large := large_dequantize(folder / name):
            raise UserError("export", name, f"{large[0]} is expanded to float at run time; choose other group sizes")
    return counts


def measure_agreement(
    model: Any, folder: Path, samples: Sequence[Sample], weights: Sequence[QuantizedWeight] = ()
) -> Agreement:
    """Compare both graphs with `model`, which holds the same (fake-quantized) weights, on some prepared clips.

    Activations are rounded in PyTorch, too, where `weights` say so.
    """
    settings = SessionSettings(accuracy_level=1)
    encoder, decoder = open_session(folder / ENCODER, settings), open_session(folder / MERGED, settings)
    with fake_activations(model, weights):
        found = [_compare(model, encoder, decoder, sample) for sample in samples]
    worst = np.max([[f.encoder, f.logits, f.cached] for f in found], axis=0)
    tokens = float(np.mean([f.tokens for f in found]))
    return Agreement(encoder=float(worst[0]), logits=float(worst[1]), tokens=tokens, cached=float(worst[2]))


def check_agreement(agreement: Agreement) -> None:
    """UserError when the exported graphs compute something else than PyTorch."""
    for name, value in (("encoder", agreement.encoder), ("logits", agreement.logits), ("cached", agreement.cached)):
        if not value <= TOLERANCE:
            remedy = f"differs from PyTorch by {value:.2g} of its range, more than {TOLERANCE:g}; report this"
            raise UserError("export", name, remedy)
    if agreement.tokens < TOKEN_AGREEMENT:
        raise UserError("export", "tokens", f"only {agreement.tokens:.1%} agree with PyTorch; report this")


def _compare(
    model: Any, encoder: onnxruntime.InferenceSession, decoder: onnxruntime.InferenceSession, sample: Sample
) -> Agreement:
    main = model.get_encoder().main_input_name
    inputs = {main: sample.inputs}
    names = {value.name for value in encoder.get_inputs()}
    if "attention_mask" in names:
        inputs["attention_mask"] = torch.ones(sample.inputs.shape, dtype=torch.int64)
    with torch.no_grad():
        expected = model.get_encoder()(**inputs).last_hidden_state
        logits = model(**inputs, decoder_input_ids=sample.tokens).logits.numpy()
    fed = {name: value.numpy() for name, value in inputs.items()}
    hidden = encoder.run(None, fed)[0]
    common = {"encoder_hidden_states": hidden, "encoder_attention_mask": fed.get("attention_mask")}
    tokens = sample.tokens.numpy()
    whole, _ = _decode(decoder, common, tokens, None)
    split = max(1, tokens.shape[1] - CACHED_STEPS)
    stepped, past = _decode(decoder, common, tokens[:, :split], None)
    for position in range(split, tokens.shape[1]):
        step, past = _decode(decoder, common, tokens[:, position : position + 1], past)
        stepped = np.concatenate([stepped, step], axis=1)
    return Agreement(
        encoder=_distance(hidden, expected.numpy()),
        logits=_distance(whole, logits),
        tokens=float((whole.argmax(-1) == logits.argmax(-1)).mean()),
        cached=_distance(stepped, whole),
    )


def _decode(
    decoder: onnxruntime.InferenceSession,
    common: dict[str, NDArray[Any] | None],
    tokens: NDArray[np.int64],
    past: dict[str, NDArray[np.float32]] | None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Logits for `tokens`, and the past for the next call (the cross-attention's part is the first call's)."""
    feeds: dict[str, Any] = {"input_ids": tokens, "use_cache_branch": np.array([past is not None])}
    for value in decoder.get_inputs():
        if common.get(value.name) is not None:
            feeds[value.name] = common[value.name]
        elif value.name.startswith("past_key_values"):
            _, heads, _, channels = value.shape
            feeds[value.name] = past[value.name] if past else np.zeros((1, heads, 0, channels), np.float32)
    outputs = dict(zip((value.name for value in decoder.get_outputs()), decoder.run(None, feeds), strict=True))
    present = {name.replace("present", "past_key_values"): v for name, v in outputs.items() if name != "logits"}
    if past:
        present = {name: past[name] if ".encoder." in name else value for name, value in present.items()}
    return outputs["logits"], present


def _distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
