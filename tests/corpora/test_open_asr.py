"""The leaderboard's sets, from folders of the shape they have on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy import progress
from edge_asr_deploy.corpora import common_voice, open_asr
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.speech import load_speech, prepare
from tests.support.clips import sound
from tests.support.fake_hub import FakeHub, flac, write_split

datasets = pytest.importorskip("datasets")
requests = pytest.importorskip("requests")

TED = ["hello there", "ignore_time_segment_in_scoring", "<unk>", "and goodbye"]


def row(index: int, text: str, configuration: str, audio: bytes | None = None) -> dict[str, Any]:
    """The columns of hf-audio/esb-datasets-test-only-sorted."""
    audio = flac(sound(index)) if audio is None else audio
    return {"audio": audio, "dataset": configuration, "text": text, "id": f"clip{index}", "audio_length_s": 0.5}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """All eight sets: three clips each, TED-LIUM four."""
    hub = FakeHub(tmp_path / "hub")
    folder = hub.repository(open_asr.REPOSITORY)
    for first, (name, (configuration, split)) in enumerate(open_asr.SETS.items()):
        texts = TED if name == "tedlium" else [f"{name} {index}" for index in range(3)]
        write_split(folder, configuration, split, [row(10 * first + i, t, configuration) for i, t in enumerate(texts)])
    hub.install(monkeypatch)
    return hub


def test_a_set(hub: FakeHub) -> None:
    clips = open_asr.read_open_asr("open-asr:ami")
    assert [(clip.id, clip.text, clip.source) for clip in clips] == [
        (f"ami/clip{index}", f"ami {index}", "open-asr:ami") for index in range(3)
    ]
    assert np.array_equal(clips[2].samples(), sound(2))
    assert clips[2].seconds == 0.5


def test_all_are_the_eight_columns_in_their_order(hub: FakeHub) -> None:
    clips = open_asr.read_open_asr("open-asr:all")
    assert list(dict.fromkeys(clip.source for clip in clips)) == [f"open-asr:{name}" for name in open_asr.SETS]
    assert len(clips) == 7 * 3 + 4
    assert len(open_asr.SETS) == 8


def test_librispeech_is_both_splits(hub: FakeHub) -> None:
    clips = open_asr.read_open_asr("open-asr:librispeech:1")
    assert [clip.text for clip in clips] == ["librispeech-clean 0", "librispeech-other 0"]


def test_the_leaderboards_rules_leave_out_what_it_leaves_out(hub: FakeHub) -> None:

    clips, _ = load_speech(["open-asr:tedlium"])
    assert len(clips) == 4
    items = prepare(clips, normalizer("whisper-english"), progress.silent).items
    assert [item.reference for item in items] == ["hello there", "and goodbye"]


def test_a_second_run_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[None] = []
    first = open_asr.read_open_asr("open-asr:ami", lambda: ticks.append(None))
    assert len(ticks) == 3
    hub.probe_fails = ConnectionError("no network")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert open_asr.read_open_asr("open-asr:ami", lambda: pytest.fail("fetched again")) == first
    assert open_asr.read_open_asr("open-asr:ami:2") == first[:2]
    assert open_asr.read_open_asr("open-asr:ami:200") == first


def test_a_larger_limit_fetches_only_the_rest(hub: FakeHub) -> None:
    assert len(open_asr.read_open_asr("open-asr:ami:1")) == 1
    ticks: list[None] = []
    assert [clip.text for clip in open_asr.read_open_asr("open-asr:ami", lambda: ticks.append(None))] == [
        "ami 0",
        "ami 1",
        "ami 2",
    ]
    assert len(ticks) == 2


def test_a_broken_stream_keeps_what_came_and_goes_on_there(hub: FakeHub) -> None:
    hub.breaks_after = 2
    with pytest.raises(UserError, match=r"open-asr:ami: cannot be streamed .*the line went dead.*run again"):
        open_asr.read_open_asr("open-asr:ami")
    hub.breaks_after = None
    ticks: list[None] = []
    assert len(open_asr.read_open_asr("open-asr:ami", lambda: ticks.append(None))) == 3
    assert len(ticks) == 1


def test_a_killed_run_leaves_half_a_line_which_is_fetched_again(hub: FakeHub, cache: Path) -> None:
    first = open_asr.read_open_asr("open-asr:ami:2")
    index = next(cache.rglob("rows.jsonl"))
    index.write_bytes(index.read_bytes()[:-5])
    again = open_asr.read_open_asr("open-asr:ami")
    assert again[:2] == first and len(again) == 3


def test_a_clip_that_somebody_removed_is_fetched_again(hub: FakeHub, cache: Path) -> None:
    first = open_asr.read_open_asr("open-asr:ami")
    next(cache.rglob("000001.flac")).unlink()
    ticks: list[None] = []
    assert open_asr.read_open_asr("open-asr:ami", lambda: ticks.append(None)) == first
    assert len(ticks) == 2
    assert np.array_equal(first[1].samples(), sound(1))


def test_a_clip_too_short_for_any_model_is_padded_for_it_counts(hub: FakeHub) -> None:
    short = sound(1, 0.02)
    write_split(hub.repository(open_asr.REPOSITORY), "ami", "test", [row(0, "oh", "ami", flac(short))])
    samples = open_asr.read_open_asr("open-asr:ami")[0].samples()
    assert np.array_equal(samples[: len(short)], short) and not samples[len(short) :].any()


def test_other_rates_become_16_khz(hub: FakeHub) -> None:
    write_split(hub.repository(open_asr.REPOSITORY), "ami", "test", [row(0, "oh", "ami", flac(sound(0), 48_000))])
    assert len(open_asr.read_open_asr("open-asr:ami")[0].samples()) == round(8000 / 3)


def test_ids_that_repeat_are_told_apart(hub: FakeHub) -> None:
    write_split(hub.repository(open_asr.REPOSITORY), "ami", "test", [row(0, "a", "ami"), row(0, "b", "ami")])
    assert [clip.id for clip in open_asr.read_open_asr("open-asr:ami")] == ["ami/clip0", "ami/clip0#1"]


def test_sets_and_manifests_are_named_side_by_side(hub: FakeHub, tmp_path: Path) -> None:
    from tests.support.clips import write_set

    write_set(tmp_path, "mine", 2)
    clips, sentence = load_speech(["open-asr:ami", "open-asr:all:2", tmp_path / "mine.jsonl"])
    # The clips of ami that `all` names again are taken once.
    assert sum(clip.source == "open-asr:ami" for clip in clips) == 3
    assert len(clips) == 3 + 7 * 2 + 2
    assert sentence == "Evaluated on open-asr:ami, open-asr:all:2, mine.jsonl (19 utterances)."


@pytest.mark.parametrize("name", ["open-asr:amy", "open-asr:", "open-asr:../x"])
def test_an_unknown_set_lists_the_names(hub: FakeHub, name: str) -> None:
    with pytest.raises(UserError, match=r"no such set; choose one of ami, earnings22, .*voxpopuli, librispeech, all"):
        open_asr.read_open_asr(name)


@pytest.mark.parametrize("limit", ["0", "-3", "many", "²"])
def test_a_limit_that_is_no_number(hub: FakeHub, limit: str) -> None:
    with pytest.raises(UserError, match=r"is no number of clips; write open-asr:ami:200"):
        open_asr.read_open_asr(f"open-asr:ami:{limit}")


def response(status: int) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    return answer


def test_without_network_it_says_so_and_what_is_there(hub: FakeHub) -> None:
    open_asr.read_open_asr("open-asr:ami:2")
    hub.probe_fails = ConnectionError("no route to host\nand more")
    with pytest.raises(UserError, match=r"cannot be reached .no route to host.; 2 of its clips are on disk; check the"):
        open_asr.read_open_asr("open-asr:ami")
    # What the Hub's client says of a lost connection fills a page.
    hub.probe_fails = ConnectionError("HTTPSConnectionPool" * 50)
    with pytest.raises(UserError, match=r"cannot be reached .ConnectionError.; "):
        open_asr.read_open_asr("open-asr:ami")


def test_a_gated_set_says_how_to_log_in(hub: FakeHub) -> None:
    from huggingface_hub.errors import GatedRepoError

    expected = r"is gated; accept its terms at https://huggingface.co/datasets/hf-audio/.* log in with `hf auth login`"
    for fault in (
        GatedRepoError("401", response(401)),
        datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."),
    ):
        hub.load_fails = fault
        with pytest.raises(UserError, match=expected):
            open_asr.read_open_asr("open-asr:ami")


def test_a_repository_that_is_gone(hub: FakeHub) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    hub.probe_fails = RepositoryNotFoundError("404", response(404))
    with pytest.raises(UserError, match=r"the Hub has no data set `hf-audio/esb.*private"):
        open_asr.read_open_asr("open-asr:ami")


def test_without_datasets_the_extra_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the `datasets` package; pip install .edge-asr-deploy\[export\]"):
        open_asr.read_open_asr("open-asr:ami")


def test_a_row_without_audio_is_named(hub: FakeHub) -> None:
    write_split(hub.repository(open_asr.REPOSITORY), "ami", "test", [row(0, "oh", "ami", b"no audio")])
    with pytest.raises(UserError, match="row `clip0` is not audio"):
        open_asr.read_open_asr("open-asr:ami")


def test_a_cache_that_cannot_be_written(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"EDGE_ASR_CACHE: .*cannot be written"):
        open_asr.read_open_asr("open-asr:ami")


@pytest.fixture
def voices(hub: FakeHub) -> FakeHub:
    """Common Voice's columns; no `id`, the text is `sentence`."""
    folder = hub.repository(common_voice.REPOSITORY)
    for split, first in (("train", 0), ("test", 100)):
        rows = [
            {"client_id": f"who{i}", "path": f"en_{i}.mp3", "audio": flac(sound(i, 0.2)), "sentence": f"Say {i}."}
            for i in range(first, first + 8)
        ]
        write_split(folder, "en", split, rows)
    return hub


