"""Steps before the quantizer: which orders a recipe may name, and what the driver makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.methods import needs_statistics, qep
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.statistics import Drift, Statistics
from edge_asr_deploy.recipe.document import Recipe, parse
from tests.support import short as models

NAMES = ("whisper", "moonshine")
RTN, GPTQ, AWQ, QEP, SMOOTH = ({"method": m} for m in ("rtn", "gptq", "awq", "qep", "smoothquant"))
FLOAT = {"bits": 32, "granularity": "channel"}


def weights(steps: Any, quantizer: dict[str, Any] = RTN, bits: int = 3) -> dict[str, Any]:
    return {"bits": bits, "granularity": "group:16", "quantizer": quantizer, "steps": steps}


def recipe(name: str, steps: Any, quantizer: dict[str, Any] = RTN, **components: dict[str, Any]) -> Recipe:
    """The same steps for every component but the table, which stays float, and those given."""
    chosen = {c: weights(steps, quantizer) for c in COMPONENTS} | {"embedding": FLOAT} | components
    return parse({"name": "test", "family": name, **{c: {"weights": w} for c, w in chosen.items()}}, "test")


def run(name: str, chosen: Recipe, seed: int = 0, number: int = 6) -> tuple[Any, list[Any]]:
    model = models.shuffled(name, seed)
    return model, quantize(model, family(name), chosen, models.samples(name, number))


def logits(model: Any, name: str, number: int = 6) -> torch.Tensor:
    with torch.no_grad():
        rows = [model(s.inputs, decoder_input_ids=s.tokens).logits for s in models.samples(name, number)]
    return torch.cat(rows, 1)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([AWQ, SMOOTH], r"encoder\.weights\.steps .*: awq and smoothquant both scale the inputs; keep one"),
        ([AWQ, AWQ], r"encoder\.weights\.steps .*: awq and awq both scale"),
        ([QEP, AWQ], r"encoder\.weights\.steps .*: qep corrects what is then rounded: put it behind awq"),
        ([QEP, QEP], r"encoder\.weights\.steps .*: qep corrects once"),
        (
            [{"method": "awq", "alpha": 1}],
            r"encoder\.weights\.steps\.0\.alpha: no such key; allowed here: method, grid$",
        ),
        ([AWQ, {"method": "qep", "alpha": 2}], r"encoder\.weights\.steps\.1\.alpha 2: .*less than or equal to 1"),
        ([{"method": "magic"}], r"encoder\.weights\.steps\.0 .*'smoothquant', 'awq', 'qep'"),
        ([{"alpha": 1}], r"encoder\.weights\.steps\.0 .*method"),
        (AWQ, r"encoder\.weights\.steps .*: write a list, for example \[\{method: awq\}\]"),
    ],
)
def test_steps_that_make_no_sense_are_named(steps: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe("whisper", steps)


def test_steps_need_something_that_is_rounded_and_read_one_way() -> None:
    with pytest.raises(UserError, match=r"decoder\.weights\.steps .*: nothing is rounded at 16 bits"):
        recipe("whisper", [], decoder=weights([AWQ], bits=16))
    with pytest.raises(UserError, match=r"embedding\.weights\.steps awq: the tied table is read both ways"):
        recipe("whisper", [], embedding=weights([AWQ]))


def test_a_key_called_like_a_method_is_still_named() -> None:
    with pytest.raises(UserError, match=r"encoder\.weights\.awq: no such key; allowed here: bits, .*steps"):
        recipe("whisper", [], encoder={"awq": {}})


def test_steps_look_at_speech() -> None:
    for step in (AWQ, QEP, SMOOTH):
        chosen = recipe("whisper", [step])
        assert needs_samples(chosen) and needs_statistics(chosen.component("encoder"))
        with pytest.raises(UserError, match="calibration: no clips"):
            quantize(models.whisper(), family("whisper"), chosen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quantizer", [RTN, GPTQ])
def test_no_steps_are_the_quantizer_alone(name: str, quantizer: dict[str, Any]) -> None:
    plain = {c: {"weights": weights([], quantizer) | {"embedding": FLOAT}.get(c, {})} for c in COMPONENTS}
    for component in plain.values():
        component["weights"].pop("steps")
    before = parse({"name": "test", "family": name, **plain}, "test")
    (_, first), (_, second) = run(name, before), run(name, recipe(name, [], quantizer))
    for a, b in zip(first, second, strict=True):
        assert a.method == quantizer["method"] and a.error == b.error
        assert np.array_equal(a.codes, b.codes) and np.array_equal(a.scales.by_group(), b.scales.by_group())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [[SMOOTH], [AWQ], [QEP], [AWQ, QEP], [SMOOTH, QEP]])
def test_the_model_computes_with_the_very_values_of_the_codes(name: str, steps: list[dict[str, Any]]) -> None:
    model, found = run(name, recipe(name, steps, GPTQ))
    structure = family(name).structure(model.config)
    assert {w.name for w in found} == structure.components().keys() - {structure.table}
    for weight in found:
        assert weight.method == "+".join([*(s["method"] for s in steps), "gptq"])
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
    assert model.proj_out.weight is model.get_decoder().embed_tokens.weight


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scaling", [SMOOTH, AWQ])
@pytest.mark.parametrize("where", [("encoder", "cross_attention", "decoder"), ("cross_attention",), ("decoder",)])
def test_without_rounding_nothing_is_left_but_identities(
    name: str, scaling: dict[str, Any], where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scales leave the model's function alone, across components too, and QEP then finds no error to correct."""
    monkeypatch.setattr("edge_asr_deploy.ptq.driver.round_together", lambda *_: [])
    chosen = {c: weights([scaling, QEP] if c in where else [QEP]) for c in ("encoder", "cross_attention", "decoder")}
    before = models.shuffled(name, 0)
    model, _ = run(name, recipe(name, [], **chosen))
    expected = logits(before, name)
    assert (logits(model, name) - expected).abs().max() < 1e-4 * expected.abs().max()
    scaled = {
        component
        for path, component in family(name).structure(model.config).components().items()
        if component != "embedding"
        and not torch.allclose(model.get_submodule(path).weight, before.get_submodule(path).weight, rtol=1e-2)
    }
    # AWQ scales between the cross-attention's values and the decoder's output projection.
    shared = {"cross_attention"} if scaling is AWQ and "decoder" in where else set()
    assert scaled == {*where} | shared


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [[QEP], [AWQ, QEP]])
def test_qep_sees_the_float_models_inputs_beside_the_quantized_ones(
    name: str, steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the finished model, every layer has the very inputs it was corrected for; the float model's are scaled too."""
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def spy(
        weight: torch.Tensor, hessian: torch.Tensor, drift: torch.Tensor, options: Any, residual: torch.Tensor | None
    ) -> torch.Tensor:
        assert residual is None
        seen.append((weight.clone(), hessian, drift))
        return qep(weight, hessian, drift, options)

    monkeypatch.setattr("edge_asr_deploy.ptq.correction.qep", spy)
    model, found = run(name, recipe(name, steps))
    corrected = dict(zip((w.name for w in found), seen, strict=True))
    before = models.shuffled(name, 0)
    float_inputs, inputs = _inputs(before, name), _inputs(model, name)
    for step in family(name).structure(model.config).shared_inputs():
        path = step.paths[0]
        weight, hessian, drift = corrected[path]
        # Of these layers the last row is never divided by the scales of a layer behind it.
        scales = (weight[-1] / before.get_submodule(path).weight[-1]).detach()
        statistics, expected = Statistics(len(scales)), Drift(len(scales))
        for sample, values, originals in zip(models.samples(name), inputs[path], float_inputs[path], strict=True):
            real = slice(None if step.component == "decoder" else sample.frames)
            ones = torch.ones(len(values[real]))
            statistics.add(values[real], ones)
            expected.add(values[real], originals[real] / scales, ones)
        for is_, should in ((hessian, statistics.hessian), (drift, expected.matrix)):
            assert torch.allclose(is_, should, rtol=1e-3, atol=1e-4 * hessian.abs().max().item()), path


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_with_the_residual_stream_every_block_leaves_the_float_models_means_and_less_error(half: str) -> None:
    """Whisper's layers that add to the stream have biases, so nothing of a mean is lost behind them."""
    samples, norm = models.samples("whisper"), f"model.{half}.layer_norm"

    def errors(steps: Any) -> torch.Tensor:
        streams = []
        for model in (models.shuffled("whisper", 0), run("whisper", recipe("whisper", steps))[0]):
            read: list[torch.Tensor] = []
            model.get_submodule(norm).register_forward_pre_hook(lambda _, args, read=read: read.append(args[0][0]))
            logits(model, "whisper")
            streams.append(read)
        rows = [slice(None if half == "decoder" else sample.frames) for sample in samples]
        return torch.cat([(b - a)[real] for a, b, real in zip(*streams, rows, strict=True)])

    plain, whole = errors([QEP]), errors([QEP | {"residual": True}])
    assert whole.mean(0).abs().max() < 1e-4 < 0.1 * plain.mean(0).abs().max()
    assert whole.norm() < 0.95 * plain.norm()


def _inputs(model: Any, name: str) -> dict[str, list[torch.Tensor]]:
    """What every Linear received, by its path, one entry per sample."""
    received: dict[str, list[torch.Tensor]] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, path=path: received.setdefault(path, []).append(args[0][0])
            )
    logits(model, name)
    return received


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("quantizer", "steps"), [(RTN, [QEP]), (GPTQ, [QEP]), (RTN, [AWQ]), (RTN, [AWQ, QEP])])
def test_steps_lower_the_error_of_the_logits_on_average(
    name: str, quantizer: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    plain, prepared = 0.0, 0.0
    for seed in range(3):
        expected = logits(models.shuffled(name, seed), name, 4)
        (before, _), (after, _) = (run(name, recipe(name, chosen, quantizer), seed, 4) for chosen in ([], steps))
        plain += (logits(before, name, 4) - expected).norm().item()
        prepared += (logits(after, name, 4) - expected).norm().item()
    assert prepared < 0.95 * plain


@pytest.mark.parametrize("name", NAMES)
def test_values_stored_in_float16_are_not_scaled(name: str) -> None:
    chosen = recipe(name, [AWQ], cross_attention={"bits": 16, "granularity": "channel"})
    model, _ = run(name, chosen)
    before = models.shuffled(name, 0)
    for path in family(name).structure(model.config).cross.paths:
        assert torch.equal(model.get_submodule(path).weight, before.get_submodule(path).weight)


def test_smoothquant_scales_only_behind_norms() -> None:
    plain, smooth = (run("moonshine", recipe("moonshine", s))[1] for s in ([], [SMOOTH]))
    codes = {w.name: w.codes for w in plain}
    same = {w.name for w in smooth if np.array_equal(codes[w.name], w.codes)}
    assert same == {n for n in codes if n.endswith(("o_proj", "fc2"))}
