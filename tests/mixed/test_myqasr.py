"""The myQASR rule: the quietest layers lose bits first, and no two are more than one step apart."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")


from edge_asr_deploy.experiments.mixed.myqasr import allocate, output_medians
from edge_asr_deploy.families import family
from tests.support import short

SIZES = {path: {bits: 100 * bits for bits in (3, 4, 8)} for path in "abcd"}
RANKS = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0}


@pytest.mark.parametrize(
    ("budget", "bits"),
    [
        (3200, {"a": 8, "b": 8, "c": 8, "d": 8}),
        (3199, {"a": 8, "b": 4, "c": 8, "d": 8}),
        (2400, {"a": 8, "b": 4, "c": 4, "d": 8}),
        (1600, {"a": 4, "b": 4, "c": 4, "d": 4}),
        (1599, {"a": 4, "b": 3, "c": 4, "d": 4}),
        (1200, {"a": 3, "b": 3, "c": 3, "d": 3}),
    ],
)
def test_bits_go_in_the_order_of_the_ranks(budget: int, bits: dict[str, int]) -> None:
    assert allocate(RANKS, SIZES, budget) == bits


def test_a_budget_below_the_narrowest_is_refused() -> None:
    with pytest.raises(ValueError, match="1199"):
        allocate(RANKS, SIZES, 1199)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_ranks_are_medians_of_what_layers_say(name: str) -> None:
    import torch

    model, samples = short.shuffled(name, 0), short.samples(name, 2)
    paths = list(family(name).structure(model.config).components())
    before = output_medians(model, paths, samples)
    assert all(value > 0 for value in before.values())
    loud = paths[0]
    with torch.no_grad():
        module = model.get_submodule(loud)
        module.weight.mul_(10)
        if module.bias is not None:
            module.bias.mul_(10)
    assert output_medians(model, paths, samples)[loud] == pytest.approx(10 * before[loud], rel=1e-4)
