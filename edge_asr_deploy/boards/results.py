"""The results that a command measured on boards: parsed from each board's JSON, and written to files."""

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
    """One board's result. It is None when the command failed there; the messages of `answer` then say why."""

    answer: Answer
    result: Measured | None


def results_of(
    answers: Sequence[Answer], model: type[Measured], local_fields: Mapping[str, Any], output: Path | None
) -> list[BoardResult[Measured]]:
    """Parse the results of all answers, and write each to a file if `output` is given.

    `local_fields` replace those fields that only this machine knows. With several boards, `result.json` becomes one
    file `result.BOARD.json` for each. UserError when a file cannot be written.
    """
    results = []
    for answer in answers:
        result = None
        if answer.output is not None:
            result = model.model_validate(answer.output).model_copy(update=local_fields)
            if output is not None:
                name = f"{output.stem}.{answer.board}{output.suffix}" if len(answers) > 1 else output.name
                write_output("--output", output.with_name(name), result.model_dump_json(indent=1) + "\n")
        results.append(BoardResult(answer, result))
    return results
