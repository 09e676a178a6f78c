"""Hybrid methods on small random models, exported whole: the graphs compute what the quantized model does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.errors import UserError  # noqa: E402
from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.graph.build import MERGED  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators  # noqa: E402
from edge_asr_deploy.ptq.calibration.samples import Sample  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.recipe.document import parse  # noqa: E402
from tests.support.graphs import agreement_of, build  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402

COMPONENTS = ("encoder", "cross_attention", "decoder")


def samples(name: str) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 80, 3000) if name == "whisper" else (1, 16_000)
    tokens = [torch.randint(4, 300, (1, 8), generator=generator) for _ in range(2)]
    return [Sample(torch.randn(shape, generator=generator), 40, some) for some in tokens]


def exported(
    name: str, folder: Path, quantizer: dict[str, Any], steps: list[dict[str, Any]], bits: int = 3
) -> tuple[Any, list[Any], list[Any]]:
    weights = {"bits": bits, "granularity": "group:16", "quantizer": quantizer, "steps": steps}
    parts = {c: {"weights": weights} for c in COMPONENTS}
    recipe = parse({"name": "test", "family": name, **parts, "stem": {"bits": 32}}, "test")
    model = MODELS[name]()
    quantized = quantize(model, family(name), recipe, samples(name))
    return model, quantized, build(model, recipe, quantized, folder)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("quantizer", "steps", "bits"),
    [
        ({"method": "quik", "share": 0.05}, [], 3),
        ({"method": "quik", "last_bits": 8}, [{"method": "smoothquant"}, {"method": "qep"}], 4),
        ({"method": "spqr", "share": 0.05}, [], 3),
        ({"method": "spqr", "threshold": 0.05, "clip_steps": 4}, [{"method": "awq"}, {"method": "qep"}], 2),
    ],
    ids=["quik", "smoothquant+qep+quik", "spqr", "awq+qep+spqr"],
)
def test_the_exported_graph_computes_what_the_quantized_model_does(
    name: str, quantizer: dict[str, Any], steps: list[dict[str, Any]], bits: int, tmp_path: Path
) -> None:
    model, quantized, layers = exported(name, tmp_path, quantizer, steps, bits)
    check_files(tmp_path)
    counts = check_operators(tmp_path, layers)
    agreement = agreement_of(model, tmp_path, samples(name))
    check_agreement(agreement)
    assert agreement.tokens == 1
    assert max(agreement.encoder, agreement.logits) < 1e-4
    for weight in quantized:
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
    found = {layer.name: layer for layer in layers}
    hybrid = [found[w.name] for w in quantized if w.component in COMPONENTS]
    assert all(layer.effective_bits > bits for layer in hybrid)
    assert sum(layer.outliers for layer in hybrid) > 0
    if quantizer["method"] == "quik":
        assert all(layer.outliers == layer.float_columns * layer.shape[0] for layer in hybrid)
        # Layers that share an input share what is gathered of it: q, k and v, and each decoder layer's cross k and v.
        gathers = {file: counts[file]["Gather"] for file in (ENCODER, MERGED)}
        # One more where Whisper's positions are taken for the length of the input.
        assert gathers[ENCODER] == 2 * 4 + (name == "whisper")
        assert gathers[MERGED] >= 2 * 7 and gathers[MERGED] < 2 * 10
        wide = {w.bits for w in quantized if w.name.endswith(".fc2")}
        assert wide == {quantizer.get("last_bits") or bits}
    else:
        assert all(layer.float_columns is None for layer in hybrid)
        assert counts[ENCODER]["MatMul"] == 0
        assert counts[MERGED]["MatMul"] == 4 * 2, "the products of two layers' cross-attention, in both branches"


def test_a_product_in_float_that_no_layer_names_is_found(tmp_path: Path) -> None:
    _, _, layers = exported("whisper", tmp_path, {"method": "quik"}, [])
    silent = [layer.model_copy(update={"float_products": 0}) for layer in layers]
    with pytest.raises(UserError, match="products run in float, the manifest names 0"):
        check_operators(tmp_path, silent)


@pytest.mark.parametrize("method", ["quik", "spqr"])
def test_the_tied_table_keeps_no_outliers(method: str) -> None:
    with pytest.raises(UserError, match=rf"embedding\.weights\.quantizer {method}: the tied table"):
        parse(
            {"name": "x", "family": "whisper", "embedding": {"weights": {"quantizer": {"method": method}}}}, "test.yaml"
        )


def test_layers_of_older_bundles_can_be_read() -> None:
    from edge_asr_deploy.bundle.manifest import Layer

    old = {"name": "fc1", "component": "encoder", "method": "gptq", "bits": 4, "shape": [4, 4], "bytes": 8}
    assert Layer.model_validate(old).effective_bits is None
    assert Counter(Layer.model_validate(old).model_dump())["effective_bits"] is None
