"""What a command measured on boards: every board's JSON as the result that it is here, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from edge_asr_deploy.boards.remote import Answer
from edge_asr_deploy.files import write_output

Measured = TypeVar("Measured", bound=BaseModel)


@dataclass(frozen=True)
class BoardResult(Generic[Measured]):
    """One board's result, None where it failed; `answer` says why."""

    answer: Answer
    result: Measured | None


def results_of(
    answers: Sequence[Answer], model: type[Measured], here: Mapping[str, Any], output: Path | None
) -> list[BoardResult[Measured]]:
    """The results of all answers, with the fields `here` that only this machine knows; written where `output` is given.

    Of several boards `result.json` becomes `result.BOARD.json`, one file each. UserError where none can be written.
    """
    found = []
    for answer in answers:
        result = None
        if answer.output is not None:
            result = model.model_validate(answer.output).model_copy(update=here)
            if output is not None:
                name = f"{output.stem}.{answer.board}{output.suffix}" if len(answers) > 1 else output.name
                write_output("--output", output.with_name(name), result.model_dump_json(indent=1) + "\n")
        found.append(BoardResult(answer, result))
    return found
