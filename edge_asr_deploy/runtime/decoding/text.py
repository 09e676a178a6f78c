"""Tokens to text, as Transformers' `batch_decode(skip_special_tokens=True)`, stripped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.decoding.configuration import read_json
from edge_asr_deploy.runtime.startup.token_texts import kept_decode

# What Transformers does to a decoded text when the tokenizer's configuration asks to clean up spaces.
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
    """The tokenizer of a bundle, one way. Token ids from `first_timestamp` on are times, not text.

    For a bundle of a known hash what decoding needs of it is kept, and the rest not read again.
    """

    def __init__(self, bundle: Path, first_timestamp: int | None = None, bundle_hash: str | None = None) -> None:
        kept = None if bundle_hash is None else kept_decode(bundle, bundle_hash)
        self._decode = kept or _tokenizer(bundle / "tokenizer.json").decode
        self._first_timestamp = first_timestamp
        self._clean_up = bool(read_json(bundle / "tokenizer_config.json").get("clean_up_tokenization_spaces"))

    def __call__(self, tokens: Sequence[int]) -> str:
        """The text without special tokens and outer spaces."""
        last = self._first_timestamp
        text: str = self._decode([token for token in tokens if last is None or token < last])
        for spaced, clean in CLEAN_UP.items() if self._clean_up else ():
            text = text.replace(spaced, clean)
        return text.strip()


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare exceptions
        raise UserError("bundle", path, f"is no tokenizer ({error}); export the bundle again") from None
