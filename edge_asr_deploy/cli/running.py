"""Options that say how a bundle is run, for every command that runs one."""

from __future__ import annotations

from typing import Annotated

import typer

AccuracyLevel = Annotated[
    int | None,
    typer.Option(min=0, max=4, help="Of the low-bit MatMul; onnxruntime's default is 4, int8 activations."),
]
Target = Annotated[
    str | None, typer.Option(help="Whose graphs of the bundle run: generic, x86, pi4, pi5. Default: by CPU.")
]
AudioContext = Annotated[
    str, typer.Option(help="What Whisper's encoder is given: full (30 s), auto, or seconds after the clip.")
]
