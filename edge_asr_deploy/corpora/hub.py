"""Speech through the `datasets` library: the Hub's data sets, and local folders in one of its layouts.

Audio is never decoded by `datasets` (it would need torchcodec): the bytes go through the same reader as every file.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import read_audio

DUMMY = "hf-internal-testing/librispeech_asr_dummy"
PROBE_SECONDS = 5.0
# Rows, with their audio, that are in memory while a stream is shuffled.
SHUFFLED_ROWS = 256
_TEXT = ("text", "sentence", "transcription", "transcript", "normalized_text")
_SPEAKER = ("speaker_id", "speaker", "client_id")
_SPLITS = ("train", "validation", "test")
_INSTALL = 'pip install "edge-asr-deploy[export]"'


def librispeech_dummy() -> list[Utterance] | None:
    """The 73 clips of `hf-internal-testing/librispeech_asr_dummy`, sorted by id.

    None where `datasets` is not installed, or where neither the Hub nor the local cache has them.
    """
    if importlib.util.find_spec("datasets") is None or not hub_answers(DUMMY):
        return None
    import datasets

    try:
        rows = datasets.load_dataset(DUMMY, "clean", split="validation")
        return sorted(_utterances(rows, "librispeech_asr_dummy"), key=lambda utterance: utterance.id)
    except (OSError, ValueError, datasets.exceptions.DatasetsError):
        return None


def read_dataset(name: str, number: int, seed: int) -> list[Utterance]:
    """At most `number` utterances of a data set, shuffled by `seed`, in the order of their ids.

    `name`: a local folder (an audiofolder, or parquet files), or a Hub id; `id:configuration` picks one of several
    configurations. The split is `train`, else `validation`, else `test`, else the first. Only what is taken is read.
    UserError when it cannot be found, has no audio, or `datasets` is not installed.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError("calibration", name, f"data sets need the `datasets` package; {_INSTALL}")
    is_local = Path(name).is_dir()
    location, _, configuration = (name, "", "") if is_local else name.partition(":")
    if not is_local and not hub_answers(location):
        remedy = "check the name and the network, or give a .jsonl manifest or a folder"
        raise UserError(
            "calibration", name, f"is no file or folder, and the Hub does not have it or cannot be reached; {remedy}"
        )
    import datasets

    try:
        splits = datasets.load_dataset(location, configuration or None, streaming=is_local or not _is_offline())
        split = next((split for split in _SPLITS if split in splits), next(iter(splits)))
        rows = splits[split]
        # A stream is shuffled through a buffer. Without the Hub the cache gives a table, which is shuffled as a whole.
        streams = isinstance(rows, datasets.IterableDataset)
        rows = rows.shuffle(seed=seed, **({"buffer_size": SHUFFLED_ROWS} if streams else {})).take(number)
        utterances = list(_utterances(rows, Path(location).name))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError("calibration", name, f"cannot be loaded as a data set ({reason})") from None
    if not utterances:
        raise UserError("calibration", name, f"split `{split}` has no rows; choose another data set")
    return sorted(utterances, key=lambda utterance: utterance.id)


def hub_answers(dataset: str) -> bool:
    """True when the Hub answers soon that it has this data set, or when HF_HUB_OFFLINE allows only the local cache.

    Without this check `datasets` would retry for half a minute.
    """
    import huggingface_hub

    if _is_offline():
        return True
    try:
        huggingface_hub.HfApi().dataset_info(dataset, timeout=PROBE_SECONDS)
    except (OSError, ValueError):
        return False
    return True


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _utterances(rows: Any, source: str) -> Iterator[Utterance]:
    import datasets

    features = rows.features or {}
    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    if not columns:
        raise ValueError(f"it has no audio column; columns: {', '.join(features) or 'none'}")
    column = columns[0]
    try:
        decoded = list(rows.cast_column(column, datasets.Audio(decode=False)))
    except ImportError:
        # An audiofolder gives paths, which `datasets` would turn into Audio with torchcodec only.
        decoded = list(rows.cast_column(column, datasets.Value("string")))
    seen: set[str] = set()
    for index, row in enumerate(decoded):
        utterance = _utterance(row, row.pop(column), source)
        if not utterance.id or utterance.id in seen:
            utterance = replace(utterance, id=f"{utterance.id}#{index}")
        seen.add(utterance.id)
        yield utterance


def _utterance(row: dict[str, Any], audio: Any, source: str) -> Utterance:
    data, path = (None, audio) if isinstance(audio, str) else (audio["bytes"], audio["path"] or "")
    samples = _samples(data, path)
    speaker, text = _first(row, _SPEAKER), _first(row, _TEXT)
    return Utterance(
        id=str(row.get("id") or Path(path).name),
        audio=samples,
        text=text if isinstance(text, str) else None,
        source=source,
        speaker=None if speaker is None else str(speaker),
        seconds=len(samples) / SAMPLE_RATE,
    )


def _samples(data: bytes | None, path: str) -> NDArray[np.float32]:
    if data is None and Path(path).is_file():
        return read_audio(Path(path))
    if data is None:
        import fsspec  # type: ignore[import-untyped]

        with fsspec.open(path, "rb") as remote:
            data = bytes(remote.read())
    with tempfile.NamedTemporaryFile(suffix=Path(path).suffix or ".flac") as file:
        file.write(data)
        file.flush()
        return read_audio(Path(file.name))


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)
