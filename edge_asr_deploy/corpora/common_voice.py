"""Common Voice, what the paper calibrates on: many voices, accents and devices.

Mozilla took its own copies off the Hub in 2025; this is the public copy of version 17 there, with the same columns.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_asr_deploy.corpora.open_asr import split_reference
from edge_asr_deploy.corpora.streamed import Split, read_split
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError

PREFIX = "common-voice:"
REPOSITORY = "fixie-ai/common_voice_17_0"


def read_common_voice(reference: str, fetched: Callable[[], None] = lambda: None) -> list[Utterance]:
    """The test split of `common-voice:LANGUAGE` or `common-voice:LANGUAGE:N`, for evaluation. UserError as below."""
    language, number = split_reference(reference, PREFIX)
    split = Split(REPOSITORY, _language(language, "--data", reference), "test", "--data", reference)
    return read_split(split, PREFIX + language, number, fetched)


def draw_common_voice(reference: str, number: int, seed: int) -> list[Utterance]:
    """`number` clips of the training split of `common-voice:LANGUAGE`, drawn by `seed`, in the order of their ids.

    The stream is shuffled: its files, and 256 rows at a time. UserError without a language, and as `read_split`.
    """
    language = _language(reference.removeprefix(PREFIX), "calibration", reference)
    split = Split(REPOSITORY, language, "train", "calibration", reference, seed)
    return sorted(read_split(split, reference, number, lambda: None), key=lambda utterance: utterance.id)


def _language(language: str, thing: str, reference: str) -> str:
    # It becomes a folder's name.
    if not language.replace("-", "").isalnum():
        raise UserError(thing, reference, "names no language of Common Voice; write common-voice:en")
    return language
