"""`edge-deploy card`: writes measurements into a bundle's README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say
from edge_asr_deploy.printing import one_line


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    results: Annotated[
        list[Path], typer.Argument(help="Results of this bundle, written by `edge-deploy evaluate --output`.")
    ],
) -> None:
    """Rewrite a bundle's model card (README.md) so that it shows these measurements.

    Example: `edge-deploy card exported/whisper-tiny.en-w4 result.json`
    """
    from edge_asr_deploy.bundle.manifest import CARD
    from edge_asr_deploy.harness.reporting.card import update_card

    update_card(bundle, results)
    say(f"{one_line(str(bundle / CARD))}: {len(results)} result{'s' if len(results) > 1 else ''}")
