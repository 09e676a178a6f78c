"""The engines' environment, real bundles in the form that this processor computes exactly, and real clips."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import Utterance
from tests.support.exact_bundles import exact_here
from tests.support.fixtures_real import data, exported  # noqa: F401

ROOT = Path(__file__).parents[2]
HEAR = Path(__file__).with_name("hear.py")
SETS = ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts")

Hear = Callable[..., list[str]]


@pytest.fixture(scope="session")
def hear() -> Hear:
    """`hear(engine, bundle, clips, language="")`: the texts of the unmodified engine, in a process of its own."""
    python = Path(os.environ.get("EDGE_ASR_CLIENTS", ROOT / ".clients")) / "bin" / "python"
    if not python.exists():
        pytest.skip("no other engines here: `make clients` installs them")

    def run(engine: str, bundle: Path, clips: Sequence[Utterance], language: str = "") -> list[str]:
        words = [str(python), str(HEAR), engine, str(bundle), *([language] if language else [])]
        names = "".join(f"{clip.audio}\n" for clip in clips)
        ran = subprocess.run(words, input=names, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return list(json.loads(ran.stdout))

    return run


@pytest.fixture(scope="session")
def clips(data: Path) -> list[Utterance]:  # noqa: F811
    """Five short clips of each of four sets."""
    found = []
    for name in SETS:
        found += [one for one in read_manifest(data / f"{name}.jsonl") if one.seconds < 8][:5]
    return found


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A bundle as engines must get it where this processor's int8 kernel saturates."""
    return lambda bundle: exact_here(bundle, tmp_path_factory.mktemp("exact"))