def test_common_voice_calibrates_with_its_training_split(voices: FakeHub) -> None:
    def texts(seed: int) -> tuple[str | None, ...]:
        return tuple(clip.text for clip in calibration_corpus("common-voice:en", 3, seed, None)[0])

    assert len(texts(0)) == 3 and texts(0) == texts(0)
    assert len({texts(seed) for seed in range(4)}) > 1
    assert set(texts(0)) <= {f"Say {index}." for index in range(8)}
    clips, sentence = calibration_corpus("common-voice:en", 3, 0, None)
    assert clips[0].speaker and clips[0].speaker.startswith("who")
    assert sentence == "Calibrated on 3 clips of common-voice:en, drawn with seed 0."


def test_the_drawn_clips_stay_on_disk_too(voices: FakeHub) -> None:
    first = calibration_corpus("common-voice:en", 3, 5, None)
    voices.probe_fails = ConnectionError("no network")
    assert calibration_corpus("common-voice:en", 3, 5, None) == first


def test_common_voice_is_judged_on_its_test_split(voices: FakeHub) -> None:
    clips, _ = load_speech(["common-voice:en:2"])
    assert [(clip.text, clip.source) for clip in clips] == [
        ("Say 100.", "common-voice:en"),
        ("Say 101.", "common-voice:en"),
    ]


@pytest.mark.parametrize("name", ["common-voice:", "common-voice:../en"])
def test_a_language_has_to_be_named(cache: Path, name: str) -> None:
    with pytest.raises(UserError, match="names no language of Common Voice; write common-voice:en"):
        calibration_corpus(name, 3, 0, None)


def test_a_test_set_is_not_for_calibration(cache: Path) -> None:
    with pytest.raises(UserError, match="open-asr:ami: is a test set; choose other speech"):
        calibration_corpus("open-asr:ami", 3, 0, None)
