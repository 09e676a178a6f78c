"""Names that are made to be obeyed: by terminals, by GitHub's runner, by readers of XML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result as Ran
from typer.testing import CliRunner

from edge_asr_deploy.bundle.manifest import CARD, read_manifest
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.cli import app
from edge_asr_deploy.cli.console import console
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.gate.annotations import github_annotations
from edge_asr_deploy.harness.gate.junit import junit_xml
from edge_asr_deploy.harness.gate.report import BundleReport, Check, Report
from edge_asr_deploy.printing import markdown_text
from tests.support.fakes import write_bundle
from tests.support.results import make_result

# Clear the screen, set the title, the same by C1, end the line, speak to GitHub, be HTML, be a cell.
EVIL = "w\x1b[2J\x1b]0;owned\x07\x9b31m\n::stop-commands::x\r|<script>alert(1)</script>`[a](javascript:b)"
CONTROLS = {chr(code) for code in [*range(32), *range(127, 160)]} - {"\n"}


def controls(text: str) -> set[str]:
    return CONTROLS & set(text)


def invoke(*arguments: object) -> Ran:
    """As on a terminal: elsewhere typer drops what it takes for a colour."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], color=True)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A sealed bundle whose every name is evil."""
    write_bundle(tmp_path / "plain")
    manifest = read_manifest(tmp_path / "plain")
    model = manifest.model.model_copy(update={"name": EVIL, "origin": EVIL, "grid_note": EVIL})
    [layer] = manifest.layers
    layer = layer.model_copy(update={"name": EVIL, "component": EVIL, "method": EVIL})
    changes = {
        "name": EVIL,
        "model": model,
        "recipe": {"name": EVIL},
        "layers": [layer],
        "metrics": {"spoken": {EVIL: EVIL}},
    }
    with BundleWriter(tmp_path / "evil") as writer:
        for name in manifest.files:
            (writer.folder / name).write_bytes((tmp_path / "plain" / name).read_bytes())
        writer.commit(manifest.model_copy(update=changes))
    return tmp_path / "evil"


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: Path) -> Path:
    """A result of that bundle, whose texts are evil, too."""
    found = json.loads(make_result(tmp_path / "made", monkeypatch).model_dump_json())
    found["bundle"] |= {"name": EVIL, "model": EVIL, "recipe": EVIL}
    found["speech"] = EVIL
    for row in found["bundle"]["accuracy"]["rows"]:
        row |= {"id": EVIL, "hypothesis": EVIL}
    from edge_asr_deploy.bundle.manifest import bundle_hash

    found["bundle"]["hash"] = bundle_hash(read_manifest(evil))
    path = tmp_path / "result.json"
    path.write_text(Result.model_validate(found).model_dump_json())
    return path


def test_markdown_of_results_has_no_html_and_no_more_cells(result: Path) -> None:
    ran = invoke("summary", result)
    assert ran.exit_code == 0, ran.output
    assert not controls(ran.stdout) and "<script" not in ran.stdout
    rows = ran.stdout.splitlines()
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
    assert "](javascript" not in ran.stdout.replace("\\]", "")


def test_a_card_has_no_html(evil: Path, result: Path) -> None:
    ran = invoke("card", evil, result)
    assert ran.exit_code == 0, ran.output
    card = (evil / CARD).read_text()
    assert not controls(card) and not controls(ran.output)
    outside = [line for line in card.splitlines() if not line.startswith(("edge-deploy transcribe", "#"))]
    assert "alert(1)" in card
    for line in outside:
        # What stands between pairs of the same number of backticks is code, and is shown as it is.
        plain = line.replace("\\`", "").split("`` ")
        assert "<script" not in "".join(plain[::2]), line


def test_a_page_has_no_control_characters(tmp_path: Path, result: Path) -> None:
    pytest.importorskip("jinja2")
    ran = invoke("report", result, "--output", tmp_path / "page.html")
    assert ran.exit_code == 0, ran.output
    page = (tmp_path / "page.html").read_text()
    assert not controls(page) and "<script" not in page and "alert(1)" in page


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_terminal_gets_no_escapes_from_a_path(tmp_path: Path, more: list[str]) -> None:
    folder = tmp_path / EVIL.replace("/", "")
    write_bundle(folder)
    ran = invoke("verify", folder, *more)
    assert ran.exit_code == 0, ran.output
    assert not controls(ran.output) and not ran.output.startswith("::")
    if more:
        assert json.loads(ran.stdout)["name"] == str(folder)


def test_consoles_show_escapes_and_keep_their_own_colours(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(title=EVIL)
    table.add_column("name")
    table.add_row(EVIL.replace("[", ""))
    shown = console(width=300, force_terminal=True, color_system="standard")
    shown.print(table, "plain", style="red")
    out = capsys.readouterr().out
    assert "\x1b[31m" in out, "rich's own colour"
    assert "\x1b[2J" not in out and "\x1b]" not in out and "\x9b" not in out and "\x07" not in out
    assert "\\x1b" in out


def test_an_error_is_one_line_without_escapes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge_asr_deploy import cli

    monkeypatch.setattr("sys.argv", ["edge-deploy", "verify", EVIL])
    with pytest.raises(SystemExit):
        cli.main()
    err = capsys.readouterr().err
    assert err.startswith("edge-deploy: ") and err.count("\n") == 1 and not controls(err)
    assert not controls(str(UserError("bundle", EVIL, "no")))


def report() -> Report:
    check = Check(name=EVIL, verdict="failed", measured=EVIL, limit=EVIL, note=EVIL, slack=EVIL)
    return Report(bundles=[BundleReport(bundle=EVIL, baseline=EVIL, checks=[check])], allowed=[])


def lines(text: str) -> Iterator[str]:
    """As GitHub's runner reads them."""
    return (line.strip() for line in text.splitlines())


def test_junit_is_xml_whatever_names_hold() -> None:
    root = ElementTree.fromstring(junit_xml(report()))
    suite = root[0]
    assert not controls(str(suite.get("name"))) and "\\x1b[2J" in str(suite.get("name"))


def test_annotations_hold_no_other_command() -> None:
    for command in github_annotations(report()):
        assert len(command.splitlines()) == 1 and not controls(command)
        assert command.startswith(("::error title=", "::notice title="))


def test_the_runner_takes_no_command_from_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not from a path that a table breaks into lines."""
    from edge_asr_deploy.harness.gate import gate

    name = "bundle " * 8 + "::set-output name=x::y " * 8
    told = Report(bundles=[BundleReport(bundle=name, baseline=name, checks=[])], allowed=[])
    monkeypatch.setattr(gate, "check", lambda *arguments: told)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = CliRunner().invoke(app, ["check", "x"], env={"COLUMNS": "40"})
    found = list(lines(ran.stdout))
    stopped = next(line for line in found if line.startswith("::stop-commands::"))
    token = stopped.removeprefix("::stop-commands::")
    assert len(token) >= 32 and found.index(stopped) == 0
    inside = found[1 : found.index(f"::{token}::")]
    assert any(line.startswith("::set-output") for line in inside), "the table breaks it there"
    assert not [line for line in found[found.index(f"::{token}::") + 1 :] if line.startswith("::")]


@pytest.mark.parametrize("text", ["a|b", "<b>", "a\nb", "`c`", "[x](y)", "a\\|b"])
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    escaped = markdown_text(text)
    assert "\n" not in escaped and "<" not in escaped
    assert not [1 for index, letter in enumerate(escaped) if letter in "|`[" and escaped[index - 1] != "\\"]
