"""sherpa-onnx's `tokens.txt`: for each token the base64 of its bytes, a space, and its number."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import tokenizers

from edge_asr_deploy.runtime.startup.token_texts import SKIPPED, of_tokenizer

# How SentencePiece's vocabularies write a space, and a byte that is no letter by itself.
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_table(tokenizer: Path) -> str:
    """The contents of `tokens.txt` for a `tokenizer.json`. Tokens without text have no line: the engine skips them."""
    read = tokenizers.Tokenizer.from_file(str(tokenizer))
    texts = of_tokenizer(read)
    of_letter = _bytes_of_letters() if "ByteLevel" in repr(read.decoder) else None
    lines = []
    for token, (start, end) in enumerate(texts.spans.tolist()):
        text = "" if start == SKIPPED else texts.texts[start:end].tobytes().decode()
        if text:
            raw = _raw(text) if of_letter is None else bytes(of_letter[letter] for letter in text)
            lines.append(f"{base64.b64encode(raw).decode()} {token}\n")
    return "".join(lines)


def _raw(text: str) -> bytes:
    byte = BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace(SPACE, " ").encode()


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others get letters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
