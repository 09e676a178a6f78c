"""`edge-deploy serve` as a user calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

from edge_asr_deploy.cli import app
from tests.support.export_command import user_error
from tests.support.small_bundles import write


@pytest.mark.parametrize("what", [[], ["--page"]], ids=["to programs", "as a page"])
def test_what_is_no_bundle_is_not_served(tmp_path: Path, what: list[str]) -> None:
    error = user_error(CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "0", *what]))
    assert "has no manifest.json, so it is not a bundle" in error


def test_a_page_without_its_engine_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    arguments = ["serve", str(tmp_path / "bundle"), "--page", "--runtime", str(tmp_path / "none")]
    assert "npm pack --pack-destination" in user_error(CliRunner().invoke(app, arguments))


def test_a_changed_bundle_is_not_served(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "config.json").write_text("[]")
    error = user_error(CliRunner().invoke(app, ["serve", str(tmp_path / "bundle"), "--page"]))
    assert "config.json" in error and "changed since the export" in error


def interruptible() -> None:
    """A shell starts programs in the background so that they ignore Ctrl-C, and their children, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_folder_of_the_page_is_served_until_ctrl_c(tmp_path: Path) -> None:
    for name in ("index.html", "files.json"):
        (tmp_path / name).write_text(f"<{name}>")
    command = [sys.executable, "-m", "edge_asr_deploy", "serve", str(tmp_path), "--page", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=interruptible,
        ) as server,
        ExitStack() as stack,
    ):
        stack.callback(server.kill)
        assert server.stdout is not None and server.stderr is not None
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(address, timeout=10).read() == b"<index.html>"
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130
        assert "Traceback" not in server.stderr.read()
