"""What a bundle computes, and how many instructions that takes: the same code here and under emulation.

    python probe.py JOB.json RESULT.json

A job is a list of `Task`s. Under emulation the instructions between marks are counted, see counter.c.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import OrtValue

from edge_asr_deploy.harness.inspection.inspect import in_half_precision, optimized
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.decoder import Decoder, from_numpy, greedy
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.options import AUTO_MARGIN, parse_audio_context
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.transcriber import FAMILIES, Transcriber, margin_seconds

# Of counter.c.
MARK = 7411
# In the order of the marks; "other" is all that is not counted: imports, loading, decoding for the tokens. The last two
# are a command's: what comes before its encoder (the network that finds speech, features), and Python between the runs.
PARTS = ("other", "encoder", "prompt", "step", "before", "python")
# The steps counted are those from the third on: by then the cache holds what every later step has, too.
FIRST_STEP, STEPS = 2, 4


@dataclass(frozen=True)
class Task:
    """A bundle and its inputs, `.npy` files.

    `target` names whose graphs transcribe; None: those for this processor. `samples`: to transcribe, or None; with
    `vad` only where there is speech.
    `features`: of the encoder graph `encoder`, or None. `hidden`: what the decoder graph `decoder` attends to, or None
    for the encoder's own output. `tokens`: at most so many, after the prompt. `arrays`: whether the encoder's output
    and the logits after the prompt are part of the result. `halves`: whether the nodes of both graphs that compute in
    float16 are. `command`: the audio context (`auto`, `full`) with which the graphs `encoder` and `decoder` hear the
    samples while every part is counted.
    """

    bundle: str
    target: str | None = None
    samples: str | None = None
    vad: bool = True
    encoder: str | None = None
    decoder: str | None = None
    features: str | None = None
    hidden: str | None = None
    tokens: int = 0
    arrays: bool = False
    halves: bool = False
    command: str | None = None
    accuracy_level: int | None = None


def run(task: Task) -> dict[str, Any]:
    """`target`, `transcript` (tokens) and `text` of the bundle; `hidden`, `logits`, `tokens`, `halves` of its parts."""
    bundle, settings = Path(task.bundle), SessionSettings(threads=1, accuracy_level=task.accuracy_level)
    result: dict[str, Any] = {}
    if task.command is not None:
        return _command(task, settings)
    if task.samples:
        transcriber = Transcriber.open(bundle, settings, target=task.target, vad=task.vad)
        transcript = transcriber.transcribe(np.load(task.samples), language=None)
        result |= {"target": transcriber.target, "transcript": [*transcript.tokens], "text": transcript.text}
    hidden = None
    if task.encoder and task.features:
        session = open_session(Path(task.encoder), settings)
        feeds = {session.get_inputs()[0].name: from_numpy(np.load(task.features))}
        _mark("other")
        [hidden] = session.run_with_ort_values(["last_hidden_state"], feeds)
        _mark("encoder")
        if task.arrays:
            result["hidden"] = hidden.numpy().tolist()
    if task.halves and task.encoder and task.decoder:
        graphs = (optimized(Path(task.encoder)), optimized(Path(task.decoder)))
        result["halves"] = [name for graph in graphs for name in in_half_precision(graph)]
    if task.hidden:
        hidden = from_numpy(np.load(task.hidden))
    if hidden is not None and task.decoder:
        result |= _decode(Decoder(open_session(Path(task.decoder), settings)), task, hidden)
    return result


def _decode(decoder: Decoder, task: Task, hidden: OrtValue) -> dict[str, Any]:
    bundle = Path(task.bundle)
    family = FAMILIES[json.loads((bundle / "config.json").read_text())["model_type"]](bundle)
    # A language is of no interest here: whatever comes in its place is counted and compared alike.
    prompt = [token or 0 for token in family.prompt(None, None)]
    first, later = np.array([prompt]), np.array([prompt[-1:]])
    context = {"encoder_hidden_states": hidden}
    _mark("other")
    cache = decoder.start(context)
    [logits] = cache.step(first)
    _mark("prompt")
    result: dict[str, Any] = {"logits": logits.tolist()} if task.arrays else {}
    for _ in range(FIRST_STEP):
        cache.step(later)
    _mark("other")
    for _ in range(STEPS):
        cache.step(later)
    _mark("step")
    if task.tokens:
        [decoded] = greedy(decoder.start(context), prompt, family.rules, [task.tokens])
        result["tokens"] = [*decoded.tokens]
    return result


class _Marking:
    """A session whose runs are parts of their own, once it has `runs`; what came before a run is the part `before`."""

    def __init__(self, path: str | None, settings: SessionSettings, before: str) -> None:
        self._session, self._before = open_session(Path(path or ""), settings), before
        self.runs: Iterator[str] | None = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        return self._marked(found) if self.runs and name in ("run_with_ort_values", "run_with_iobinding") else found

    def _marked(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*arguments: Any) -> Any:
            _mark(self._before)
            result = run(*arguments)
            _mark(next(self.runs or iter(())))
            return result

        return marked


def _command(task: Task, settings: SessionSettings) -> dict[str, Any]:
    """`transcript` and `text` of the samples, from a process that has heard something before."""
    bundle = Path(task.bundle)
    family = FAMILIES[json.loads((bundle / "config.json").read_text())["model_type"]](bundle)
    encoder, decoder = _Marking(task.encoder, settings, "before"), _Marking(task.decoder, settings, "python")
    parts = (encoder, Decoder(decoder), family, TextDecoder(bundle))
    Transcriber(*parts, margin=AUTO_MARGIN).warm_up()
    margin = margin_seconds(parse_audio_context(task.command), encoder, bundle)
    transcriber = Transcriber(*parts, margin=margin, vad=task.vad)
    # Noise: loads what finds speech, and gets no further with it.
    transcriber.transcribe(np.random.default_rng(0).normal(scale=0.01, size=SAMPLE_RATE).astype(np.float32))
    encoder.runs, decoder.runs = repeat("encoder"), chain(["prompt"], repeat("step"))
    _mark("other")
    transcript = transcriber.transcribe(np.load(str(task.samples)))
    _mark("python")
    if transcript.fallbacks:
        raise SystemExit(f"decoded twice, which nobody wants to count: take clearer speech than {transcript.text!r}")
    return {"transcript": [*transcript.tokens], "text": transcript.text}


def _mark(part: str) -> None:
    """The end of a part. A system call that fails; outside the emulator nobody hears it."""
    with suppress(OSError):
        os.getpriority(MARK, PARTS.index(part))


def main(job: Path, output: Path) -> None:
    """Run the tasks of a job and write their results as one list."""
    # Whether a collection falls into what is counted depends on all that ran before.
    gc.disable()
    results = []
    for task in json.loads(job.read_text()):
        results.append(run(Task(**task)))
        # Marks which task the counts before it belong to.
        with suppress(OSError):
            os.getpriority(MARK, len(PARTS))
    output.write_text(json.dumps(results))


def write_job(tasks: list[Task], path: Path) -> None:
    """Write the tasks as `main` reads them."""
    path.write_text(json.dumps([asdict(task) for task in tasks]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
