"""A sweep file becomes cells: every combination of named values, each value a fragment laid over one base recipe."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from edge_asr_deploy.recipe.files import read_mapping
from edge_asr_deploy.recipe.overlay import Document, lay_over

REQUIRED_AXES = ("model", "method", "setting")
FLOAT = "float"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evaluation(_Model):
    """How a cell is evaluated. `accuracy_level` is of onnxruntime's MatMulNBits: None is its default (4), int8 inside.

    `data` are JSONL manifests, relative to the working folder; without any the default evaluation corpus is used.
    `limit` takes at most so many utterances of each corpus. `activation_bits` is for the paper's cost formulas alone.
    """

    data: tuple[Path, ...] = ()
    limit: int | None = Field(None, ge=1)
    language: str = "en"
    threads: int = Field(1, ge=1)
    accuracy_level: int | None = Field(None, ge=0, le=4)
    activation_bits: int = Field(16, ge=2, le=32)


class Adjustment(_Model):
    """A fragment for those cells alone whose value on every axis of `where` is among the values given there."""

    where: dict[str, list[str]]
    fragment: Document


class Sweep(_Model):
    """The file. `axes`: axis -> value -> fragment; `cells`: products of values, an axis left out takes all of its own.

    A fragment is a piece of a recipe; beside a recipe's keys it knows `blocks` (encoder, cross_attention and decoder
    alike) and `evaluation` (a piece of the sweep's). Fragments are laid over `base` in the order of the axes.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    base: Document = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    axes: dict[str, dict[str, Document | None]]
    cells: list[dict[str, list[str]]] = Field(min_length=1)
    adjustments: list[Adjustment] = Field(default_factory=list)
    reference: str = Field("rtn", description="the method that the others are compared with, setting by setting")


@dataclass(frozen=True)
class Cell:
    """One recipe for one model and how to evaluate it. `values`: axis -> value, in the order of the axes.

    The float baseline of a model is a cell, too, with the model's value and the method `float`.
    """

    values: dict[str, str]
    recipe: Recipe
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """The values, joined: `whisper-tiny.en/gptq/w4a16/blocks`."""
        return "/".join(self.values.values())

    @property
    def model(self) -> str:
        """The model as `--model` names it."""
        return str(self.recipe.model)

    @property
    def is_float(self) -> bool:
        """True for a model's baseline."""
        return self.values["method"] == FLOAT


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; UserError names the key, the value and what is allowed."""
    document = read_mapping("sweep", path, "`name`, `axes` and `cells`")
    try:
        sweep = Sweep.model_validate(document)
    except ValidationError as error:
        raise _as_user_error(f"sweep {path.name}", error, Sweep) from None
    for axis in REQUIRED_AXES:
        if axis not in sweep.axes:
            raise UserError(f"sweep {path.name}", f"axes.{axis}", f"is missing; axes need {', '.join(REQUIRED_AXES)}")
    for index, selection in enumerate(sweep.cells):
        _check_selection(sweep, selection, f"cells.{index}", path.name)
    for index, adjustment in enumerate(sweep.adjustments):
        _check_selection(sweep, adjustment.where, f"adjustments.{index}.where", path.name)
    if FLOAT in sweep.axes["method"]:
        raise UserError(f"sweep {path.name}", f"axes.method.{FLOAT}", "the baseline is always there; leave it out")
    return sweep


def expand(sweep: Sweep) -> list[Cell]:
    """All cells, each once, the baseline of every model before the model's first cell.

    UserError for a cell whose recipe is none: it names the cell, the key and what is allowed.
    """
    cells: dict[str, Cell] = {}
    for selection in sweep.cells:
        axes = [selection.get(axis) or list(values) for axis, values in sweep.axes.items()]
        for chosen in itertools.product(*axes):
            cell = _cell(sweep, dict(zip(sweep.axes, chosen, strict=True)))
            baseline = _baseline(cell, sweep.evaluation)
            cells.setdefault(baseline.name, baseline)
            cells.setdefault(cell.name, cell)
    return list(cells.values())


def select(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose name matches one of the patterns (`*` stands for anything), and the baselines of their models.

    All of them without patterns. UserError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise UserError(
                "--only", pattern, f"matches no cell; one is called {cells[-1].name}, and * matches anything"
            )
    chosen = [c for c in cells if not patterns or any(fnmatchcase(c.name, pattern) for pattern in patterns)]
    models = {cell.values["model"] for cell in chosen}
    return [c for c in cells if c in chosen or (c.is_float and c.values["model"] in models)]


def _cell(sweep: Sweep, values: dict[str, str]) -> Cell:
    name = "/".join(values.values())
    document, evaluation = sweep.base, sweep.evaluation.model_dump()
    fragments = [sweep.axes[axis][value] or {} for axis, value in values.items()]
    for adjustment in sweep.adjustments:
        if all(values[axis] in wanted for axis, wanted in adjustment.where.items()):
            fragments.append(adjustment.fragment)
    for fragment in fragments:
        recipe_part = {key: value for key, value in fragment.items() if key != "evaluation"}
        document = lay_over(document, recipe_part)
        evaluation = lay_over(evaluation, fragment.get("evaluation") or {})
    document.setdefault("model", values["model"])
    own = [value for axis, value in values.items() if axis != "model"]
    document.setdefault("name", "-".join([str(document.get("family", "")), *own]))
    try:
        own_evaluation = Evaluation.model_validate(evaluation)
    except ValidationError as error:
        raise _as_user_error(f"sweep cell {name}", error, Evaluation) from None
    return Cell(values, parse(document, name), own_evaluation)


def _baseline(cell: Cell, evaluation: Evaluation) -> Cell:
    # Nothing runs in a low-bit operator, so that the accuracy level decides nothing: one baseline serves all settings.
    # It is not calibrated, but its export is proved on the same clips.
    changes = {"model": cell.recipe.model, "calibration": cell.recipe.calibration}
    recipe = float_recipe(cell.recipe.family).model_copy(update=changes)
    own_evaluation = evaluation.model_copy(update={"accuracy_level": None, "activation_bits": 32})
    return Cell({"model": cell.values["model"], "method": FLOAT}, recipe, own_evaluation)


def _check_selection(sweep: Sweep, selection: Mapping[str, Sequence[str]], key: str, origin: str) -> None:
    for axis, values in selection.items():
        if axis not in sweep.axes:
            raise UserError(f"sweep {origin}", f"{key}.{axis}", f"no such axis; there are {', '.join(sweep.axes)}")
        for value in values:
            if value not in sweep.axes[axis]:
                allowed = ", ".join(sweep.axes[axis])
                raise UserError(f"sweep {origin}", f"{key}.{axis} {value}", f"no such value; there are {allowed}")


def _as_user_error(thing: str, error: ValidationError, model: type[BaseModel]) -> UserError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        nested = Evaluation if first["loc"][0] == "evaluation" else model
        return UserError(thing, key, f"no such key; allowed here: {', '.join(nested.model_fields)}")
    value = "" if first["type"] == "missing" else f" {first['input']!r}"
    return UserError(thing, f"{key}{value}"[:200], re.sub(r"^Value error, ", "", first["msg"]))
