"""Folded norms and corrected weights reach the exported graph: it computes what the quantized model does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import parse
from tests.support import tiny

pytest.importorskip("optimum.exporters.onnx")


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_exported_graph_computes_what_the_prepared_model_does(name: str, tmp_path: Path) -> None:
    from tests.support.graphs import agreement_of, build

    weights = {
        "bits": 3,
        "granularity": "group:16",
        "quantizer": {"method": "gptq"},
        "steps": [{"method": "awq"}, {"method": "qep"}],
    }
    components = {c: {"weights": weights} for c in ("encoder", "cross_attention", "decoder")}
    recipe = parse({"name": "test", "family": name, **components, "stem": {"bits": 32}}, "test")
    model, generator = tiny.MODELS[name](), torch.Generator().manual_seed(0)
    shape = (1, 80, 3000) if name == "whisper" else (1, 16_000)
    samples = [
        Sample(torch.randn(shape, generator=generator), 40, torch.randint(4, 300, (1, 8), generator=generator))
        for _ in range(2)
    ]
    before = model.model.encoder.layer_norm.weight.detach().clone()
    quantized = quantize(model, family(name), recipe, samples)
    assert not torch.equal(model.model.encoder.layer_norm.weight, before)
    layers = build(model, recipe, quantized, tmp_path)
    assert {layer.method for layer in layers if layer.component == "cross_attention"} == {"awq+qep+gptq"}
    agreement = agreement_of(model, tmp_path, samples)
    assert agreement.tokens == 1
    assert agreement.logits < 1e-4 and agreement.encoder < 1e-4
