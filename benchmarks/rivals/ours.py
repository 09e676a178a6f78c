"""This project's runtime on a bundle. Options go to whichever of session, `open` and `transcribe` knows them."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.worker import Heard, Job, Opened
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber

FLOAT_BYTES = 4


def load(job: Job) -> Opened:
    """Open the bundle, hashes checked, as the command line does. ValueError for an option that nothing knows."""
    folder = Path(job.folder)
    places: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    known = (
        {field.name for field in dataclasses.fields(SessionSettings)},
        set(inspect.signature(Transcriber.open).parameters),
        set(inspect.signature(Transcriber.transcribe).parameters),
    )
    for name, value in job.options.items():
        place = next((place for place, names in zip(places, known, strict=True) if name in names), None)
        if place is None:
            raise ValueError(f"no option {name}; there are {sorted(set().union(*known))}")
        place[name] = _value(value)
    settings, opening, hearing = places
    if job.language:
        hearing["language"] = job.language
    transcriber = Transcriber.open(folder, SessionSettings(**{"threads": job.threads, **settings}), **opening)

    def transcribe(samples: Any) -> Heard:
        transcript = transcriber.transcribe(samples, **hearing)
        parts = dataclasses.asdict(transcript.timings) | {"windows": transcript.windows}
        return Heard(transcript.text, parts)

    files = tuple(sorted(path for path in folder.iterdir() if ".onnx" in path.name))
    return Opened(transcribe, files, f"onnxruntime {onnxruntime.__version__}", {"step_bytes": step_bytes(folder)})


def step_bytes(folder: Path) -> int | None:
    """Bytes that one decoder step of Whisper must read: the decoder's stored matrices, and cross-attention K/V.

    K/V are float32, of a whole window. None for other families, whose K/V depend on the clip.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["family"] != "whisper":
        return None
    config = json.loads((folder / "config.json").read_text())
    weights = sum(row["bytes"] for row in manifest["layers"] if row["component"] in ("decoder", "embedding"))
    keys = config["decoder_layers"] * config["max_source_positions"] * config["d_model"]
    return int(weights + 2 * keys * FLOAT_BYTES)


def _value(text: str) -> Any:
    """A number or a truth value where it is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
