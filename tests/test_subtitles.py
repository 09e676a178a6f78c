"""Subtitle files: the forms of openai/whisper's writers, derived by hand from its `whisper/utils.py`."""

from __future__ import annotations

from edge_asr_deploy.runtime.transcript import Segment
from edge_asr_deploy.subtitles import srt, tsv, vtt


def _segment(start: float, end: float, text: str) -> Segment:
    return Segment(start, end, text, (), -0.1, 0.0, 1.0, 0.0)


SEGMENTS = [_segment(0.0, 2.5, " And so, my fellow Americans"), _segment(3661.0404, 3663.9996, "a --> b\tc\n\nd")]


def test_srt_has_numbers_hours_and_commas() -> None:
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:02,500\nAnd so, my fellow Americans\n\n"
        "2\n01:01:01,040 --> 01:01:04,000\na -> b c d\n\n"
    )


def test_vtt_has_hours_only_where_there_are_some() -> None:
    assert vtt(SEGMENTS) == (
        "WEBVTT\n\n00:00.000 --> 00:02.500\nAnd so, my fellow Americans\n\n"
        "01:01:01.040 --> 01:01:04.000\na -> b c d\n\n"
    )


def test_tsv_has_milliseconds_and_no_tabs_in_text() -> None:
    assert tsv(SEGMENTS) == "start\tend\ttext\n0\t2500\tAnd so, my fellow Americans\n3661040\t3664000\ta --> b c d\n"


def test_segments_without_text_give_no_cue() -> None:
    empty = [_segment(0, 1, " ")]
    assert (srt(empty), vtt(empty), tsv(empty)) == ("", "WEBVTT\n\n", "start\tend\ttext\n")
