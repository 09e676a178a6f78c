"""What a user asks of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edge_asr_deploy.options import Option


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how. `bits` picks a shipped recipe, `recipe` is a file; `settings` are `key.path=value`.

    A shipped recipe for a `target` is stored so that the kernels there take its codes.
    """

    model: Annotated[
        str | None,
        Option("Hub id, Transformers folder, CTranslate2 folder, ggml file, or short name. Default: whisper-tiny.en."),
    ] = None
    bits: Annotated[int | None, Option("Shipped recipe for 2 to 8 bits; 32 is the float baseline. Default: 4.")] = None
    recipe: Annotated[Path | None, Option("Recipe file, instead of --bits.")] = None
    settings: Annotated[
        tuple[str, ...],
        Option("Override one key of the recipe: decoder.weights.bits=3. May be repeated.", name="--set"),
    ] = ()
    target: Annotated[
        str | None,
        Option("Devices, separated by commas: generic, x86, pi4, pi5. Several share one set of stored weights."),
    ] = None
    output: Annotated[Path | None, Option("Folder of the bundle. Default: exported/MODEL-RECIPE.")] = None
    layout: Annotated[
        str | None,
        Option(
            "Engines to arrange the bundle for as well, separated by commas: sherpa-onnx, transformers.js, page. "
            "Each gets a folder beside the bundle, `OUTPUT-LAYOUT`."
        ),
    ] = None
    overwrite: Annotated[bool, Option("Replace a bundle that is there.")] = False
    calibration: Annotated[
        str | None,
        Option("Speech to calibrate on: `auto`, a JSONL manifest, `common-voice:en`, a Hub data set or folder."),
    ] = None
    number: Annotated[int | None, Option("Calibration clips.", least=1)] = None
    seed: Annotated[int | None, Option("Seed of the draw of calibration clips.")] = None
    show_transcripts: Annotated[
        bool,
        Option(
            "Write the texts of the two proof clips into manifest and card; else only their lengths.",
            switch=True,
        ),
    ] = False
    language: Annotated[
        str | None,
        Option("Language of all calibration speech (multilingual models). Default: each clip's own."),
    ] = None
