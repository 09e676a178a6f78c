"""The Python blocks of docs/guide/other-engines.md, run as they stand. JavaScript: tests/clients/javascript."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from edge_asr_deploy.layouts.layouts import arrange
from edge_asr_deploy.progress import silent
from tests.support.clients import ROOT
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide" / "other-engines.md").read_text(), re.DOTALL)
NAMES = [re.search(r"(?:from|import) (optimum|onnx_asr|sherpa_onnx)", block) for block in BLOCKS]
BUNDLE = re.compile(r"exported/((whisper-tiny\.en|whisper-base|moonshine-tiny)-w([45])(-sherpa-onnx)?)")
CLIP = "librispeech_test_clean/1089-134686-0000.flac"
WORDS = "stew for dinner"


def test_every_engine_in_python_has_a_block() -> None:
    assert [found[1] for found in NAMES if found] == ["optimum", "onnx_asr", "sherpa_onnx", "sherpa_onnx"]
    assert all(BUNDLE.search(block) for block in BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_block_hears(
    number: int, exported: Exporter, exact: Callable[[Path], Path], data: Path, tmp_path: Path
) -> None:
    block = BLOCKS[number]
    found, engine = BUNDLE.search(block), NAMES[number]
    assert found and engine
    name, model, bits, layout = found.groups()
    python = Path(sys.executable)
    if engine[1] != "optimum":
        python = Path(os.environ.get("EDGE_ASR_CLIENTS", ROOT / ".clients")) / "bin" / "python"
        if not python.exists():
            pytest.skip("no other engines here: `make clients` installs them")
    bundle = exported(model, int(bits), 8)
    (tmp_path / "exported").mkdir()
    if layout:
        arrange(bundle, "sherpa-onnx", tmp_path / "exported" / name, False, silent)
    else:
        shutil.copytree(exact(bundle), tmp_path / "exported" / name)
    samples, rate = soundfile.read(data / CLIP, dtype="float32")
    soundfile.write(tmp_path / "audio.wav", samples, rate)
    ran = subprocess.run([python, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert WORDS in ran.stdout.lower().replace(",", ""), ran.stdout
