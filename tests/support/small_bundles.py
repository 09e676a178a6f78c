"""Bundles of a few bytes: no graph that runs, only what manifest, writer and verification look at."""

from __future__ import annotations

from pathlib import Path

from edge_asr_deploy.bundle.manifest import CalibrationRecord, Layer, Manifest, Model
from edge_asr_deploy.bundle.writer import BundleWriter

# The letter e begins a protobuf field of five bytes, so that these are graphs as far as their bytes go.
FILES = {"encoder_model.onnx": b"e" * 700, "decoder_model_merged.onnx": b"e" * 1400, "config.json": b"{}"}

NEW = {**FILES, "encoder_model.onnx": b"e" * 5, "config.json": b"new"}


def manifest(name: str = "tiny-w4") -> Manifest:
    return Manifest(
        name=name,
        family="whisper",
        model=Model(name="whisper-tiny.en", origin="a test", sha256="a" * 64),
        recipe={"name": "whisper-w4"},
        versions={"onnxruntime": "1.32.0"},
        calibration=CalibrationRecord(
            description="two clips", number=2, seed=0, fingerprint="f", utterance_fingerprints=["x", "y"]
        ),
        layers=[
            Layer(
                name="fc1",
                component="encoder",
                method="gptq",
                bits=4,
                group=32,
                symmetric=False,
                shape=[8, 4],
                bytes=20,
            )
        ],
        metrics={"wer": 0.05},
        created="2025-01-01T00:00:00+00:00",
    )


def write(destination: Path, files: dict[str, bytes] | None = None, overwrite: bool = False) -> Manifest:
    with BundleWriter(destination, overwrite) as writer:
        for name, content in (files or FILES).items():
            (writer.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (writer.folder / name).write_bytes(content)
        return writer.commit(manifest())
