"""The page in headless Chromium: the words of `edge-deploy transcribe`, under 30 MB, and nothing asked of others."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.layouts.page import arrange
from edge_asr_deploy.layouts.page_server import page_server
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
SCRIPT = Path(__file__).parent / "page.mjs"
MODEL = "whisper-tiny.en"
CLIPS = 5
LARGEST_BYTES = 30e6


@contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def page_of(bundle: Path, clients: Path, folder: Path) -> Path:
    folder.mkdir()
    arrange(bundle, folder, clients)
    return folder


def clips(data: Path) -> list[Any]:
    return read_manifest(data / "librispeech_test_clean.jsonl")[: CLIPS - 1] + [
        utterance for utterance in read_manifest(data / "misc.jsonl") if utterance.id.endswith("jfk")
    ]


@pytest.mark.parametrize(
    ("model", "bits"),
    [(MODEL, 4), *(pytest.param(*one, marks=pytest.mark.real_full) for one in ((MODEL, 5), ("moonshine-tiny", 4)))],
)
def test_it_hears_the_words_of_transcribe_and_asks_nobody_else(
    model: str,
    bits: int,
    exported: Exporter,
    clients: Path,
    chromium: str,
    node: Callable[..., Any],
    data: Path,
    tmp_path: Path,
) -> None:
    bundle, utterances = exported(model, bits, 8), clips(data)
    paths = [data / utterance.audio for utterance in utterances]
    with serving(page_server(page_of(bundle, clients, tmp_path / "page"), "localhost", 0)) as url:
        seen = node(SCRIPT, chromium, url, *paths)
    assert seen["state"] == "ready" and seen["errors"] == []
    ours = Transcriber.open(bundle, audio_context="full")
    # WebAssembly's kernels add in another order: a comma can come out or not.
    normalize = normalizer("whisper-english")
    heard = [normalize(ours.transcribe(utterance.samples()).text) for utterance in utterances]
    assert [normalize(seen["texts"][str(path)]) for path in paths] == heard
    away = [request for request in seen["requests"] if not request.startswith((url, "blob:", "data:"))]
    assert seen["requests"] and away == []
    assert seen["isolated"], "threads need it"
    if (model, bits) == (MODEL, 4):
        assert sum(path.stat().st_size for path in (tmp_path / "page").rglob("*") if path.is_file()) < LARGEST_BYTES


def test_any_web_server_will_do(
    exported: Exporter, clients: Path, chromium: str, node: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    """Python's plain one: no headers, so no threads."""
    folder = page_of(exported(MODEL, 4, 8), clients, tmp_path / "page")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with serving(http.server.ThreadingHTTPServer(("localhost", 0), handler)) as url:
        seen = node(SCRIPT, chromium, url, data / "misc" / "jfk.flac")
    assert not seen["isolated"] and seen["errors"] == []
    assert "what you can do for your country" in seen["texts"][str(data / "misc" / "jfk.flac")]


def test_what_is_no_audio_is_said_and_the_page_goes_on(
    exported: Exporter, clients: Path, chromium: str, node: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(b"no audio")
    clip = data / "misc" / "jfk.flac"
    with serving(page_server(page_of(exported(MODEL, 4, 8), clients, tmp_path / "page"), "localhost", 0)) as url:
        seen = node(SCRIPT, chromium, url, tmp_path / "talk.wav", clip)
    assert seen["texts"][str(tmp_path / "talk.wav")].startswith("talk.wav: this browser cannot read it as audio")
    assert "country" in seen["texts"][str(clip)]


def test_it_hears_the_microphone(
    exported: Exporter, clients: Path, chromium: str, node: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    samples, rate = soundfile.read(data / "misc" / "jfk.flac")
    soundfile.write(tmp_path / "spoken.wav", samples, rate, "PCM_16")
    spoken = {"SPOKEN": str(tmp_path / "spoken.wav"), "SPOKEN_SECONDS": "13"}
    with serving(page_server(page_of(exported(MODEL, 4, 8), clients, tmp_path / "page"), "localhost", 0)) as url:
        seen = node(SCRIPT, chromium, url, **spoken)
    assert seen["errors"] == []
    assert "your country can do for you" in seen["spoken"]
