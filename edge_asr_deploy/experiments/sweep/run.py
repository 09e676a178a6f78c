"""A whole sweep: plan the cells, run those that are not done, and write the results after each cell."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from edge_asr_deploy.checkpoints import Checkpoint, resolve
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.options import SweepOptions
from edge_asr_deploy.experiments.sweep import plots, tables
from edge_asr_deploy.experiments.sweep.cells import Job, Outcome, find
from edge_asr_deploy.experiments.sweep.cluster import run_cluster
from edge_asr_deploy.experiments.sweep.grid import Cell, Sweep, expand, load_sweep, select
from edge_asr_deploy.experiments.sweep.keys import Keys, audio_prints, keys_of, speech_prints
from edge_asr_deploy.experiments.sweep.local import run_here, run_processes
from edge_asr_deploy.experiments.sweep.record import (
    RESULTS,
    CellState,
    Record,
    SweepResult,
    read_results,
    records,
    to_lines,
    with_earlier,
)
from edge_asr_deploy.experiments.sweep.store import Store, write_bytes, write_text
from edge_asr_deploy.files import require_writable
from edge_asr_deploy.harness.evaluation.speech import load_speech
from edge_asr_deploy.harness.evaluation.speech import select as select_speech
from edge_asr_deploy.pipeline import calibration_speech
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.selection import check_versions

DEFAULT_OUTPUT = Path("docs/results")


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep and the state of each before anything runs; `chosen` are the names of those to run."""

    sweep: Sweep
    states: list[CellState]
    chosen: frozenset[str]
    speech: str


def plan(file: Path, options: SweepOptions, store: Store, messages: Console) -> Plan:
    """Read the sweep, compute every cell's keys, and look up its result in the store.

    UserError for a file, a recipe or a pattern that is wrong, before anything runs. A model or calibration speech that
    is not there is an error of its cells alone.
    """
    sweep = load_sweep(file)
    cells = expand(sweep)
    chosen = frozenset(cell.name for cell in select(cells, options.only))
    check_versions()
    speech = load_speech(sweep.evaluation.data)[1]
    messages.print(f"{len(cells)} cells, {len(chosen)} chosen. {speech}")
    planner = _Planner()
    states = []
    for cell in cells:
        try:
            keys = planner.keys(cell)
            states.append(CellState(cell, keys, find(store, keys.result), checkpoint=planner.checkpoint(cell).sha256))
        except UserError as error:
            states.append(CellState(cell, None, error=str(error) if cell.name in chosen else None))
    return Plan(sweep, states, chosen, speech)


def run(
    file: Path, options: SweepOptions, store: Store, messages: Console, command: str = "edge-deploy sweep"
) -> tuple[Path, SweepResult]:
    """Run what is chosen and not done; returns the output folder and what it holds. Failed cells are in the result.

    UserError as `plan`, and when the cluster does not answer or the output cannot be written.
    """
    planned = plan(file, options, store, messages)
    output = options.output or DEFAULT_OUTPUT / planned.sweep.name
    require_writable("--output", output / RESULTS, makes_folders=True)
    board = _Board(planned, output, command, messages)
    jobs = [
        Job(one.cell, one.keys)
        for one in planned.states
        if one.keys is not None and one.finding is None and one.cell.name in planned.chosen
    ]
    board.total = len(jobs)
    board.write()
    jobs = spread(jobs)
    with Live(board, console=messages, transient=True, refresh_per_second=2):
        if options.ray is not None:
            run_cluster(jobs, options.ray, store, board)
        elif options.jobs > 1:
            run_processes(jobs, options.jobs, store, board)
        else:
            run_here(jobs, store, board)
    return output, board.result


def spread(jobs: Sequence[Job]) -> list[Job]:
    """The jobs in an order that keeps those which share weights apart: side by side they would wait for each other."""
    seen: dict[str, int] = {}
    ranks = []
    for job in jobs:
        ranks.append(seen.get(job.keys.weights, 0))
        seen[job.keys.weights] = ranks[-1] + 1
    return [job for _, job in sorted(zip(ranks, jobs, strict=True), key=lambda pair: pair[0])]


