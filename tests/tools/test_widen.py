"""A widened and deepened Whisper computes the logits of the one it is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

from safetensors import safe_open
from safetensors.numpy import load_file

from edge_asr_deploy.errors import UserError
from tests.support.checkpoint_folders import write_transformers
from tools.widen import widen


def test_the_logits_stay_the_same(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = write_transformers(tmp_path / "narrow")
    widen(tmp_path / "narrow", tmp_path / "wide", 96, 5)
    wide = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "wide").eval()
    config = wide.config
    assert (config.d_model, config.encoder_layers, config.decoder_layers, config.encoder_ffn_dim) == (96, 5, 5, 192)
    assert config.encoder_attention_heads == config.decoder_attention_heads == 12
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[1, 17, 230, 44]])
    with torch.no_grad():
        before, after = (one(features, decoder_input_ids=tokens).logits for one in (model, wide))
    assert torch.allclose(before, after, atol=float(before.abs().max()) * 1e-5)


def test_what_layers_behind_the_own_ones_add_is_zero_and_nothing_else_is(tmp_path: Path) -> None:
    write_transformers(tmp_path / "narrow")
    widen(tmp_path / "narrow", tmp_path / "wide", 32, 3)
    tensors = load_file(tmp_path / "wide" / "model.safetensors")
    last = {name: values for name, values in tensors.items() if ".layers.2." in name}
    assert {name.rsplit(".", 2)[1] for name, values in last.items() if not values.any()} >= {"out_proj", "fc2"}
    assert all(values.any() for name, values in last.items() if name.endswith(("q_proj.weight", "fc1.weight")))
    assert all(values.any() for name, values in tensors.items() if name.endswith("layers.1.fc2.weight"))


@pytest.mark.parametrize(("options", "thing"), [((40, 2), "--width"), ((16, 2), "--width"), ((64, 1), "--layers")])
def test_shapes_that_cannot_be_made_are_named(tmp_path: Path, options: tuple[int, int], thing: str) -> None:
    write_transformers(tmp_path / "narrow")
    with pytest.raises(UserError) as error:
        widen(tmp_path / "narrow", tmp_path / "wide", *options)
    assert error.value.thing == thing
    assert not (tmp_path / "wide").exists()


def test_float16_stays_float16(tmp_path: Path) -> None:
    import torch

    model: Any = write_transformers(tmp_path / "float32")
    model.to(torch.float16).save_pretrained(tmp_path / "narrow")
    widen(tmp_path / "narrow", tmp_path / "wide", 64, 2)
    with safe_open(tmp_path / "wide" / "model.safetensors", framework="numpy") as tensors:
        assert {str(tensors.get_tensor(name).dtype) for name in tensors.keys()} == {"float16"}  # noqa: SIM118
