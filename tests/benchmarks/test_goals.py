"""The best rival, ratios to it, verdicts, and the tables made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import OURS, Cell, Configuration
from benchmarks.figures import Accuracy, Summary, accuracy, out_of_race, summaries
from benchmarks.goals import GOALS, Row, judge
from benchmarks.report import MARK, goal_table, report
from benchmarks.store import FAILED, Record, Store
from edge_asr_deploy.errors import UserError
from tests.support.benchmark_records import (
    BATCHED,
    CLIPS,
    FAST,
    FLOAT,
    MACHINE,
    MINE,
    MODEL,
    SMALL,
    heard,
    stored,
    timed,
)

TEN = "one two three four five six seven eight nine ten"
NO_WER = Accuracy({})


def words(*pairs: tuple[Cell, Record]) -> Accuracy:
    return accuracy(stored(*pairs), {"a": TEN, "b": TEN}, str.lower)


def found(*pairs: tuple[Cell, Record]) -> list[Summary]:
    return summaries(stored(*pairs), CLIPS)


def row(rows: list[Row], title: str) -> Row:
    [one] = [one for one in rows if one.goal.title == title]
    return one


def test_times_are_medians_over_rounds() -> None:
    [one] = found(timed(FAST, 1.0, 0), timed(FAST, 5.0, 1), timed(FAST, 2.0, 2))
    assert one.seconds["5-15 s"] == 2.0
    assert one.rtf["5-15 s"] == pytest.approx(0.2)
    assert one.spread == pytest.approx(2.0)
    assert one.rounds == 3


def test_first_start_is_told_from_later_ones() -> None:
    [one] = found(timed(FAST, 1.0, 1, load=0.1), timed(FAST, 1.0, 0, load=0.9), timed(FAST, 1.0, 2, load=0.3))
    assert one.loads[0] == 0.9
    assert one.second_load == pytest.approx(0.2)


def test_ratio_is_to_the_fastest_rival() -> None:
    rows = judge(found(timed(FLOAT, 3.0), timed(FAST, 1.0), timed(MINE, 0.5)), NO_WER)
    sentence = row(rows, "RTF, 5-15 s")
    assert sentence.best is not None and sentence.best[0] == "faster-whisper int8"
    assert sentence.best[1] == pytest.approx(0.1)
    assert sentence.ours[0].score == pytest.approx(0.5)
    assert sentence.ours[0].state == "missed"


@pytest.mark.parametrize(("wall", "state"), [(0.25, "met"), (0.26, "missed")])
def test_goal_is_met_up_to_its_limit(wall: float, state: str) -> None:
    rows = judge(found(timed(FAST, 1.0), timed(MINE, wall)), NO_WER)
    assert row(rows, "RTF, 5-15 s").ours[0].state == state


def test_rival_that_loses_words_is_not_the_best() -> None:
    pairs = (timed(FLOAT, 3.0), timed(FAST, 1.0), timed(SMALL, 0.5), timed(MINE, 0.4))
    spoken = words(
        heard(FLOAT, {"a": TEN}), heard(FAST, {"a": TEN}), heard(SMALL, {"a": "one two"}), heard(MINE, {"a": TEN})
    )
    sentence = row(judge(found(*pairs), spoken), "RTF, 5-15 s")
    assert sentence.best is not None
    assert sentence.best[0] == "faster-whisper int8"


def test_ours_that_loses_words_meets_nothing() -> None:
    spoken = words(heard(FLOAT, {"a": TEN}), heard(MINE, {"a": "one two"}))
    rows = judge(found(timed(FAST, 1.0), timed(MINE, 0.1)), spoken)
    assert row(rows, "RTF, 5-15 s").ours[0].state == "less accurate"


def test_rise_counts_only_what_both_heard() -> None:
    spoken = words(
        heard(FLOAT, {"a": TEN}, 0), heard(FLOAT, {"b": "wrong"}, 1), heard(MINE, {"a": TEN.replace("ten", "hen")}, 0)
    )
    assert spoken.rise((MODEL, OURS, "w4")) == pytest.approx(10.0)
    assert spoken.rise((MODEL, "whisper.cpp", "q4_0")) is None


def test_batched_has_the_word_error_rate_of_the_same_weights() -> None:
    [one] = found(timed(BATCHED, 1.0, part="long"))
    assert one.key == (MODEL, "faster-whisper", "int8")


def test_memory_is_that_of_later_starts() -> None:
    [one] = found(
        *(timed(MINE, 1.0, round=n, rss=rss) for n, rss in enumerate((300_000_000, 190_000_000, 180_000_000)))
    )
    assert (one.first_rss, one.rss) == (300_000_000, 185_000_000)
    [alone] = found(timed(MINE, 1.0, rss=300_000_000))
    assert alone.rss == alone.first_rss == 300_000_000


def test_smallest_file_and_leanest_process_may_be_different_rivals() -> None:
    rows = judge(
        found(
            timed(FAST, 1.0, size=40_000_000, rss=100_000_000),
            timed(SMALL, 2.0, size=32_000_000, rss=120_000_000),
            timed(MINE, 0.5, size=24_000_000, rss=150_000_000),
        ),
        NO_WER,
    )
    size, memory = row(rows, "model files"), row(rows, "peak memory")
    assert size.best is not None and size.best[0] == "whisper.cpp q4_0"
    assert size.ours[0].score == pytest.approx(0.75)
    assert size.ours[0].state == "met"
    assert memory.best is not None and memory.best[0] == "faster-whisper int8"
    assert memory.ours[0].state == "missed"


def test_decoder_step_is_compared_with_reading_its_bytes() -> None:
    cell, record = timed(MINE, 0.5)
    parts: dict[str, Any] = {
        "features": 0.01,
        "encoder": 0.1,
        "first_token": 0.02,
        "decoder": 0.1,
        "tokens": 3,
        "windows": 1,
    }
    parts |= {"per_token": [0.004, 0.004], "total": 0.3}
    record["facts"] = {"step_bytes": 20_000_000, "bandwidth": 1e10}
    record["clips"] = [row | {"parts": parts} for row in record["clips"]]
    step = row(judge(found((cell, record)), NO_WER), "decoder step / reading its bytes")
    assert step.ours[0].score == pytest.approx(2.0)
    assert step.ours[0].state == "met"


def test_slow_rival_leaves_the_race_after_the_first_round() -> None:
    first = stored(timed(FAST, 1.0), timed(FLOAT, 2.5), timed(MINE, 9.0))
    again = {one.name: out_of_race(Cell(MODEL, one, 1, "clips", 1), first) for one in (FAST, FLOAT, MINE)}
    assert again == {"int8": None, "fp32": "2.5 times the fastest rival's time in the first round", "w4": None}
    assert out_of_race(Cell(MODEL, FLOAT, 1, "clips", 0), first) is None
    assert out_of_race(Cell(MODEL, FLOAT, 2, "clips", 1), first) is None, "another number of threads is another race"
    assert out_of_race(Cell(MODEL, FLOAT, 1, "wer:0"), first) is None


def test_table_has_a_row_for_every_goal_of_the_model() -> None:
    rows = judge(found(timed(FAST, 1.0), timed(MINE, 0.5)), NO_WER)
    text = goal_table(rows)
    assert len(text.splitlines()) == 2 + sum(MODEL.startswith(goal.models) for goal in GOALS)
    assert "0.50 (0.05) **missed** (WER not measured)" in text
    assert "| RTF, 5 min | whisper-tiny.en | 1 | <= 0.4 | - | not measured |" in text


def test_report_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    store = Store(tmp_path / "timing.json", {"clips": CLIPS, "machine": MACHINE})
    for cell, record in (timed(FAST, 1.0), timed(MINE, 0.5)):
        store.put(cell, record)
    store.put(Cell(MODEL, SMALL, 1, "clips"), {"outcome": FAILED, "reason": "ended with code -4: illegal"})
    page = tmp_path / "peers.md"
    page.write_text(f"# Rivals\n\nRead this.\n\n{MARK}\n\nold figures\n")
    report(store.path, tmp_path / "wer.json", page)
    text = page.read_text()
    assert text.startswith(f"# Rivals\n\nRead this.\n\n{MARK}\n")
    assert "old figures" not in text
    assert "failed: ended with code -4: illegal" in text
    summary = json.loads(page.with_suffix(".json").read_text())["summaries"]
    assert {one["name"] for one in summary} == {"int8", "w4", "q4_0"}


def test_report_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make bench-peers"):
        report(tmp_path / "timing.json", tmp_path / "wer.json", None)


def test_rival_that_loses_the_long_audio_is_not_the_best() -> None:
    def long(configuration: Configuration, text: str) -> tuple[Cell, Record]:
        cell, record = timed(configuration, 1.0, part="long")
        return cell, record | {"clips": [record["clips"][0] | {"id": "five minutes", "text": text}]}

    clips = [*CLIPS, {"id": "five minutes", "band": "5 min", "seconds": 300.0, "text": TEN}]
    pairs = (
        timed(SMALL, 0.5),
        timed(FAST, 1.0),
        timed(MINE, 0.5),
        long(SMALL, "one"),
        long(FAST, TEN),
        long(MINE, TEN),
    )
    rows = judge(summaries(stored(*pairs), clips), NO_WER)
    sentence = row(rows, "RTF, 5-15 s")
    assert sentence.best is not None and sentence.best[0] == "faster-whisper int8"
