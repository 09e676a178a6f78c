"""Sums over what reaches a layer, against sums that are written out."""

from __future__ import annotations

import pytest
import torch

from edge_asr_deploy.ptq.statistics import MANY, STRIP, Statistics


@pytest.mark.parametrize("channels", [8, MANY, MANY + STRIP, MANY + 8])
def test_the_hessian_is_that_of_all_pairs_of_channels(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    inputs = torch.randn(40, channels, generator=generator)
    weights = torch.rand(40, generator=generator)
    statistics = Statistics(channels)
    statistics.add(inputs, weights)
    chosen = torch.randint(channels, (2, 200), generator=generator)
    left, right = inputs[:, chosen[0]].double(), inputs[:, chosen[1]].double()
    expected = 2 * (left * right * weights.double()[:, None]).sum(0) / weights.double().sum()
    hessian = statistics.hessian
    assert torch.allclose(hessian[chosen[0], chosen[1]], expected, atol=1e-5)
    assert torch.equal(hessian, hessian.T)
    whole = (inputs * weights.sqrt()[:, None]).T @ (inputs * weights.sqrt()[:, None])
    assert torch.allclose(hessian, whole.double() * (2 / statistics.weight), atol=1e-5)
