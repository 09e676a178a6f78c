"""`python -m benchmarks`: our bundles beside other runtimes on the same checkpoints. `make bench-peers` calls it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from benchmarks import clips as speech
from benchmarks.cells import PACKAGES, RIVALS, Cell, Configuration, ours, timed_cells
from benchmarks.compiled import build_in_use
from benchmarks.forms import Forms, Unavailable, installed
from benchmarks.report import BUILD, report
from benchmarks.run import Runner, Subject, process, subjects
from benchmarks.store import Store
from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.cli.numbers import numbers
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.runtime.cpu import cpu_features

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
MESSAGES = Console(stderr=True, highlight=False)
P = ParamSpec("P")
R = TypeVar("R")

Models = Annotated[list[str], typer.Option("--model", help="A model, as `edge-deploy export --model` takes it.")]
Work = Annotated[Path, typer.Option(help="Folder that keeps rivals' files, clips and measurements.")]
Python = Annotated[Path, typer.Option(help="The interpreter where the rivals are installed.")]
Bundles = Annotated[Path | None, typer.Option(help="Folder with bundles named MODEL-NAME; else they are exported.")]
Ours = Annotated[list[str], typer.Option("--ours", help="One of our bundles and options: `w4 --accuracy-level 1`.")]
Only = Annotated[str, typer.Option(help="Regular expression: which configurations, such as `whisper.cpp|edge`.")]
Retry = Annotated[bool, typer.Option("--retry", help="Run again what failed.")]
Budget = Annotated[float | None, typer.Option(help="Begin no cell after so many seconds; run again to go on.")]
DEFAULTS = {"models": ["whisper-tiny.en"], "work": Path("exported/peers"), "python": Path(".venv-peers/bin/python")}


def one_line(command: Callable[P, R]) -> Callable[P, R]:
    """UserErrors as one line and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            typer.echo(f"bench-peers: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped


@app.command()
@one_line
def prepare(
    model: Models = DEFAULTS["models"],  # type: ignore[assignment]
    work: Work = DEFAULTS["work"],  # type: ignore[assignment]
    python: Python = DEFAULTS["python"],  # type: ignore[assignment]
    bundles: Bundles = None,
    ours_: Ours = ["w4"],  # noqa: B006
    only: Only = ".",
) -> None:
    """Convert the checkpoints for every rival, export our bundles, write the clips. Nothing is timed."""
    speech.timed(work / "clips")
    for one in model:
        for subject in _subjects(one, _chosen(one, ours_, only), work, python, bundles):
            state = subject.reason or "ready"
            MESSAGES.print(f"{one} | {subject.configuration.rival} {subject.configuration.name}: {state}", markup=False)


@app.command("time")
@one_line
def time_(
    model: Models = DEFAULTS["models"],  # type: ignore[assignment]
    work: Work = DEFAULTS["work"],  # type: ignore[assignment]
    python: Python = DEFAULTS["python"],  # type: ignore[assignment]
    bundles: Bundles = None,
    ours_: Ours = ["w4"],  # noqa: B006
    only: Only = ".",
    threads: Annotated[str, typer.Option(help="Numbers of cores that a process is confined to.")] = "1,2",
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes of every configuration.")] = 3,
    long: Annotated[bool, typer.Option(help="Also five minutes of speech, once.")] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget these models' earlier timings; word error rates stay.")
    ] = False,
    retry: Retry = False,
    budget: Budget = None,
) -> None:
    """Time every configuration in rounds. What is finished is kept: the same command continues.

    Exit code 3 when a budget ended it with cells left.
    """
    clips = speech.timed(work / "clips")
    path = work / "timing.json"
    forgotten = {resolve(one).name for one in model} if fresh else set()
    store = Store(path, {"clips": speech.described(clips), "machine": _machine()}, forgotten)
    short = [clip for clip in clips if clip.band != speech.LONG]
    by_part = {"clips": short, "long": [short[0], clips[-1]]}
    left = 0
    for one in model:
        chosen = _chosen(one, ours_, only)
        cells = timed_cells(resolve(one).name, chosen, numbers("--threads", threads, int), rounds, long)
        runner = _runner(one, chosen, store, work, python, bundles, retry)
        _refuse_other_code(store, runner, cells)
        left += runner.run(cells, by_part, budget)
    _finish(left)


