"""The test sets of the Open ASR leaderboard, as it stores them on the Hub and as it counts them.

Names, splits and rules are those of github.com/huggingface/open_asr_leaderboard (`normalizer/data_utils.py` and the run
scripts of July 2025, with the eight columns of the paper this package follows). Its rules: references that are empty
after normalization are not scored, nor is TED-LIUM's "ignore_time_segment_in_scoring"; a model's figure is the mean of
its word error rates on the eight sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_asr_deploy.corpora.streamed import Split, read_split
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError

PREFIX = "open-asr:"
REPOSITORY = "hf-audio/esb-datasets-test-only-sorted"
IGNORED = "ignore time segment in scoring"
# Our name of a column: configuration and split there.
SETS = {
    "ami": ("ami", "test"),
    "earnings22": ("earnings22", "test"),
    "gigaspeech": ("gigaspeech", "test"),
    "librispeech-clean": ("librispeech", "test.clean"),
    "librispeech-other": ("librispeech", "test.other"),
    "spgispeech": ("spgispeech", "test"),
    "tedlium": ("tedlium", "test"),
    "voxpopuli": ("voxpopuli", "test"),
}
_GROUPS = {"librispeech": ("librispeech-clean", "librispeech-other"), "all": tuple(SETS)}


def read_open_asr(reference: str, fetched: Callable[[], None] = lambda: None) -> list[Utterance]:
    """The utterances of `open-asr:SET` or `open-asr:SET:N`, the first N rows of each set.

    SET is a key of `SETS`, `librispeech` (both) or `all`. The source of an utterance is `open-asr:` and the set's name.
    An utterance that is not to be scored has no text. `fetched` is called for every clip from the Hub. UserError for an
    unknown set, a limit that is no number, and as `streamed.read_split`.
    """
    name, number = split_reference(reference, PREFIX)
    chosen = _GROUPS.get(name, (name,))
    if not set(chosen) <= set(SETS):
        raise UserError("--data", reference, f"no such set; choose one of {', '.join((*SETS, *_GROUPS))}")
    utterances = []
    for key in chosen:
        split = Split(REPOSITORY, *SETS[key], thing="--data", name=reference)
        utterances += [_scored(u) for u in read_split(split, PREFIX + key, number, fetched)]
    return utterances


def split_reference(reference: str, prefix: str) -> tuple[str, int | None]:
    """Name and limit of `prefix` NAME[:N]. UserError when N is no positive number."""
    name, _, limit = reference.removeprefix(prefix).partition(":")
    if not limit:
        return name, None
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0:
        raise UserError("--data", reference, f"`{limit}` is no number of clips; write {prefix}{name or 'NAME'}:200")
    return name, int(limit)


def _scored(utterance: Utterance) -> Utterance:
    text = (utterance.text or "").replace("_", " ").strip().lower()
    return replace(utterance, text=None) if text == IGNORED else utterance
