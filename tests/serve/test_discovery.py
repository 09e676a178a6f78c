"""Wyoming announced in the network, and found as Home Assistant finds it."""

from __future__ import annotations

import asyncio
import socket

import pytest

pytest.importorskip("zeroconf")

from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.serve.discovery import SERVICE, announced, announced_address


def address_here() -> str:
    try:
        return announced_address("test", "0.0.0.0")
    except UserError as error:
        pytest.skip(str(error))


async def found(name: str, address: str, seconds: float) -> tuple[list[str], int] | None:
    """Addresses and port of a service in the network. None if it is not there."""
    there = asyncio.Event()
    listening = AsyncZeroconf(interfaces=[address])

    def changed(name: str, **rest: object) -> None:
        there.set()

    browser = AsyncServiceBrowser(listening.zeroconf, SERVICE, handlers=[lambda **event: changed(**event)])
    try:
        info = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}")
        async with asyncio.timeout(seconds):
            await there.wait()
        if not await info.async_request(listening.zeroconf, 3000):
            return None
        return info.parsed_addresses(), info.port or 0
    except TimeoutError:
        return None
    finally:
        await browser.async_cancel()
        await listening.async_close()


def test_it_is_found_while_it_runs() -> None:
    address = address_here()

    async def run() -> None:
        async with announced("edge deploy test", address, 10300):
            assert await found("edge deploy test", address, 10) == ([address], 10300)

    asyncio.run(run())


def test_a_taken_name_is_refused() -> None:
    address = address_here()

    async def run() -> None:
        name = "edge deploy twice"
        async with announced(name, address, 10300), announced(name, address, 10301):
            pass

    with pytest.raises(UserError, match="--zeroconf: edge deploy twice: cannot be announced, or is taken"):
        asyncio.run(run())


@pytest.mark.parametrize("name", ["x" * 80, "", "a\nb"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    async def run() -> None:
        async with announced(name, "127.0.0.1", 10300):
            pass

    with pytest.raises(UserError, match=r"--zeroconf: .*choose another name"):
        asyncio.run(run())


def test_an_address_that_is_not_here_is_refused() -> None:
    async def run() -> None:
        async with announced("edge deploy test", "192.0.2.1", 10300):
            pass

    with pytest.raises(UserError, match="--zeroconf: edge deploy test"):
        asyncio.run(run())
    assert socket.inet_aton("192.0.2.1")
