"""Whisper is calibrated on windows as short as most clips are deployed with: what they keep of the 30 seconds."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.ptq.calibration.stream import Stream


def stream(lengths: list[int], window: int = 20) -> Stream:
    """Windows whose positions hold their own numbers, `lengths` of them real."""
    hidden = [torch.arange(window).float()[None, :, None].expand(1, window, 2) for _ in lengths]
    return Stream(hidden, [((), {}) for _ in lengths], [(torch.arange(window) < length).float() for length in lengths])


def kept(entered: Stream, index: int) -> list[int]:
    return [int(value) for value in entered.hidden[index][0, :, 0]]


def test_the_real_positions_some_behind_and_the_windows_last_are_kept() -> None:
    entered = stream([9, 4, 0])
    entered.shorten(behind=3, last=5, whole=3)
    assert kept(entered, 1) == [0, 1, 2, 3, 4, 5, 6, 15, 16, 17, 18, 19]
    assert entered.weights[1].tolist() == [1.0] * 4 + [0.0] * 8
    assert kept(entered, 2) == [0, 1, 2, 15, 16, 17, 18, 19]


def test_every_third_keeps_its_window() -> None:
    entered = stream([4] * 7)
    entered.shorten(behind=3, last=5, whole=3)
    assert [len(kept(entered, index)) for index in range(7)] == [20, 12, 12, 20, 12, 12, 20]


@pytest.mark.parametrize("length", [12, 13, 19, 20])
def test_a_clip_that_fills_the_window_keeps_all_of_it_once(length: int) -> None:
    entered = stream([1, length])
    entered.shorten(behind=3, last=5, whole=2)
    assert kept(entered, 1) == list(range(20))
    assert int(entered.weights[1].sum()) == length
