"""After every export: the graph is valid, runs on low-bit or integer kernels, and computes the same as PyTorch.

Graphs run through onnxruntime, as deployed. Each check raises UserError with the figure that failed; none is optional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from edge_asr_deploy.bundle.manifest import Graphs, Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.storing.integer import INTEGER_KERNELS
from edge_asr_deploy.harness.inspection.inspect import LARGE, count, expanded, optimized
from edge_asr_deploy.proof.fake_int8 import fake_int8
from edge_asr_deploy.proof.feeds import decoder_feeds, encoder_inputs
from edge_asr_deploy.proof.layers import layer_distances, open_alone, relative
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.quantized.model import Int8Attention, QuantizedModel
from edge_asr_deploy.runtime.memory import release_memory
from edge_asr_deploy.runtime.session import SessionSettings

# Both sides have the same weights and float activations, and differ only in the order of float32 sums.
TOLERANCE = 2e-3
TOKEN_AGREEMENT = 0.99
# For one int8 layer: integer sums are exact, only their scaling differs.
LAYER_TOLERANCE = 1e-4
# For an attention with integer products: a share that is rounded to the next code is off by 1/255 of its row's maximum.
ATTENTION_TOLERANCE = 1e-2
# The graph's distance from float activations, as a multiple of PyTorch's: 1.0 to 1.5 on two short clips, as some values
# are rounded to other codes. Layers are compared one by one before; a mistake between layers costs a multiple of this.
EXCESS = 3.0
# Operators of products with float weights after onnxruntime's fusions.
FLOAT_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm")
STANDARD = Graphs()
# So many last tokens are decoded one by one through the cache, to compare with one call on all tokens.
CACHED_STEPS = 4


@dataclass(frozen=True)
class Agreement:
    """Distance of the exported graphs from PyTorch, on teacher-forced clips; both sides round the same activations.

    With float activations the two differ only in the order of float32 sums. With rounded activations such differences
    round some values to other codes. After a few layers `encoder`, `logits`, `cached` and `tokens` then tell how coarse
    int8 is, and only `layers`, `attention` and `excess` tell whether the graph is right.
    """

    encoder: float
    """Largest difference of the encoder's output, relative to its largest magnitude."""
    logits: float
    """The same of the decoder's logits."""
    tokens: float
    """Share of positions with the same most likely token."""
    cached: float
    """Largest relative difference of logits decoded through the cache from those of one call."""
    layers: float | None = None
    """Largest relative difference of an int8 layer, on its own input; None where all activations are float."""
    attention: float | None = None
    """The same of an attention with integer products in the encoder; None where it multiplies floats."""
    excess: float | None = None
    """How far the graphs are from float activations, as a multiple of how far PyTorch's rounding is: the worst of
    encoder output, logits and logits through the cache, in the 2-norm. None where all activations are float."""


