"""The ready-made CI files name only what exists: commands and options of `edge-deploy`, extras, files, steps."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.gate.baseline import read_baseline

ROOT = Path(__file__).parent.parent
FILES = (".github/workflows/gate.yml", "action.yml", ".pre-commit-hooks.yaml", ".pre-commit-config.yaml")
TESTS = ".github/workflows/tests.yml"
WORKFLOWS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github" / "workflows").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS: dict[str, click.Command] = getattr(typer.main.get_command(app), "commands")  # noqa: B009


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def scripts(content: Any) -> Iterator[str]:
    """Every `run` and `entry` of a document, with the `args` that follow an entry."""
    if isinstance(content, dict):
        for key in ("run", "entry"):
            if isinstance(content.get(key), str):
                yield " ".join([content[key], *content.get("args", [])])
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from scripts(part)


def options_of(command: str) -> set[str]:
    return {name for parameter in COMMANDS[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


def unknown(script: str) -> list[str]:
    """Commands and options of `edge-deploy` in a shell script that the command line does not have.

    Options collected in an array belong to the last command, which it is made for.
    """
    found = re.findall(r"^\s*edge-deploy +(\S+)(.*)$", script.replace("\\\n", " "), re.MULTILINE)
    wrong = [name for name, _ in found if name not in COMMANDS]
    collected = " ".join(re.findall(r"options\+?=\(([^)]*)\)", script))
    for name, rest in found:
        if name in COMMANDS:
            given = [word for word in shlex.split(rest + " " + collected) if word.startswith("--") and word != "--"]
            wrong += [option for option in given if option not in options_of(name)]
    return wrong


@pytest.mark.parametrize("name", FILES)
def test_commands_and_options_exist(name: str) -> None:
    found = [script for script in scripts(load(name)) if "edge-deploy" in script]
    assert found, "the file calls edge-deploy"
    assert [word for script in found for word in unknown(script)] == []


def test_a_command_or_option_that_is_gone_would_be_noticed() -> None:
    script = "edge-deploy shrink x\noptions=(--weather y)\nedge-deploy check a --float b --wer 1 ${options[@]}\n"
    assert unknown(script) == ["shrink", "--wer", "--weather"]


def test_the_workflow_exports_evaluates_checks_and_uploads() -> None:
    workflow = load(FILES[0])
    [job] = workflow["jobs"].values()
    steps = job["steps"]
    text = "\n".join(scripts(workflow))
    assert text.index("edge-deploy export --bits 32") < text.index("export --bits 4") < text.index("evaluate")
    assert "edge-deploy evaluate" in text
    [check] = [step for step in steps if step.get("uses") == "./"]
    assert set(check["with"]) <= set(load("action.yml")["inputs"])
    upload = steps[-1]
    assert upload["uses"].startswith("actions/upload-artifact@") and upload["if"] == "always()"
    kept = upload["with"]["path"].split()
    assert check["with"]["junit"] in kept
    assert re.search(r"--output (result\S+)", text)[1] in kept  # type: ignore[index]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_pins_its_actions_and_may_only_read(name: str) -> None:
    workflow = load(name)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            used = step.get("uses", "./")
            assert used == "./" or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", used), "a tag can be moved"


def test_every_workflow_is_checked_here() -> None:
    assert [FILES[0], TESTS] == WORKFLOWS


def test_the_tests_run_on_every_declared_python_and_on_both_architectures() -> None:
    jobs = load(TESTS)["jobs"]
    for job in (jobs["whole"], jobs["fast"]):
        assert job["strategy"]["matrix"]["runner"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
        assert job["runs-on"] == "${{ matrix.runner }}"
    declared = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", name) for name in PROJECT["classifiers"]]
    versions = [found[1] for found in declared if found]
    assert jobs["fast"]["strategy"]["matrix"]["python"] == versions
    assert PROJECT["requires-python"] == f">={versions[0]}"
    [whole] = [step["with"] for step in jobs["whole"]["steps"] if "setup-python" in step.get("uses", "")]
    assert whole["python-version"] == versions[0]


def test_the_tests_call_what_exists() -> None:
    """Targets of the Makefile, the mark, and for the tests nothing but what the extra `dev` has."""
    workflow, makefile = load(TESTS), (ROOT / "Makefile").read_text()
    text = "\n".join(scripts(workflow))
    targets = re.findall(r"^make ([\w-]+)", text, re.MULTILINE)
    assert targets == ["lint", "test", "test-lowest"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    [marked] = re.findall(r"pytest -m (\w+)", text)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert marked in {mark.partition(":")[0] for mark in settings["markers"]}
    [installed] = re.findall(r"pip install --quiet -e \. (?:\$\{\{[^}]*\}\} )?(.*)$", text, re.MULTILINE)
    assert set(installed.split()) <= {name.partition(">=")[0] for name in PROJECT["optional-dependencies"]["dev"]}


def test_what_the_workflow_installs_is_what_the_package_offers() -> None:
    text = "\n".join(scripts(load(FILES[0])))
    lists = re.findall(r"--require-hashes --requirement (\S+)", text)
    assert "tools/requirements-export.txt" in lists and all((ROOT / name).is_file() for name in lists)
    unhashed = [line for line in text.splitlines() if "pip install" in line and "--require-hashes" not in line]
    assert [line.split()[-1] for line in unhashed] == ["https://download.pytorch.org/whl/cpu", "."]
    torch = re.search(r"torch==\S+", text)
    assert torch and torch[0] in PROJECT["optional-dependencies"]["export"]
    [version] = re.findall(r"python-version: \"([\d.]+)\"", (ROOT / FILES[0]).read_text())
    assert PROJECT["requires-python"] == f">={version}"
    assert (ROOT / "exported" / "baselines").is_dir()


def test_the_tracked_record_is_of_what_the_workflow_checks_and_of_no_machines_files() -> None:
    [path] = (ROOT / "exported" / "baselines").glob("*.json")
    [check] = [step for job in load(FILES[0])["jobs"].values() for step in job["steps"] if step.get("uses") == "./"]
    record = read_baseline(path)
    assert check["with"]["bundles"] == f"exported/{record.bundle}" == f"exported/{path.stem}"
    assert {clip.source for clip in record.clips} == {"moonshine-voice"}, "speech that every machine can have"
    assert not re.search(r'"/|"[^"]*/(home|tmp|root)/', path.read_text())


def passed_on(tmp_path: Path, **changes: str) -> list[str]:
    """What the action's own script gives to `edge-deploy`, whose place a program takes that prints it."""
    spy = tmp_path / "edge-deploy"
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    step = load("action.yml")["runs"]["steps"][-1]
    given = {
        "bundles": "a b",
        "baseline": "",
        "float": "auto",
        "data": "",
        "allow-unmeasured": "",
        "update-baseline": "false",
        "junit": "check.xml",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    values = {name: given[re.search(r"inputs\.([\w-]+)", value)[1]] for name, value in step["env"].items()}  # type: ignore[index]
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env={**values, **path}, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.decode().splitlines()


BASH = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@BASH
def test_the_action_passes_its_inputs_on(tmp_path: Path) -> None:
    words = passed_on(tmp_path, baseline="my records", allow_unmeasured="speed wer")
    expected = "check --float auto --baseline my\0records --allow-unmeasured speed --allow-unmeasured wer"
    expected += " --junit check.xml -- a b"
    assert words == [word.replace("\0", " ") for word in expected.split()]


@BASH
@pytest.mark.parametrize("bundles", ["a b c", "a\nb\nc\n", "  a\n  b c\n", "a\r\nb\r\n\r\nc\r\n", "\n\na\tb\n\nc"])
def test_the_action_checks_every_bundle_of_a_list(bundles: str, tmp_path: Path) -> None:
    """A gate that reads the first line only passes what it has not seen."""
    words = passed_on(tmp_path, bundles=bundles, allow_unmeasured=bundles)
    assert words[words.index("--") + 1 :] == ["a", "b", "c"]
    assert [words[i + 1] for i, word in enumerate(words) if word == "--allow-unmeasured"] == ["a", "b", "c"]


@BASH
def test_the_action_takes_no_option_and_no_pattern_for_a_bundle(tmp_path: Path) -> None:
    words = passed_on(tmp_path, bundles="--update-baseline * $HOME `id`")
    assert words[words.index("--") + 1 :] == ["--update-baseline", "*", "$HOME", "`id`"]


@BASH
@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
def test_the_action_reads_blocks_of_yaml_as_values(end: str, tmp_path: Path) -> None:
    """A value written with `|` ends in a line end; a manifest may have spaces in its name."""
    data = f"my speech.jsonl{end}other.jsonl{end}"
    words = passed_on(tmp_path, data=data, float=f"none{end}", baseline=f"my records{end}", junit=f"out.xml{end}")
    assert words == ["check", "--float", "none", "--baseline", "my records", "--data", "my speech.jsonl",
                     "--data", "other.jsonl", "--junit", "out.xml", "--", "a", "b"]  # fmt: skip
    assert "--update-baseline" in passed_on(tmp_path, update_baseline=f"true{end}")


@pytest.mark.parametrize("bundles", ["--update-baseline a", "--help"])
def test_a_bundle_that_looks_like_an_option_is_none(bundles: str) -> None:
    script = load("action.yml")["runs"]["steps"][-1]["run"]
    assert '-- "${bundles[@]}"' in script
    ran = CliRunner().invoke(app, ["check", "--float", "none", "--", *bundles.split()])
    assert isinstance(ran.exception, UserError)
    assert "no such folder" in str(ran.exception)


def test_the_hook_takes_manifests_and_records_only() -> None:
    [hook] = load(".pre-commit-hooks.yaml")
    matches = [
        path
        for path in ("exported/baselines/a.json", "models/a/manifest.json", "baselines/a.json", "package.json", "a.py")
        if re.search(hook["files"], path)
    ]
    assert matches == ["exported/baselines/a.json", "models/a/manifest.json", "baselines/a.json"]
    assert "--only-bundles" in hook["args"], "other programs have manifests, too"


@pytest.mark.parametrize(
    ("command", "name"),
    [("validate-manifest", ".pre-commit-hooks.yaml"), ("validate-config", ".pre-commit-config.yaml")],
)
def test_pre_commit_accepts_its_files(command: str, name: str) -> None:
    pytest.importorskip("pre_commit")
    ran = subprocess.run(
        [sys.executable, "-m", "pre_commit", command, str(ROOT / name)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
