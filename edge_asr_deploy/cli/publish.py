"""`edge-deploy publish`: puts a bundle on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say, say_json
from edge_asr_deploy.printing import one_line


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, or of a layout of it.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Repository on the Hub, OWNER/NAME.")],
    result: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Result of this bundle for the card, by `edge-deploy evaluate --output`; may be repeated.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The Hub's id of the licence; known for OpenAI's Whispers and the Moonshines."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Repository of the float model, where the bundle does not say it."),
    ] = None,
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the commit's address and size as JSON.")] = False,
) -> None:
    """Upload a bundle to the Hugging Face Hub as one commit, with a model card that shows its measurements.

    Example: `edge-deploy publish exported/whisper-tiny.en-w4 me/whisper-tiny.en-w4 --result w4.json`
    """
    import dataclasses

    from edge_asr_deploy.publishing import About, publish

    published = publish(bundle, repository, About(licence, base_model, result or []), private)
    if as_json:
        say_json(dataclasses.asdict(published), indent=1)
    else:
        say(f"{one_line(published.url)}: {published.files} files, {published.bytes / 1e6:.1f} MB")
