"""Divergences of one changed matrix: the shortcut equals running the whole model, and what is known stays known."""

from __future__ import annotations

import statistics
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.experiments.analysis import sensitivity
from edge_asr_deploy.experiments.analysis.fisher import fisher_sensitivities, squared_gradients
from edge_asr_deploy.experiments.analysis.measurements import Measurements
from edge_asr_deploy.experiments.analysis.sensitivity import Probe, holding, model_divergence, rounded, sensitivities
from edge_asr_deploy.families import family
from edge_asr_deploy.recipe.weights import WeightSpec
from tests.support import short

NAMES = ("whisper", "moonshine")
SPEC = WeightSpec(granularity="group:16")
PROMPT = 2


def probe(name: str, cuts: bool = False) -> Probe:
    model = short.shuffled(name, 0)
    return Probe(model, family(name).structure(model.config), short.samples(name, 3), PROMPT, cuts)


def whole_model(before: Any, after: Any, name: str) -> float:
    """KL in nats per token, by running both models from end to end."""
    total, tokens = 0.0, 0
    for sample in short.samples(name, 3):
        with torch.no_grad():
            p, q = (
                torch.log_softmax(m(sample.inputs, decoder_input_ids=sample.tokens).logits[0, PROMPT:].double(), -1)
                for m in (before, after)
            )
        total += float((p.exp() * (p - q)).sum())
        tokens += len(p)
    return total / tokens


@pytest.mark.parametrize("name", NAMES)
def test_only_what_lies_behind_is_computed_and_that_suffices(name: str) -> None:
    looked = probe(name)
    for path in looked.structure.components():
        weight = looked.model.get_submodule(path).weight
        values = rounded(weight.detach(), SPEC.model_copy(update={"bits": 2}))
        before = deepcopy(looked.model)
        with holding(weight, values):
            expected = whole_model(before, looked.model, name)
            assert looked.divergence(path) == pytest.approx(expected, rel=1e-2, abs=1e-6), path
        assert expected > 1e-6
        assert looked.divergence(path) < 1e-6, "the weight is what it was"


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_quantized_model_is_judged_alike(name: str) -> None:
    looked, other = probe(name), short.shuffled(name, 0)
    with torch.no_grad():
        for path in looked.structure.components():
            weight = other.get_submodule(path).weight
            weight.copy_(rounded(weight, SPEC.model_copy(update={"bits": 3})))
    assert model_divergence(other, looked) == pytest.approx(whole_model(looked.model, other, name), rel=1e-2)
    assert model_divergence(looked.model, looked) < 1e-6


def test_padding_is_dropped_from_fixed_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "PADDING", 4)
    assert [h.shape[1] for h in probe("whisper", cuts=True).encoder_outputs] == [24, 25, 26]
    assert [h.shape[1] for h in probe("whisper").encoder_outputs] == [short.FRAMES] * 3


@pytest.mark.parametrize("name", NAMES)
def test_wide_widths_follow_from_the_narrow_ones(name: str) -> None:
    """By and large as a measurement gives, and for each the wider the less."""
    looked = probe(name)
    specs = dict.fromkeys(looked.structure.components(), SPEC)
    found = sensitivities(looked, specs, (2, 3, 4, 5, 8), Measurements(None))
    measured = {}
    for path, costs in found.items():
        assert list(costs) == [2, 3, 4, 5, 8]
        assert costs[2] > costs[5] > costs[8] > 0
        weight = looked.model.get_submodule(path).weight
        with holding(weight, rounded(weight.detach(), SPEC.model_copy(update={"bits": 5}))):
            measured[path] = looked.divergence(path)
    assert 0.5 < statistics.median(measured[path] / found[path][5] for path in specs) < 2


def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, whole = probe("whisper"), probe("whisper")
    specs = dict.fromkeys(list(looked.structure.components())[:4], SPEC)
    expected = sensitivities(whole, specs, (2, 3), Measurements(tmp_path / "whole", "key"))
    calls: list[str] = []
    measure = Probe.divergence

    def counted(self: Probe, path: str) -> float:
        calls.append(path)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return measure(self, path)

    monkeypatch.setattr(Probe, "divergence", counted)
    with pytest.raises(KeyboardInterrupt):
        sensitivities(looked, specs, (2, 3), Measurements(tmp_path, "key"))
    assert sensitivities(looked, specs, (2, 3), Measurements(tmp_path, "key")) == expected
    assert len(calls) == 5 + 4, "of eight, the four that were measured before are not measured again"
    assert sensitivities(looked, specs, (2, 3), Measurements(tmp_path, "key")) == expected
    assert len(calls) == 9
    group = {path: SPEC.model_copy(update={"symmetric": True}) for path in specs}
    assert sensitivities(looked, group, (2, 3), Measurements(tmp_path, "key")) != expected, "another grid is another"


def test_a_broken_store_counts_as_empty(tmp_path: Path) -> None:
    store = Measurements(tmp_path, "key")
    assert store.measured("a", lambda: [1, None]) == [1, None]
    assert "a" in Measurements(tmp_path, "key") and "a" not in Measurements(tmp_path, "another")
    assert store.path is not None
    store.path.write_text("{")
    assert Measurements(tmp_path, "key").measured("a", lambda: 2) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_fisher_proxy_ranks_matrices_much_as_the_divergence_does(name: str) -> None:
    looked = probe(name)
    specs = dict.fromkeys(looked.structure.components(), SPEC)
    squares = squared_gradients(looked.model, list(specs), looked.samples, PROMPT)
    proxy = fisher_sensitivities(looked.model, specs, (3,), squares)
    measured = sensitivities(looked, specs, (3,), Measurements(None))
    ranks = torch.tensor([[found[path][3] for path in specs] for found in (proxy, measured)]).argsort().argsort()
    assert torch.corrcoef(ranks.double())[0, 1] > 0.5
