"""The model card holds what was measured, of this bundle and no other, and the bundle stays what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.bundle.manifest import CARD, bundle_hash, read_manifest, verify
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.reporting.card import update_card
from tests.support.fakes import write_bundle
from tests.support.results import make_result


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    found = make_result(tmp_path, monkeypatch, {"long": "and then she was gone"})
    (tmp_path / "result.json").write_text(found.model_dump_json())
    return found


def test_the_card_has_the_numbers_of_the_record(tmp_path: Path, result: Result) -> None:
    ran = CliRunner().invoke(app, ["card", str(tmp_path / "w4"), str(tmp_path / "result.json")])
    assert ran.exit_code == 0, ran.output
    card = (tmp_path / "w4" / CARD).read_text()
    assert f"| {100 * result.bundle.accuracy.pooled.wer:.2f} |" in card
    assert "| street | 1 | 20.00 | 20.00 to 20.00 | 0.00 |" in card
    assert result.environment.cpu in card and result.speech in card
    assert "edge-deploy transcribe w4" in card, "the rest is still there"


def test_the_bundle_is_good_and_the_same_afterwards(tmp_path: Path, result: Result) -> None:
    before = verify(tmp_path / "w4")
    for _ in range(2):
        update_card(tmp_path / "w4", [tmp_path / "result.json"])
        after = verify(tmp_path / "w4")
        assert bundle_hash(after) == bundle_hash(before), "so the result still is of this bundle"
        assert after.files.keys() == before.files.keys() | {CARD}
    assert sorted(os.listdir(tmp_path)) == ["float", "result.json", "w4"]


def test_a_result_of_another_bundle_is_refused_and_nothing_changes(tmp_path: Path, result: Result) -> None:
    write_bundle(tmp_path / "other", files={"config.json": b"[]"})
    before = (tmp_path / "other" / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"result\.json: belongs to another bundle \(w4\)"):
        update_card(tmp_path / "other", [tmp_path / "result.json"])
    with pytest.raises(UserError, match="is not a result"):
        update_card(tmp_path / "other", [tmp_path / "other" / "manifest.json"])
    assert (tmp_path / "other" / "manifest.json").read_bytes() == before


def test_a_damaged_bundle_is_not_vouched_for_again(tmp_path: Path, result: Result) -> None:
    (tmp_path / "w4" / "config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"config\.json"):
        update_card(tmp_path / "w4", [tmp_path / "result.json"])
    assert not (tmp_path / "w4" / CARD).exists() and read_manifest(tmp_path / "w4")
