"""`edge-deploy verify`: checks an archive or a bundle against its hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say, say_json
from edge_asr_deploy.printing import one_line


def command(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE|BUNDLE", help="Archive of `edge-deploy pack`, or a bundle.")],
    allowed_signers: Annotated[
        Path | None,
        typer.Option(help="File of the SSH keys whose signature it must have, as `ssh-keygen -Y verify` reads it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every byte of an archive or a bundle, without unpacking it. The exit code is 2 at the first fault.

    Example: `edge-deploy verify pi.tar.gz --allowed-signers keys.txt`
    """
    import dataclasses

    from edge_asr_deploy.pack.verify import verify

    verified = verify(path, allowed_signers)
    if as_json:
        say_json(dataclasses.asdict(verified), indent=1)
    else:
        signer = f", signed by {verified.signer}" if verified.signer else ""
        say(f"{one_line(verified.name)}: {verified.files} files are good, sha256 {verified.sha256}{signer}")
