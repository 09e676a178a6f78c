"""Options, and addresses to listen on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.serve.discovery import announced_address
from edge_asr_deploy.serve.options import ServeOptions
from edge_asr_deploy.serve.sockets import Address, listen, listen_at, wyoming_address


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(UserError, match=r"--port: 9000: it is for one service alone; .*--openai PORT"):
        ServeOptions(port=9000, wyoming="10300")
    with pytest.raises(UserError, match="--zeroconf: kitchen: announces Wyoming; add --wyoming PORT"):
        ServeOptions(zeroconf="kitchen")
    with pytest.raises(UserError, match=r"--api-key: .*give a key"):
        ServeOptions(api_key="")
    with pytest.raises(UserError, match="--audio-context: most"):
        ServeOptions(audio_context="most")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("10300", Address("127.0.0.1", 10300)),
        ("tcp://0.0.0.0:10300", Address("0.0.0.0", 10300)),
        ("tcp://[::1]:1", Address("::1", 1)),
        ("unix:///run/voice", Address(path="/run/voice")),
        ("unix://voice", Address(path="voice")),
    ],
)
def test_addresses_of_wyoming(given: str, address: Address) -> None:
    assert wyoming_address(given, "127.0.0.1") == address


@pytest.mark.parametrize("given", ["", "voice", "http://a:1", "tcp://a", "tcp://a:b", "tcp://a:1/x", "unix://", "-1"])
def test_what_is_no_address_of_wyoming(given: str) -> None:
    with pytest.raises(UserError, match=r"--wyoming: .*: give a port, tcp://HOST:PORT or unix://PATH"):
        wyoming_address(given, "127.0.0.1")


def test_ports_and_hosts_that_cannot_be_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--openai: 127.0.0.1:{port}: cannot be used \(Address already in use\)"):
            listen("--openai", "127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host: no\.such\.host\.invalid: is no known address"):
        listen("--port", "no.such.host.invalid", 0)
    with pytest.raises(UserError, match=r"cannot be used \(Cannot assign requested address\)"):
        listen("--port", "192.0.2.1", 0)


def test_sockets_in_the_file_system_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is there, and is no socket"):
        listen_at(str(tmp_path / "file"))
    with listen_at(str(tmp_path / "one")), pytest.raises(UserError, match="is served by another program"):
        listen_at(str(tmp_path / "one"))
    with pytest.raises(UserError, match="cannot be used"):
        listen_at(str(tmp_path / "nowhere" / "one"))
    with pytest.raises(UserError, match="cannot be used"):
        listen_at(str(tmp_path / ("long" * 50)))


def test_nobody_could_use_what_is_announced_from_this_machine_alone() -> None:
    with pytest.raises(UserError, match=r"--zeroconf: kitchen: 127.0.0.1 is reached from this machine only; .*0.0.0.0"):
        announced_address("kitchen", "127.0.0.1")
    assert announced_address("kitchen", "192.0.2.7") == "192.0.2.7"
