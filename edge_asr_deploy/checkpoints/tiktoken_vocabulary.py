"""Whisper's tokenizer from the bytes of its text tokens, in the order of their ids (tiktoken's form, whisper.cpp's).

The numbers of the special tokens follow from the size of the whole vocabulary (openai/whisper, tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edge_asr_deploy.bundle.vocabulary import NO_TIMESTAMPS, byte_letters, time_tokens
from edge_asr_deploy.checkpoints.whisper_files import (
    END,
    ENGLISH_ONLY_END,
    PREVIOUS,
    SMALLEST_MULTILINGUAL,
    START,
    TRANSCRIBE,
    TRANSLATE,
)
from edge_asr_deploy.families.languages import LANGUAGE_CODES

TIMES = time_tokens()
AFTER_LANGUAGES = (TRANSLATE, TRANSCRIBE, "<|startoflm|>", PREVIOUS, "<|nospeech|>", NO_TIMESTAMPS)


def tokenizer_of(tokens: Sequence[bytes], size: int) -> Tokenizer:
    """The tokenizer of a vocabulary of `size` whose first ids are these bytes.

    Some converters also write special tokens behind the words; they count as made up. ValueError for a size or words
    that are not Whisper's.
    """
    number = end_of(size)
    special = [END, START, *languages(size), *AFTER_LANGUAGES]
    if len(tokens) < number:
        raise ValueError(f"{len(tokens)} text tokens, not {number}")
    letters = byte_letters()
    spelled = {token: "".join(letters[value] for value in token) for token in tokens[:number]}
    if len(spelled) != number:
        raise ValueError("a token is there twice")
    words = {spelled[token]: place for place, token in enumerate(tokens[:number])}
    pairs = [(spelled[left], spelled[right]) for left, right in merges(tokens[:number])]
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in special])
    tokenizer.add_tokens([AddedToken(one, normalized=False, special=False) for one in TIMES])
    return tokenizer


def end_of(size: int) -> int:
    """The id of the end of text, which is the number of words before it: one more where there are languages."""
    return ENGLISH_ONLY_END + (size >= SMALLEST_MULTILINGUAL)


def languages(size: int) -> list[str]:
    """The languages' tokens: as many as the size leaves room for."""
    codes = list(dict.fromkeys(LANGUAGE_CODES.values()))
    number = size - end_of(size) - 2 - len(AFTER_LANGUAGES) - len(TIMES)
    if not 0 < number <= len(codes):
        raise ValueError(f"a vocabulary of {size} tokens")
    return [f"<|{code}|>" for code in codes[:number]]


def merges(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The pairs that byte pair encoding joins, in order: of each token the last pair, given all that come before it."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return [pair for token in tokens if len(token) > 1 and (pair := _last_pair(token, ranks)) is not None]


def _last_pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        best = min(found)
        if best >= ranks[token]:
            return None
        index = found.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None
