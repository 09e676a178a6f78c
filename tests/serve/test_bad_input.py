"""Options and addresses that cannot be: one line and exit code 2, before the model is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(*words: str, before: str = "") -> tuple[int, str, str]:
    program = f"import sys\n{before}\nfrom edge_asr_deploy.cli import main\nmain()"
    ran = subprocess.run([sys.executable, "-c", program, "serve", *words], capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart", "wyoming"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    code, out, err = run("bundle", before=f"sys.modules[{package!r}] = None")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "is not installed" in err and 'pip install "edge-asr-deploy[serve]"' in err


def test_options_are_there_without_the_extra() -> None:
    code, out, _ = run("--help", before="sys.modules['starlette'] = None")
    assert code == 0 and "--wyoming" in out


def test_what_cannot_be_served_is_one_line(bundle: Path, tmp_path: Path) -> None:
    for words, said in (
        ((str(tmp_path / "absent"),), "absent"),
        ((str(bundle), "--language", "fr"), "--language: fr: this model does not know the language; choose one of de"),
        ((str(bundle), "--port", "1", "--host", "no.such.host.invalid"), "is no known address"),
        ((str(bundle), "--wyoming", "x"), "give a port"),
        ((str(bundle), "--page", "--wyoming", "1"), "is served alone"),
        ((str(bundle), "--runtime", "x"), "add --page"),
        ((str(bundle), "--wyoming", "unix://a", "--zeroconf", "x"), "cannot be announced"),
    ):
        code, out, err = run(*words, *([] if "--port" in words or "--wyoming" in words else ["--port", "0"]))
        lines = [line for line in err.splitlines() if not line.startswith("Note: ")]
        assert (code, out, len(lines)) == (2, "", 1) and said in lines[0], err
