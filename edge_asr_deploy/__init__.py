"""Low-bit speech recognition for small boards: quantize, export, prove, gate.

    from edge_asr_deploy import Transcriber

    transcriber = Transcriber.open("exported/whisper-tiny.en-w4")
    print(transcriber.transcribe("audio.wav").text)

The seven names below are the public interface; everything else may change. Each is loaded when it is first used, so
that a board which only transcribes needs neither torch nor pydantic.

Importing the package switches the telemetry of its dependencies off, unless the user's environment says otherwise.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_asr_deploy.api import evaluate, export
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.recipe.document import Recipe
    from edge_asr_deploy.runtime.audio.reading import read_audio
    from edge_asr_deploy.runtime.transcriber import Transcriber
    from edge_asr_deploy.runtime.transcript import Transcript

__version__ = "0.1.0"
__all__ = ["Recipe", "Transcriber", "Transcript", "UserError", "evaluate", "export", "read_audio"]

# Packages that report to their makers unless told not to. onnxruntime reads its variable when it is imported, and its
# functions come too late; the others, too, read theirs at import. Processes that we start inherit them.
_SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# PyTorch's threads wait for each other by spinning, by default 300,000 times. Beside a busy program an export then
# takes many times as long, because each waits for one that has no core; 1,000 times cost nothing on a machine of its
# own. Read when PyTorch is imported.
_PATIENCE = {"GOMP_SPINCOUNT": "1000"}
for _name, _value in (_SILENT | _PATIENCE).items():
    os.environ.setdefault(_name, _value)

_PLACES = {
    "Transcriber": "runtime.transcriber",
    "Transcript": "runtime.transcript",
    "read_audio": "runtime.audio.reading",
    "export": "api",
    "evaluate": "api",
    "Recipe": "recipe.document",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
