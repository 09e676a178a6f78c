"""`edge-deploy fit`: measured sensitivities and exact sizes, a budget, and an ordinary recipe that meets it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.analysis.plots import plot_front, require_matplotlib
from edge_asr_deploy.experiments.analysis.subject import Subject, load_subject
from edge_asr_deploy.experiments.mixed.document import as_yaml
from edge_asr_deploy.experiments.mixed.myqasr import allocate, output_medians
from edge_asr_deploy.experiments.mixed.problem import Bits, Problem, Sizes, matrix_sizes, measure_rest, with_bits
from edge_asr_deploy.experiments.mixed.walk import Scorer, smallest_within
from edge_asr_deploy.experiments.options import FitOptions, Proxy, Rule
from edge_asr_deploy.files import require_writable, write_atomically
from edge_asr_deploy.harness.layout import plain
from edge_asr_deploy.progress import Progress, shown, staged
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.selection import chosen

MB = 1_000_000
# Points of the front that is written, and of the coarser one whose points are exported to find a rise in WER.
FRONT, WALK = 40, 12


@dataclass(frozen=True)
class Point:
    """One choice: bytes of the exported files, summed sensitivity, and the rise in WER where it was measured."""

    size: int
    divergence: float
    rise: float | None = None


@dataclass(frozen=True)
class Fit:
    """The result. `divergence`: KL, nats per token, summed over matrices; `judged_on`: the speech of `rise`."""

    recipe: str
    size: int
    smallest: int
    divergence: float
    bits: Bits
    front: list[Point]
    speech: str
    rise: float | None = None
    judged_on: str | None = None
    searched: dict[str, Any] | None = None

    def as_json(self) -> str:
        """For machines."""
        return json.dumps(asdict(self), indent=1)


def fit(options: FitOptions, output: Path, console: Console) -> Fit:
    """Choose bits per matrix, and write the recipe `output` and, in `<output>.fit`, `front.json` and `front.png`.

    Measurements are stored in the cache, trials and scored candidates in `<output>.fit`, so a run that was killed goes
    on where it stopped. UserError for a budget that cannot be met: it says the smallest possible size.
    """
    _check(options, output)
    checkpoint, recipe = chosen(options.export)
    if recipe.is_float:
        raise UserError("recipe", recipe.name, "makes no integer codes; start from one of 2 to 8 bits")
    if options.target is not None:
        # The recipe's own validation knows the targets.
        recipe = parse({**recipe.model_dump(mode="json"), "target": options.target}, "--target")
    aside = output.with_name(f"{output.stem}.fit")
    with shown(console) as progress:
        subject = replace(load_subject(options.export, options.clips, progress), recipe=recipe)
        console.print(f"Model: {checkpoint.name}, from {checkpoint.origin}.", subject.description)
        sizes = _sizes(subject, options, staged(progress, "sizes"))
        budget = _budget(options, sizes)
        measure = subject.sensitivities if options.proxy is Proxy.KL else subject.fisher
        costs = measure(options.choices, staged(progress, "sensitivities"))
    problem = Problem(costs, sizes)
    front = problem.front(FRONT)
    points = [Point(sizes.total(bits), problem.cost(bits)) for bits in front]
    named = _Named(subject, options.model, output.stem)
    rise, judged_on, searched = None, None, None
    if budget is not None:
        bits = _by_rule(options.rule, subject, problem, budget)
    else:
        bits, rise, judged_on, points = _walk(options, named, problem, points, aside, console)
        budget = sizes.total(bits)
    recipe = named.recipe(subject.recipe, bits)
    if options.trials:
        recipe, bits, searched = _search(named, problem, budget, options, aside, console)
    result = Fit(
        recipe=str(output),
        size=sizes.total(bits),
        smallest=sizes.smallest,
        divergence=problem.cost(bits),
        bits=bits,
        front=points,
        speech=subject.description,
        rise=rise,
        judged_on=judged_on,
        searched=searched,
    )
    _write(result, recipe, output, aside)
    return result


@dataclass(frozen=True)
class _Named:
    """Makes recipes under the output's name."""

    subject: Subject
    model: str | None
    name: str

    def recipe(self, base: Recipe, bits: Bits) -> Recipe:
        result = with_bits(base, self.subject.structure.components(), bits, self.name)
        return result if self.model is None else result.model_copy(update={"model": self.model})


def _check(options: FitOptions, output: Path) -> None:
    """UserError for options that do not fit together, before the work starts."""
    require_matplotlib()
    if options.trials and find_spec("optuna") is None:
        raise UserError("--trials", options.trials, 'needs Optuna: pip install "edge-asr-deploy[fit]"')
    if (options.max_mb is None) == (options.max_wer_rise is None):
        raise UserError("fit", "the goal", "give one of --max-mb and --max-wer-rise")
    if options.max_mb is None and (options.trials or options.rule != "knapsack"):
        option = "--trials" if options.trials else "--rule"
        raise UserError(
            option, options.trials or options.rule, "goes with --max-mb only: find the size first, then search"
        )
    if wrong := [bits for bits in options.choices if bits not in range(2, 9)]:
        raise UserError("--bits-choices", wrong[0], "choose from 2 to 8, separated by commas")
    if not options.choices:
        raise UserError("--bits-choices", "", "name at least one width from 2 to 8")
    if options.trials and options.clips < 2:
        raise UserError("--clips", options.clips, "the search calibrates on one half and judges on the other; give 2")
    if output.suffix not in (".yaml", ".yml"):
        raise UserError("--output", output, "name a .yaml file: it becomes a recipe")
    if output.exists() and not options.overwrite:
        raise UserError("--output", output, "exists already; add --overwrite to replace it")
    require_writable("--output", output)
    require_writable("--output", output.with_name(f"{output.stem}.fit") / "front.json", makes_folders=True)


