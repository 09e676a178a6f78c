"""Other people's engines on our bundles, in the environment that `make clients` makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import Utterance

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "clients" / "hear.py"
SETS = ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts")


def hear(engine: str, bundle: Path, clips: Sequence[Utterance], language: str = "") -> list[str]:
    """The texts of the unmodified engine, in a process of its own. Skips where the engines are not installed."""
    python = Path(os.environ.get("EDGE_ASR_CLIENTS", ROOT / ".clients")) / "bin" / "python"
    if not python.exists():
        pytest.skip("no other engines here: `make clients` installs them")
    words = [str(python), str(PROGRAM), engine, str(bundle), *([language] if language else [])]
    names = "".join(f"{clip.audio}\n" for clip in clips)
    ran = subprocess.run(words, input=names, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return list(json.loads(ran.stdout))


def short_clips(data: Path) -> list[Utterance]:
    """Five short clips of each of four sets."""
    found: list[Utterance] = []
    for name in SETS:
        found += [one for one in read_manifest(data / f"{name}.jsonl") if (one.seconds or 99) < 8][:5]
    return found
