"""`edge-deploy pack`: makes one archive for boards without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say, say_json
from edge_asr_deploy.printing import one_line


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    output: Annotated[Path, typer.Option(help="Archive to write, NAME.tar.gz.")],
    platform: Annotated[
        str, typer.Option(help="Platform of the board: linux_aarch64 (Raspberry Pi) or linux_x86_64.")
    ] = "linux_aarch64",
    wheels: Annotated[
        bool, typer.Option(help="Download all wheels into the archive, for boards without internet.")
    ] = False,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y", help="Python version of the board, for the wheels; may be given several times. [3.11]"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing archive.")] = False,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="SSH key that signs the bundle in it and the archive (into ARCHIVE.sig)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the archive's path, size and hash as JSON.")] = False,
) -> None:
    """Pack a bundle, this package and a `run` script into one archive. On the board: unpack, then `./run audio.wav`.

    Example: `edge-deploy pack exported/whisper-tiny.en-w4 --output pi.tar.gz --wheels --python 3.11 --python 3.13`
    """
    import dataclasses

    from edge_asr_deploy.pack.archive import pack

    packed = pack(bundle, output, platform, python or ["3.11"], wheels, overwrite, sign)
    if as_json:
        say_json(dataclasses.asdict(packed), indent=1)
    else:
        say(f"{one_line(packed.archive)}: {packed.bytes / 1e6:.1f} MB, sha256 {packed.sha256}")