class _Planner:
    """Keys of cells. Checkpoints and speech that several cells share are read once."""

    def __init__(self) -> None:
        self.computed: dict[str, Any] = {}

    def keys(self, cell: Cell) -> Keys:
        checkpoint = self.checkpoint(cell)
        evaluation, recipe = cell.evaluation, cell.recipe
        wanted = [str(path) for path in evaluation.data]

        def evaluation_speech() -> list[str]:
            return speech_prints(select_speech(load_speech(evaluation.data)[0], evaluation.limit))

        def calibration() -> list[str]:
            return audio_prints(calibration_speech(recipe).utterances)

        parts = ["calibration", recipe.calibration.model_dump(mode="json"), needs_samples(recipe)]
        return keys_of(
            cell,
            checkpoint,
            self._once(parts, calibration),
            self._once(["speech", *wanted, evaluation.limit], evaluation_speech),
        )

    def checkpoint(self, cell: Cell) -> Checkpoint:
        checkpoint: Checkpoint = self._once(["model", cell.model], lambda: resolve(cell.model))
        return checkpoint

    def _once(self, parts: list[Any], compute: Any) -> Any:
        key = json.dumps(parts)
        if key not in self.computed:
            try:
                self.computed[key] = compute()
            except UserError as error:
                self.computed[key] = error
        if isinstance(self.computed[key], UserError):
            raise self.computed[key]
        return self.computed[key]


@dataclass
class _Board:
    """The state of the sweep: shown on the terminal, and written to the output folder after every cell."""

    planned: Plan
    output: Path
    command: str
    messages: Console
    total: int = 0
    done: int = 0
    failed: int = 0
    began: float = field(default_factory=time.monotonic)
    running: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = list(self.planned.states)
        self.earlier = _earlier(self.output, self.planned)
        self.result = self._result()

    def started(self, job: Job) -> None:
        self.running[job.cell.name] = "starting"

    def stage(self, job: Job, what: str) -> None:
        self.running[job.cell.name] = what

    def finished(self, job: Job, outcome: Outcome) -> None:
        name = job.cell.name
        self.running.pop(name, None)
        index = next(i for i, one in enumerate(self.states) if one.cell.name == name)
        self.states[index] = replace(self.states[index], finding=outcome.finding, error=outcome.error)
        if outcome.finding is None:
            self.failed += 1
            self.messages.print(f"{name}: failed: {outcome.error}", markup=False)
        else:
            self.done += 1
            wer = outcome.finding.result.bundle.accuracy.pooled.wer
            self.messages.print(f"{name}: WER {100 * wer:.2f} %", markup=False)
        self.write()

    def write(self) -> None:
        """Write the results first, then the tables and plots made from them; each file all at once."""
        self.result = self._result()
        write_text(self.output / RESULTS, to_lines(self.result))
        write_text(self.output / "README.md", tables.summary(self.result))
        for name, text in tables.files(self.result).items():
            write_text(self.output / "tables" / name, text)
        for name, picture in plots.draw(self.result).items():
            write_bytes(self.output / "plots" / name, picture)

    def __rich__(self) -> RenderableType:
        ended = self.done + self.failed
        elapsed = time.monotonic() - self.began
        left = f"about {_duration(elapsed / ended * (self.total - ended))} left" if ended else "time left unknown"
        lines = [f"{self.done} of {self.total} cells done, {len(self.running)} running, {self.failed} failed, {left}"]
        lines += [f"  {name}: {what}" for name, what in self.running.items()]
        return Text("\n".join(lines))

    def _result(self) -> SweepResult:
        sweep = self.planned.sweep
        first = next((one.finding for one in self.states if one.finding is not None), None)
        return SweepResult(
            name=sweep.name,
            command=self.command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            speech=self.planned.speech,
            normalizer=None if first is None else first.result.normalizer,
            reference=sweep.reference,
            axes=list(sweep.axes),
            cells=with_earlier(records(self.states, sweep.reference), self.states, self.earlier),
        )


def _earlier(output: Path, planned: Plan) -> list[Record]:
    """Earlier records of the same sweep on the same speech from the output folder; empty where there are none.

    UserError for a file that is there and cannot be read: hours of measurements may lie in it.
    """
    try:
        before = read_results(output)
    except (OSError, ValueError):
        remedy = "holds results that are not those of a sweep; move them away or give another --output"
        raise UserError("--output", output, remedy) from None
    if before is None or (before.name, before.speech) != (planned.sweep.name, planned.speech):
        return []
    return before.cells


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