def check_files(folder: Path, graphs: Graphs = STANDARD) -> None:
    """onnx's checker on both graphs, shapes inferred."""
    for name in (graphs.encoder, graphs.decoder):
        try:
            onnx.checker.check_model(folder / name, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError("export", name, f"is not a valid ONNX model ({reason}); report this") from error


def check_operators(
    folder: Path, layers: Sequence[Layer], graphs: Graphs = STANDARD, attention: Int8Attention | None = None
) -> dict[str, Counter[str]]:
    """Every integer matrix runs in the kernel that the layers promise, and none is expanded to float.

    Layers with float activations run in onnxruntime's low-bit MatMul. Layers and convolutions with int8 activations run
    in one of `INTEGER_KERNELS`, and so do both products of every block of the encoder's attention where `attention` is
    given. Float products are those that the layers name (float matrices, rotations, the float columns of hybrid
    methods), both products of the decoder's cross-attention in either branch of its If, and the mean of values that
    int8 attention computes. Returns the operators of the optimized graphs, by file.
    """
    low_bit, whole, apart = Counter[str](), Counter[str](), Counter[str]()
    for layer in layers:
        file = graphs.encoder if layer.name.startswith("model.encoder.") else graphs.decoder
        if layer.activations != "float":
            whole[file] += 1
        elif layer.group is not None or layer.symmetric is not None:
            low_bit[file] += 1
        apart[file] += layer.float_products
    apart[graphs.decoder] += 4 * sum(layer.name.endswith(".encoder_attn.k_proj") for layer in layers)
    if attention is not None:
        attentions = sum(is_encoder_query(layer.name) for layer in layers)
        whole[graphs.encoder] += 2 * attention.blocks * attentions
        apart[graphs.encoder] += attentions
    models = {name: optimized(folder / name) for name in (graphs.encoder, graphs.decoder)}
    counts = {name: count(model) for name, model in models.items()}
    for name, counted in counts.items():
        in_low_bit = counted["MatMulNBits"]
        in_integer = sum(counted[kernel] for kernel in INTEGER_KERNELS)
        in_float = sum(counted[kind] for kind in FLOAT_PRODUCTS)
        if in_low_bit != low_bit[name]:
            share = f"{in_low_bit} of {low_bit[name]}"
            remedy = f"{share} integer matrices run in a low-bit kernel; choose other bits or group sizes"
            raise UserError("export", name, remedy)
        if in_integer != whole[name]:
            remedy = f"{in_integer} of {whole[name]} int8 products run in an integer kernel; report this"
            raise UserError("export", name, remedy)
        if in_float != apart[name]:
            remedy = f"{in_float} products run in float, the manifest names {apart[name]}; report this"
            raise UserError("export", name, remedy)
        if large := expanded(models[name], LARGE):
            raise UserError("export", name, f"{large[0]} is expanded to float at run time; choose other group sizes")
    return counts


def is_encoder_query(path: str) -> bool:
    """True for one Linear of each encoder layer."""
    return path.startswith("model.encoder.") and path.endswith(".self_attn.q_proj")


def measure_agreement(
    model: Any,
    folder: Path,
    samples: Sequence[Sample],
    quantized: QuantizedModel,
    graphs: Graphs = STANDARD,
) -> Agreement:
    """Compare both graphs with `model`, which holds the same (fake-quantized) weights, on some prepared clips.

    PyTorch rounds inputs of products as well, as `quantized` says. Where the head scores only a shortlist exactly, the
    comparison takes the logits of the best tokens, where both sides agree on them: other logits are rough by design.
    """
    settings = SessionSettings(accuracy_level=1)
    # First: its sessions are closed before the others are opened.
    layers = layer_distances(model, folder, samples[0], quantized, graphs)
    release_memory()
    encoder, decoder = (open_alone(folder / name, settings) for name in (graphs.encoder, graphs.decoder))
    attention = [value for name, value in layers.items() if name.endswith(".self_attn")]
    linear = [value for name, value in layers.items() if not name.endswith(".self_attn")]
    rounding, is_rough = partial(fake_int8, model, quantized), quantized.shortlist > 0
    clips = [_compare(model, encoder, decoder, sample, rounding, is_rough, bool(layers)) for sample in samples]
    worst = np.max([[c.encoder, c.logits, c.cached, c.excess or 0.0] for c in clips], axis=0).tolist()
    return Agreement(
        encoder=worst[0],
        logits=worst[1],
        tokens=float(np.mean([clip.tokens for clip in clips])),
        cached=worst[2],
        layers=max(linear, default=0.0) if layers else None,
        attention=max(attention) if attention else None,
        excess=worst[3] if layers else None,
    )


def check_agreement(agreement: Agreement) -> None:
    """UserError when the exported graphs differ from PyTorch by more than the tolerances."""
    if agreement.layers is not None and agreement.excess is not None:
        if not agreement.layers <= LAYER_TOLERANCE:
            remedy = f"one differs from PyTorch by {agreement.layers:.2g} of its range, more than {LAYER_TOLERANCE:g}"
            raise UserError("export", "int8 layers", f"{remedy}; report this")
        if agreement.attention is not None and not agreement.attention <= ATTENTION_TOLERANCE:
            remedy = (
                f"differs from PyTorch by {agreement.attention:.2g} of its range, more than {ATTENTION_TOLERANCE:g}"
            )
            raise UserError("export", "int8 attention", f"{remedy}; report this")
        if not agreement.excess <= EXCESS:
            remedy = f"differ from float ones by {agreement.excess:.2f} times what PyTorch's do, more than {EXCESS:g}"
            raise UserError("export", "int8 activations", f"{remedy}; report this")
        return
    for name, value in (("encoder", agreement.encoder), ("logits", agreement.logits), ("cached", agreement.cached)):
        if not value <= TOLERANCE:
            remedy = f"differs from PyTorch by {value:.2g} of its range, more than {TOLERANCE:g}; report this"
            raise UserError("export", name, remedy)
    if agreement.tokens < TOKEN_AGREEMENT:
        raise UserError("export", "tokens", f"only {agreement.tokens:.1%} agree with PyTorch; report this")


def _compare(
    model: Any,
    encoder: onnxruntime.InferenceSession,
    decoder: onnxruntime.InferenceSession,
    sample: Sample,
    rounding: Callable[[], AbstractContextManager[None]],
    is_rough: bool,
    is_rounded: bool,
) -> Agreement:
    inputs = encoder_inputs(model, encoder, sample)
    with rounding():
        expected, logits = _pytorch(model, inputs, sample)
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
    same = whole.argmax(-1) == logits.argmax(-1)
    chosen = logits.argmax(-1)[..., None]

    def compared(scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.take_along_axis(scores, chosen, -1)[same] if is_rough else scores

    excess = None
    if is_rounded:
        exact = _pytorch(model, inputs, sample)
        scores = [tuple(map(compared, triple)) for triple in ((whole, logits, exact[1]), (stepped, logits, exact[1]))]
        excess = max(_excess(*triple) for triple in ((hidden, expected, exact[0]), *scores))
    return Agreement(
        encoder=_distance(hidden, expected),
        logits=_distance(compared(whole), compared(logits)),
        tokens=float(same.mean()),
        cached=_distance(compared(stepped), compared(whole)),
        excess=excess,
    )


def _pytorch(
    model: Any, inputs: dict[str, torch.Tensor], sample: Sample
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The encoder's output and the logits."""
    with torch.no_grad():
        encoder_output = model.get_encoder()(**inputs)
        mask = {name: value for name, value in inputs.items() if name == "attention_mask"}
        logits = model(encoder_outputs=encoder_output, decoder_input_ids=sample.tokens, **mask).logits
    return encoder_output.last_hidden_state.numpy(), logits.numpy()


def _decode(
    decoder: onnxruntime.InferenceSession,
    common: dict[str, NDArray[Any] | None],
    tokens: NDArray[np.int64],
    past: dict[str, NDArray[np.float32]] | None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Logits for `tokens`, and the past for the next call (the cross-attention's part comes from the first call)."""
    feeds = decoder_feeds(decoder, common, tokens, past)
    outputs = dict(zip((value.name for value in decoder.get_outputs()), decoder.run(None, feeds), strict=True))
    present = {name.replace("present", "past_key_values"): v for name, v in outputs.items() if name != "logits"}
    if past:
        present = {name: past[name] if ".encoder." in name else value for name, value in present.items()}
    return outputs["logits"], present


def _excess(graph: NDArray[np.float32], fake: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """|graph - exact| / |fake - exact|, the divisor at least what float sums may differ by."""
    scale = float(np.linalg.norm(exact))
    noise = max(float(np.linalg.norm(fake - exact)), TOLERANCE * scale)
    return float(np.linalg.norm(graph - exact)) / noise


def _distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return relative(np.abs(ours - theirs).max(), np.abs(theirs).max())
