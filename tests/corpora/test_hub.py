"""Speech through the `datasets` library, without the Hub: local folders of the same shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.corpora import hub
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.errors import UserError
from tests.support.clips import sound, write_clips

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def hub_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: Any, *arguments: Any, **options: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # After a shuffled stream `datasets` waits 5 s for Arrow's threads; for files of a few kB that is too long.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture
def audiofolder(tmp_path: Path) -> Path:
    folder = tmp_path / "my_audio"
    rows = [
        {"file_name": path.name, "transcription": f"text {path.stem}", "speaker_id": 7}
        for path in write_clips(folder, 5)
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """As the Hub stores speech: the files' bytes within the table."""
    paths = write_clips(tmp_path / "clips", 4)
    features = datasets.Features(
        {"id": datasets.Value("string"), "text": datasets.Value("string"), "audio": datasets.Audio()}
    )
    raw = datasets.Features(
        {**features, "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    )
    columns = {
        "id": [path.stem for path in paths],
        "text": [f"text {path.stem}" for path in paths],
        "audio": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
    }
    folder = tmp_path / "tables"
    folder.mkdir()
    table = datasets.Dataset.from_dict(columns, features=raw).cast(features)
    table.to_parquet(str(folder / "validation-00000-of-00001.parquet"))
    return folder


def test_an_audiofolder(audiofolder: Path) -> None:
    clips = hub.read_dataset(str(audiofolder), 5, 0)
    assert [clip.id for clip in clips] == [f"clip{index}.flac" for index in range(5)]
    assert [clip.text for clip in clips] == [f"text clip{index}" for index in range(5)]
    assert (clips[0].source, clips[0].speaker, clips[0].seconds) == ("my_audio", "7", 0.5)
    assert np.array_equal(clips[3].samples(), sound(3))


def test_an_audiofolder_with_csv(audiofolder: Path) -> None:
    (audiofolder / "metadata.jsonl").unlink()
    rows = "".join(f"clip{index}.flac,say {index}\n" for index in range(5))
    (audiofolder / "metadata.csv").write_text("file_name,text\n" + rows)
    assert [clip.text for clip in hub.read_dataset(str(audiofolder), 9, 0)] == [f"say {index}" for index in range(5)]


def test_parquet_with_audio_inside(parquet: Path) -> None:
    clips = hub.read_dataset(str(parquet), 4, 0)
    assert [clip.id for clip in clips] == ["clip0", "clip1", "clip2", "clip3"]
    assert clips[2].text == "text clip2"
    assert np.array_equal(clips[2].samples(), sound(2))


def test_the_seed_draws(audiofolder: Path) -> None:
    def ids(seed: int) -> tuple[str, ...]:
        return tuple(clip.id for clip in hub.read_dataset(str(audiofolder), 2, seed))

    assert ids(1) == ids(1) == tuple(sorted(ids(1)))
    assert len({ids(seed) for seed in range(5)}) > 1


def test_the_sentence_names_it(audiofolder: Path) -> None:
    clips, sentence = calibration_corpus(str(audiofolder), 9, 3, 0.1)
    assert [len(clip.samples()) for clip in clips] == [1600] * 5
    expected = f"Calibrated on 5 clips of {audiofolder}, drawn with seed 3, cut to 0.1 s; 9 were asked for"
    assert sentence.startswith(expected)


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"cannot be loaded as a data set .it has no audio column; columns: text"):
        hub.read_dataset(str(tmp_path), 2, 0)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded as a data set"):
        hub.read_dataset(str(tmp_path), 2, 0)


def test_a_hub_id_out_of_reach_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("would retry for half a minute"))
    with pytest.raises(UserError, match=r"someone/speech: .*cannot be reached.*or give a .jsonl manifest"):
        hub.read_dataset("someone/speech", 2, 0)
    assert hub.librispeech_dummy() is None


def test_a_hub_id_may_name_a_configuration(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    load = datasets.load_dataset

    def from_the_hub(*names: Any, streaming: bool) -> Any:
        asked.append((*names, streaming))
        return load(str(parquet), streaming=streaming)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    assert len(hub.read_dataset("someone/speech:de", 3, 0)) == 3
    assert asked == [("someone/speech", "de", True)]


def test_the_small_librispeech_is_sorted_and_has_its_texts(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = datasets.load_dataset

    def from_the_hub(name: str, configuration: str, split: str) -> Any:
        assert (name, configuration, split) == (hub.DUMMY, "clean", "validation")
        return load(str(parquet), split="validation", streaming=True)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    clips = hub.librispeech_dummy()
    assert clips and [clip.text for clip in clips] == [f"text clip{index}" for index in range(4)]


def test_offline_only_the_local_cache_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_cached(*names: Any, **options: Any) -> Any:
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: pytest.fail("asked the Hub"))
    monkeypatch.setattr(datasets, "load_dataset", not_cached)
    assert hub.librispeech_dummy() is None
    with pytest.raises(UserError, match=r"cannot be loaded as a data set .offline"):
        hub.read_dataset("someone/speech", 1, 0)
