"""Statistics against numpy on all values at once; padding does not count."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.experiments.analysis.statistics import Moments, matrix_statistics
from edge_asr_deploy.families import family
from tests.support import short


def test_the_running_sums_are_the_moments() -> None:
    values = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) ** 3 + 0.5
    values[:, 3] *= 50
    moments = Moments(8)
    for part in values.split(70):
        moments.add(part)
    spread, array = moments.spread(), values.double().numpy()
    centred = array - array.mean()
    assert (spread.low, spread.high) == (pytest.approx(array.min()), pytest.approx(array.max()))
    assert spread.deviation == pytest.approx(array.std())
    assert spread.kurtosis == pytest.approx((centred**4).mean() / (centred**2).mean() ** 2)
    assert spread.outliers == 1 and spread.peak > 6


def test_a_normal_distribution_has_kurtosis_three_and_constants_have_none() -> None:
    moments, constant = Moments(4), Moments(4)
    moments.add(torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0)))
    constant.add(torch.ones(5, 4))
    assert moments.spread().kurtosis == pytest.approx(3, abs=0.1)
    assert constant.spread().kurtosis == 0 and constant.spread().outliers == 0
    with pytest.raises(ValueError, match="no values"):
        Moments(4).spread()


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_every_matrix_is_looked_at_and_its_inputs_are_the_real_ones(name: str) -> None:
    model, samples = short.shuffled(name, 0), short.samples(name, 2)
    structure = family(name).structure(model.config)
    found = {one.path: one for one in matrix_statistics(model, structure.components(), samples)}
    assert found.keys() == structure.components().keys()
    assert found[structure.table].inputs is None
    assert all(one.inputs is not None for path, one in found.items() if path != structure.table)
    path = structure.encoder[0].inputs[0].paths[0]
    weight = model.get_submodule(path).weight.detach().numpy()
    assert found[path].shape == weight.shape
    assert found[path].weight.deviation == pytest.approx(weight.std(), rel=1e-5)
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0][0].numpy()))
    for sample in samples:
        with torch.no_grad():
            model(sample.inputs, decoder_input_ids=sample.tokens)
    handle.remove()
    real = np.concatenate([values[: s.frames] for values, s in zip(seen, samples, strict=True)])
    inputs = found[path].inputs
    assert inputs is not None and inputs.high == pytest.approx(real.max())
    if name == "whisper":
        assert sum(map(len, seen)) > len(real), "there is padding to be left out"
