"""The Dockerfile without Docker: what it says, and the runtime stage's own commands run in fresh environments."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIMIT = 320_000_000
Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """Instructions (word and rest) by the name of their stage, FROM included."""
    found: dict[str, Stage] = {}
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    current: Stage = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, rest = line.split(maxsplit=1)
            if word == "FROM":
                current = found.setdefault(rest.split(" AS ")[1], [])
            current.append((word, rest))
    return found


def values(stage: str, word: str) -> list[str]:
    return [rest for name, rest in stages()[stage] if name == word]


def installed(stage: str) -> list[str]:
    """What `pip install` and `pip wheel` of a stage are given by name."""
    commands = " ; ".join(values(stage, "RUN")).replace("&&", ";").split(";")
    words = [word for command in commands if "pip" in command for word in shlex.split(command)]
    return [word for word in words if re.match(r"[a-z]\w*(==|$)", word) and word not in ("pip", "install", "wheel")]


def test_there_are_stages_for_boards_services_and_exports() -> None:
    assert {"runtime", "serve", "export"} <= stages().keys()
    assert list(stages())[-1] == "export", "`docker build --target runtime` does not make it"
    assert values("export", "FROM") == ["runtime AS export"]
    assert values("serve", "FROM") == ["runtime AS serve"]


def test_everything_is_pinned() -> None:
    for stage in ("build", "runtime"):
        [base] = values(stage, "FROM")
        assert re.fullmatch(rf"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{{64}} AS {stage}", base)
    names = [word for stage in stages() for word in installed(stage) if not word.endswith(".txt")]
    assert [word for word in names if "==" not in word and word != "wheels"] == []
    assert "--require-hashes --requirement requirements.txt" in " ".join(values("runtime", "RUN"))
    assert "--require-hashes --requirement requirements-build.txt" in " ".join(values("build", "RUN"))
    torch = [word for word in installed("export") if word.startswith("torch")]
    assert set(torch) <= set(PROJECT["optional-dependencies"]["export"]) and torch


def test_no_stage_ends_as_root() -> None:
    assert values("runtime", "USER")[-1] == values("export", "USER")[-1] == values("serve", "USER")[-1] == "edge"
    assert any("useradd" in command and command.endswith(" edge") for command in values("runtime", "RUN"))


def test_the_list_for_exports_has_what_the_extras_need() -> None:
    """Everything but torch, each at a version that pyproject.toml admits, and each with hashes."""
    listed = (ROOT / "tools" / "requirements-export.txt").read_text()
    pins = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", listed, re.MULTILINE)
    }
    assert "--require-hashes --requirement /app/requirements-export.txt" in " ".join(values("export", "RUN"))
    extras = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *extras["export"], *extras["demo"]):
        needed = Requirement(text)
        assert needed.name == "torch" or needed.specifier.contains(pins[canonicalize_name(needed.name)]), text
    entries = re.split(r"\n(?=\w)", listed.partition("\n")[2])
    assert len(entries) == len(pins) and all("--hash=sha256:" in entry for entry in entries)


def test_the_list_for_services_has_what_the_extra_needs() -> None:
    """Each package at a version that pyproject.toml admits, with hashes, and none that the list of boards has."""
    listed = (ROOT / "tools" / "requirements-serve.txt").read_text()
    boards = (ROOT / "edge_asr_deploy" / "pack" / "requirements.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", listed, re.MULTILINE))
    assert "--require-hashes --requirement /app/requirements-serve.txt" in " ".join(values("serve", "RUN"))
    for text in PROJECT["optional-dependencies"]["serve"]:
        needed = Requirement(text)
        assert needed.specifier.contains(pins[canonicalize_name(needed.name)]), text
    assert not pins.keys() & dict(re.findall(r"^([\w.-]+)==(\S+)", boards, re.MULTILINE)).keys()
    entries = re.split(r"\n(?=\w)", listed.partition("\n")[2])
    assert len(entries) == len(pins) and all("--hash=sha256:" in entry for entry in entries)


def test_what_it_copies_exists() -> None:
    for stage in stages():
        for rest in values(stage, "COPY"):
            sources = rest.split()[:-1]
            assert sources[0].startswith("--from=") or all((ROOT / source).exists() for source in sources)


def built(stage: str, folder: Path) -> Path:
    """Run a stage as Docker would, in `folder`/STAGE as its root and with an environment as its Python."""
    root = folder / stage
    work = root
    subprocess.run(["python3", "-m", "venv", str(root / "venv")], check=True)
    variables = {**os.environ, "PATH": f"{root}/venv/bin{os.pathsep}{os.environ['PATH']}"}
    for word, rest in stages()[stage]:
        if word == "WORKDIR":
            work = root / rest.strip("/")
            work.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            origin = ROOT
            if sources[0].startswith("--from="):
                origin = folder / sources.pop(0).removeprefix("--from=")
            for source in sources:
                path = origin / source.lstrip("/")
                # Of a folder Docker copies the contents.
                if path.is_dir():
                    shutil.copytree(path, work / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, work / target / path.name if target.endswith("/") else work / target)
        elif word == "RUN" and "pip" in rest:
            ran = subprocess.run(["sh", "-c", rest], cwd=work, env=variables, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
    return root


@pytest.mark.real
def test_the_runtime_image_is_small_and_has_no_torch(tmp_path: Path) -> None:
    built("build", tmp_path)
    empty = tmp_path / "empty"
    subprocess.run(["python3", "-m", "venv", str(empty)], check=True)
    root = built("runtime", tmp_path)
    grown = size(root) - size(empty)
    assert grown < LIMIT, f"{grown / 1e6:.0f} MB above the base image"
    python = str(root / "venv" / "bin" / "python")
    program = "import edge_asr_deploy.runtime.transcriber, edge_asr_deploy.harness.evaluation.evaluate"
    ran = subprocess.run([python, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for name in ("torch", "transformers", "optimum", "datasets"):
        assert subprocess.run([python, "-c", f"import {name}"], cwd=tmp_path, env={}, capture_output=True).returncode
    [entry] = values("runtime", "ENTRYPOINT")
    command = root / "venv" / "bin" / entry.strip('[]"')
    ran = subprocess.run([str(command), "--help"], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert "transcribe" in ran.stdout, ran.stderr


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
