"""Bundles on the Hub, by huggingface_hub and a server that stands in for the Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("huggingface_hub")

from edge_asr_deploy.bundle.manifest import MANIFEST, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify, verify_files
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.publishing import base_model_of, licence_of
from tests.support.fakes import write_bundle
from tests.support.hub_server import HubServer, hub_server
from tests.support.results import make_result

ROOT = Path(__file__).parents[1]
REPOSITORY = "me/tiny-w4"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with hub_server(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    found = make_result(tmp_path, monkeypatch, {"long": "and then she was gone"})
    (tmp_path / "result.json").write_text(found.model_dump_json())
    return found


def run(hub: HubServer, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "edge_asr_deploy", "publish", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def header(path: Path) -> dict[str, Any]:
    _, front, _ = path.read_text().split("---\n", 2)
    return dict(yaml.safe_load(front))


def test_what_is_uploaded_is_the_bundle(hub: HubServer, tmp_path: Path, result: Result) -> None:
    bundle = tmp_path / "w4"
    before = (bundle / MANIFEST).read_bytes()
    ran = run(hub, str(bundle), REPOSITORY, "--result", str(tmp_path / "result.json"))
    assert ran.returncode == 0, ran.stderr
    found = hub.repository(REPOSITORY)
    assert bundle_hash(verify(found)) == bundle_hash(read_manifest(bundle))
    assert {path.name for path in found.iterdir()} == {path.name for path in bundle.iterdir()} | {"README.md"}
    assert hub.commits == [f"w4, bundle {bundle_hash(read_manifest(bundle))[:16]}"]
    assert (bundle / MANIFEST).read_bytes() == before, "the folder here is not touched"


def test_the_card_says_what_the_hub_reads(hub: HubServer, tmp_path: Path, result: Result) -> None:
    run(hub, str(tmp_path / "w4"), REPOSITORY, "--result", str(tmp_path / "result.json"))
    found = header(hub.repository(REPOSITORY) / "README.md")
    assert found["license"] == "apache-2.0" and found["base_model"] == "openai/whisper-tiny.en"
    assert found["base_model_relation"] == "quantized"
    assert found["pipeline_tag"] == "automatic-speech-recognition" and "onnx" in found["tags"]
    [model] = found["model-index"]
    measured = {one["dataset"]["name"]: one["metrics"][0] for one in model["results"]}
    assert measured["street"]["type"] == "wer" and measured["street"]["value"] == 20.0


def test_without_results_no_metrics_are_claimed(hub: HubServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    assert run(hub, str(tmp_path / "w4"), REPOSITORY).returncode == 0
    assert "model-index" not in header(hub.repository(REPOSITORY) / "README.md")


def test_a_second_upload_leaves_no_file_of_the_first(hub: HubServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "first", files={"vocab.json": b"{}"})
    write_bundle(tmp_path / "second")
    assert run(hub, str(tmp_path / "first"), REPOSITORY).returncode == 0
    (hub.repository(REPOSITORY) / "notes.txt").write_text("mine")
    assert run(hub, str(tmp_path / "second"), REPOSITORY).returncode == 0
    verify(hub.repository(REPOSITORY))
    assert (hub.repository(REPOSITORY) / "notes.txt").exists(), "what others put there stays"


def test_the_folder_of_a_layout_goes_up_as_its_engine_opens_it(hub: HubServer, tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "w4")
    with BundleWriter(tmp_path / "web") as writer:
        (writer.folder / "onnx").mkdir()
        (writer.folder / "onnx" / "encoder_model_quantized.onnx").write_bytes(b"e" * 100)
        (writer.folder / "README.md").write_text("# For transformers.js\n")
        writer.commit(manifest.model_copy(update={"layout": "transformers.js", "targets": {}, "files": {}}))
    ran = run(hub, str(tmp_path / "web"), REPOSITORY)
    assert ran.returncode == 0, ran.stderr
    found = hub.repository(REPOSITORY)
    assert (found / "onnx" / "encoder_model_quantized.onnx").is_file()
    assert verify_files(found).layout == "transformers.js"
    assert header(found / "README.md")["library_name"] == "transformers.js"
    assert (found / "README.md").read_text().endswith("# For transformers.js\n")


def test_a_damaged_bundle_is_not_uploaded(hub: HubServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    (tmp_path / "w4" / "config.json").write_text("[]")
    ran = run(hub, str(tmp_path / "w4"), REPOSITORY)
    assert ran.returncode == 2 and "config.json" in ran.stderr
    assert not hub.repository(REPOSITORY).exists() and hub.commits == []


@pytest.mark.parametrize(
    ("variables", "refuses", "said"),
    [
        ({"HF_TOKEN": "hf_other"}, 0, "hf auth login"),
        ({}, 403, "hf auth login"),
        ({}, 500, "did not take it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, 0, "cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    hub: HubServer, tmp_path: Path, variables: dict[str, str], refuses: int, said: str
) -> None:
    write_bundle(tmp_path / "w4")
    hub.refuses = refuses
    ran = run(hub, str(tmp_path / "w4"), REPOSITORY, **variables)
    assert ran.returncode == 2, ran.stderr
    [line] = ran.stderr.strip().splitlines()
    assert said in line and REPOSITORY in line


def test_a_name_that_is_none_is_refused(hub: HubServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    ran = run(hub, str(tmp_path / "w4"), "a/b/c")
    assert ran.returncode == 2 and "give OWNER/NAME" in ran.stderr


def test_the_licence_of_an_unknown_model_must_be_given(hub: HubServer, tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    manifest = read_manifest(tmp_path / "w4")
    mine = manifest.model_copy(update={"model": manifest.model.model_copy(update={"name": "my-whisper"})})
    assert base_model_of(mine) is None
    with pytest.raises(UserError, match="--licence"):
        licence_of(mine, None)
    origin = "Hugging Face Hub: openai/whisper-small @ 973afd2"
    known = mine.model_copy(update={"model": mine.model.model_copy(update={"origin": origin})})
    assert base_model_of(known) == "openai/whisper-small"
    assert licence_of(known, base_model_of(known)) == "apache-2.0"
