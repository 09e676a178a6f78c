"""The end of short windows: what it is learned from, that learning helps, and when it is not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.families import family
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.ptq.learning import window_end
from edge_asr_deploy.ptq.learning.pieces import LONG, PARTS, PAUSE, SHORT, cuts
from edge_asr_deploy.ptq.learning.window_end import Cut, learn_window_end
from edge_asr_deploy.quantized.model import WindowEnd
from edge_asr_deploy.recipe.components import LearnedEnd
from tests.support import short, tiny

WANTED = LearnedEnd(frames=10, margin=0.4, cuts=5, steps=15)


def speech(seconds: float = 20.0) -> list[Utterance]:
    return [Utterance(f"u{seed}", short.noise(seconds, seed), None, "noise", language="en") for seed in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor")
    from transformers import WhisperFeatureExtractor

    WhisperFeatureExtractor().save_pretrained(path)
    return path


def whisper() -> Any:
    model = tiny.whisper()
    model.generation_config.no_timestamps_token_id = tiny.VOCABULARY - 1
    return model


def learn(model: Any, folder: Path, wanted: LearnedEnd = WANTED) -> WindowEnd | None:
    return learn_window_end(model, family("whisper"), folder, speech(), wanted)


def test_pieces_of_all_speech_are_as_long_as_commands_and_sentences() -> None:
    made = cuts(speech(), 20)
    assert len(made) == 20
    seconds = [len(samples) / SAMPLE_RATE for samples, _ in made]
    assert all(2 * PARTS[0] + PAUSE[0] <= one <= 2 * PARTS[1] + PAUSE[1] for one in (*seconds[::5], *seconds[1::5]))
    assert all(LONG[0] - 0.01 <= one <= 20 for one in seconds[2::5]), "the speech is 20 s long"
    assert all(SHORT[0] - 0.01 <= one <= SHORT[1] for one in (*seconds[3::5], *seconds[4::5]))
    assert all(language == "en" for _, language in made)
    np.testing.assert_array_equal(made[3][0], cuts(speech(), 20)[3][0])


def test_speech_that_is_shorter_is_taken_whole() -> None:
    made = cuts(speech(1.0), 5)
    assert [len(samples) for samples, _ in made[2:]] == [SAMPLE_RATE] * 3
    assert all(len(samples) > 2 * SAMPLE_RATE for samples, _ in made[:2]), "with a pause between"


def test_what_is_learned_is_nearer_to_the_full_window(folder: Path) -> None:
    model = whisper()
    made = window_end._taught(model, family("whisper"), folder, cuts(speech(), 4), None)
    window = window_end._Window(model)
    learned = window.learn(made, WANTED, lambda *call: None)
    assert learned.shape == (10, 32)
    with torch.no_grad():
        before = window.mean_divergence(made, window.last(10), WANTED.margin)
        after = window.mean_divergence(made, learned, WANTED.margin)
    assert 0 < after < before


def test_a_full_window_differs_in_nothing(folder: Path) -> None:
    model = whisper()
    [cut] = window_end._taught(model, family("whisper"), folder, cuts(speech(), 1), None)
    window = window_end._Window(model)
    with torch.no_grad():
        assert float(window.divergence(cut, torch.zeros(10, 32), margin=40)) == pytest.approx(0, abs=1e-4)


def test_the_same_speech_gives_the_same_end_and_leaves_the_model_alone(folder: Path) -> None:
    model = whisper()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    short_work = LearnedEnd(frames=10, margin=0.4, cuts=3, steps=4)
    first, second = learn(model, folder, short_work), learn(model, folder, short_work)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        np.testing.assert_array_equal(first.positions, second.positions)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def divergences(monkeypatch: pytest.MonkeyPatch, learned: float, own: float) -> None:
    """Let the learned end and the window's own be so far from the full window."""

    def mean(self: Any, made: list[Cut], end: torch.Tensor, margin: float) -> float:
        return own if len(end) == TAIL_SECONDS * FRAMES_PER_SECOND else learned

    monkeypatch.setattr(window_end._Window, "mean_divergence", mean)


def test_it_is_taken_where_it_is_better_on_speech_kept_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divergences(monkeypatch, learned=0.1, own=0.2)
    end = learn(whisper(), folder)
    assert end is not None and end.positions.shape == (10, 32) and end.margin == 0.4
    np.testing.assert_array_equal(end.positions, end.positions.astype(np.float16), "as the graph stores it")


def test_where_the_windows_own_end_is_better_that_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divergences(monkeypatch, learned=0.2, own=0.1)
    assert learn(whisper(), folder) is None
