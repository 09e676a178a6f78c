"""`edge-deploy evaluate` on boards: the speech goes along as a manifest, the results come back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
from rich.console import Console

from edge_asr_deploy.boards.remote import Answer, run_on
from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.bundle import read_manifest
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluate import EvaluationSettings, find_baseline
from edge_asr_deploy.harness.result import Result
from edge_asr_deploy.harness.speech import load_speech, select

MANIFEST = "speech/speech.jsonl"


@dataclass(frozen=True)
class BoardResult:
    """One board's result, None where it failed; `answer` says why."""

    answer: Answer
    result: Result | None


def evaluate_on(
    boards: Sequence[str],
    bundle: Path,
    baseline: str,
    data: Sequence[str | Path],
    limit: int | None,
    settings: EvaluationSettings,
    cache: bool,
    output: Path | None,
    messages: Console,
    command: str | None = None,
) -> list[BoardResult]:
    """What `harness.evaluate.run` does, on every board at once; arguments as there.

    `output` is written for one board; for several, `result.json` becomes `result.BOARD.json`, one file each.
    """
    if output is not None and not output.parent.is_dir():
        raise UserError("--output", output, "its folder does not exist; create it first")
    read_manifest(bundle)
    folder = None if baseline == "none" else find_baseline(bundle) if baseline == "auto" else Path(baseline)
    if folder is not None:
        read_manifest(folder)
    utterances, speech = load_speech(data)
    messages.print(speech)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = write_corpus(select(utterances, limit, settings.seed), Path(temporary))
        arguments: list[str | Path | Files] = ["evaluate", bundle, "--baseline", folder or "none", "--data", corpus]
        arguments += ["--json", "--threads", str(settings.threads), "--language", settings.language]
        arguments += ["--jobs", str(settings.jobs), "--speed" if settings.clips else "--no-speed"]
        arguments += ["--cache" if cache else "--no-cache"]
        if settings.accuracy_level is not None:
            arguments += ["--accuracy-level", str(settings.accuracy_level)]
        if settings.audio_context is not None:
            arguments += ["--audio-context", str(settings.audio_context)]
        if settings.target is not None:
            arguments += ["--target", settings.target]
        answers = run_on(boards, arguments, messages)
    results = []
    for answer in answers:
        result = None
        if answer.output is not None and not answer.code:
            result = Result.model_validate(answer.output).model_copy(update={"speech": speech, "command": command})
            if output is not None:
                path = output if len(boards) == 1 else output.with_suffix(f".{answer.board}{output.suffix}")
                path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        # The board's first line names the copied manifest; the real name was printed here.
        lines = tuple(line for line in answer.messages if f"Evaluated on {Path(MANIFEST).name}" not in line)
        results.append(BoardResult(replace(answer, messages=lines), result))
    return results


def write_corpus(utterances: Sequence[Utterance], folder: Path) -> Files:
    """A manifest of these utterances, to be copied along with their audio; what is no file yet is written to `folder`.

    Samples are kept as float32: a board hears what would be heard here.
    """
    contents: dict[str, Path] = {}
    rows = []
    for number, utterance in enumerate(utterances):
        path = utterance.audio if isinstance(utterance.audio, Path) and utterance.span is None else None
        if path is None:
            path = folder / f"{number}.wav"
            soundfile.write(path, utterance.samples(), SAMPLE_RATE, subtype="FLOAT")
        name = f"{number}{path.suffix}"
        contents[f"speech/{name}"] = path
        row = {"id": utterance.id, "audio": name, "text": utterance.text, "source": utterance.source}
        rows.append(json.dumps({**row, "speaker": utterance.speaker, "duration": utterance.seconds}))
    manifest = folder / "speech.jsonl"
    manifest.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    contents[MANIFEST] = manifest
    return Files(MANIFEST, contents, "speech.jsonl")
