"""What the service says of itself."""

from __future__ import annotations

from importlib import metadata

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from edge_asr_deploy.serve.shared import Shared

PACKAGE = "edge-asr-deploy"
NAME = "edge-deploy"


def information(shared: Shared) -> Info:
    """One program with one model."""
    version = metadata.version(PACKAGE)
    source = Attribution(name=NAME, url=f"https://pypi.org/project/{PACKAGE}/")
    model = AsrModel(
        name=shared.model,
        attribution=source,
        installed=True,
        description=shared.model,
        version=version,
        languages=list(shared.languages),
    )
    program = AsrProgram(
        name=NAME,
        attribution=source,
        installed=True,
        description="Low-bit Whisper and Moonshine on ONNX Runtime",
        version=version,
        models=[model],
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])
