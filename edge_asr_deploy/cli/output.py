r"""How commands print results: what the output cannot show is escaped, and never ends a command.

The escapes are JSON's (`\u00f6`), so that JSON stays JSON on an output that has only ASCII.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import struct
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

ESCAPES = "edge-deploy-json-escapes"
# Control characters that JSON may hold as they are.
_LEFT = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def escape(error: UnicodeError) -> tuple[str, int]:
    """Stand in for characters that an encoding lacks (`codecs.register_error`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", units)), error.end


codecs.register_error(ESCAPES, escape)


def escape_outputs() -> None:
    """From now on escape what standard output and standard error cannot show."""
    for stream in (sys.stdout, sys.stderr):
        # None without a terminal, or something else in a program that calls `main`.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)


def say(line: str) -> None:
    """Print a line of a result at once."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(line.encode(encoding, ESCAPES).decode(encoding))


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a JSON value at once."""
    say_text(json.dumps(value, indent=indent, ensure_ascii=False))


def say_model(model: BaseModel) -> None:
    """Print a pydantic model as JSON."""
    say_text(model.model_dump_json(indent=1))


def say_text(document: str) -> None:
    """Print a JSON document. What JSON leaves of control characters is escaped as JSON does: it is in strings only."""
    say(_LEFT.sub(lambda match: f"\\u{ord(match[0]):04x}", document))
