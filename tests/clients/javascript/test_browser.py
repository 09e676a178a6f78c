"""The block of the guide for browsers: unmodified transformers.js with the WebAssembly that it takes by default."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
SCRIPT = Path(__file__).parent / "block.mjs"
GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "other-engines.md"


@pytest.mark.parametrize(
    ("bits", "plain"), [(4, True), *(pytest.param(bits, False, marks=pytest.mark.real_full) for bits in (4, 32))]
)
def test_the_block_of_the_guide_runs(
    bits: int,
    plain: bool,
    arranged: Callable[..., Path],
    chromium: str,
    node: Callable[..., Any],
    data: Path,
    tmp_path: Path,
) -> None:
    (block,) = re.findall(r"```html\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    chosen = re.sub(r".*wasmPaths.*\n", "", block)
    assert chosen.count("\n") == block.count("\n") - 2, "two lines choose the WebAssembly without WebGPU"
    (tmp_path / "index.html").write_text(block if plain else chosen)
    (tmp_path / "exported").mkdir()
    folder = arranged("whisper-tiny.en", bits)
    (tmp_path / "exported" / "whisper-tiny.en-w4-transformers.js").symlink_to(folder)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            seen = node(SCRIPT, chromium, f"http://localhost:{server.server_address[1]}/", data / "misc" / "jfk.flac")
        finally:
            server.shutdown()
            thread.join()
    assert seen["errors"] == []
    assert any("asyncify" in name for name in seen["loaded"]) is not plain
    assert "what you can do for your country" in seen["text"]
