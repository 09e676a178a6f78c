"""A web server for the page of a bundle: the files of one folder, and nothing else."""

from __future__ import annotations

import hashlib
import mimetypes
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_asr_deploy.bundle.manifest import file_names
from edge_asr_deploy.errors import UserError

# Python's own list differs from system to system; a browser refuses a module of another type.
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".json": "application/json"}
TYPES |= {".js": "text/javascript", ".mjs": "text/javascript", ".gz": "application/octet-stream"}
# The first two let a page use threads: browsers share memory between them in isolated pages only.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server for the files in `folder` as they are now. UserError where the address cannot be used."""
    names = {f"/{name}": folder / name for name in file_names(folder)}
    names["/"] = names["/index.html"]
    tags = {path: f'"{hashlib.sha256(file.read_bytes()).hexdigest()[:32]}"' for path, file in names.items()}
    try:
        return _Server((host, port), partial(_Handler, names, tags))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("--port", f"{host}:{port}", f"cannot be used ({reason}); choose another --port") from None


class _Server(ThreadingHTTPServer):
    """Ends with the command, whatever is still being sent."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away; print all else as Python does."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for known names. A page that is loaded again costs no bytes: 304 for the same tag."""

    protocol_version = "HTTP/1.1"
    server_version = "edge-deploy"
    sys_version = ""

    def __init__(self, names: Mapping[str, Path], tags: Mapping[str, str], *arguments: object) -> None:
        self.names, self.tags = names, tags
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send what GET would send before the file."""
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: a line for each request helps nobody here."""

    def _answer(self, with_body: bool) -> None:
        name = unquote(urlsplit(self.path).path)
        path = self.names.get(name)
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if self.headers.get("If-None-Match") == self.tags[name]:
            self._begin(HTTPStatus.NOT_MODIFIED, name, path, None)
            return
        content = path.read_bytes()
        self._begin(HTTPStatus.OK, name, path, len(content))
        if with_body:
            self.wfile.write(content)

    def _begin(self, status: HTTPStatus, name: str, path: Path, length: int | None) -> None:
        self.send_response(status)
        guessed = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.send_header("Content-Type", guessed)
        self.send_header("ETag", self.tags[name])
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in HEADERS.items():
            self.send_header(key, value)
        self.end_headers()
