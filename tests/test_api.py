"""The seven public names: what they cost to import, and that every snippet of their page runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import edge_asr_deploy
from edge_asr_deploy import UserError
from tests.support.fixtures_checkpoint import checkpoint
from tests.support.voice import voice

__all__ = ["checkpoint"]

ROOT = Path(__file__).parents[1]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/reference/api.md").read_text(), re.DOTALL)


def test_the_page_names_all_that_is_public() -> None:
    first = SNIPPETS[0]
    assert all(re.search(rf"\b{name}\b", first) for name in edge_asr_deploy.__all__)
    assert len(edge_asr_deploy.__all__) == 7


@pytest.mark.parametrize("name", edge_asr_deploy.__all__)
def test_every_name_is_there_and_says_what_it_does(name: str) -> None:
    assert getattr(edge_asr_deploy, name).__doc__
    assert name in dir(edge_asr_deploy)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = edge_asr_deploy.nonsense


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_the_package_loads_nothing() -> None:
    assert not {"numpy", "onnxruntime", "pydantic", "torch"} & loaded_by("import edge_asr_deploy")


@pytest.mark.parametrize("name", edge_asr_deploy.__all__)
def test_no_name_loads_torch(name: str) -> None:
    assert not {"torch", "transformers", "optimum"} & loaded_by(f"from edge_asr_deploy import {name}")


def test_an_option_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="option: bit: there is none of this name; choose model, bits"):
        edge_asr_deploy.export(bit=4)
    with pytest.raises(UserError, match="option: baselin"):
        edge_asr_deploy.evaluate("nowhere", baselin="none")


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the page's snippets name; a random model needs not speak."""
    from edge_asr_deploy import pipeline

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGE_ASR_DATA", raising=False)
    monkeypatch.setattr(pipeline, "_check_speech", lambda *_: {})
    soundfile.write(tmp_path / "audio.wav", voice(1), 16_000)
    row = {"id": "one", "audio": "audio.wav", "text": "red green blue", "source": "noise"}
    (tmp_path / "speech.jsonl").write_text(json.dumps(row) + "\n")
    os.symlink(checkpoint, tmp_path / "checkpoint")
    edge_asr_deploy.export(model="checkpoint", bits=32, output="bundle")
    return tmp_path


def test_the_pages_snippets_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page: dict[str, object] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/reference/api.md", "exec"), page)
    printed = capsys.readouterr().out
    assert "bundle-w8" in printed and "(16000,) float32" in printed and "no-such-folder" in printed


def test_the_readmes_five_lines_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    exec(snippet.replace("exported/whisper-tiny.en-w4", "bundle"), {})
    assert capsys.readouterr().out.strip()
