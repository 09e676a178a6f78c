"""What runs on a board imports without the exporter's packages."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import edge_asr_deploy.boards
import edge_asr_deploy.harness
import edge_asr_deploy.pack
import edge_asr_deploy.runtime

BLOCKED = ("torch", "transformers", "optimum", "datasets")
MODULES = [
    "edge_asr_deploy.bundle",
    "edge_asr_deploy.recipe",
    "edge_asr_deploy.cli.transcribe",
    *(f"edge_asr_deploy.corpora.{name}" for name in ("manifest", "utterance", "normalize", "defaults")),
    *(f"edge_asr_deploy.corpora.{name}" for name in ("open_asr", "common_voice", "streamed")),
    *(
        f"{package.__name__}.{module.name}"
        for package in (edge_asr_deploy.runtime, edge_asr_deploy.harness, edge_asr_deploy.boards, edge_asr_deploy.pack)
        for module in pkgutil.iter_modules(package.__path__)
    ),
]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_it_imports_without_the_exporters_packages() -> None:
    # None in sys.modules makes any import of that name an ImportError.
    blocked = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))"
    ran = run("; ".join([blocked, *(f"import {name}" for name in MODULES)]))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", BLOCKED)
def test_a_blocked_package_would_be_noticed(name: str) -> None:
    ran = run(f"import sys; sys.modules[{name!r}] = None; import {name}.anything")
    assert "ModuleNotFoundError" in ran.stderr or "ImportError" in ran.stderr


def test_the_runtime_brings_in_no_more_than_it_needs() -> None:
    ran = run("import sys, edge_asr_deploy.runtime.transcriber; print(*sys.modules)")
    assert not {"onnx", "jiwer", "typer", "rich", "scipy", *BLOCKED} & set(ran.stdout.split())
