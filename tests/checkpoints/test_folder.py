"""A Transformers folder is used where it lies; one that cannot be used is refused with a line that says why."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.errors import UserError
from tests.support.checkpoint_folders import write_transformers

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    write_transformers(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "mine"
    copy.mkdir()
    for path in saved.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_it_is_used_where_it_lies(folder: Path) -> None:
    checkpoint = resolve(str(folder))
    assert (checkpoint.name, checkpoint.family, checkpoint.folder) == ("mine", "whisper", folder)
    assert checkpoint.origin == str(folder)
    assert checkpoint.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint.grid_note is None


def test_moonshine_is_told_from_whisper(tmp_path: Path) -> None:
    write_transformers(tmp_path / "m", "moonshine")
    assert resolve(str(tmp_path / "m")).family == "moonshine"


def test_shards_and_pickles_are_weights_too(tmp_path: Path) -> None:
    write_transformers(tmp_path / "shards", max_shard_size="100KB")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 1
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in shards]
    assert resolve(str(tmp_path / "shards")).sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    write_transformers(tmp_path / "pickle", safe_serialization=False)
    assert (tmp_path / "pickle" / "pytorch_model.bin").is_file()
    assert resolve(str(tmp_path / "pickle")).family == "whisper"
    shards[1].unlink()
    with pytest.raises(UserError, match=f"{shards[1].name}: is missing"):
        resolve(str(tmp_path / "shards"))


def test_json_of_any_size_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asr_deploy.checkpoints.folder.LARGEST_JSON", 1000)
    (folder / "generation_config.json").write_text("[" * 1001)
    with pytest.raises(UserError, match=r"\.json: has more than 0 MB"):
        resolve(str(folder))


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/model.safetensors", "..", 5])
def test_a_shard_elsewhere_is_refused(folder: Path, shard: object) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"model.encoder.conv1.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"which is no file beside it|is missing"):
        resolve(str(folder))


def test_weights_on_an_8_bit_grid_are_said_to_be(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    values = torch.randn(512, 256)
    for weight, expected in ((values, False), ((values * 20).round() / 20, True)):
        state["model.encoder.layers.0.fc1.weight"] = weight.contiguous()
        save_file(state, folder / "model.safetensors")
        assert (resolve(str(folder)).grid_note is not None) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=said):
        resolve(str(folder))


def test_another_architecture_is_named(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="'bert'; only whisper and moonshine"):
        resolve(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "\xff", "[" * 200_000])
def test_a_broken_configuration_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json: (cannot be read as JSON|is no JSON object)"):
        resolve(str(folder))


@pytest.mark.parametrize("kept", [0, 5, 3000, -4])
def test_truncated_weights_are_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors: is cut short or corrupt"):
        resolve(str(folder))


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    write_transformers(tmp_path / "p", safe_serialization=False)
    path = tmp_path / "p" / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"pytorch_model\.bin: is cut short or corrupt"):
        resolve(str(tmp_path / "p"))
