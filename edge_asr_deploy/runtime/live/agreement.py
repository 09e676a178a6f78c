"""Which part of a text stays, while more speech arrives: what two decodings in a row agree on.

Local agreement, from Liu et al., "Low-latency sequence-to-sequence speech recognition and translation by partial
hypothesis selection" (Interspeech 2020); Whisper-Streaming (arXiv 2307.14743) applies it to Whisper. Later decodings
are made to begin with the stable tokens, so that a final text never takes a stable word back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

# So much of the end of what two decodings agree on may still change: the first words of a speech do so most. Texts
# without spaces are taken apart by letters.
UNSURE_WORDS, UNSURE_LETTERS = 2, 3


def stable_tokens(
    before: Sequence[int], now: Sequence[int], stable: int, text: Callable[[Sequence[int]], str]
) -> tuple[int, ...]:
    """The tokens of `now` that stay: whole words in which two decodings agree, without the last two.

    Both begin with the same `stable` tokens, and so does the answer.

    >>> words = {1: " one", 2: " two", 3: " th", 4: "ree", 5: " four"}
    >>> text = lambda tokens: "".join(words[token] for token in tokens).strip()
    >>> stable_tokens([1, 2, 3], [1, 2, 3, 4, 5], 0, text)
    (1,)
    """
    whole, earlier = text(now), text(before)
    shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, earlier, strict=False)))
    spaced = " " in whole
    # What follows the last space may be half a word.
    agreed = " ".join(shared.split(" ")[:-UNSURE_WORDS]) if spaced else shared[: max(0, len(shared) - UNSURE_LETTERS)]
    for count in range(len(now), stable, -1):
        part = text(now[:count])
        rest = whole[len(part) :]
        if agreed.startswith(part) and whole.startswith(part) and (not spaced or rest.startswith(" ")):
            return tuple(now[:count])
    return tuple(now[:stable])
