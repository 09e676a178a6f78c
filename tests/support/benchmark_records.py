"""Made-up records, as a run would have stored them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.cells import Cell, Configuration, ours
from benchmarks.store import DONE, Record

FAST = Configuration("faster-whisper", "int8", "ct2-int8")
SMALL = Configuration("whisper.cpp", "q4_0", "ggml-q4_0")
FLOAT = Configuration("transformers", "fp32", "checkpoint")
BATCHED = Configuration("faster-whisper", "int8 batched", "ct2-int8", accuracy_of="int8", long_only=True)
MINE = ours("w4")
MODEL = "whisper-tiny.en"
CLIPS: list[dict[str, Any]] = [
    {"id": "yes", "band": "1.5-4 s", "seconds": 2.0, "text": "yes please"},
    {"id": "sentence", "band": "5-15 s", "seconds": 10.0, "text": "one two three four five six seven eight nine ten"},
    {"id": "window", "band": "20-30 s", "seconds": 25.0, "text": "more"},
]
MACHINE = {"cpu": "made up", "machine": "x86_64", "cores": 2, "flags": ["avx2"]}


def timed(
    configuration: Configuration,
    wall: float,
    round: int = 0,
    threads: int = 1,
    size: int = 40_000_000,
    rss: int = 200_000_000,
    load: float = 0.2,
    part: str = "clips",
) -> tuple[Cell, Record]:
    """A cell that took `wall` seconds for every clip."""
    rows = [{"id": clip["id"], "wall": wall, "cpu": wall, "text": clip["text"], "peak_rss": rss} for clip in CLIPS]
    record = {
        "outcome": DONE,
        "import_seconds": 1.0,
        "load_seconds": load,
        "version": "1",
        "files": {"model.bin": size},
        "facts": {},
        "clips": rows,
    }
    return Cell(MODEL, configuration, threads, part, round), record


def heard(configuration: Configuration, texts: dict[str, str], share: int = 0) -> tuple[Cell, Record]:
    """A share of the evaluation speech as the configuration heard it."""
    cell, record = timed(configuration, 1.0, part=f"wer:{share}")
    rows = [{**record["clips"][0], "id": name, "text": text} for name, text in texts.items()]
    return cell, record | {"clips": rows}


def stored(*pairs: tuple[Cell, Record]) -> list[Record]:
    """The records as they come out of a store."""
    return [{"cell": asdict(cell), **record} for cell, record in pairs]
