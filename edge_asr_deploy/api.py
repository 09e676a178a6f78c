"""`export` and `evaluate` as functions of keywords: what the commands of these names do, printing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.options import givens

if TYPE_CHECKING:
    from rich.console import Console

    from edge_asr_deploy.harness.evaluation.result import Result

PATHS = ("output", "recipe")


def export(*, console: Console | None = None, **options: Any) -> Path:
    """Quantize a checkpoint, export it, prove it, and write a bundle; returns the bundle's folder.

    Keywords are the options of `edge-deploy export` (`ExportOptions`): `model`, `bits`, `recipe`, `settings`, `target`,
    `output`, `layout`, `overwrite`, `calibration`, `number`, `seed`, `language`. UserError for bad input; then nothing
    is left behind. Progress goes to `console` (of the package rich) where one is given.

    >>> export(model="whisper-tiny.en", bits=4)  # doctest: +SKIP
    PosixPath('exported/whisper-tiny.en-w4')
    """
    from edge_asr_deploy.pipeline import export as run

    folder, _ = run(_filled(ExportOptions, options), console)
    return folder


def evaluate(bundle: str | Path, *, console: Console | None = None, **options: Any) -> Result:
    """Measure word error rate, size, speed and memory of a bundle next to its float baseline.

    Keywords are the options of `edge-deploy evaluate` (`EvaluateOptions`): `baseline`, `data`, `threads`,
    `accuracy_level`, `target`, `audio_context`, `language`, `limit`, `jobs`, `speed`, `cache`, `output`. UserError for
    bad input and for a damaged bundle.

    >>> result = evaluate("exported/whisper-tiny.en-w4", limit=20)  # doctest: +SKIP
    >>> result.bundle.accuracy.pooled.wer  # doctest: +SKIP
    0.0855
    """
    from edge_asr_deploy.harness.evaluation.evaluate import run

    return run(Path(bundle), _filled(EvaluateOptions, options), console)


def _filled(model: type, options: dict[str, Any]) -> Any:
    """An options model from keywords; one value where several may stand is taken as one, and texts as paths."""
    names = {given.field: given for given in givens(model)}
    for name, value in options.items():
        if name not in names:
            raise UserError("option", name, f"there is none of this name; choose {', '.join(names)}")
        if name in PATHS and value is not None:
            options[name] = Path(value)
        elif isinstance(names[name].default, tuple):
            options[name] = (value,) if isinstance(value, str | Path | int | float) else tuple(value)
    return model(**options)
