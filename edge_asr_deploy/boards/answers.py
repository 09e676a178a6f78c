"""What the agent may answer to each request: a board may run anything, so nothing is taken on trust."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Size = Annotated[int, Field(ge=0)]


class About(TypedDict):
    """`agent.describe`."""

    python: Annotated[list[int], Field(min_length=2, max_length=2)]
    machine: str
    bits: int
    system: str
    venv: bool


class Missing(TypedDict):
    """Bytes that have arrived of each file that is missing, by its sha256."""

    missing: dict[str, Size]


class Put(TypedDict):
    """Whether the file's hash is right."""

    good: bool


class Environment(TypedDict):
    """Whether the environment is there; else pip's messages."""

    made: bool
    log: str


class Ran(TypedDict):
    """A command's exit code (negative: the signal that ended it), its outputs, and the folder of its files."""

    code: Annotated[int, Field(ge=-64, le=255)]
    output: str
    messages: str
    job: str


class Nothing(TypedDict):
    """No fact."""


DESCRIBE = "describe"
_KINDS: dict[str, Any] = {
    DESCRIBE: About,
    "speech": Nothing,
    "have": Missing,
    "put": Put,
    "package": Nothing,
    "environment": Environment,
    "run": Ran,
}


class NoAnswer(ValueError):
    """The line is no answer to that request."""


def parse(operation: str, line: bytes) -> dict[str, Any]:
    """The answer to a request, or `{"refused": reason}`. NoAnswer for anything else."""
    try:
        content = json.loads(line)
        if isinstance(content, dict) and isinstance(content.get("refused"), str):
            return {"refused": content["refused"]}
        answer: dict[str, Any] = TypeAdapter(_KINDS[operation]).validate_python(content)
    except ValidationError as error:
        raise NoAnswer(error.errors()[0]["msg"]) from None
    except (ValueError, RecursionError):
        raise NoAnswer("no JSON") from None
    return answer
