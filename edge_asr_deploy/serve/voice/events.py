"""Reads Wyoming's events within limits; the package `wyoming` reads as many bytes as a client announces."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from wyoming.event import Event

from edge_asr_deploy.serve.faults import Fault, TooLarge
from edge_asr_deploy.serve.places import Budget

# Bytes of an event's line, of its further data, and of its sound: a minute of 48 kHz stereo at 24 bits.
LONGEST_LINE = 1 << 16
MOST_DATA = 1 << 20
MOST_PAYLOAD = 1 << 24
NO_EVENT = "this is no event of Wyoming; check which protocol the client speaks"


async def read_event(reader: asyncio.StreamReader, budget: Budget) -> Event | None:
    """The next event. None at the end of the connection. Fault for garbage and beyond the limits.

    Sound counts for the `budget` while it comes; whoever takes the event keeps it or not.
    """
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise Fault(NO_EVENT) from None
        return None
    except asyncio.LimitOverrunError:
        raise TooLarge(f"an event's line has more than {LONGEST_LINE} bytes") from None
    header = _object(line)
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise Fault(NO_EVENT)
    try:
        if length := _length(header, "data_length", MOST_DATA):
            data = {**data, **_object(await reader.readexactly(length))}
        length = _length(header, "payload_length", MOST_PAYLOAD)
        with budget.held() as held:
            held.take(length)
            payload = await reader.readexactly(length) if length else None
    except asyncio.IncompleteReadError:
        return None
    return Event(kind, data, payload)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Fault(NO_EVENT) from None
    if not isinstance(found, dict):
        raise Fault(NO_EVENT)
    return found


def _length(header: dict[str, Any], key: str, most: int) -> int:
    given = header.get(key) or 0
    if not isinstance(given, int) or given < 0:
        raise Fault(NO_EVENT)
    if given > most:
        raise TooLarge(f"{key}: {given}: an event may have {most}; send smaller chunks")
    return given
