"""What clients do to a server: many, slow, gone, huge, hostile. It answers or refuses, and keeps nothing."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.serving import BOUNDARY, Served, ask, form, metric, serving, sound, transcribe, until

MEGABYTE = 10**6
URL = "/v1/audio/transcriptions"
TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(autouse=True)
def clean(served: Served) -> Iterator[None]:
    """After every test the server lives, holds nothing and has left nothing on disk."""
    yield
    assert served.process.poll() is None
    until(lambda: metric(served, "edge_asr_places_taken") == metric(served, "edge_asr_held_bytes") == 0)
    assert served.files() == []


def test_16_clients_at_once_are_all_answered(served: Served) -> None:
    recordings = [sound(1 + number / 10, seed=number) for number in range(16)]
    alone = [transcribe(served, one, language="en").json["text"] for one in recordings]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: transcribe(served, one, language="en"), recordings))
    assert [one.status for one in answers] == [200] * 16
    assert [one.json["text"] for one in answers] == alone


def test_more_than_may_wait_are_told_so(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "few", "--port", "0", "--waiting", "1") as few, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: transcribe(few, sound(5)), range(16)))
        statuses = [one.status for one in answers]
        assert set(statuses) == {200, 429} and statuses.count(200) >= 2
        refused = next(one for one in answers if one.status == 429)
        assert refused.error["code"] == "busy" and refused.headers["retry-after"] == "1"
        assert refused.error["message"].startswith("2 requests are being heard or wait")
        assert transcribe(few, sound()).status == 200


def chunks(total: int, watch: Callable[[], None]) -> Iterator[bytes]:
    """A recording that does not end, in chunks."""
    yield form({}, b"x" * 100)[:-40]
    for _ in range(total // MEGABYTE):
        yield bytes(MEGABYTE)
        watch()


@pytest.mark.parametrize("is_announced", [False, True], ids=["chunked", "announced"])
def test_a_gigabyte_is_refused_without_keeping_it(served: Served, is_announced: bool) -> None:
    before, most = served.memory, 0
    kept: list[str] = []

    def watch() -> None:
        nonlocal most
        most = max(most, served.memory)
        kept.extend(served.files() + served.open_files())

    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {**TYPE, "Content-Length": str(10**9)} if is_announced else TYPE
    try:
        connection.request("POST", URL, chunks(10**9, watch), headers, encode_chunked=not is_announced)
    except OSError:
        assert is_announced, "a server may close while it is sent to"
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    assert answer.status == 413
    assert error["message"] == "the request has more than 20 MB; send FLAC or MP3, or cut the recording"
    assert most - before < 80 * MEGABYTE, f"{(most - before) / MEGABYTE:.0f} MB"
    assert kept == []


def test_all_clients_together_hold_a_bounded_number_of_bytes(served: Served) -> None:
    """Each of 16 sends 15 MB, of which the server may hold 44: the others are refused."""
    body, before = form({}, bytes(15 * MEGABYTE)), served.memory
    sent, most = threading.Barrier(16, timeout=60), 0

    def send(_: int) -> int:
        nonlocal most
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as one:
            head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE['Content-Type']}\r\n"
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1000])
            sent.wait()
            time.sleep(0.3)
            most = max(most, served.memory)
            # Until all have looked no body is whole: reading one needs memory, too.
            sent.wait()
            one.sendall(body[-1000:])
            return int(one.recv(100).split()[1])

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(send, range(16)))
    assert set(statuses) == {400, 429} and statuses.count(400) <= 3
    assert most - before < 100 * MEGABYTE, f"{(most - before) / MEGABYTE:.0f} MB"


def test_10000_seconds_are_refused_and_heard_where_they_may_be(served: Served, bundle: Path, tmp_path: Path) -> None:
    second = sound(100, "FLAC", 8_000)
    long = second * 100
    assert len(long) > 50 * MEGABYTE
    refused = transcribe(served, second * 10)
    assert refused.status == 400 and "longer than 600 s; cut it into parts" in refused.error["message"]
    assert transcribe(served, long).status == 413
    with serving(bundle, tmp_path / "long", "--port", "0", "--longest", "10800", "--largest", "200") as one:
        answer = transcribe(one, long)
        assert answer.json["usage"]["seconds"] == 10_000 and len(answer.json["text"]) > 10_000
        assert one.memory < 1000 * MEGABYTE
        assert one.files() == []


def test_a_long_stream_of_sound_is_refused_at_its_limit(served: Served) -> None:
    host, _, port = served.wyoming.removeprefix("tcp://").rpartition(":")
    chunk = b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 1000000}\n'
    before = served.memory
    with socket.create_connection((host, int(port)), timeout=60) as connection, connection.makefile("rb") as answers:
        try:
            for _ in range(1000):
                connection.sendall(chunk + bytes(MEGABYTE))
        except ConnectionError:
            pass
        line = answers.readline()
    assert b'"error"' in line
    assert served.memory - before < 120 * MEGABYTE


def test_clients_that_go_are_forgotten(served: Served) -> None:
    body = form({}, sound(10))
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE['Content-Type']}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for share in (0.0001, 0.3, 0.99, 1.0):
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
                connection.sendall(whole[: int(share * len(whole))])
    until(lambda: metric(served, 'edge_asr_requests_total{service="openai",status="499"}') >= 4)
    assert transcribe(served, sound()).status == 200


@pytest.mark.parametrize(
    "content",
    [b"\x16\x03\x01garbage\r\n\r\n", b"POST\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000, b"\n" * 100],
)
def test_what_is_no_http_is_refused(served: Served, content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=40) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
        except OSError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_slow_clients_are_given_up(served: Served) -> None:
    """All at once, since each takes half a minute; meanwhile others are answered."""

    def ended(port: int, begin: bytes, drip: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(begin)
            connection.settimeout(1)
            for _ in range(45):
                try:
                    if drip:
                        connection.sendall(drip)
                    return connection.recv(1000)
                except TimeoutError:
                    continue
                except ConnectionError:
                    return b""
        raise AssertionError("it was not given up")

    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE['Content-Type']}\r\n".encode()
    body = head + b"Content-Length: 1000000\r\n\r\n" + form({}, b"x" * 1000)[:-40]
    voice = int(served.wyoming.rpartition(":")[2])
    start = b'{"type": "audio-start", "data": {"rate": 16000, "width": 2, "channels": 1}}\n'
    cases = [
        (served.port, b"", b""),
        (served.port, head, b""),
        (served.port, head, b"a: b\r\n"),
        (served.port, body, b""),
        (served.port, body, b"x"),
        (voice, start, b""),
    ]
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = [pool.submit(ended, *case) for case in cases]
        time.sleep(1)
        assert transcribe(served, sound()).status == 200
        found = [one.result() for one in answers]
    assert found[:3] == [b"", b"", b""]
    assert all(one.startswith(b"HTTP/1.1 408") for one in found[3:5])
    assert b'"error"' in found[5]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_has_begun(bundle: Path, tmp_path: Path, number: int) -> None:
    options, long = ("--openai", "0", "--wyoming", "0"), sound(600)
    with serving(bundle, tmp_path / "ending", *options) as one, ThreadPoolExecutor(4) as pool:
        # Kept open, and unused when it ends.
        idle = socket.create_connection(("127.0.0.1", one.port))
        asked = [pool.submit(transcribe, one, long) for _ in range(3)]
        until(lambda: metric(one, "edge_asr_places_taken") == 3)
        assert one.stop(number) == 0
        assert [answer.result().status for answer in asked] == [200] * 3
        assert idle.recv(10) == b""
        idle.close()
        with pytest.raises(OSError):
            ask(f"{one.http}/health")
        assert one.files() == []


def test_nothing_of_a_request_is_printed(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "quiet", "--port", "0") as one:
        before = one.errors
        transcribe(one, sound(), language="geheimnis", prompt="geheimnis")
        transcribe(one, b"geheimnis")
        transcribe(one, sound()[:44] + bytes(3), response_format="geheimnis")
        assert one.stop() == 0
        assert one.process.stdout is not None and one.process.stdout.read() == ""
        assert one.errors == before
