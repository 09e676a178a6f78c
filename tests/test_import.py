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
    "edge_asr_deploy.recipe_files",
    "edge_asr_deploy.cli.transcribe",
    *(f"edge_asr_deploy.corpora.{name}" for name in ("manifest", "utterance", "normalize", "defaults")),
    *(f"edge_asr_deploy.corpora.{name}" for name in ("open_asr", "common_voice", "streamed")),
    *(
        f"{package.__name__}.{module.name}"
        for package in (edge_asr_deploy.runtime, edge_asr_deploy.harness, edge_asr_deploy.boards, edge_asr_deploy.pack)
        for module in pkgutil.iter_modules(package.__path__)
    ),
]


# What the pinned list of boards leaves out, and what boards run.
ABSENT = (
    *("onnx", "ml_dtypes", "google.protobuf", "huggingface_hub", "hf_xet", "fsspec", "filelock", "tqdm", "requests"),
    *("urllib3", "charset_normalizer", "idna", "certifi", "text_to_num", "indic_numtowords", "pycparser"),
    *("flatbuffers", "packaging", "click"),
)
ON_BOARDS = (
    "cli",
    *("runtime.transcriber", "runtime.audio"),
    *("harness.evaluate", "harness.report", "harness.worker"),
    *("harness.bench", "harness.bench_report", "harness.doctor", "harness.doctor_report", "harness.probe"),
)
IMPORT_SECONDS = 0.5


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


def test_boards_do_without_what_their_list_leaves_out() -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))"
    ran = run("; ".join([blocked, *(f"import edge_asr_deploy.{name}" for name in ON_BOARDS)]))
    assert ran.returncode == 0, ran.stderr


def test_the_runtime_imports_within_half_a_second() -> None:
    """Processor time, so that a busy machine changes little; without what Python itself takes to start."""
    measure = "import time; begin = time.process_time(); import edge_asr_deploy.runtime.transcriber"
    times = [float(run(f"{measure}; print(time.process_time() - begin)").stdout) for _ in range(3)]
    assert min(times) < IMPORT_SECONDS, times
