"""`edge-deploy serve`: a bundle as a service for other programs, or as a page in the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say
from edge_asr_deploy.serve.options import PORT, ServeOptions


@with_options(ServeOptions)
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, or of its layout `page`.")],
    options: ServeOptions,
    page: Annotated[
        bool, typer.Option("--page", help="Serve a page that runs the model in the browser, and nothing else.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(help="Folder of the page's npm archives. [EDGE_ASR_PAGE_RUNTIME, else one in the cache]"),
    ] = None,
) -> None:
    """Serve a bundle to other programs: OpenAI's paths over HTTP, or Wyoming for Home Assistant, or both.

    Without options: OpenAI's paths on port 8000. With `--openai`, `--wyoming` or both: what is named. With `--page`: a
    page in the browser. Ctrl-C or SIGTERM ends it, after the requests that have begun.

    Examples:

        edge-deploy serve exported/whisper-tiny.en-w4

        edge-deploy serve exported/whisper-tiny.en-w4 --wyoming 10300 --host 0.0.0.0 --zeroconf kitchen

        edge-deploy serve exported/whisper-tiny.en-w4 --openai 8000 --wyoming 10300

        edge-deploy serve exported/whisper-tiny.en-w4 --page
    """
    from edge_asr_deploy.errors import UserError

    if not page:
        if runtime is not None:
            raise UserError("--runtime", runtime, "is for the page; add --page")
        from edge_asr_deploy.serve.service import serve

        serve(bundle, options, say)
        return
    if options.openai is not None or options.wyoming is not None:
        raise UserError("--page", bundle, "is served alone; start --openai and --wyoming as another process")
    _serve_page(bundle, runtime, options.host, PORT if options.port is None else options.port)


def _serve_page(bundle: Path, runtime: Path | None, host: str, port: int) -> None:
    """Serve the page of a bundle, until Ctrl-C."""
    from edge_asr_deploy.bundle.manifest import MANIFEST
    from edge_asr_deploy.bundle.verification import verify, verify_files
    from edge_asr_deploy.layouts.page import INDEX, arrange
    from edge_asr_deploy.layouts.page_server import page_server

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
