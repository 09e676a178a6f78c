"""Splits of the Hub's data sets, streamed once: the clips stay on disk, and the next run needs no network.

`datasets` streams, but never decodes (it would need torchcodec): a clip is stored as the Hub's own bytes.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import SHORTEST_SECONDS

PROBE_SECONDS = 5.0
# Rows, with their audio, that are in memory while a stream is shuffled.
SHUFFLED_ROWS = 256
# Part of every folder's name. Raise it when the stored files change.
LAYOUT = "v1"
# Longer messages of the Hub are whole pages, which are not shown.
MESSAGE = 120
_TEXT = ("text", "sentence", "normalized_text", "transcript", "transcription")
_SPEAKER = ("speaker_id", "client_id")
_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg")


@dataclass(frozen=True)
class Split:
    """A split on the Hub, in its stored order, or shuffled by `seed`.

    `thing` and `name` are for messages: the option that names the split, and its value.
    """

    repository: str
    configuration: str
    split: str
    thing: str
    name: str
    seed: int | None = None

    def folder(self) -> Path:
        """The folder of its clips: below EDGE_ASR_CACHE, else ~/.cache/edge_asr_deploy."""
        order = "" if self.seed is None else f"-seed{self.seed}"
        parts = (self.repository.replace("/", "--"), self.configuration, f"{self.split}{order}-{LAYOUT}")
        return (cache_root() / "speech").joinpath(*parts)


@dataclass(frozen=True)
class _Row:
    """A line of rows.jsonl: a clip whose bytes are in `file`."""

    file: str
    id: str
    text: str | None
    speaker: str | None
    seconds: float


def read_split(split: Split, source: str, number: int | None, fetched: Callable[[], None]) -> list[Utterance]:
    """The first `number` rows of a split (None: all): rows on disk first, further rows from the Hub.

    `fetched` is called for every clip from the Hub. Clips that have arrived stay on disk when the stream breaks. Clips
    shorter than 0.1 s, which no model takes, are padded with silence: every row of the split counts. Ids are
    `configuration/id`. UserError when the Hub cannot be reached, does not have it or does not let this user in; when
    `datasets` is not installed; when a clip is no audio; when the cache cannot be written.
    """
    folder = split.folder()
    rows = _rows_on_disk(folder)
    if not _suffices(folder, rows, number):
        rows = _fetch(split, folder, number, fetched)
    chosen = rows[:number]
    if not chosen:
        raise UserError(split.thing, split.name, f"split `{split.split}` has no rows; choose another set")
    utterances: dict[str, Utterance] = {}
    for index, row in enumerate(chosen):
        name = f"{split.configuration}/{row.id}"
        name = f"{name}#{index}" if name in utterances else name
        utterances[name] = Utterance(name, folder / row.file, row.text, source, row.speaker, row.seconds)
    return list(utterances.values())


def _suffices(folder: Path, rows: list[_Row], number: int | None) -> bool:
    if number is not None and len(rows) >= number:
        return True
    complete = folder / "complete"
    return complete.exists() and complete.read_text(encoding="utf-8") == str(len(rows))


def _rows_on_disk(folder: Path) -> list[_Row]:
    """The clips on disk, up to the first that is not whole: a line cut short by a kill, a file removed."""
    index, rows = folder / "rows.jsonl", []
    for line in index.read_text(encoding="utf-8").split("\n") if index.exists() else []:
        try:
            row = _Row(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            break
        if not (folder / row.file).exists():
            break
        rows.append(row)
    return rows


def _fetch(split: Split, folder: Path, number: int | None, fetched: Callable[[], None]) -> list[_Row]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(split.thing, split.name, 'needs the `datasets` package; pip install "edge-asr-deploy[export]"')
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            # Another process may have fetched the rows while this one waited for the lock.
            rows = _rows_on_disk(folder)
            if _suffices(folder, rows, number):
                return rows
            with _appendable(folder / "rows.jsonl", rows) as index:
                for row in _rows(split, len(rows), number):
                    rows.append(_store(split, folder, len(rows), row))
                    index.write(_line(rows[-1]))
                    index.flush()
                    fetched()
            if number is None or len(rows) < number:
                (folder / "complete").write_text(str(len(rows)), encoding="utf-8")
            return rows
    except OSError as error:
        remedy = "free some space there, or set EDGE_ASR_CACHE to a folder that can be written"
        raise UserError("EDGE_ASR_CACHE", folder, f"cannot be written ({error.strerror or error}); {remedy}") from None


def _appendable(index: Path, rows: list[_Row]) -> io.TextIOWrapper:
    """The index, opened behind its last whole line."""
    partial = index.with_suffix(".partial")
    partial.write_text("".join(_line(row) for row in rows), encoding="utf-8")
    partial.replace(index)
    return index.open("a", encoding="utf-8")


def _line(row: _Row) -> str:
    return json.dumps(asdict(row), ensure_ascii=True) + "\n"


def _rows(split: Split, have: int, number: int | None) -> Iterator[dict[str, Any]]:
    """Rows of the stream from `have` on; faults of the stream become UserErrors."""
    import datasets

    _probe(split, have)
    try:
        rows = datasets.load_dataset(split.repository, split.configuration, split=split.split, streaming=True)
        rows = rows.cast_column("audio", datasets.Audio(decode=False))
        if split.seed is not None:
            rows = rows.shuffle(seed=split.seed, buffer_size=SHUFFLED_ROWS)
        rows = rows.skip(have)
        yield from rows if number is None else rows.take(number - have)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise _explained(error, split) from None


def _probe(split: Split, have: int) -> None:
    """Ask the Hub once, and not for long: `datasets` alone would retry for half a minute."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        huggingface_hub.HfApi().dataset_info(split.repository, timeout=PROBE_SECONDS)
    except RepositoryNotFoundError as error:
        raise _explained(error, split) from None
    except (OSError, ValueError) as error:
        on_disk = f"{have} of its clips are on disk; " if have else ""
        remedy = "check the network and HF_HUB_OFFLINE, or give a .jsonl manifest"
        reason = f"the Hub cannot be reached ({_first_line(error)}); {on_disk}{remedy}"
        raise UserError(split.thing, split.name, reason) from None


