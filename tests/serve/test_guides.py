"""The blocks of the guides on services: every command starts, and units and compose files are what their readers take.

The Python blocks need the clients' packages: tests/clients/test_services.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.serving import Served, ask, serving, sound, transcribe

ROOT = Path(__file__).parents[2]
GUIDES = {name: (ROOT / "docs" / "guide" / f"{name}.md").read_text() for name in ("openai", "home-assistant")}


def blocks(guide: str, kind: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDES[guide], re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


def units() -> list[tuple[str, str]]:
    names = {name: re.findall(r"^`/etc/systemd/system/([\w.-]+)`", text, re.MULTILINE) for name, text in GUIDES.items()}
    return [(found, block) for name in GUIDES for found, block in zip(names[name], blocks(name, "ini"), strict=True)]


def composed() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for name in GUIDES for block in blocks(name, "yaml") if "services:" in block]


def commands() -> list[str]:
    """Every command line that serves: of shell blocks, units and compose files."""
    lines = [line for name in GUIDES for block in blocks(name) for line in block.splitlines()]
    found = [line for line in lines if "edge-deploy serve" in line]
    found += re.findall(r"^ExecStart=(.*)$", "\n".join(block for _, block in units()), re.MULTILINE)
    return found + [f"edge-deploy {one['command']}" for file in composed() for one in file["services"].values()]


def test_the_guides_have_commands_units_and_compose_files() -> None:
    assert len(commands()) == 7 and len(units()) == 2 and len(composed()) == 2


@pytest.mark.parametrize("command", commands())
def test_a_command_serves(command: str, bundle: Path, tmp_path: Path) -> None:
    variables, _, line = command.rpartition("edge-deploy serve ")
    words = shlex.split(line)[1:]
    # Other ports than the usual ones, and no name in the network of whoever runs the tests.
    if "--zeroconf" in words:
        del words[(place := words.index("--zeroconf")) : place + 2]
    for option in ("--port", "--wyoming"):
        if option in words:
            words[words.index(option) + 1] = "0"
    if "--port" not in words and "--wyoming" not in words:
        words += ["--port", "0"]
    key = "secret" if "EDGE_ASR_API_KEY=secret" in variables else ""
    with serving(bundle, tmp_path / "served", *words, EDGE_ASR_API_KEY=key) as served:
        if served.http:
            url = f"http://127.0.0.1:{served.port}"
            assert ask(f"{url}/v1/models", key=key).status == 200
            assert ask(f"{url}/v1/models", key="another").status == (401 if key else 200)
        else:
            assert "--wyoming" in words
        assert served.stop() == 0


@pytest.mark.parametrize(("name", "unit"), units(), ids=[name for name, _ in units()])
def test_a_unit_is_one(name: str, unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    program = tmp_path / "edge-deploy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / name).write_text(unit.replace("/opt/edge-deploy/bin/edge-deploy", str(program)))
    ran = subprocess.run(["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True)
    said = [line for line in ran.stderr.splitlines() if name in line or "edge-deploy" in line]
    assert said == [], ran.stderr


def test_compose_files_give_no_rights_and_enough_time() -> None:
    for file in composed():
        [service] = file["services"].values()
        assert service["cap_drop"] == ["ALL"] and service["read_only"] and service["stop_grace_period"] == "70s"
        image, target = service["image"], "serve"
        assert any(f"docker build --target {target} -t {image} ." in " ".join(text.split()) for text in GUIDES.values())
        assert f"AS {target}\n" in (ROOT / "Dockerfile").read_text()


def test_the_curl_lines_are_answered(served: Served, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    (tmp_path / "audio.wav").write_bytes(sound())
    lines = [line for block in blocks("openai") for line in block.splitlines() if line.startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("http://127.0.0.1:8000", served.http))
        ran = subprocess.run([*words, "--silent", "--fail"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 and "w" in ran.stdout


def test_the_error_that_is_shown_is_given(served: Served) -> None:
    [shown] = [yaml.safe_load(block) for block in blocks("openai", "json")]
    assert transcribe(served, sound(), language="fr").json == shown
