"""Announces Wyoming in the local network, where Home Assistant finds it by itself."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.serve.sockets import ANYWHERE, is_local

OPTION = "--zeroconf"
SERVICE = "_wyoming._tcp.local."
# No packet is sent there: it says by which of its addresses this machine reaches others.
MULTICAST = ("224.0.0.251", 5353)
# Time for an answer about a name, in milliseconds: a responder that spoke in the last second may wait one more.
ANSWER = 1500


def announced_address(name: str, host: str) -> str:
    """The IPv4 address to announce for a server that listens on `host`. UserError where nobody else could reach it."""
    if is_local(host):
        raise UserError(OPTION, name, f"{host} is reached from this machine only; add --host 0.0.0.0")
    try:
        if host not in ANYWHERE:
            return socket.gethostbyname(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(MULTICAST)
            return str(probe.getsockname()[0])
    except OSError:
        raise UserError(OPTION, name, "this machine is in no network; give its address with --host") from None


@asynccontextmanager
async def announced(name: str, address: str, port: int) -> AsyncIterator[None]:
    """Announce a server until the end. UserError for a name that cannot be announced."""
    from zeroconf import BadTypeInNameException, DNSQuestionType, NonUniqueNameException
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    try:
        about = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}", addresses=[socket.inet_aton(address)], port=port)
        zeroconf = AsyncZeroconf(interfaces=[address])
    except (BadTypeInNameException, OSError) as error:
        raise UserError(OPTION, name, f"cannot be announced ({error}); choose another name") from None
    try:
        # Zeroconf's own check asks for an answer to this address alone. Two servers on one machine share it, and the
        # answer reaches the first: so ask for one that all hear.
        taken = AsyncServiceInfo(SERVICE, about.name)
        if await taken.async_request(zeroconf.zeroconf, ANSWER, question_type=DNSQuestionType.QM):
            raise NonUniqueNameException
        await (await zeroconf.async_register_service(about))
        yield
    except (BadTypeInNameException, NonUniqueNameException):
        raise UserError(OPTION, name, "cannot be announced, or is taken; choose another name") from None
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()
