"""What the golden record holds of the command line: every command's options, and exit codes for bad input.

Prose may be improved at any time, so neither help texts nor messages are recorded, only what a script depends on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from edge_asr_deploy.cli import app, main

# A command line with {folder} for an empty folder of the test's, {file} for a text file and {yaml} for a broken one.
BAD_INPUTS = (
    "",
    "nonsense",
    "export --bits 9",
    "export --bits 1",
    "export --bits four",
    "export --bits 4 --recipe {file}",
    "export --recipe {folder}/missing.yaml",
    "export --recipe {yaml}",
    "export --recipe {file}",
    "export --model {folder}",
    "export --model {folder}/missing",
    "export --model {file}",
    "export --set decoder",
    "export --set decoder.weights.bits=99",
    "export --set decoder.weights.nonsense=1",
    "export --set encoder.activations=int9",
    "export --set family=moonshine",
    "export --target pi9",
    "export --target pi4,pi9",
    "export --calibration {folder}/missing.jsonl",
    "export --number 0",
    "export --output {folder}",
    "export --output {folder} --overwrite",
    "transcribe {folder} {file}",
    "transcribe {folder}/missing {file}",
    "transcribe",
    "transcribe {folder} {file} --audio-context nonsense",
    "transcribe {folder} {file} --threads 0",
    "transcribe {folder} {file} --target pi9",
    "evaluate {folder}",
    "evaluate {folder}/missing",
    "evaluate {file}",
    "evaluate {folder} --audio-context 1",
    "evaluate {folder} --data {folder}/missing.jsonl",
    "evaluate {folder} --accuracy-level 7",
    "evaluate {folder} --jobs 0",
    "inspect {folder}",
    "inspect {folder}/missing",
    "cost {folder}",
    "cost {folder}/missing.json",
    "bench {folder}",
    "bench {folder} --lengths nonsense",
    "bench {folder} --threads nonsense",
    "doctor {folder}/missing",
    "check {folder}",
    "check {folder}/missing",
    "check",
    "pack {folder} --output {folder}/x.tar.gz",
    "pack {folder}/missing --output {folder}/x.tar.gz",
    "verify {folder}",
    "verify {folder}/missing",
    "verify {file}",
    "summary {folder}/missing.json",
    "summary {file}",
    "report {folder}/missing.json",
    "report {file}",
    "card {folder} {file}",
    "card {folder}/missing {file}",
    "sweep {folder}/missing.yaml",
    "sweep {yaml}",
    "sweep {file}",
    "fit --max-mb 0",
    "fit --max-mb nonsense",
    "fit --model {folder}/missing --max-mb 20",
    "fit",
    "analyze --model {folder}/missing",
    "analyze --widths nonsense",
)


def options_record() -> dict[str, Any]:
    """By command what a script can write: names, types and defaults of arguments and options."""
    group = typer.main.get_command(app)
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    return {name: sorted(map(_parameter, command.params)) for name, command in sorted(commands.items())}


def _parameter(parameter: Any) -> str:
    kind = parameter.param_type_name
    names = " ".join([*parameter.opts, *parameter.secondary_opts])
    default = json.dumps(parameter.default, default=str)
    many = "several" if parameter.multiple or parameter.nargs != 1 else "one"
    needed = "required" if parameter.required else "optional"
    type_name = parameter.type.name
    return f"{kind} {names}: {type_name}, {many}, {needed}, default {default}"


def exit_code(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The code with which `edge-deploy LINE` ends; it must neither raise nor succeed."""
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "file.txt").write_text("no document\n")
    (folder / "broken.yaml").write_text("name: [unclosed\n")
    places = {"folder": folder / "empty", "file": folder / "file.txt", "yaml": folder / "broken.yaml"}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["edge-deploy", *line.format(**places).split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
