"""Listening sockets, bound before the model is loaded: an address that cannot be used is said at once."""

from __future__ import annotations

import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_asr_deploy.errors import UserError

BACKLOG = 64
ANYWHERE = ("0.0.0.0", "::")
USAGE = "give a port, tcp://HOST:PORT or unix://PATH"


@dataclass(frozen=True)
class Address:
    """Where Wyoming is served: TCP, or a socket in the file system."""

    host: str = ""
    port: int = 0
    path: str = ""


def wyoming_address(given: str, host: str) -> Address:
    """The address that `--wyoming` names. UserError when it names none."""
    if given.isdecimal():
        given = f"tcp://[{host}]:{given}" if ":" in host else f"tcp://{host}:{given}"
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise UserError("--wyoming", given, USAGE) from None
    if parts.scheme == "unix" and (path := parts.netloc + parts.path):
        return Address(path=path)
    if parts.scheme == "tcp" and parts.hostname and port is not None and not parts.path:
        return Address(parts.hostname, port)
    raise UserError("--wyoming", given, USAGE)


def listen(option: str, host: str, port: int) -> socket.socket:
    """A listening TCP socket. UserError where the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise UserError("--host", host, "is no known address; give one of this machine, or 0.0.0.0 for all") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(option, f"{host}:{port}", f"cannot be used ({reason}); choose another port or host") from None
    made.setblocking(False)
    return made


def listen_at(path: str) -> socket.socket:
    """A listening socket in the file system; one that an ended server left there is replaced. UserError otherwise."""
    where, option = Path(path), "--wyoming"
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if where.exists():
            if not stat.S_ISSOCK(where.stat().st_mode):
                raise UserError(option, path, "is there, and is no socket; choose another path")
            if _is_served(path):
                raise UserError(option, path, "is served by another program; choose another path")
            where.unlink()
        made.bind(path)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        reason = error.strerror or str(error)
        raise UserError(option, path, f"cannot be used ({reason}); choose another path") from None
    except UserError:
        made.close()
        raise
    made.setblocking(False)
    return made


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        return True