def _sizes(subject: Subject, options: FitOptions, progress: Progress) -> Sizes:
    recipe = subject.recipe
    matrices = matrix_sizes(subject.model, recipe, subject.structure.components(), options.choices)
    # Stems, activations, attention, shortlist, targets: the whole recipe decides about the rest of the files.
    whole = hashlib.sha256(recipe.model_dump_json(exclude={"name", "model", "calibration"}).encode()).hexdigest()
    rest = subject.measurements.measured(
        f"rest {whole}",
        lambda: measure_rest(subject.model, subject.family, recipe, subject.samples, progress),
    )
    return Sizes(matrices, int(rest))


def _budget(options: FitOptions, sizes: Sizes) -> int | None:
    """The budget in bytes; None where a rise in WER is the options."""
    if options.max_mb is None:
        return None
    budget = round(options.max_mb * MB)
    if budget < sizes.smallest:
        at_least = -(-sizes.smallest // 10_000) / 100
        remedy = f"the smallest possible with these widths is {at_least:.2f} MB; ask for that, or for narrower ones"
        raise UserError("--max-mb", f"{options.max_mb:g}", remedy)
    return budget


def _by_rule(rule: Rule, subject: Subject, problem: Problem, budget: int) -> Bits:
    if rule == "knapsack":
        return problem.solve(budget)
    ranks = output_medians(subject.model, list(problem.costs), subject.samples)
    try:
        return allocate(ranks, problem.sizes.matrices, budget - problem.sizes.rest)
    except ValueError:
        # A small matrix may take more bytes with fewer bits, because of the operators that unpack it.
        raise UserError("--rule", rule, "does not reach the budget, though knapsack does; take that") from None


def _walk(
    options: FitOptions,
    named: _Named,
    problem: Problem,
    points: Sequence[Point],
    aside: Path,
    console: Console,
) -> tuple[Bits, float, str, list[Point]]:
    """The smallest choice on a coarser front whose measured rise is within the goal, and all points."""
    assert options.max_wer_rise is not None
    base = named.subject.recipe
    scorer = Scorer(options.export, base, options.data, options.held_out, aside / "candidates", console)
    scorer.prepare()
    candidates = problem.front(WALK)
    rises: dict[int, float | None] = {}

    def rise(index: int) -> float | None:
        measured_rise = scorer.score(named.recipe(base, candidates[index])).rise
        rises[index] = measured_rise
        size = problem.sizes.total(candidates[index]) / MB
        verdict = "too coarse to speak" if measured_rise is None else f"{measured_rise:+.2f} WER points"
        console.print(f"{size:.2f} MB: {verdict}")
        return measured_rise

    index = smallest_within(len(candidates), rise, options.max_wer_rise)
    if index is None:
        largest = problem.sizes.total(candidates[-1]) / MB
        best = min((r for r in rises.values() if r is not None), default=None)
        reached = "no candidate speaks" if best is None else f"the least measured is {best:+.2f}"
        raise UserError(
            "--max-wer-rise", f"{options.max_wer_rise:g}", f"{reached}, at up to {largest:.2f} MB; allow more"
        )
    bits, measured = candidates[index], rises[index]
    assert measured is not None
    scored = [Point(problem.sizes.total(candidates[i]), problem.cost(candidates[i]), r) for i, r in rises.items()]
    return bits, measured, scorer.speech, sorted([*points, *scored], key=lambda point: point.size)


def _search(
    named: _Named, problem: Problem, budget: int, options: FitOptions, aside: Path, console: Console
) -> tuple[Recipe, Bits, dict[str, Any]]:
    from edge_asr_deploy.experiments.mixed.search import search

    key = json.dumps([named.subject.checkpoint.sha256, budget, options.choices, as_yaml(named.subject.recipe)])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    with shown(console) as progress:
        best = search(
            named.subject, problem, budget, options.trials, aside / "trials.log", name, staged(progress, "trials")
        )
    recipe = named.recipe(best.recipe, best.bits)
    return recipe, best.bits, {"trials": best.trials, "divergence": best.divergence}


def _write(result: Fit, recipe: Recipe, output: Path, aside: Path) -> None:
    comments = (
        f"Written by `edge-deploy fit`: {result.size / MB:.2f} MB, "
        f"summed KL {plain(result.divergence, 4)} nats per token.",
        result.speech if result.judged_on is None else f"{result.rise:+.2f} WER points on {result.judged_on}.",
    )
    write_atomically(aside / "front.json", result.as_json() + "\n")
    plot_front([asdict(p) for p in result.front], (result.size, result.divergence), aside / "front.png")
    write_atomically(output, as_yaml(recipe, comments))
