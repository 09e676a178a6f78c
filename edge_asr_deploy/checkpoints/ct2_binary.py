"""CTranslate2's `model.bin`, binary version 6: names, shapes and raw values, little endian.

u32 version, string spec, u32 revision, u32 count; then per variable: string name, u8 rank, u32 dims[rank], u8 type,
u32 bytes, values; then u32 count and pairs of strings (alias, name). A string is u16 (length + 1), bytes, NUL.
(`ModelSpec._serialize` in CTranslate2's `python/ctranslate2/specs/model_spec.py`.)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError

VERSION = 6
# In the order of CTranslate2's `DataType`; bfloat16 is read as its bits and widened.
_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "<u2")
_BFLOAT16 = 5
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Variables:
    """What a `model.bin` holds: the name of its specification, and its variables; indexing resolves aliases."""

    spec: str
    values: dict[str, NDArray[np.generic]]
    aliases: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return self.aliases.get(name, name) in self.values

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self.values[self.aliases.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        yield from self.values
        yield from self.aliases


def looks_like_ct2(path: Path) -> bool:
    """True when the file begins as a CTranslate2 model of any version does: a small number, then a printable name."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 8:
        return False
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length - 1]
    return 0 < version <= 64 and 1 < length <= 50 and name.isascii() and name.isalnum()


def read_variables(data: bytes | memoryview, path: Path) -> Variables:
    """Read the bytes of a `model.bin`; the arrays are views into `data`. `path` is for messages only.

    UserError when the bytes end too early, go on after the end, contradict themselves, or are of another version.
    """
    reader = _Reader(memoryview(data), path)
    version = reader.number("I")
    if version != VERSION:
        remedy = f"only version {VERSION} is read; convert the model again with a current CTranslate2"
        raise UserError("--model", path, f"is a CTranslate2 model of binary version {version}; {remedy}")
    spec = reader.string()
    reader.number("I")
    values = dict(reader.variable() for _ in range(reader.number("I")))
    aliases = {reader.string(): reader.string() for _ in range(reader.number("I"))}
    if reader.position != len(reader.data):
        extra = len(reader.data) - reader.position
        raise UserError("--model", path, f"is corrupt: {extra} bytes follow its end; {_AGAIN}")
    if missing := [target for target in aliases.values() if target not in values]:
        raise UserError("--model", path, f"is corrupt: an alias names `{missing[0]}`, which it does not hold; {_AGAIN}")
    return Variables(spec, values, aliases)


class _Reader:
    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.position = data, path, 0

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            have = len(self.data)
            raise UserError(
                "--model", self.path, f"is cut short: it has {have} bytes, at least {end} are needed; {_AGAIN}"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0])

    def string(self) -> str:
        raw = bytes(self.take(self.number("H")))
        try:
            if raw[-1:] != b"\0":
                raise ValueError
            return raw[:-1].decode()
        except ValueError:
            at = self.position - len(raw)
            raise UserError("--model", self.path, f"is corrupt: no name at byte {at}; {_AGAIN}") from None

    def variable(self) -> tuple[str, NDArray[np.generic]]:
        name = self.string()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(_TYPES) or size != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
            raise UserError(
                "--model", self.path, f"is corrupt: `{name}` has type {kind}, shape {shape}, {size} bytes; {_AGAIN}"
            )
        values = np.frombuffer(self.take(size), _TYPES[kind]).reshape(shape)
        if kind == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return name, values
