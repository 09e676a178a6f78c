"""Bundles under emulation: what they compute and the instructions of their parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_asr_deploy.bundle import read_manifest
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.targets import choose
from tests.arm.emulator import CPUS, Emulator
from tests.arm.probe import PARTS, STEPS, Task, write_job

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


def emulated(emulator: Emulator, cpu: str, tasks: Sequence[Task], folder: Path, counted: bool = True) -> list[Measured]:
    """Run tasks as `cpu`, all in one process. `folder` takes the files that pass between here and there."""
    job, output, counts = (folder / f"{cpu}-{name}" for name in ("job.json", "result.json", "counts.txt"))
    write_job([*tasks], job)
    emulator.run(cpu, [PROBE, job, output], counts=counts if counted else None, timeout=1800)
    results = json.loads(output.read_text())
    parts = read_counts(counts.read_text()) if counted else [{} for _ in results]
    return [Measured(result, part) for result, part in zip(results, parts, strict=True)]


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


def shorten(encoder: Path, seconds: float, target: Path) -> None:
    """Whisper's encoder graph for a shorter window: fewer rows of the positional table, the same operators.

    The whole window of 30 s takes minutes under emulation.
    """
    positions = round(seconds * PER_SECOND)
    model = onnx.load(str(encoder))
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = positions * STRIDE
    # Shapes of the whole window; onnxruntime finds the others by itself.
    del graph.value_info[:]
    for dimension in (d for value in graph.output for d in value.type.tensor_type.shape.dim):
        if dimension.dim_value == POSITIONS:
            dimension.dim_value = positions
    for tensor in graph.initializer:
        if POSITIONS in tensor.dims:
            rows = numpy_helper.to_array(tensor).take(range(positions), axis=[*tensor.dims].index(POSITIONS))
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rows), tensor.name))
    onnx.save(model, str(target))


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
    """Count a target's graphs of a Whisper bundle: the encoder on a window of `seconds`, decoder steps that attend to
    a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = read_manifest(bundle).targets[target]
    width = json.loads((bundle / "config.json").read_text())["d_model"]
    shorten(bundle / graphs.encoder, seconds, folder / "encoder.onnx")
    np.save(folder / "features.npy", features(seconds))
    np.save(folder / "hidden.npy", hidden_states(width))
    return Task(
        bundle=str(bundle.resolve()),
        decoder=str(bundle.resolve() / graphs.decoder),
        encoder=str(folder / "encoder.onnx"),
        features=str(folder / "features.npy"),
        hidden=str(folder / "hidden.npy"),
    )
