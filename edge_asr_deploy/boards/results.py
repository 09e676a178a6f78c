"""The results that a command measured on boards: parsed from each board's JSON, and written to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from edge_asr_deploy.boards.remote import Answer
from edge_asr_deploy.files import write_output
from edge_asr_deploy.printing import one_line

Measured = TypeVar("Measured", bound=BaseModel)


class Heard(BaseModel):
    """What is printed of a transcript; the other fields go through as they are."""

    model_config = ConfigDict(extra="allow")

    file: str
    text: str


@dataclass(frozen=True)
class BoardResult(Generic[Measured]):
    """One board's result. It is None when the command failed there; the messages of `answer` then say why."""

    answer: Answer
    result: Measured | None


def results_of(
    answers: Sequence[Answer],
    model: type[Measured],
    local_fields: Mapping[str, Any],
    output: Path | None,
    finished: Callable[[Measured], Measured] = lambda result: result,
) -> list[BoardResult[Measured]]:
    """Parse the results of all answers, and write each to a file if `output` is given.

    `local_fields` replace those fields that only this machine knows, and `finished` adds to a result. With several
    boards, `result.json` becomes one file `result.BOARD.json` for each. UserError when a file cannot be written.
    """
    results = []
    for answer in answers:
        result = None
        if answer.output is not None:
            try:
                result = finished(model.model_validate(answer.output).model_copy(update=local_fields))
            except ValidationError as error:
                answer = _malformed(answer, error)
            if result is not None and output is not None:
                name = f"{output.stem}.{answer.board}{output.suffix}" if len(answers) > 1 else output.name
                write_output("--output", output.with_name(name), result.model_dump_json(indent=1) + "\n")
        results.append(BoardResult(answer, result))
    return results


def transcripts_of(answers: Sequence[Answer]) -> list[Answer]:
    """The answers of `transcribe`, checked: where the output is no list of transcripts, a message says so instead."""
    checked = []
    for answer in answers:
        try:
            TypeAdapter(list[Heard] | None).validate_python(answer.output, strict=True)
        except ValidationError as error:
            answer = _malformed(answer, error)
        checked.append(answer)
    return checked


def _malformed(answer: Answer, error: ValidationError) -> Answer:
    first = error.errors()[0]
    where = one_line(".".join(map(str, first["loc"]))[:100])
    reason = f"{answer.board}: its result is malformed ({where or 'all of it'}: {first['msg']}); check what it runs"
    return replace(answer, code=2, output=None, messages=(*answer.messages, reason))
