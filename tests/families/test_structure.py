"""The families' facts, against the models that Transformers builds and what they do when they run."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import FAMILIES, Moonshine, Whisper, family
from tests.support import short

NAMES = ("whisper", "moonshine")


@pytest.mark.parametrize("name", NAMES)
def test_every_linear_of_the_model_has_one_component(name: str) -> None:
    model = short.model(name)
    components = family(name).structure(model.config).components()
    linears = {path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(components) == linears - {"proj_out"} | {"model.decoder.embed_tokens"}
    assert set(components.values()) == {"encoder", "cross_attention", "decoder", "embedding"}


@pytest.mark.parametrize("name", NAMES)
def test_components_follow_what_a_layer_reads(name: str) -> None:
    components = family(name).structure(short.model(name).config).components()
    out = "out_proj" if name == "whisper" else "o_proj"
    decoder = "model.decoder.layers.1"
    assert components["model.encoder.layers.0.self_attn.k_proj"] == "encoder"
    assert components[f"{decoder}.encoder_attn.k_proj"] == "cross_attention"
    assert components[f"{decoder}.encoder_attn.v_proj"] == "cross_attention"
    assert components[f"{decoder}.encoder_attn.q_proj"] == "decoder"
    assert components[f"{decoder}.encoder_attn.{out}"] == "decoder"
    assert components[f"{decoder}.self_attn.v_proj"] == "decoder"


@pytest.mark.parametrize("name", NAMES)
def test_steps_tell_true_when_the_model_runs(name: str) -> None:
    """Layers of a step receive one tensor, it is the norm's output, and steps are reached in the order given."""
    model = short.model(name)
    structure = family(name).structure(model.config)
    received: dict[str, torch.Tensor] = {}
    made: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(partial(_note_input, received, path))
        else:
            module.register_forward_hook(partial(_note_output, made, path))
    sample = short.samples(name, 1)[0]
    with torch.no_grad():
        model(sample.inputs, decoder_input_ids=sample.tokens)
    for step in structure.shared_inputs():
        first = received[step.paths[0]]
        assert all(received[path] is first or torch.equal(received[path], first) for path in step.paths)
        if step.norm is not None:
            assert torch.equal(made[step.norm], first)
        if step.closes is not None:
            (path,) = step.paths
            assert torch.equal(made[step.closes], model.get_submodule(path)(first))
    order = [path for path in received if path != structure.head]
    cross = set(structure.cross.paths)
    walked = [path for b in (*structure.encoder, *structure.decoder) for step in b.inputs for path in step.paths]
    assert sorted(walked) == sorted(set(order) - cross)
    position = {path: index for index, path in enumerate(order)}
    for block in (*structure.encoder, *structure.decoder):
        firsts = [min(position[path] for path in step.paths) for step in block.inputs]
        assert firsts == sorted(firsts)
    assert torch.equal(made[structure.decoder_norm], received[structure.head])
    assert torch.equal(made[structure.encoder_norm], received[structure.cross.paths[0]])


def _note_input(received: dict[str, torch.Tensor], path: str, _: Any, args: tuple[torch.Tensor, ...]) -> None:
    received[path] = args[0]


def _note_output(made: dict[str, torch.Tensor], path: str, _: Any, args: Any, output: Any) -> None:
    made[path] = output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("samples", [1300, 16_000, 16_384, 48_001, 160_123])
def test_moonshine_frames_are_what_the_encoder_gives(samples: int) -> None:
    model = short.moonshine()
    with torch.no_grad():
        output = model.get_encoder()(torch.zeros(1, samples)).last_hidden_state
    assert Moonshine().frames(samples, model.config) == output.shape[1]


def test_moonshine_hears_nothing_in_less_than_one_frame() -> None:
    # One frame of the last convolution takes 3 of the second, which take 13 of the first: 127 + 12 * 64 samples.
    assert Moonshine().frames(894, None) == 0
    assert Moonshine().frames(895, None) == 1
    assert Moonshine().frames(0, None) == 0


def test_whisper_frames_are_20_ms_up_to_the_window() -> None:
    config = SimpleNamespace(max_source_positions=1500)
    frames = [Whisper().frames(n, config) for n in (0, 1, 320, 321, 16_000, 480_000, 900_000)]
    assert frames == [0, 1, 1, 2, 50, 1500, 1500]


def test_prompts() -> None:
    english = SimpleNamespace(decoder_start_token_id=5, no_timestamps_token_id=9, is_multilingual=False)
    assert Whisper().prompt(english, "en", "transcribe") == (5, 9)
    many = SimpleNamespace(
        decoder_start_token_id=5,
        no_timestamps_token_id=9,
        is_multilingual=True,
        lang_to_id={"<|en|>": 6, "<|de|>": 7},
        task_to_id={"transcribe": 8, "translate": 4},
    )
    assert Whisper().prompt(many, "de", "transcribe") == (5, 7, 8, 9)
    assert Whisper().prompt(many, None, None) == (5, 6, 8, 9)
    many.language, many.task = "german", "translate"
    assert Whisper().prompt(many, None, None) == (5, 7, 4, 9), "what the fine-tune was made for"
    with pytest.raises(UserError, match=r"language: xx: this model knows en, de"):
        Whisper().prompt(many, "xx", "transcribe")
    assert Moonshine().prompt(SimpleNamespace(decoder_start_token_id=1), "en", "transcribe") == (1,)


def test_moonshine_caps_the_length_of_a_transcript() -> None:
    assert Moonshine().length_cap(160_000) == 67
    assert Whisper().length_cap(160_000) is None


def test_a_family_is_found_by_name() -> None:
    assert [family(f.name) for f in FAMILIES] == list(FAMILIES)
    with pytest.raises(UserError, match="model family: parakeet: choose whisper or moonshine"):
        family("parakeet")
