"""Announces Wyoming in the local network, where Home Assistant finds it by itself."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.serve.sockets import ANYWHERE, is_local

OPTION = "--zeroconf"
SERVICE = "_wyoming._tcp.local."
# No packet is sent there: it says by which of its addresses this machine reaches others.
MULTICAST = ("224.0.0.251", 5353)
# A name is asked for so often, and an answer waited for so long each time, in seconds: nobody answers for a free one.
QUESTIONS, ANSWER = 4, 0.25
# Of the DNS (RFC 1035, 2782): a record's type and class, and the flag of answers.
SRV, INTERNET, IS_ANSWER = 33, 1, 0x8000


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
    from zeroconf import BadTypeInNameException, NonUniqueNameException
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    try:
        about = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}", addresses=[socket.inet_aton(address)], port=port)
        zeroconf = AsyncZeroconf(interfaces=[address])
    except (BadTypeInNameException, OSError) as error:
        raise UserError(OPTION, name, f"cannot be announced ({error}); choose another name") from None
    try:
        # Zeroconf's own check misses a server on this machine: its answer goes to the port that both share.
        if await asyncio.to_thread(_is_taken, name, address):
            raise NonUniqueNameException
        await (await zeroconf.async_register_service(about))
        yield
    except (BadTypeInNameException, NonUniqueNameException):
        raise UserError(OPTION, name, "cannot be announced, or is taken; choose another name") from None
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


def _is_taken(name: str, address: str) -> bool:
    """Whether somebody in the network answers for a Wyoming service of this name.

    Asked from a port of its own, to which every responder must answer at once (RFC 6762, section 6.7).
    """
    labels = [label.encode() for label in (name, *SERVICE.strip(".").split("."))]
    header = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
    question = (
        header + b"".join(bytes([len(label)]) + label for label in labels) + struct.pack("!BHH", 0, SRV, INTERNET)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        asking.settimeout(ANSWER)
        for _ in range(QUESTIONS):
            with suppress(OSError, struct.error):
                asking.sendto(question, MULTICAST)
                _, flags, _, answers, _, _ = struct.unpack("!6H", asking.recv(9000)[: len(header)])
                if flags & IS_ANSWER and answers:
                    return True
    return False
