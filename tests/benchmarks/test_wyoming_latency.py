"""The table of latencies over Wyoming."""

from __future__ import annotations

import pytest

pytest.importorskip("wyoming")

from benchmarks.wyoming_latency import RIVAL, Heard, table
from edge_asr_deploy.corpora.utterance import Utterance


def test_the_table_compares_with_the_rival_of_as_many_threads() -> None:
    clips = [Utterance(name, f"{name}.flac", "turn on the light", "test", seconds=2.0) for name in "abcd"]
    found = [
        Heard(
            server,
            threads,
            clip.id,
            2.0,
            seconds * threads,
            "Turn on the lights." if server == RIVAL else clip.text or "",
        )
        for threads in (1, 2)
        for clip in clips
        for server, seconds in (("ours", 0.1), (RIVAL, 0.4))
    ]
    assert table(found, clips).splitlines()[2:] == [
        "| ours | 1 | 0.100 | 0.100 | 0.0 | 0.25 | 0.25 |",
        f"| {RIVAL} | 1 | 0.400 | 0.400 | 25.0 | | |",
        "| ours | 2 | 0.200 | 0.200 | 0.0 | 0.25 | 0.25 |",
        f"| {RIVAL} | 2 | 0.800 | 0.800 | 25.0 | | |",
    ]
