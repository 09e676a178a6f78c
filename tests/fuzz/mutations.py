"""Seeded changes of bytes and of JSON documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -(2**31), 10**30, 0.5, -0.0, 1e308)
STRINGS = ("", "x", "../x", "/etc/passwd", "\x1b[31m", "a\nb", "\u2028", "%n%s", "[/red]", "x" * 5000, "日本", "\x00")


def changed_bytes(content: bytes, random: Random) -> bytes:
    """One to eight changes: bits, bytes, cuts, insertions, repetitions, zeros, numbers in any byte order."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        if not data:
            return b""
        # Headers are at the front, and most of what can go wrong is in them.
        reach = len(data) if random.random() < 0.5 else min(len(data), 128)
        at, size = random.randrange(reach), random.choice((1, 2, 4, 16, 256))
        kind = random.randrange(7)
        if kind == 0:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif kind == 2:
            del data[at : len(data) if random.random() < 0.5 else at + size]
        elif kind == 3:
            data[at:at] = random.randbytes(size)
        elif kind == 4:
            data[at:at] = data[at : at + size] * random.choice((1, 2, 100))
        elif kind == 5:
            data[at : at + size] = bytes(size)
        else:
            number = random.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data), 2 * len(data)))
            data[at : at + 4] = (number & 0xFFFFFFFF).to_bytes(4, random.choice(("little", "big")))
    return bytes(data)


def changed_json(text: str, random: Random) -> str:
    """One to three changes of a JSON document: other values, types, keys, depths; or of its bytes."""
    if random.random() < 0.1:
        return changed_bytes(text.encode(), random).decode("utf-8", "replace")
    document = json.loads(text)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = list(places(document))
        if not found:
            break
        parent, key = random.choice(found)
        if random.random() < 0.15:
            del parent[key]
        else:
            parent[key] = _value(parent[key], random)
    try:
        return json.dumps(document)
    except RecursionError:
        return "[" * 100_000


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document; without recursion, since an earlier change may be nested without end."""
    within = [_inside(document)]
    while within:
        for value, key, inner in within[-1]:
            yield value, key
            within.append(_inside(inner))
            break
        else:
            within.pop()


def _inside(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return iter([(value, key, inner) for key, inner in list(items)[:200]])


def _value(old: Any, random: Random) -> Any:
    kind = random.randrange(8)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice(STRINGS)
    if kind == 2:
        return random.choice((None, True, False, [], {}, [None], {"": {}}))
    if kind == 3:
        return [old] * random.choice((1, 2, 1000))
    if kind == 4:
        deep: Any = old
        for _ in range(random.choice((3, 500))):
            deep = [deep]
        return deep
    if kind == 5 and isinstance(old, int | float) and not isinstance(old, bool):
        return random.choice((-old, old * 2, old + 1, old - 1, float(old), str(old), old * 10**9))
    if kind == 6 and isinstance(old, str):
        return random.choice((old.upper(), old + "\0", old[:-1], old + "/..", old * 50))
    return random.choice((old, {"x": old}, str(old)))
