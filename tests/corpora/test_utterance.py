"""An utterance may be a part of a recording; it is known by the whole of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_asr_deploy.corpora.utterance import Utterance
from tests.support.clips import sound, write_clips


def test_a_cut_takes_the_beginning_and_drops_the_text(tmp_path: Path) -> None:
    (path,) = write_clips(tmp_path, 1, seconds=1.0)
    whole = Utterance("a", path, "text", "test", seconds=1.0)
    cut = whole.cut(0.25)
    assert np.array_equal(cut.samples(), whole.samples()[:4000])
    assert (cut.id, cut.text, cut.seconds) == ("a", None, 0.25)
    assert len(whole.cut(5).samples()) == 16_000
    assert whole.cut(5).seconds == 1.0


def test_a_cut_stays_within_the_span() -> None:
    part = Utterance("a", sound(0, 1.0), None, "test", span=(4000, 12_000))
    assert np.array_equal(part.samples(), sound(0, 1.0)[4000:12_000])
    assert part.cut(0.25).span == (4000, 8000)
    assert part.cut(9).span == (4000, 12_000)


def test_the_fingerprint_is_of_the_whole_recording(tmp_path: Path) -> None:
    (path,) = write_clips(tmp_path, 1)
    prints = {
        Utterance("file", path, "x", "test").fingerprint(),
        Utterance("samples", sound(0), None, "other").fingerprint(),
        Utterance("cut", path, None, "test").cut(0.1).fingerprint(),
    }
    assert len(prints) == 1
    assert Utterance("other", sound(1), None, "test").fingerprint() not in prints
