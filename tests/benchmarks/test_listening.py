"""What bundles hear is kept; errors by kind, languages, seams and babble are counted from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import babble, languages, seams
from benchmarks.heard import Errors, Heard, Listener, kinds, rise, unseen
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.harness.evaluation.wer import WordCounts, pooled
from tests.support.fakes import write_bundle

QUIET = np.zeros(160, np.float32)


class Says:
    """A transcriber that says the same to everything, and counts."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def transcribe(self, samples: Any, language: str | None = None, timestamps: str | None = None) -> Any:
        self.asked.append(language)
        words = [SimpleNamespace(start=0.5, end=1.0, text=" Hola")] if timestamps else []
        segments = [SimpleNamespace(words=words)] if timestamps else []
        return SimpleNamespace(text="Hola", language=language or "es", loops=0, segments=segments)


def listener(folder: Path) -> tuple[Listener, Says]:
    if not (folder / "w4").exists():
        write_bundle(folder / "w4")
    made, says = Listener(folder / "w4", folder / "store"), Says()
    made.__dict__["transcriber"] = says
    return made, says


def test_what_was_heard_is_kept(tmp_path: Path) -> None:
    first, says = listener(tmp_path)
    heard = [first.hear(QUIET), first.hear(QUIET, "fr"), first.hear(QUIET, times=True)]
    assert says.asked == [None, "fr", None]
    again, says = listener(tmp_path)
    assert [again.hear(QUIET), again.hear(QUIET, "fr"), again.hear(QUIET, times=True)] == heard
    assert says.asked == []
    assert heard[2].words == ((0.5, 1.0, " Hola"),)
    again.hear(QUIET[:80])
    assert len(says.asked) == 1


def test_a_line_cut_off_by_a_kill_is_heard_again(tmp_path: Path) -> None:
    first, _ = listener(tmp_path)
    first.hear(QUIET)
    [path] = (tmp_path / "store").iterdir()
    path.write_text(path.read_text()[:-20])
    for expected in ([None], []):
        again, says = listener(tmp_path)
        assert again.hear(QUIET).text == "Hola"
        assert says.asked == expected


def test_clips_that_a_bundle_was_calibrated_on_are_left_out(tmp_path: Path) -> None:
    clips = [Utterance("a", QUIET, "a", "set"), Utterance("b", QUIET[:99], "b", "set")]
    write_bundle(tmp_path / "float", bits=32)
    write_bundle(tmp_path / "w4", calibrated_on=[clips[0].fingerprint()])
    assert unseen([tmp_path / "float", tmp_path / "w4"], clips) == clips[1:]
    assert unseen([tmp_path / "float"], clips) == clips


def test_deletions_are_counted_by_their_runs() -> None:
    errors = Errors.of("a b c d e f", "a e x", Heard("a e x"))
    assert errors.deleted == (3,)
    assert errors.counts == WordCounts(1, 3, 0, 6)
    row = kinds("w4", [errors, Errors.of("a", "", Heard(""))], hours=0.5)
    assert row == ["w4", "1 / 4 / 0", "1 / 3 / 0 / 0", "0 (0.0)", "1"]


def test_the_rise_is_of_the_same_utterances() -> None:
    right, wrong = Errors(WordCounts(words=10)), Errors(WordCounts(1, words=10))
    assert rise([wrong, wrong], [right, right]) == "+10.00 (+10.00 to +10.00)"


def test_marks_and_apostrophes() -> None:
    dropped, kept = languages.scorers().values()
    assert dropped("¿Qué llegó?") == "que llego"
    assert kept("¿Qué llegó?") == "qué llegó"
    assert dropped("L’été n'est") == "l ete n est"
    assert kept("Ещё") == "еще"


def test_a_language_is_given_only_where_it_was_detected_wrongly(tmp_path: Path) -> None:
    first, says = listener(tmp_path)
    speech = {
        "asterisk_es": [Utterance("a", QUIET, "hola", "asterisk_es")],
        "asterisk_fr": [Utterance("b", QUIET[:99], "allo", "asterisk_fr")],
    }
    found = languages.cases(first, speech)
    assert says.asked == [None, None, "fr"]
    assert [one.heard["given"].language for one in found] == ["es", "fr"]
    tables = languages.report({"float": found, "w4": found}, hours=1.0)
    assert "| w4 | 1 of 2 (50.0%) | 2 of 2 (100.0%) |" in tables
    assert "| all, pooled | 50.00 | +0.00 (+0.00 to +0.00) |" in tables


def recording() -> seams.Recording:
    return seams.Recording("joined", QUIET, ["one day the cat", "came home late"])


def test_errors_belong_to_the_utterance_they_are_in() -> None:
    judged = seams.judged(recording(), Heard("one day cat came very house late late"))
    assert [one.counts for one in judged.utterances] == [WordCounts(0, 1, 0, 4), WordCounts(1, 0, 2, 3)]
    assert pooled(one.counts for one in judged.utterances) == judged.whole.counts
    assert judged.state.tolist() == [0, 0, seams.GONE, 0, 0, seams.WRONG, 0]


def test_a_text_of_nothing_lacks_all_words() -> None:
    judged = seams.judged(recording(), Heard(""))
    assert judged.whole.counts == WordCounts(0, 7, 0, 7)
    assert [one.counts.deletions for one in judged.utterances] == [4, 3]


def test_words_that_were_not_heard_lie_between_their_neighbours() -> None:
    words = (("one", 1), ("day", 2), ("cat", 4), ("came", 5), ("house", 6), ("late", 7))
    timed = tuple((at - 0.25, at + 0.25, text) for text, at in words)
    heard = Heard(" ".join(text for text, _ in words), words=timed)
    assert seams.reference_times(recording().words, heard).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_lost_words_are_told_by_place_and_by_who_lacks_them() -> None:
    near = seams.is_near(np.array([1.0, 2.0, 3.5, 9.0]), np.array([2.5]))
    assert near.tolist() == [False, True, True, False]
    has, wrong, gone = seams.HAS, seams.WRONG, seams.GONE
    row = seams.lost("w4", np.array([gone, gone, has, wrong]), np.array([gone, has, gone, has]), near)
    assert row == ["w4", "0", "1 / 1", "1 / 1", "1", "0 / 0", "1 / 0"]
    assert not seams.is_near(np.array([1.0]), np.array([])).any()


@pytest.mark.parametrize("decibels", [5.0, 0.0])
def test_babble_has_its_level_and_is_always_the_same(decibels: float) -> None:
    generator = np.random.default_rng(1)
    voices = [generator.standard_normal(900).astype(np.float32) for _ in range(4)]
    speech = (0.01 * generator.standard_normal(2000)).astype(np.float32)
    noise = babble.babble(voices, 2000, 3, np.random.default_rng(7))
    added = babble.mixed(speech, noise, decibels) - speech
    level = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
    assert level == pytest.approx(decibels, abs=0.01)
    assert np.array_equal(noise, babble.babble(voices, 2000, 3, np.random.default_rng(7)))
    assert np.abs(babble.mixed(50 * speech, noise, decibels)).max() <= 1
