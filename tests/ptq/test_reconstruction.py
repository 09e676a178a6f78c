"""What learned methods minimize: the error of a block's part on real positions, each way of computing it exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edge_asr_deploy.ptq.calibration.stream import Stream
from edge_asr_deploy.ptq.learning.blockwise import learn_part, parts
from edge_asr_deploy.ptq.learning.reconstruction import Learned, Part, layer_error, output_error, spread, through, total
from edge_asr_deploy.recipe.methods import OmniQuantOptions
from edge_asr_deploy.recipe.weights import WeightSpec
from tests.support import short as models
from tests.support.block_streams import enter

NAMES = ("whisper", "moonshine")
SIDES = ("encoder", "decoder")


def test_the_error_of_layers_is_that_of_their_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=generator) * torch.logspace(-1, 1, 6)
    first, second = torch.randn(4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    objective = layer_error({"a.weight": first, "b.weight": second}, 2 / 50 * (inputs.T @ inputs).double())
    changed = {"a.weight": first + 0.1, "b.weight": second.round()}
    difference = (inputs @ (changed["a.weight"] - first).T).square().sum()
    difference += (inputs @ (changed["b.weight"] - second).T).square().sum()
    expected = difference / ((inputs @ first.T).square().sum() + (inputs @ second.T).square().sum())
    assert total(objective, changed) == pytest.approx(expected.item(), rel=1e-4)


def test_positions_count_by_their_weight_and_batches_add_up() -> None:
    targets = [torch.ones(2, 3), torch.full((1, 3), 2.0)]
    weights = [torch.tensor([1.0, 0.0]), torch.tensor([0.5])]
    objective = output_error(lambda parameters, batch: targets[batch] + parameters["x"], targets, weights)
    assert total(objective, {"x": torch.tensor(0.5)}) == pytest.approx(1.5 * 3 * 0.25 / (3 + 0.5 * 12))


def test_straight_through_keeps_the_exact_value_and_the_gradient() -> None:
    value = torch.tensor([0.2, 2.7], requires_grad=True)
    result = through(value, value.detach().round())
    assert result.tolist() == [0, 3]
    (result * torch.tensor([2.0, 3.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None and value.grad.tolist() == [2, 3]


def test_values_of_groups_spread_over_their_columns() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert spread(values, 2, 3).tolist() == [[1, 1, 2], [3, 3, 4]]
    assert spread(values[:, :1], None, 3).tolist() == [[1, 1, 1], [3, 3, 3]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
def test_pooled_positions_leave_a_block_as_they_would_alone(name: str, side: str) -> None:
    model = models.shuffled(name, 0)
    block, stream = enter(model, name, side)
    module = model.get_submodule(block.path)
    with torch.no_grad():
        for step in block.inputs:
            if step.closes:
                linear = model.get_submodule(step.paths[0])
                outputs = [linear(values) for values in stream.inputs(module, linear)]
                stream.replay(model.get_submodule(step.closes), outputs)
        pool, chosen = stream.pool(), torch.tensor([3, 40, 41])
        assert len(pool.hidden) == sum(int(w.sum()) for w in stream.weights)
        found, some = pool.outputs(module, {}), pool.take(chosen).outputs(module, {})
        stream.forget()
        expected = [rows[0][w > 0] for rows, w in zip(stream.outputs(module), stream.weights, strict=True)]
    assert torch.allclose(found, torch.cat(expected), atol=1e-5)
    assert torch.allclose(some, found[chosen], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("positions", [10_000, 32])
def test_a_parts_error_is_that_of_the_whole_block(
    name: str, side: str, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries of padding left out, keys computed once, positions pooled: nothing of that changes the error."""
    model = models.shuffled(name, 0)
    block, stream = enter(model, name, side)
    module = model.get_submodule(block.path)
    seen: list[Part] = []

    def spy(part: Part, spec: WeightSpec) -> Learned:
        seen.append(part)
        return Learned({}, 0.0)

    monkeypatch.setattr("edge_asr_deploy.ptq.learning.blockwise.learn", spy)
    spec = WeightSpec(quantizer=OmniQuantOptions(positions=positions))
    with torch.no_grad():
        before = list(stream.outputs(module))
        for steps in parts(block):
            learn_part(model, block, steps, stream, spec)
            objective = seen[-1].objective
            changed = {n: v + 0.05 * v.abs().mean() for n, v in seen[-1].parameters.items() if n.endswith("weight")}
            assert total(objective, {}) < 1e-9
            found = total(objective, changed)
            place = model.get_submodule(steps[-1].closes) if steps[-1].closes else module
            expected = _relative_error(model, module, place, stream, changed)
            # A subset estimates the error of all positions; all of them give it.
            assert found == pytest.approx(expected, rel=1e-3 if positions > 1000 else 0.5)
            if steps[-1].closes:
                linear = model.get_submodule(steps[-1].paths[0])
                outputs = [linear(values) for values in stream.inputs(module, linear)]
                stream.replay(model.get_submodule(steps[-1].closes), outputs)
        stream.forget()
        assert all(torch.equal(a, b) for a, b in zip(before, stream.outputs(module), strict=True))


def _relative_error(model: Any, block: Any, place: Any, stream: Stream, changed: dict[str, torch.Tensor]) -> float:
    """By running the whole block, padding included, and looking at what leaves the part on real positions."""

    def outputs() -> torch.Tensor:
        caught: list[torch.Tensor] = []
        handle = place.register_forward_hook(
            lambda _, __, out: caught.append((out[0] if isinstance(out, tuple) else out)[0])
        )
        list(stream.outputs(block))
        handle.remove()
        return torch.cat([rows[w > 0] for rows, w in zip(caught, stream.weights, strict=True)])

    target = outputs()
    saved = {name: model.get_parameter(name).clone() for name in changed}
    for name, value in changed.items():
        model.get_parameter(name).copy_(value)
    found = outputs()
    for name, value in saved.items():
        model.get_parameter(name).copy_(value)
    return float((found - target).square().sum() / target.square().sum())
