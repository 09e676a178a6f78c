"""Layers that hold codes compute what layers with matrices compute; memory mapped from a checkpoint is given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.holding import forget_unchanged, hold_codes
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits
from tests.support import short as models
from tests.support.small_graphs import quantized

NAMES = ("whisper", "moonshine")
MEGABYTES = 32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quantizer", [{"method": "rtn"}, {"method": "gptq"}], ids=str)
def test_a_model_that_holds_codes_has_the_same_ones_and_says_the_same(name: str, quantizer: dict[str, Any]) -> None:
    recipe, samples = models.recipe(name, quantizer), models.samples(name)
    whole, freed = models.model(name), models.model(name)
    kept = quantize(whole, family(name), recipe, samples)
    codes = quantize(freed, family(name), recipe, samples, frees=True)
    assert [one.name for one in codes] == [one.name for one in kept]
    assert all(
        (one.codes == other.codes).all() and one.error == other.error for one, other in zip(codes, kept, strict=True)
    )
    parameters = dict(freed.named_parameters())
    assert not [one.name for one in codes if f"{one.name}.weight" in parameters]
    for sample in samples:
        with torch.no_grad():
            ours, theirs = (one(sample.inputs, decoder_input_ids=sample.tokens).logits for one in (freed, whole))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_what_stays_float_is_not_touched(name: str) -> None:
    document = {**for_bits(name, 4), "decoder": {"weights": {"bits": 32}}, "embedding": {"weights": {"bits": 16}}}
    recipe, model = parse({**document, "target": ["generic"]}, "test"), models.model(name)
    codes = quantize(model, family(name), recipe, models.samples(name), frees=True)
    assert codes
    assert all(one.component not in ("decoder", "embedding") for one in codes)
    assert "model.decoder.embed_tokens.weight" in dict(model.named_parameters())
    assert model.get_submodule("proj_out").weight is model.get_submodule("model.decoder.embed_tokens").weight


def resident() -> float:
    """Megabytes of mapped files in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssFile"))


@pytest.fixture
def mapped(tmp_path: Path) -> nn.Linear:
    """A Linear whose matrix of 32 MB lies in a file, read once; what Transformers makes of a checkpoint."""
    if not Path("/proc/self/smaps").is_file():
        pytest.skip("no Linux")
    rows = MEGABYTES * 256
    save_file(
        {"weight": torch.arange(rows * 1024, dtype=torch.float32).reshape(rows, 1024)}, tmp_path / "a.safetensors"
    )
    with safe_open(tmp_path / "a.safetensors", framework="pt") as tensors:
        module = nn.Linear(1, 1, bias=False)
        module.weight = nn.Parameter(tensors.get_slice("weight")[:], requires_grad=False)
    module.weight.sum()
    return module


def test_what_nobody_changed_leaves_memory_and_is_read_again(mapped: nn.Linear) -> None:
    before, total = resident(), mapped.weight.double().sum()
    forget_unchanged(mapped)
    assert resident() < before - 0.9 * MEGABYTES
    assert mapped.weight.double().sum() == total


def test_what_was_changed_stays(mapped: nn.Linear) -> None:
    with torch.no_grad():
        mapped.weight[5000, 7] = -1
    forget_unchanged(mapped)
    assert mapped.weight[5000, 7] == -1


def test_floats_that_codes_replace_leave_memory(mapped: nn.Linear) -> None:
    before, weight = resident(), quantized(8, 4, 4, None, True)
    with torch.no_grad():
        mapped.weight[5000, 7] = 2
    kept = mapped.weight.data
    hold_codes(mapped, weight)
    assert resident() < before - 0.9 * MEGABYTES
    assert torch.equal(mapped.weight, torch.from_numpy(weight.dequantize()))
    # The page shows the file again.
    assert kept[5000, 7] == 5000 * 1024 + 7


def test_memory_that_is_no_file_is_freed_with_its_last_reader() -> None:
    module = nn.Linear(4, 8, bias=False)
    kept = module.weight.data.clone()
    floats = module.weight.data
    hold_codes(module, quantized(8, 4, 4, None, True))
    assert torch.equal(floats, kept)
