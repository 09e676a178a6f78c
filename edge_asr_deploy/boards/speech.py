"""Speech to be copied to a board: a manifest and its audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import soundfile

from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance

MANIFEST = "speech/speech.jsonl"


def write_corpus(utterances: Sequence[Utterance], folder: Path) -> Files:
    """Write a manifest of these utterances, to be copied to a board together with their audio.

    Audio that is not a whole file already is written to `folder`, as float32: the board gets exactly the samples that
    this machine would use.
    """
    contents: dict[str, Path] = {}
    rows = []
    for number, utterance in enumerate(utterances):
        path = utterance.audio if isinstance(utterance.audio, Path) and utterance.span is None else None
        if path is None:
            path = folder / f"{number}.wav"
            soundfile.write(path, utterance.samples(), SAMPLE_RATE, subtype="FLOAT")
        name = f"{number}{path.suffix}"
        # A missing file stays a row, so that the board counts it as it would be counted here.
        if path.is_file():
            contents[f"speech/{name}"] = path
        row = {"id": utterance.id, "audio": name, "text": utterance.text, "source": utterance.source}
        rows.append(json.dumps({**row, "speaker": utterance.speaker, "duration": utterance.seconds}))
    manifest = folder / "speech.jsonl"
    manifest.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    contents[MANIFEST] = manifest
    return Files(MANIFEST, contents, "speech.jsonl")
