"""Segments as subtitle files, written as openai/whisper's writers write them (`whisper/utils.py`).

A cue is a segment, also where segments have words.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_asr_deploy.runtime.transcript import Segment

ARROW = "-->"


def srt(segments: Iterable[Segment]) -> str:
    """SubRip: numbered cues, hours always, a comma before the milliseconds. Empty without segments."""
    return "".join(
        f"{number}\n{_stamp(one.start, ',', hours=True)} {ARROW} {_stamp(one.end, ',', hours=True)}\n{_cue(one)}\n\n"
        for number, one in enumerate(_said(segments), 1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT: a header, cues without numbers, hours only where there are some."""
    cues = (f"{_stamp(one.start)} {ARROW} {_stamp(one.end)}\n{_cue(one)}\n\n" for one in _said(segments))
    return "".join(("WEBVTT\n\n", *cues))


def tsv(segments: Iterable[Segment]) -> str:
    """Tab-separated start and end in whole milliseconds and text, with a header."""
    rows = (f"{round(1000 * one.start)}\t{round(1000 * one.end)}\t{_line(one)}\n" for one in _said(segments))
    return "".join(("start\tend\ttext\n", *rows))


def _said(segments: Iterable[Segment]) -> list[Segment]:
    """Segments with text: players take an empty line for the end of a cue."""
    return [one for one in segments if one.text.strip()]


def _line(segment: Segment) -> str:
    """The text in one line; a tab would begin a column, an empty line would end a cue."""
    return " ".join(segment.text.split())


def _cue(segment: Segment) -> str:
    """The text without the arrow, which stands for a line of times."""
    return _line(segment).replace(ARROW, "->")


def _stamp(seconds: float, point: str = ".", hours: bool = False) -> str:
    """`00:01:02,345`. Without `hours` the hours are left out where they are 0."""
    minutes, milliseconds = divmod(round(max(0.0, seconds) * 1000), 60_000)
    whole, rest = divmod(minutes, 60)
    front = f"{whole:02d}:" if hours or whole else ""
    return f"{front}{rest:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
