"""Speech through `datasets`: a Hub data set, or a local folder of the same shape (audiofolder)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio import read_audio

# Columns that hold the reference, in the order they are looked for.
TEXTS = ("text", "sentence", "transcription", "norm_text", "transcript")
IDS = ("id", "file_name", "path", "file")


def load_folder_or_hub(name: str, split: str = "train", patience: float = 10) -> list[Utterance]:
    """All clips of a local audiofolder or of a Hub data set's `split`; `patience`: seconds to wait for the Hub.

    UserError when `datasets` is missing, the Hub does not answer, or there is no audio in it.
    """
    try:
        import datasets
    except ImportError:
        raise UserError("speech", name, 'reading it needs `datasets`: pip install "edge-asr-deploy[export]"') from None
    folder = Path(name)
    try:
        if folder.is_dir():
            rows = datasets.load_dataset("audiofolder", data_dir=str(folder), split=split)
        else:
            _ask(name, patience)
            rows = datasets.load_dataset(name, split=split)
    except UserError:
        raise
    except Exception as error:  # `datasets` raises whatever its readers and the network stack raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError("speech", name, f"`datasets` cannot load it ({reason})") from error
    column = next((key for key, value in rows.features.items() if isinstance(value, datasets.Audio)), None)
    if column is None:
        raise UserError("speech", name, f"has no audio column; it has {', '.join(rows.features)}")
    # Decoded here by soundfile: `datasets` would want torchcodec and FFmpeg for it.
    rows = rows.cast_column(column, datasets.Audio(decode=False))
    return [_utterance(row, column, number, folder.name) for number, row in enumerate(rows)]


def _ask(name: str, patience: float) -> None:
    """One short question first: `datasets` itself would retry for minutes."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, timeout=patience)
    except Exception as error:  # connection, proxy and HTTP errors share no base class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError("speech", name, f"is no folder here, and the Hub does not give it ({reason})") from error


def _utterance(row: dict[str, Any], column: str, number: int, source: str) -> Utterance:
    audio = row[column]
    name = next((str(row[key]) for key in IDS if row.get(key)), audio.get("path") or str(number))
    if audio.get("bytes") is None:
        samples = read_audio(Path(audio["path"]))
    else:
        # Through a file, so that clips from the Hub pass the same checks as any other.
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / Path(name).name
            file.write_bytes(audio["bytes"])
            samples = read_audio(file)
    text = next((row[key] for key in TEXTS if isinstance(row.get(key), str)), None)
    return Utterance(f"{source}/{Path(name).name}", samples, text, source, seconds=len(samples) / SAMPLE_RATE)
