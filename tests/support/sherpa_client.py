"""sherpa-onnx, unmodified, in the environment that `make clients` makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "clients" / "sherpa_whisper.py"


@dataclass(frozen=True)
class Said:
    """What the engine's result holds for one clip, and the features (frames, mels) that it computed."""

    result: dict[str, Any]
    features: NDArray[np.float32]

    @property
    def text(self) -> str:
        """Without outer spaces."""
        return str(self.result["text"]).strip()


def python() -> Path:
    """The interpreter where the engine is installed. Skips where it is not."""
    path = Path(os.environ.get("EDGE_ASR_CLIENTS", ROOT / ".clients")) / "bin" / "python"
    needed = "import sherpa_onnx, kaldi_native_fbank"
    if not path.exists() or subprocess.run([path, "-c", needed], capture_output=True).returncode:
        pytest.skip("no sherpa-onnx here: `make clients` installs it")
    return path


def hear(folder: Path, clips: Sequence[NDArray[np.float32]], scratch: Path, **options: Any) -> list[Said]:
    """Hear clips of samples at 16 kHz with a layout; `options` are those of `OfflineRecognizer.from_whisper`."""
    paths = [scratch / f"{number}.npy" for number in range(len(clips))]
    for path, samples in zip(paths, clips, strict=True):
        np.save(path, samples)
    job, computed = scratch / "job.json", scratch / "features.npz"
    job.write_text(json.dumps({"folder": str(folder), "clips": [str(path) for path in paths], "options": options}))
    done = subprocess.run([python(), PROGRAM, job, computed], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # It prints its complaints, of graphs and of long clips, and goes on.
    assert "onnxruntime" not in done.stderr, done.stderr
    with np.load(computed) as features:
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [Said(row, features[str(number)]) for number, row in enumerate(rows)]
