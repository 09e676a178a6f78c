"""Explicit products of a rotated model in the exported graphs: stored once, in float16, computed as in torch."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.graph.build import MERGED  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.proof.verify import check_files, check_operators  # noqa: E402
from edge_asr_deploy.ptq.calibration.samples import Sample  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.stem import narrow_in_place  # noqa: E402
from edge_asr_deploy.recipe.document import parse  # noqa: E402
from tests.support.graphs import agreement_of, build  # noqa: E402
from tests.support.optimized import operators  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402


@pytest.mark.parametrize("name", MODELS)
def test_a_rotated_model_is_exported(name: str, tmp_path: Path) -> None:
    weights = {"bits": 4, "granularity": "group:16", "steps": [{"method": "rotation"}]}
    turned = {c: {"weights": weights} for c in ("encoder", "cross_attention", "decoder")}
    recipe = parse({"name": "test", "family": name, **turned}, "test")
    model, generator = MODELS[name](), torch.Generator().manual_seed(0)
    narrow_in_place(model, family(name).structure(model.config).components(), recipe)
    quantized = quantize(model, family(name), recipe)
    layers = build(model, recipe, quantized, tmp_path)
    products = {layer.name: layer for layer in layers if layer.component == "rotation"}
    assert set(products) == {"model.encoder.rotation", "model.decoder.rotation"}
    channels = model.config.hidden_size
    for layer in products.values():
        assert (layer.shape, layer.bits, layer.bytes) == ([channels, channels], 16, 2 * channels**2)
    check_files(tmp_path)
    check_operators(tmp_path, layers)
    # Cast and Transpose are folded when the session is created: what runs is a plain product. The decoder has eight
    # more, of two layers' cross-attention in both branches.
    counts = {file: operators(tmp_path / file) for file in (ENCODER, MERGED)}
    assert [counts[file]["MatMul"] + counts[file]["FusedMatMul"] for file in (ENCODER, MERGED)] == [1, 2 + 8]
    shape = (1, 80, 3000) if name == "whisper" else (1, 16_000)
    tokens = torch.randint(4, 300, (1, 8), generator=generator)
    agreement = agreement_of(model, tmp_path, [Sample(torch.randn(shape, generator=generator), 40, tokens)])
    assert agreement.tokens == 1
    assert max(agreement.encoder, agreement.logits, agreement.cached) < 1e-4
