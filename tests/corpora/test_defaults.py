"""The speech that is used when nobody names any, in its order, and what is said of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.corpora import demo, hub
from edge_asr_deploy.corpora.defaults import CALIBRATION, EVALUATION, calibration_corpus, evaluation_corpus
from edge_asr_deploy.corpora.overlap import refuse_overlap
from edge_asr_deploy.corpora.streamed import Split
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.startup.cache import startup_root
from tests.support.clips import sound, write_manifest, write_set


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without speech: no variable, no Hub, no wheel."""
    monkeypatch.delenv("EDGE_ASR_DATA", raising=False)
    monkeypatch.setattr(hub, "librispeech_dummy", lambda: None)
    monkeypatch.setattr(demo, "is_installed", lambda: False)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for index, name in enumerate(EVALUATION):
        write_set(tmp_path, name, 2, first=10 * index)
    write_set(tmp_path, CALIBRATION, 8, first=100)
    monkeypatch.setenv("EDGE_ASR_DATA", str(tmp_path))
    return tmp_path


def dummy(number: int = 73) -> list[Utterance]:
    return [Utterance(f"{index:02}", sound(index, 0.1), "text", "dummy") for index in range(number)]


def test_edge_asr_data_comes_first(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "librispeech_dummy", lambda: pytest.fail("asked the Hub"))
    utterances, sentence = evaluation_corpus()
    assert [utterance.source for utterance in utterances] == [name for name in EVALUATION for _ in range(2)]
    assert sentence.startswith("Evaluated on 8 utterances of EDGE_ASR_DATA: librispeech_test_clean (2), ")
    clips, sentence = calibration_corpus("auto", 3, 0, None)
    assert {clip.source for clip in clips} == {"calibration"}
    assert sentence == "Calibrated on 3 clips of calibration.jsonl of EDGE_ASR_DATA, drawn with seed 0."


def test_the_seed_draws_and_the_order_is_the_corpus_s(data: Path) -> None:
    def ids(seed: int) -> list[str]:
        return [clip.id for clip in calibration_corpus("auto", 4, seed, None)[0]]

    assert ids(0) == ids(0) == sorted(ids(0))
    assert len({tuple(ids(seed)) for seed in range(6)}) > 1


def test_more_than_there_is_takes_all_and_says_so(data: Path) -> None:
    clips, sentence = calibration_corpus("auto", 64, 0, None)
    assert len(clips) == 8
    assert sentence.endswith("; 64 were asked for, it has no more.")


def test_seconds_cut_and_are_said(data: Path) -> None:
    clips, sentence = calibration_corpus("auto", 2, 0, 0.25)
    assert [len(clip.samples()) for clip in clips] == [4000, 4000]
    assert "cut to 0.25 s" in sentence


@pytest.mark.parametrize("name", [EVALUATION[2], CALIBRATION])
def test_a_set_variable_without_its_manifests_is_an_error(data: Path, name: str) -> None:
    (data / f"{name}.jsonl").unlink()
    with pytest.raises(UserError, match=f"EDGE_ASR_DATA: {data}: has no {name}.jsonl"):
        evaluation_corpus()
        calibration_corpus("auto", 1, 0, None)


def test_a_variable_that_names_no_folder_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ASR_DATA", "/nowhere")
    with pytest.raises(UserError, match="EDGE_ASR_DATA: /nowhere: no such folder"):
        evaluation_corpus()


def test_the_hub_comes_second_and_no_clip_is_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "librispeech_dummy", dummy)
    monkeypatch.setattr(demo, "is_installed", lambda: pytest.fail("looked for the wheel"))
    judged, sentence = evaluation_corpus()
    assert sentence == f"Evaluated on 48 clips of {hub.DUMMY}: few, so the word error rate is rough."
    clips, _ = calibration_corpus("auto", 64, 0, None)
    assert len(judged) + len(clips) == 73
    refuse_overlap(clips, judged)


def test_without_any_speech_the_remedies_are_named() -> None:
    with pytest.raises(
        UserError, match=r"no speech found: give --data MANIFEST, or set EDGE_ASR_DATA.*moonshine-voice"
    ):
        evaluation_corpus()
    with pytest.raises(UserError, match="no speech found: give --calibration MANIFEST, or set EDGE_ASR_DATA"):
        calibration_corpus("auto", 1, 0, None)


def test_a_manifest_of_one_s_own(tmp_path: Path) -> None:
    write_set(tmp_path, "mine", 3)
    clips, sentence = calibration_corpus(str(tmp_path / "mine.jsonl"), 2, 1, None)
    assert len(clips) == 2
    assert sentence == f"Calibrated on 2 clips of {tmp_path / 'mine.jsonl'}, drawn with seed 1."
    with pytest.raises(UserError, match="no such file"):
        calibration_corpus(str(tmp_path / "other.jsonl"), 2, 1, None)
    write_manifest(tmp_path / "broken.jsonl", ["{"])
    with pytest.raises(UserError, match="row 1: is not JSON"):
        calibration_corpus(str(tmp_path / "broken.jsonl"), 2, 1, None)


@pytest.mark.real
def test_the_clips_of_the_wheel_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not demo.is_installed():
        pytest.skip(f"{demo.WHEEL} is not installed")
    monkeypatch.delenv("EDGE_ASR_DATA", raising=False)
    monkeypatch.setattr(hub, "librispeech_dummy", lambda: None)
    judged, sentence = evaluation_corpus()
    assert "1 clip, 10 s, 12 words" in sentence and "not a word error rate" in sentence
    assert abs(len(judged[0].samples()) / 16_000 - (judged[0].seconds or 0)) < 0.02
    clips, sentence = calibration_corpus("auto", 64, 0, None)
    assert [clip.id for clip in clips] == [f"two_cities-{number}" for number in range(5)]
    refuse_overlap(clips, judged)
    for before, after in pairwise(clips):
        # Cut in a pause: the 100 ms around the cut are far quieter than the clip.
        around = np.concatenate([before.samples()[-800:], after.samples()[:800]])
        assert abs(around).mean() < 0.2 * abs(before.samples()).mean()


def test_a_changed_clip_of_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moonshine_voice" / "assets").mkdir(parents=True)
    (tmp_path / "moonshine_voice" / "__init__.py").touch()
    (tmp_path / "moonshine_voice" / "assets" / "beckett.wav").write_bytes(b"RIFF")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"beckett\.wav: has sha256 .* pinned is .*; pip install"):
        demo.demo_evaluation()
    with pytest.raises(UserError, match=r"two_cities\.wav: is missing"):
        demo.demo_calibration()


def test_a_home_that_no_shell_expanded_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit files, containers and quotes leave `~` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*EVALUATION, CALIBRATION):
        write_set(tmp_path / "speech", name, 1)
    monkeypatch.setenv("EDGE_ASR_DATA", "~/speech")
    assert len(evaluation_corpus()[0]) == len(EVALUATION)
    monkeypatch.setenv("EDGE_ASR_CACHE", "~/cache")
    monkeypatch.delenv("EDGE_ASR_STARTUP_CACHE", raising=False)
    assert cache_root() == tmp_path / "cache"
    assert startup_root() == tmp_path / "cache" / "startup"
    assert Split("a/b", "c", "test", "--data", "x").folder().is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("EDGE_ASR_STARTUP_CACHE", "~/fast")
    assert startup_root() == tmp_path / "fast"
