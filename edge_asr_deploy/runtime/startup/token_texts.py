"""The decoding half of a tokenizer: half a megabyte, whereas Whisper's whole tokenizer takes 22 MB and 50 ms."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.bundle.vocabulary import TIME
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.startup.cache import load_or_make
from edge_asr_deploy.runtime.startup.joining import Join, joiner

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Part of every cache key. Raise it when other files are written.
LAYOUT = 4
TEXTS, SPANS, DECODER = "texts.npy", "spans.npy", "decoder.json"
# Empty values for the parts of a tokenizer that are only needed from text to tokens.
NO_ENCODING: dict[str, Any] = {
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""},
}
# Every number up to the last takes room, so that one token of the number 4 billion would take all memory. Whisper has
# 51,866 tokens, the largest vocabularies of other models have 262,144.
MOST_TOKENS = 1_000_000
# The begin of a span whose token gives no text.
SKIPPED = -1


@dataclass(frozen=True)
class TokenTexts:
    """The text of every token, and the function that joins texts.

    `texts` is the UTF-8 of all tokens, one after the other. `spans`, (tokens, 2), tells where each begins and ends; it
    is SKIPPED for special tokens, times and unused ids.
    """

    texts: NDArray[np.uint8]
    spans: NDArray[np.int64]
    join: Join

    def decode(self, tokens: Sequence[int]) -> str:
        """The same text as `Tokenizer.decode`, without special tokens and times."""
        spans = (self.spans[token].tolist() for token in tokens if token < len(self.spans))
        texts = [self.texts[start:end].tobytes().decode() for start, end in spans if start != SKIPPED]
        return self.join(texts)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder that `write` filled."""
        content = (folder / DECODER).read_text(encoding="utf-8")
        join = joiner(json.loads(content)["decoder"]) or _join_of(_tokenizer(content))
        return cls(np.load(folder / TEXTS), np.load(folder / SPANS), join)


def write(tokenizer_file: Path, folder: Path) -> None:
    """Write the decoding half of a `tokenizer.json` to a folder."""
    content = tokenizer_file.read_text(encoding="utf-8")
    made = of_tokenizer(_tokenizer(content))
    np.save(folder / TEXTS, made.texts)
    np.save(folder / SPANS, made.spans)
    (folder / DECODER).write_text(json.dumps({**json.loads(content), **NO_ENCODING}), encoding="utf-8")


def of_tokenizer(tokenizer: Tokenizer) -> TokenTexts:
    """The decoding half of a tokenizer. Special tokens and times have no text; all other added tokens do.

    UserError for numbers of tokens that no vocabulary has.
    """
    added = tokenizer.get_added_tokens_decoder()
    silent = {token for token, one in added.items() if one.special or TIME.fullmatch(one.content)}
    numbers = tokenizer.get_vocab(with_added_tokens=True).values()
    last = max(numbers, default=-1)
    if last >= MOST_TOKENS:
        remedy = f"has a token of the number {last}, and no model has {MOST_TOKENS}; export the bundle again"
        raise UserError("bundle", "tokenizer.json", remedy)
    texts = [None if token in silent else tokenizer.id_to_token(token) for token in range(last + 1)]
    if "ByteLevel" in repr(tokenizer.decoder):
        # The decoder takes every text for bytes, which it is not where a person added it: `Zürich` would lose its `ü`.
        from tokenizers.pre_tokenizers import ByteLevel

        to_bytes = ByteLevel(add_prefix_space=False, use_regex=False)
        for token in added.keys() - silent:
            texts[token] = "".join(piece for piece, _ in to_bytes.pre_tokenize_str(added[token].content))
    encoded = [(text or "").encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    spans[[text is None for text in texts]] = SKIPPED
    return TokenTexts(np.frombuffer(b"".join(encoded), np.uint8), spans, _join_of(tokenizer))


def cached_decode(bundle: Path, content_hash: str) -> Callable[[Sequence[int]], str] | None:
    """The function from tokens to text for the bundle of this hash, through the cache. None when the cache fails."""
    about = f"layout {LAYOUT}\ntokenizer of {content_hash}\nnumpy {np.__version__}"
    return load_or_make(
        f"texts/{content_hash[:16]}",
        about,
        lambda partial: write(bundle / "tokenizer.json", partial),
        lambda folder: TokenTexts.read(folder).decode,
    )


def _tokenizer(content: str) -> Tokenizer:
    """Of the text of a `tokenizer.json`. The package is imported here, because most starts do without it."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(content)


def _join_of(tokenizer: Tokenizer) -> Join:
    """Its own decoder; without one, spaces between texts."""
    decoder = tokenizer.decoder
    return " ".join if decoder is None else lambda texts: str(decoder.decode([*texts]))
