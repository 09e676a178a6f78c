"""`edge-deploy serve`: a bundle as a page in the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, or of its layout `page`.")],
    page: Annotated[
        bool, typer.Option("--page", help="A page that transcribes files and the microphone in the browser.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    runtime: Annotated[
        Path | None,
        typer.Option(help="Folder of the page's npm archives. [EDGE_ASR_PAGE_RUNTIME, else one in the cache]"),
    ] = None,
) -> None:
    """Serve a bundle. With `--page`: a page that runs the model in the browser, and asks no other server for anything.

    Example: `edge-deploy serve exported/whisper-tiny.en-w4 --page`
    """
    from edge_asr_deploy.bundle.manifest import MANIFEST
    from edge_asr_deploy.bundle.verification import verify, verify_files
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.layouts.page import INDEX, arrange
    from edge_asr_deploy.layouts.page_server import page_server

    if not page:
        raise UserError("serve", bundle, "say what to serve: --page")
    with tempfile.TemporaryDirectory(prefix="edge-asr-page-") as temporary:
        folder = bundle
        if not (bundle / INDEX).is_file():
            verify(bundle)
            folder = Path(temporary)
            arrange(bundle, folder, runtime)
        elif (bundle / MANIFEST).is_file():  # web servers may be given the page alone
            verify_files(bundle)
        with page_server(folder, host, port) as server:
            say(f"http://{host}:{server.server_address[1]}/ (Ctrl-C ends it)")
            server.serve_forever()
