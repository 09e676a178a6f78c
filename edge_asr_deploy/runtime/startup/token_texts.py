"""The decoding half of a tokenizer: half a megabyte, where the whole of Whisper's takes 22 MB and 50 ms to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_asr_deploy.runtime.startup.cache import use

# Part of every entry: raise it when other files are written.
LAYOUT = 1
TEXTS, SPANS, DECODER = "texts.npy", "spans.npy", "decoder.json"
# What a tokenizer has besides, for the way from text to tokens.
OTHER_WAY: dict[str, Any] = {
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""},
}
# The beginning of a token that gives no text.
SKIPPED = -1


@dataclass(frozen=True)
class Pieces:
    """What every token stands for, and what joins them.

    `texts`: the UTF-8 of all tokens, one after the other. `spans`, (tokens, 2): where each begins and ends; SKIPPED for
    special ones and numbers without a token. `decoder`: of the tokenizers package; None puts spaces between.
    """

    texts: NDArray[np.uint8]
    spans: NDArray[np.int64]
    decoder: Any

    def decode(self, tokens: Sequence[int]) -> str:
        """What `Tokenizer.decode` gives, special tokens skipped."""
        spans = (self.spans[token].tolist() for token in tokens if token < len(self.spans))
        pieces = [self.texts[start:end].tobytes().decode() for start, end in spans if start != SKIPPED]
        return " ".join(pieces) if self.decoder is None else str(self.decoder.decode(pieces))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From a folder that `write` filled."""
        decoder = tokenizers.Tokenizer.from_str((folder / DECODER).read_text(encoding="utf-8")).decoder
        return cls(np.load(folder / TEXTS), np.load(folder / SPANS), decoder)


def write(tokenizer_file: Path, folder: Path) -> None:
    """Write the decoding half of a `tokenizer.json`."""
    content = tokenizer_file.read_text(encoding="utf-8")
    tokenizer = tokenizers.Tokenizer.from_str(content)
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    numbers = tokenizer.get_vocab(with_added_tokens=True).values()
    texts = [
        None if token in special else tokenizer.id_to_token(token) for token in range(max(numbers, default=-1) + 1)
    ]
    encoded = [(text or "").encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    spans[[text is None for text in texts]] = SKIPPED
    np.save(folder / TEXTS, np.frombuffer(b"".join(encoded), np.uint8))
    np.save(folder / SPANS, spans)
    (folder / DECODER).write_text(json.dumps({**json.loads(content), **OTHER_WAY}), encoding="utf-8")


def kept_decode(bundle: Path, bundle_hash: str) -> Callable[[Sequence[int]], str] | None:
    """Tokens to text for a bundle of that hash, kept since an earlier start or from now on; None without a cache."""
    about = f"layout {LAYOUT}\ntokenizer of {bundle_hash}\ntokenizers {tokenizers.__version__} numpy {np.__version__}"
    return use(
        f"texts/{bundle_hash[:16]}",
        about,
        lambda partial: write(bundle / "tokenizer.json", partial),
        lambda folder: Pieces.read(folder).decode,
    )
