"""Every weight of a loaded model comes from its files: gaps are refused by name, never filled with random numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.checkpoints.loading import load
from edge_asr_deploy.errors import UserError
from tests.support.checkpoint_folders import write_transformers

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

State = dict[str, Any]
FC1 = {"whisper": "model.decoder.layers.0.fc1.weight", "moonshine": "model.decoder.layers.0.mlp.fc1.weight"}


@pytest.fixture(params=["whisper", "moonshine"])
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(tmp_path: Path, family: str) -> Path:
    write_transformers(tmp_path / "model", family)
    return tmp_path / "model"


def change(folder: Path, edit: Callable[[State], State]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in edit(load_file(path)).items()}, path, {"format": "pt"})


def refused(folder: Path, *said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(folder)
    for words in said:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_missing_matrix_is_named(folder: Path, family: str) -> None:
    change(folder, lambda state: {name: value for name, value in state.items() if name != FC1[family]})
    refused(folder, f"1 weight is missing ({FC1[family]})")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda state: {f"_orig_mod.{name}": value for name, value in state.items()}, "take `_orig_mod.` off"),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, "take `module.` off"),
        (
            lambda state: {
                f"base_model.model.{name.replace('q_proj', 'q_proj.base_layer')}": value
                for name, value in state.items()
            },
            "merge_and_unload",
        ),
        (lambda state: {name: v for name, v in state.items() if ".encoder." in name}, "encoder only"),
        (lambda state: {**state, "classifier.weight": torch.zeros(2)}, "no part of the model (classifier.weight)"),
    ],
    ids=["compiled", "parallel", "adapter", "encoder-only", "extra"],
)
def test_foreign_names_get_their_remedy(folder: Path, edit: Callable[[State], State], said: str) -> None:
    change(folder, edit)
    refused(folder, said)


def test_an_adapter_beside_its_base_is_not_merged_silently(folder: Path, family: str) -> None:
    lora = FC1[family].replace(".weight", ".lora_A.default.weight")
    change(folder, lambda state: {**state, lora: torch.zeros(4, 32)})
    refused(folder, lora, "merge_and_unload")


def test_another_size_is_named(folder: Path, family: str) -> None:
    change(folder, lambda state: {**state, FC1[family]: state[FC1[family]][:-1]})
    refused(folder, "other sizes than its config.json", FC1[family])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(folder: Path, family: str, value: float) -> None:
    def edit(state: State) -> State:
        state[FC1[family]][0, 0] = value
        return state

    change(folder, edit)
    refused(folder, FC1[family], "NaN or infinity")


def test_integers_of_another_quantizer_are_refused(folder: Path, family: str) -> None:
    change(folder, lambda state: {**state, FC1[family]: state[FC1[family]].to(torch.int8)})
    refused(folder, "cannot load it")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_with_objects_is_refused_unrun(
    folder: Path, wrapped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    if wrapped:
        torch.save({"model": Harmful()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Harmful()}))
    refused(folder, "cannot load it")
    assert "run" not in capsys.readouterr().out.split()


def test_what_may_be_absent_is_computed(tmp_path: Path) -> None:
    """Whisper's encoder positions are sinusoids; a base model's names lack `model.`; rotary tables are derived."""
    model = write_transformers(tmp_path / "whisper", "whisper")
    positions = "model.encoder.embed_positions.weight"
    change(tmp_path / "whisper", lambda state: {n: v for n, v in state.items() if n != positions})
    loaded = load(tmp_path / "whisper").state_dict()
    assert torch.allclose(loaded[positions], sinusoids(*loaded[positions].shape), atol=1e-6)
    change(tmp_path / "whisper", lambda state: {n.removeprefix("model."): v for n, v in state.items()})
    assert torch.equal(load(tmp_path / "whisper").state_dict()[FC1["whisper"]], model.state_dict()[FC1["whisper"]])
    write_transformers(tmp_path / "moonshine", "moonshine")
    change(tmp_path / "moonshine", lambda state: {**state, "model.decoder.rotary_emb.inv_freq": torch.zeros(3)})
    load(tmp_path / "moonshine")


def sinusoids(length: int, channels: int) -> Any:
    """openai/whisper, model.py."""
    scale = torch.log(torch.tensor(10000.0)) / (channels // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-scale * torch.arange(channels // 2))[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def test_an_attention_that_needs_a_gpu_is_replaced(folder: Path) -> None:
    import json

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_attn_implementation": "flash_attention_2"}))
    assert load(folder).config._attn_implementation == "sdpa"


def test_an_untied_head_that_is_missing_is_not_random(folder: Path) -> None:
    import json

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused(folder, "1 weight is missing (proj_out.weight)")