def _explained(error: Exception, split: Split) -> UserError:
    """The error to show for a fault of the stream, with a remedy."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    page = f"https://huggingface.co/datasets/{split.repository}"
    if isinstance(error, GatedRepoError) or "gated" in str(error).lower():
        remedy = f"accept its terms at {page}, then log in with `hf auth login` or set HF_TOKEN"
        return UserError(split.thing, split.name, f"`{split.repository}` is gated; {remedy}")
    if isinstance(error, RepositoryNotFoundError):
        remedy = "it was moved, or is private: log in with `hf auth login`, or give a .jsonl manifest"
        return UserError(split.thing, split.name, f"the Hub has no data set `{split.repository}`; {remedy}")
    reason = f"cannot be streamed from `{split.repository}` ({_first_line(error)})"
    return UserError(split.thing, split.name, f"{reason}; what has arrived is kept: run again, or choose another set")


def _first_line(error: Exception) -> str:
    """The first line of a message; only the type where the message is a page, as with the Hub's connection errors."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return line if len(line) <= MESSAGE else type(error).__name__


def _store(split: Split, folder: Path, index: int, row: dict[str, Any]) -> _Row:
    """Write a row's audio, under its name only when it is whole."""
    audio, text, speaker = row["audio"], _first(row, _TEXT), _first(row, _SPEAKER)
    given = str(row.get("id") or Path(audio["path"] or "").stem or index)
    data, seconds, suffix = _audio(split, given, audio)
    path = folder / f"{index:06}{suffix}"
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return _Row(path.name, given, text, None if speaker is None else str(speaker), seconds)


def _audio(split: Split, name: str, audio: dict[str, Any]) -> tuple[bytes, float, str]:
    """Bytes, seconds and the suffix of the file."""
    data = audio["bytes"] or b""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            seconds, rate = file.frames / file.samplerate, file.samplerate
            if seconds >= SHORTEST_SECONDS:
                suffix = Path(audio["path"] or "").suffix.lower()
                return data, seconds, suffix if suffix in _SUFFIXES else ".audio"
            samples = file.read(dtype="float32")
    except soundfile.LibsndfileError:
        raise UserError(
            split.thing, split.name, f"row `{name}` is not audio that can be read; report it there"
        ) from None
    missing = round(SHORTEST_SECONDS * rate) + 1 - len(samples)
    padded = io.BytesIO()
    soundfile.write(padded, np.pad(samples, [(0, missing)] + [(0, 0)] * (samples.ndim - 1)), rate, format="FLAC")
    return padded.getvalue(), SHORTEST_SECONDS, ".flac"


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)
