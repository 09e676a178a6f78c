"""The page's server: its folder's files under their types, and nothing else."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts.page_server import page_server

FILES = {"index.html": b"<p>", "page.js": b"1", "runtime/a.mjs": b"2", "model/onnx/e.onnx.gz": b"\x1f\x8b"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "page" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "page"


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with page_server(folder, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response, response.read()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.js?again", "text/javascript"),
        ("/runtime/a.mjs", "text/javascript"),
        ("/model/onnx/e.onnx.gz", "application/octet-stream"),
    ],
)
def test_files_have_the_types_that_browsers_want(port: int, path: str, kind: str) -> None:
    response, body = ask(port, path)
    assert response.status == 200 and response.headers["Content-Type"] == kind
    assert body == FILES[path.strip("/").partition("?")[0] or "index.html"]
    assert response.headers["Content-Encoding"] is None, "the page itself unpacks what lies packed"
    assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/model", "/model/", "/nothing", "//secret", "*"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    response, body = ask(port, path)
    assert response.status == 404 and b"secret" not in body.lower().replace(b"/secret", b"")


def test_a_page_that_is_loaded_again_costs_nothing(port: int) -> None:
    tag = ask(port, "/page.js")[0].headers["ETag"]
    response, body = ask(port, "/page.js", **{"If-None-Match": tag})
    assert (response.status, body) == (304, b"")
    assert ask(port, "/page.js", **{"If-None-Match": '"other"'})[0].status == 200


def test_head_sends_no_file(port: int) -> None:
    response, body = ask(port, "/page.js", "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, "1", b"")


def test_a_browser_that_goes_away_is_no_error(folder: Path, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "page.js").write_bytes(bytes(50_000_000))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
    assert ask(port, "/")[0].status == 200
    time.sleep(0.5)
    assert capfd.readouterr().err == ""


def test_an_address_in_use_is_one_line(folder: Path, port: int) -> None:
    with pytest.raises(UserError, match=f"127.0.0.1:{port}: cannot be used .*choose another --port"):
        page_server(folder, "127.0.0.1", port)
