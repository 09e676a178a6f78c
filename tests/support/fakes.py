"""Bundles with empty graphs, speech that is noise, and a worker that hears what it is told to hear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.bundle.manifest import CalibrationRecord, Layer, Manifest, Model
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.harness.evaluation.process import Answer
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcript import Timings, Transcript


def write_bundle(
    folder: Path,
    bits: int = 4,
    weights: str = "a" * 64,
    calibrated_on: list[str] | None = None,
    created: str = "2025-01-01T00:00:00+00:00",
    files: dict[str, bytes] | None = None,
) -> Manifest:
    contents = {
        "encoder_model.onnx": b"e" * 100 * bits,
        "decoder_model_merged.onnx": b"e" * 200 * bits,
        "decoder_model_merged.onnx_data": b"w" * 10,
        "config.json": b"{}",
        **(files or {}),
    }
    record = None
    if calibrated_on is not None:
        record = CalibrationRecord(
            description="clips",
            number=len(calibrated_on),
            seed=0,
            fingerprint="f",
            utterance_fingerprints=calibrated_on,
        )
    with BundleWriter(folder) as writer:
        for name, content in contents.items():
            (writer.folder / name).write_bytes(content)
        return writer.commit(
            Manifest(
                name=folder.name,
                family="whisper",
                model=Model(name="whisper-tiny.en", origin="test", sha256=weights),
                recipe={"name": f"whisper-w{bits}", **{c: {"weights": {"bits": bits}} for c in COMPONENTS}},
                versions={},
                calibration=record,
                layers=[
                    Layer(
                        name="layers.0.fc1",
                        component="encoder",
                        method="gptq",
                        bits=bits,
                        group=32,
                        symmetric=False,
                        shape=[384, 1536],
                        bytes=1000,
                        error=0.0123,
                    )
                ],
                created=created,
            )
        )


def speech(texts: dict[str, str | None], source: str = "corpus") -> list[Utterance]:
    """One utterance per text, each a second longer than the one before, all different."""
    generator = np.random.default_rng(0)
    return [
        Utterance(name, generator.normal(size=16_000 * (number + 1)).astype(np.float32), text, source)
        for number, (name, text) in enumerate(texts.items())
    ]


class Workers:
    """Stands in for `harness.evaluation.process.Worker`; `hears(bundle name, seconds)` is the text; calls are noted."""

    def __init__(self, hears: Callable[[str, float], str], step: dict[str, float] | None = None) -> None:
        self.hears, self.step = hears, step or {}
        self.opened: list[str] = []
        self.settings: list[SessionSettings] = []
        self.calls: list[tuple[str, float]] = []
        self.options: list[dict[str, str]] = []

    def __call__(
        self,
        bundle: Path,
        settings: SessionSettings,
        target: str | None = None,
        audio_context: float | None = None,
    ) -> FakeWorker:
        self.opened.append(bundle.name)
        self.settings.append(settings)
        return FakeWorker(self, bundle.name)


class FakeWorker:
    def __init__(self, workers: Workers, name: str) -> None:
        self.workers, self.name, self.load_seconds = workers, name, 0.5

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def transcribe(self, samples: NDArray[np.float32], options: dict[str, str]) -> Answer:
        seconds = len(samples) / 16_000
        self.workers.calls.append((self.name, seconds))
        self.workers.options.append(options)
        return Answer(
            transcript(self.workers.hears(self.name, seconds), seconds, self.workers.step.get(self.name, 0.01)), 10**8
        )


def transcript(text: str, seconds: float, step: float = 0.01, **changes: Any) -> Transcript:
    tokens = len(text.split())
    timings = Timings(
        features=0.001,
        encoder=0.1,
        first_token=0.02,
        decoder=step * tokens,
        tokens=tokens,
        per_token=(step,) * max(0, tokens - 1),
        total=0.2,
    )
    fields: dict[str, Any] = {
        "text": text,
        "tokens": tuple(range(tokens)),
        "seconds": seconds,
        "windows": 1,
        "hit_length_cap": False,
        "timings": timings,
    }
    return Transcript(**{**fields, **changes})
