"""Checkpoints as people save them: older, newer and half-written small files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.checkpoints.completing import ENGLISH_ONLY_END
from edge_asr_deploy.errors import UserError
from tests.support.checkpoint_folders import PREPROCESSOR, SPECIAL, write_tokenizer, write_transformers

pytest.importorskip("transformers")
# Ids of the language token and the task token that older files force.
GERMAN, TRANSLATE = 301, 302


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_transformers(tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def generation(model: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((resolve(str(model)).folder / "generation_config.json").read_text())
    return settings


def make_slow(folder: Path) -> None:
    """Only the files of Transformers' slow tokenizer."""
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(SPECIAL))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "WhisperTokenizer"}))


def test_a_folder_that_has_everything_is_used_as_it_is(folder: Path) -> None:
    assert resolve(str(folder)).folder == folder


def test_a_slow_tokenizer_becomes_a_fast_one(folder: Path) -> None:
    from tokenizers import Tokenizer

    make_slow(folder)
    made = resolve(str(folder)).folder
    tokens = Tokenizer.from_file(str(made / "tokenizer.json"))
    assert {name: tokens.token_to_id(name) for name in SPECIAL} == SPECIAL
    assert (made / "model.safetensors").resolve() == folder / "model.safetensors"
    assert resolve(str(folder)).folder == made


def test_a_slow_tokenizer_that_is_broken_is_refused_at_once(folder: Path, cache: Path) -> None:
    make_slow(folder)
    (folder / "vocab.json").write_text("{")
    with pytest.raises(UserError, match=r"no tokenizer.json can be made of its files .*; copy tokenizer.json"):
        resolve(str(folder))
    assert not any((cache / "checkpoints").iterdir())


def test_an_old_multilingual_generation_config_gets_its_languages(folder: Path) -> None:
    edit(folder / "generation_config.json", lang_to_id=None, task_to_id=None, is_multilingual=None)
    settings = generation(folder)
    assert settings["lang_to_id"] == {"<|en|>": 300, "<|de|>": 301}
    assert settings["task_to_id"] == {"transcribe": 303, "translate": 302}
    assert settings["is_multilingual"] is True


def test_no_generation_config_at_all(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", suppress_tokens=[7, 9], begin_suppress_tokens=[8])
    settings = generation(folder)
    assert settings["no_timestamps_token_id"] == 305 and settings["lang_to_id"] and settings["eos_token_id"] == 2
    assert (settings["suppress_tokens"], settings["begin_suppress_tokens"]) == ([7, 9], [8])


def test_an_english_only_model_gets_no_languages(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    write_tokenizer(folder / "tokenizer.json", {**SPECIAL, "<|endoftext|>": ENGLISH_ONLY_END})
    settings = generation(folder)
    assert settings["is_multilingual"] is False and "lang_to_id" not in settings


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_forced_ids_become_language_and_task(folder: Path, file: str) -> None:
    edit(folder / file, forced_decoder_ids=[[1, GERMAN], [2, TRANSLATE], [3, 305]])
    settings = generation(folder)
    assert (settings["language"], settings["task"]) == ("<|de|>", "translate")


@pytest.mark.parametrize("forced", [[[1, None], [2, 303]], [], [[1, 305]], "nonsense", [5]])
def test_forced_ids_without_a_language_leave_it_to_be_detected(folder: Path, forced: Any) -> None:
    edit(folder / "generation_config.json", forced_decoder_ids=forced)
    assert "language" not in generation(folder)


def test_a_language_that_is_said_wins(folder: Path) -> None:
    edit(folder / "generation_config.json", language="english", forced_decoder_ids=[[1, GERMAN]])
    assert generation(folder)["language"] == "english"


def test_the_processor_config_of_transformers_5(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "WhisperProcessor", "feature_extractor": {**PREPROCESSOR, "feature_size": 80}})
    )
    made = resolve(str(folder)).folder
    assert json.loads((made / "preprocessor_config.json").read_text())["feature_size"] == 80


@pytest.mark.parametrize("document", [{"processor_class": "WhisperProcessor"}, {"feature_extractor": 5}])
def test_a_processor_config_without_an_extractor_is_none(folder: Path, document: dict[str, Any]) -> None:
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json"):
        resolve(str(folder))


def test_a_moved_checkpoint_is_completed_again(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").unlink()
    first = resolve(str(folder)).folder
    shutil.move(folder, tmp_path / "elsewhere")
    second = resolve(str(tmp_path / "elsewhere")).folder
    assert second != first and (second / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("preprocessor_config.json", {"chunk_length": 15}, "chunk_length 15, not 30"),
        ("preprocessor_config.json", {"chunk_length": 0}, "chunk_length 0, not 30"),
        ("preprocessor_config.json", {"feature_size": 81}, "feature_size 81, but config.json num_mel_bins 80"),
        ("preprocessor_config.json", {"hop_length": 320}, "hop_length 320, not 160"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate 8000, not 16000"),
        ("config.json", {"max_source_positions": 750}, "max_source_positions 750, not 1500"),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized before, by bitsandbytes"),
        ("config.json", {"quantization_config": True}, "quantized before, by an unknown method"),
    ],
)
def test_what_the_runtime_cannot_compute_is_refused_at_once(
    folder: Path, file: str, changes: dict[str, Any], said: str
) -> None:
    edit(folder / file, **changes)
    with pytest.raises(UserError, match=said):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adapter_config.json", "LoRA adapter.*merge"),
        ("tiny.pt", "openai-whisper"),
        ("ggml-tiny.bin", "whisper.cpp"),
        ("model.gguf", "whisper.cpp"),
        ("encoder_model.onnx", "exported already"),
        ("tf_model.h5", "TensorFlow"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_called_by_its_name(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"holds {name}.*{said}"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("family", "key"),
    [("whisper", "encoder_attention_heads"), ("moonshine", "decoder_num_hidden_layers")],
)
def test_halves_that_optimum_takes_for_alike_must_be(tmp_path: Path, family: str, key: str) -> None:
    write_transformers(tmp_path / "m", family)
    edit(tmp_path / "m" / "config.json", **{key: 3})
    with pytest.raises(UserError, match=f"{key} 3.*as many of both"):
        resolve(str(tmp_path / "m"))


def test_a_file_of_another_program_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "tiny.pt").touch()
    with pytest.raises(UserError, match=r"tiny.pt: is a.*openai-whisper"):
        resolve(str(tmp_path / "tiny.pt"))


def test_a_path_into_the_hub_cache_has_the_repository_s_name(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--someone--whisper-nano-de" / "snapshots" / ("5f1a4ce9" * 5)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    checkpoint = resolve(str(snapshot))
    assert checkpoint.name == "whisper-nano-de"
    assert checkpoint.origin.startswith("Hugging Face Hub: someone/whisper-nano-de @ 5f1a4ce9")