@app.command()
@one_line
def wer(
    model: Models = DEFAULTS["models"],  # type: ignore[assignment]
    work: Work = DEFAULTS["work"],  # type: ignore[assignment]
    python: Python = DEFAULTS["python"],  # type: ignore[assignment]
    bundles: Bundles = None,
    ours_: Ours = ["w4"],  # noqa: B006
    only: Only = ".",
    shares: Annotated[
        int, typer.Option(min=1, max=speech.SHARES, help=f"How many of the {speech.SHARES} shares of the speech.")
    ] = speech.SHARES,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 1,
    retry: Retry = False,
    budget: Budget = None,
) -> None:
    """Hear all evaluation speech with every configuration, share after share: long, but rivals need it only once."""
    dealt = speech.shares(work / "clips")
    parts = {f"wer:{number}": clips for number, clips in enumerate(dealt)}
    store = Store(work / "wer.json", {"clips": [row for clips in dealt for row in speech.described(clips)]})
    left = 0
    for part in list(parts)[:shares]:
        for one in model:
            chosen = [each for each in _chosen(one, ours_, only) if not each.long_only]
            cells = [Cell(resolve(one).name, configuration, 1, part) for configuration in chosen]
            left += _runner(one, chosen, store, work, python, bundles, retry).run(cells, parts, budget, jobs)
    _finish(left)


@app.command("report")
@one_line
def report_(
    work: Work = DEFAULTS["work"],  # type: ignore[assignment]
    output: Annotated[Path | None, typer.Option(help="A .md file to write, and a .json beside it.")] = None,
) -> None:
    """Tables from what was measured: against the goals, all timings, word error rates."""
    text = report(work / "timing.json", work / "wer.json", output)
    if output is None:
        typer.echo(text)


def _chosen(model: str, names: Sequence[str], only: str) -> list[Configuration]:
    family = resolve(model).family
    everything = [*RIVALS[family], *map(ours, names)]
    return [one for one in everything if re.search(only, f"{one.rival} {one.name}")]


def _subjects(
    model: str, configurations: Sequence[Configuration], work: Path, python: Path, bundles: Path | None
) -> Any:
    forms = Forms(work, python.absolute(), bundles or work / "bundles", exports=bundles is None)
    return subjects(resolve(model), configurations, forms, installed(python.absolute(), PACKAGES))


def _runner(
    model: str,
    configurations: Sequence[Configuration],
    store: Store,
    work: Path,
    python: Path,
    bundles: Path | None,
    retry: bool,
) -> Runner:
    found = _checked(_subjects(model, configurations, work, python, bundles), work, python)
    launch = process(python.absolute(), work / "cache")
    return Runner(resolve(model), found, store, launch, lambda line: MESSAGES.print(line, markup=False), retry)


def _checked(found: Sequence[Subject], work: Path, python: Path) -> list[Subject]:
    """The subjects, after whisper.cpp's build was tried; which one is used is kept for the report."""
    tried = next((one for one in found if one.configuration.rival == "whisper.cpp" and one.folder), None)
    if tried is None or tried.folder is None:
        return [*found]
    try:
        (work / BUILD).write_text(build_in_use(python.absolute(), tried.folder / "model.bin") + "\n")
    except Unavailable as error:
        dead = str(error)
        return [
            replace(one, folder=None, reason=dead) if one.configuration.rival == "whisper.cpp" else one for one in found
        ]
    return [*found]


def _refuse_other_code(store: Store, runner: Runner, cells: Sequence[Cell]) -> None:
    """UserError when ours was timed with another bundle or other code: the rivals' times would be of another hour."""
    now = {subject.configuration: subject.fingerprint for subject in runner.subjects}
    for cell in cells:
        record = store.records.get(cell.key)
        if record and record["outcome"] == "done" and record.get("fingerprint") != now[cell.configuration]:
            remedy = "was timed with another bundle or other code; --fresh times rivals and ours anew, side by side"
            raise UserError("--ours", cell.configuration.name, remedy)


def _machine() -> dict[str, Any]:
    here = environment()
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")]
    has = cpu_features().flags
    return {
        "cpu": here.cpu,
        "machine": here.machine,
        "cores": here.cores,
        "flags": [flag for flag in flags if flag in has],
    }


def _finish(left: int) -> None:
    if left:
        MESSAGES.print(f"{left} cells are left; run the same command again")
        raise typer.Exit(3)


if __name__ == "__main__":
    sys.exit(app())
