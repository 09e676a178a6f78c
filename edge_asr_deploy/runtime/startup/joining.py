"""Joins the texts of tokens as the tokenizers package does, for the decoders that Whisper and Moonshine have.

The package itself takes 5 MB and 8 ms of a start, which needs nothing else of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edge_asr_deploy.bundle.vocabulary import byte_letters

# Makes one text of the texts of tokens.
Join = Callable[[Sequence[str]], str]
# The entry `decoder` of a `tokenizer.json`: Moonshine's and other SentencePiece vocabularies'.
PIECES = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def joiner(decoder: object) -> Join | None:
    """The function for the entry `decoder` of a `tokenizer.json`; None for one that only the package knows."""
    if decoder is None:
        return " ".join
    if decoder == PIECES:
        return join_pieces
    return join_bytes if isinstance(decoder, dict) and decoder.get("type") == "ByteLevel" else None


def join_bytes(texts: Sequence[str]) -> str:
    """Of texts whose letters stand for bytes (GPT-2's alphabet). A text with another letter stands for itself."""
    parts = []
    for text in texts:
        try:
            parts.append(bytes([LETTERS[letter] for letter in text]))
        except KeyError:
            parts.append(text.encode())
    return b"".join(parts).decode(errors="replace")


def join_pieces(texts: Sequence[str]) -> str:
    """Of texts in which `▁` is a space and `<0xE4>` a byte. Bytes that are no UTF-8 become one replacement each."""
    joined, run = "", bytearray()
    for text in texts:
        if match := BYTE.fullmatch(text):
            run.append(int(match[1], 16))
            continue
        joined += _decoded(run) + text.replace("▁", " ")
        run.clear()
    return (joined + _decoded(run)).removeprefix(" ")


def _decoded(run: bytearray) -> str:
    try:
        return run.decode()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}" * len(run)


LETTERS = {letter: number for number, letter in byte_letters().items()}
