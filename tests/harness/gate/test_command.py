"""`edge-deploy check` as a user and a CI system call it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.gate.baseline import PartRatios, read_baseline
from tests.support.gated import Gated


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def run(gated: Gated, *more: str, baseline: Path | None = None) -> Result:
    arguments = ["check", str(gated.bundle), "--data", str(gated.data), "--float", "none"]
    named = ["--baseline", str(baseline)] if baseline else []
    return CliRunner().invoke(app, [*arguments, *named, *more], env={"COLUMNS": "200"})


def test_what_is_not_measured_is_not_passed_unless_allowed(gated: Gated) -> None:
    ran = run(gated)
    assert ran.exit_code == 1, ran.output
    assert "not measured" in ran.stdout and "--float BUNDLE" in ran.stdout
    assert run(gated, "--allow-unmeasured", "speed").exit_code == 0
    assert run(gated, "--allow-unmeasured", "speed-step").exit_code == 1


def test_machines_get_json_junit_and_annotations(gated: Gated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    record = read_baseline(gated.baseline)
    strict = tmp_path / "strict.json"
    strict.write_text(record.model_copy(update={"onnx_bytes": record.onnx_bytes // 2}).model_dump_json())
    more = ["--json", "--junit", str(tmp_path / "checks.xml"), "--allow-unmeasured", "speed"]
    ran = run(gated, *more, baseline=strict)
    assert ran.exit_code == 1
    report = json.loads(ran.stdout)
    assert report["passed"] is False
    verdicts = {check["name"]: check["verdict"] for check in report["bundles"][0]["checks"]}
    assert (verdicts["size"], verdicts["wer"], verdicts["speed-step"]) == ("failed", "passed", "not measured")
    suite = ElementTree.parse(tmp_path / "checks.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (str(len(verdicts)), "1", "3")
    [error] = [line for line in ran.stderr.splitlines() if line.startswith("::error ")]
    assert re.match(r"::error title=.*%3A size::failed: measured ", error)
    # Three parts of the speed are not measured, and six clips are few.
    assert sum(line.startswith("::warning ") for line in ran.stderr.splitlines()) == 4


def test_annotations_stand_below_the_table(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error title=" in run(gated).stdout


def test_a_wide_tolerance_is_pointed_out(gated: Gated) -> None:
    ran = run(gated, "--tolerance", "size=0.5", "--allow-unmeasured", "speed")
    assert ran.exit_code == 0
    assert "limit could be" in ran.stdout


def test_a_bundle_that_rounds_elsewhere_may_differ_in_some_tokens(gated: Gated, tmp_path: Path) -> None:
    record = read_baseline(gated.baseline)
    first, *rest = record.clips
    clips = [first.model_copy(update={"tokens": "1 2 3"}), *rest]
    path = tmp_path / "other.json"
    path.write_text(record.model_copy(update={"clips": clips}).model_dump_json())
    assert run(gated, "--allow-unmeasured", "speed", baseline=path).exit_code == 1, "here it must not"
    # The same name with other instruction sets, as virtual machines have it, is another processor.
    elsewhere = f"{record.environment.cpu} (another)"
    path.write_text(record.model_copy(update={"clips": clips, "processor": elsewhere}).model_dump_json())
    assert run(gated, "--allow-unmeasured", "speed", baseline=path).exit_code == 0
    ran = run(gated, "--allow-unmeasured", "speed", "--tolerance", "tokens_elsewhere=0", baseline=path)
    assert ran.exit_code == 1
    assert "1 of 6 clips differ" in ran.stdout


def test_another_onnxruntime_makes_other_operators_not_measured(gated: Gated, tmp_path: Path) -> None:
    record = read_baseline(gated.baseline)
    operators = {file: {**counts, "Erf": 1} for file, counts in record.operators.items()}
    elsewhere = record.environment.model_copy(update={"onnxruntime": "1.0.0"})
    path = tmp_path / "other.json"
    path.write_text(record.model_copy(update={"operators": operators, "environment": elsewhere}).model_dump_json())
    allowed = ["--allow-unmeasured", "speed", "--allow-unmeasured", "operators"]
    assert run(gated, *allowed[:2], baseline=path).exit_code == 1
    assert run(gated, *allowed, baseline=path).exit_code == 0


def test_speech_that_is_not_the_records_is_not_measured(gated: Gated, tmp_path: Path) -> None:
    record = read_baseline(gated.baseline)
    for changes in ({"id": "absent"}, {"fingerprint": "f" * 64}):
        clips = [record.clips[0].model_copy(update=changes), *record.clips[1:]]
        path = tmp_path / "other.json"
        path.write_text(record.model_copy(update={"clips": clips}).model_dump_json())
        ran = run(gated, "--allow-unmeasured", "speed", "--json", baseline=path)
        assert ran.exit_code == 1
        verdicts = {check["name"]: check["verdict"] for check in json.loads(ran.stdout)["bundles"][0]["checks"]}
        assert verdicts["tokens"] == verdicts["wer"] == verdicts["empty"] == "not measured"


def test_an_update_keeps_tolerances_and_the_speed_of_other_machines(gated: Gated, tmp_path: Path) -> None:
    record = read_baseline(gated.baseline)
    path = tmp_path / "record.json"
    kept = {"speed": {"another": PartRatios(encoder=0.5, prompt=0.5, step=0.5)}, "onnx_bytes": 1}
    path.write_text(record.model_copy(update=kept).model_dump_json())
    ran = run(gated, "--update-baseline", "--tolerance", "size=0.02", "--number", "3", baseline=path)
    assert ran.exit_code == 0, ran.output
    renewed = read_baseline(path)
    assert renewed.speed == kept["speed"]
    assert renewed.onnx_bytes == record.onnx_bytes
    assert renewed.tolerances == record.tolerances.model_copy(update={"size": 0.02})
    assert len(renewed.clips) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def with_change(gated: Gated, folder: Path, **changes: object) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps({**json.loads(gated.baseline.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_sha256": "b" * 64}, "made from other weights"),
        ({"schema_version": 7}, "has schema 7, but this version reads 1"),
        ({"clips": "none"}, "clips is broken"),
        ({"surplus": 1}, "surplus is broken"),
        ({"speed": {"this": {"encoder": 1}}}, "speed.this.prompt is broken"),
    ],
)
def test_a_record_that_does_not_fit_is_one_clear_line(
    gated: Gated, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    path = with_change(gated, tmp_path, **changes)
    before = path.read_bytes()
    for more in ([], ["--update-baseline"]):
        ran = run(gated, *more, baseline=path)
        assert isinstance(ran.exception, UserError)
        assert named in str(ran.exception) and "\n" not in str(ran.exception)
        assert path.read_bytes() == before, "what is there is not lost"


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_record_that_is_no_json_is_one_clear_line(gated: Gated, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_bytes(content.encode("latin-1"))
    ran = run(gated, baseline=tmp_path / "bad.json")
    assert isinstance(ran.exception, UserError)
    assert "bad.json" in str(ran.exception) and "\n" not in str(ran.exception)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--baseline", "absent.json"], "--update-baseline"),
        (["--allow-unmeasured", "weather"], "no such check"),
        (["--tolerance", "weather=1"], "write KEY=VALUE"),
        (["--tolerance", "size=-1"], "size=-1"),
        (["--tolerance", "size"], "size="),
        (["--junit", "absent/check.xml"], "its folder does not exist"),
        (["--data", "absent.jsonl"], "absent.jsonl"),
        (["--float", "absent"], "absent"),
        (["absent-bundle"], "absent-bundle"),
    ],
)
def test_bad_input_is_one_clear_line(gated: Gated, more: list[str], named: str) -> None:
    ran = run(gated, *more, baseline=None if "--baseline" in more else gated.baseline)
    assert isinstance(ran.exception, UserError), ran.output
    assert named in str(ran.exception) and "\n" not in str(ran.exception)


def test_a_missing_bundle_is_one_clear_line(gated: Gated) -> None:
    ran = CliRunner().invoke(app, ["check", "absent", "--baseline", str(gated.baseline)])
    assert isinstance(ran.exception, UserError)
    assert "edge-deploy export" in str(ran.exception)


def test_a_record_is_found_beside_the_bundle_or_in_a_folder(gated: Gated) -> None:
    ran = run(gated, "--allow-unmeasured", "speed", "--json", baseline=gated.baseline.parent)
    assert json.loads(ran.stdout)["bundles"][0]["baseline"] == str(gated.baseline)


def test_version_control_names_a_bundle_by_its_record_or_manifest(gated: Gated) -> None:
    files = [str(gated.baseline), str(gated.bundle / "manifest.json"), str(gated.bundle)]
    arguments = ["check", *files, "--data", str(gated.data), "--float", "none", "--allow-unmeasured", "speed", "--json"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert [bundle["bundle"] for bundle in json.loads(ran.stdout)["bundles"]] == [str(gated.bundle)]


WEB_APP = '{"name": "App", "icons": [], "start_url": "/"}'


@pytest.mark.parametrize("content", [WEB_APP, "[]", "not JSON", ""])
def test_the_hook_passes_over_what_is_not_ours(content: str, tmp_path: Path) -> None:
    for name in ("web/manifest.json", "web/baselines/app.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    paths = [str(tmp_path / "web/manifest.json"), str(tmp_path / "web/baselines/app.json")]
    ran = CliRunner().invoke(app, ["check", "--only-bundles", *paths])
    assert (ran.exit_code, ran.output) == (0, "")
    ran = CliRunner().invoke(app, ["check", paths[0]])
    assert isinstance(ran.exception, UserError), "by hand, naming it is a mistake"


def test_the_hook_checks_what_is_ours(gated: Gated, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(WEB_APP)
    more = ["--only-bundles", str(tmp_path / "manifest.json"), "--allow-unmeasured", "speed"]
    ran = run(gated, *more, "--json")
    assert ran.exit_code == 0
    assert [bundle["bundle"] for bundle in json.loads(ran.stdout)["bundles"]] == [str(gated.bundle)]


@pytest.mark.parametrize("content", ["", "{", WEB_APP])
def test_the_hook_does_not_pass_over_a_broken_manifest_of_ours(gated: Gated, tmp_path: Path, content: str) -> None:
    def spoil(folder: Path) -> None:
        (folder / "manifest.json").write_text(content)

    bundle = gated.altered(tmp_path, spoil, rehash=False)
    arguments = ["check", "--only-bundles", str(bundle / "manifest.json"), "--baseline", str(gated.baseline)]
    ran = CliRunner().invoke(app, [*arguments, "--data", str(gated.data), "--float", "none"])
    assert ran.exit_code == 1 and "damaged" in ran.output


def test_a_record_that_cannot_be_written_is_refused_before_any_work(gated: Gated, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "record.json", tmp_path / "folder.json"):
        (tmp_path / "folder.json" / f"{gated.bundle.name}.json").mkdir(parents=True, exist_ok=True)
        ran = run(gated, "--update-baseline", "--data", "absent.jsonl", baseline=place)
        assert isinstance(ran.exception, UserError) and ran.exception.thing == "--baseline"


def test_the_speed_of_a_processor_of_the_same_name_is_none_of_this_ones(gated: Gated, tmp_path: Path) -> None:
    record = read_baseline(gated.baseline)
    path = tmp_path / "other.json"
    speed = {record.environment.cpu: PartRatios(encoder=0.01, prompt=0.01, step=0.01)}
    path.write_text(record.model_copy(update={"speed": speed}).model_dump_json())
    ran = run(gated, "--float", str(gated.float_bundle), "--json", baseline=path)
    checks = {check["name"]: check for check in json.loads(ran.stdout)["bundles"][0]["checks"]}
    assert checks["speed-encoder"]["verdict"] == "not measured"
    assert "the record has no speed on" in checks["speed-encoder"]["note"]
