"""`edge-deploy sign`: signs a bundle or an archive with an SSH key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say
from edge_asr_deploy.printing import one_line


def command(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE|BUNDLE", help="Archive of `edge-deploy pack`, or a bundle.")],
    key: Annotated[Path, typer.Option(help="Private SSH key, or a public one whose private half is in the agent.")],
) -> None:
    """Sign a bundle or an archive, so that `verify --allowed-signers` can tell who made it. Needs `ssh-keygen`.

    Example: `edge-deploy sign exported/whisper-tiny.en-w4 --key ~/.ssh/id_ed25519`
    """
    from edge_asr_deploy.pack.signing import sign

    say(f"{one_line(str(sign(path, key)))}: written")
