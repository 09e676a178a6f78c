"""Results as `evaluate` makes them of fake bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy import progress
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.evaluate import evaluate
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result, Row
from tests.support.fakes import Workers, speech, write_bundle

SAID = {
    "short": "open the door",
    "middle": "he opened the heavy door slowly",
    "long": "and then he was gone",
}


def make_result(
    folder: Path, monkeypatch: Any, hears: dict[str, str] | None = None, clips: int = 2, baseline: bool = True
) -> Result:
    """Bundle w4 hears `hears` by clip, else what was said; the float bundle hears what was said.

    The clips last 1, 2 and 3 s; the first two are of corpus `desk`, the third of `street`.
    """
    heard = {index + 1: (hears or {}).get(name, text) for index, (name, text) in enumerate(SAID.items())}
    said = dict(enumerate(SAID.values(), start=1))
    workers = Workers(lambda name, seconds: heard[round(seconds)] if name == "w4" else said[round(seconds)])
    monkeypatch.setattr(measure, "Worker", workers)
    if not folder.joinpath("w4").exists():
        write_bundle(folder / "w4")
        write_bundle(folder / "float", bits=32)
    desk, street = speech(dict(SAID), "desk")[:2], speech(dict(SAID), "street")[2:]
    return evaluate(
        folder / "w4",
        folder / "float" if baseline else None,
        [*desk, *street],
        "Evaluated on noise.",
        EvaluateOptions(clips=clips, rounds=1, cache=False),
        progress.silent,
    )


def row(errors: int, seconds: float = 1.0, words: int = 10, id: str = "clip") -> Row:
    """A row with that many substituted words and nothing else remarkable."""
    return Row(
        id=id,
        source="corpus",
        seconds=seconds,
        reference="",
        hypothesis="",
        substitutions=errors,
        deletions=0,
        insertions=0,
        words=words,
        tokens=1,
        windows=1,
        runaway=False,
        empty=False,
        hit_length_cap=False,
    )
