"""Turns tokens into text as Transformers' `batch_decode(skip_special_tokens=True)` does, and strips it.

Two differences: what a fine-tune added to the vocabulary is whole text, and bytes that make no letter are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.decoding.configuration import read_json
from edge_asr_deploy.runtime.startup.token_texts import cached_decode, of_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What decoders write for bytes that are no UTF-8: half a letter at the token limit, or a model's answer to noise.
NO_LETTER = "\N{REPLACEMENT CHARACTER}"
# The replacements that Transformers makes in a text when the tokenizer's configuration asks to clean up spaces.
CLEAN_UP = {
    " .": ".",
    " ?": "?",
    " !": "!",
    " ,": ",",
    " ' ": "'",
    " n't": "n't",
    " 'm": "'m",
    " 's": "'s",
    " 've": "'ve",
    " 're": "'re",
}


class TextDecoder:
    """The decoding half of a bundle's tokenizer: every token that stands for text, also what a fine-tune added.

    If `content_hash` is given, the start-up cache keeps this half, so that later starts need not read the whole file.
    """

    def __init__(self, bundle: Path, content_hash: str | None = None) -> None:
        cached = None if content_hash is None else cached_decode(bundle, content_hash)
        self._decode = cached or of_tokenizer(_tokenizer(bundle / "tokenizer.json")).decode
        self._clean_up = bool(read_json(bundle / "tokenizer_config.json").get("clean_up_tokenization_spaces"))

    def __call__(self, tokens: Sequence[int]) -> str:
        """The text without special tokens, times, outer spaces, and bytes that make no letter."""
        text = self._decode(list(tokens)).replace(NO_LETTER, "")
        if self._clean_up:
            for spaced, clean in CLEAN_UP.items():
                text = text.replace(spaced, clean)
        return text.strip()

    def pieces(self, tokens: Sequence[int]) -> list[tuple[str, int]]:
        """The text piece by piece, with each piece's number of tokens: a letter that several tokens spell is whole.

        Together the pieces are the text with its outer spaces. Bytes that make no letter are left out.
        """
        found: list[tuple[str, int]] = []
        begin = since = 0
        shown = ""
        for stop in range(1, len(tokens) + 1):
            text = self._decode(list(tokens[begin:stop]))
            if text.endswith(NO_LETTER) and stop < len(tokens):
                continue
            found.append((text[len(shown) :].replace(NO_LETTER, ""), stop - since))
            # A decoder may strip the space before its first token, so that one token of context is kept.
            begin, since = stop - 1, stop
            shown = self._decode(list(tokens[begin:stop]))
        return found


def _tokenizer(path: Path) -> Tokenizer:
    # Later starts do without this package.
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare exceptions
        raise UserError("bundle", path, f"is not a tokenizer ({error}); export the bundle again") from None
