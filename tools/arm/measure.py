"""Bundles under emulation: what they compute and the instructions of their parts."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.targets import choose
from tools.arm.emulator import CPUS, Emulator
from tools.arm.probe import PARTS, STEPS, Task, write_job

PROBE = Path(__file__).with_name("probe.py")
# Whisper's encoder: positions of its 30 s window, and input frames per position.
POSITIONS, STRIDE, PER_SECOND = 1500, 2, 50


@dataclass(frozen=True)
class Counts:
    """Instructions that ran: all, int8 dot products (signed, unsigned), float vector multiply-adds."""

    total: int
    sdot: int
    udot: int
    fmla: int


@dataclass(frozen=True)
class Measured:
    """The result of a task, and the instructions of the parts in `probe.PARTS`, summed; empty when not counted."""

    result: dict[str, Any]
    counts: dict[str, Counts]

    @property
    def step(self) -> float:
        """Instructions of one decoder step."""
        return self.counts["step"].total / STEPS

    def encoder(self, seconds: float) -> float:
        """Instructions of the encoder per second of its window."""
        return self.counts["encoder"].total / seconds


def emulated(emulator: Emulator, cpu: str, tasks: Sequence[Task], counted: bool = True) -> list[Measured]:
    """Run tasks as `cpu`, all in one process."""
    with tempfile.TemporaryDirectory() as name:
        counts = Path(name, "counts")
        results = watched(emulator, cpu, tasks, emulator.counter(counts) if counted else None)
        parts = read_counts(counts.read_text()) if counted else [{} for _ in results]
    return [Measured(result, part) for result, part in zip(results, parts, strict=True)]


def watched(emulator: Emulator, cpu: str, tasks: Sequence[Task], plugin: str | None) -> list[dict[str, Any]]:
    """The results of tasks as `cpu`, all in one process, under a plugin of qemu's.

    All that it reads is copied to paths of one length: longer ones move the heap, and small counts by a percent.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job, output, probe = (folder / name for name in ("job", "result", "probe.py"))
        shutil.copy(PROBE, probe)
        write_job([_copied(task, folder) for task in tasks], job)
        emulator.run(cpu, [probe, job, output], plugin=plugin, timeout=3600)
        results: list[dict[str, Any]] = json.loads(output.read_text())
    return results


def _copied(task: Task, folder: Path) -> Task:
    """The task on copies of its files below `folder`: of arrays alone, of graphs with all of their bundle."""

    def copied(text: str | None) -> str | None:
        if text is None:
            return None
        path = Path(text)
        source = path.parent if path.suffix == ".onnx" else path
        place = folder / hashlib.sha256(str(source).encode()).hexdigest()[:16]
        if not place.exists():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
        return str(place / path.name if path.suffix == ".onnx" else place)

    names = ("bundle", "samples", "encoder", "decoder", "features", "hidden")
    changes: dict[str, Any] = {name: copied(getattr(task, name)) for name in names}
    return replace(task, **changes)


def read_counts(text: str) -> list[dict[str, Counts]]:
    """The lines of the counter, summed by part, one mapping per task."""
    tasks: list[dict[str, Counts]] = [{}]
    for line in text.splitlines():
        tag, *pairs = line.split()
        if int(tag) == len(PARTS):
            tasks.append({})
            continue
        found = {name: int(number) for name, number in (pair.split("=") for pair in pairs)}
        part, before = PARTS[int(tag)], tasks[-1]
        old = before.get(part, Counts(0, 0, 0, 0))
        before[part] = Counts(**{name: getattr(old, name) + number for name, number in found.items()})
    return tasks[:-1]


def features(seconds: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise in the place of a log-mel spectrogram (1, 80, frames): counts do not depend on what is said."""
    frames = round(seconds * PER_SECOND) * STRIDE
    return np.random.default_rng(seed).uniform(-1, 1, (1, 80, frames)).astype(np.float32)


def hidden_states(width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise in the place of the encoder's output (1, 1500, width)."""
    return np.random.default_rng(seed).normal(size=(1, POSITIONS, width)).astype(np.float32)


def target_for(bundle: Path, cpu: str) -> str:
    """The name of the bundle's target that the runtime picks on a processor of `CPUS`."""
    return choose(read_manifest(bundle).targets, None, CpuFeatures("aarch64", frozenset(CPUS[cpu][2].split()))).name


def prepared(bundle: Path, seconds: float, folder: Path, target: str) -> Task:
    """Count a target's graphs of a Whisper bundle: the encoder on a window of `seconds`, because the whole one takes
    minutes under emulation, and decoder steps that attend to a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = read_manifest(bundle).targets[target]
    width = json.loads((bundle / "config.json").read_text())["d_model"]
    np.save(folder / "features.npy", features(seconds))
    np.save(folder / "hidden.npy", hidden_states(width))
    return Task(
        bundle=str(bundle.resolve()),
        decoder=str(bundle.resolve() / graphs.decoder),
        encoder=str(bundle.resolve() / graphs.encoder),
        features=str(folder / "features.npy"),
        hidden=str(folder / "hidden.npy"),
    )
