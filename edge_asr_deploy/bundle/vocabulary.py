"""The vocabulary in the forms that other engines read, made from `tokenizer.json`; this package reads that file alone.

* `vocab.json` and `merges.txt`: the parts of a BPE model as Transformers' slow tokenizers keep them;
* `added_tokens.json`: the added tokens that are not in that vocabulary, with their ids. Whisper's times are in it even
  where `tokenizer.json` lacks them: engines that suppress nothing may get one from the model and look its name up;
* `tokens.txt`, sherpa-onnx's form: base64 of a token's bytes, a space, the id. Special tokens are left out, since
  that engine writes every token it finds there.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.side_files import VOCABULARY_FILES

VOCABULARY, MERGES, ADDED, TOKENS = VOCABULARY_FILES
# SentencePiece's sign for a space, and its tokens for single bytes.
SPACE = "\u2581"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# How Whisper's tokenizers write times. Some have no such tokens, some have other words in the same places; in some they
# are not special.
TIME = re.compile(r"<\|\d+\.\d\d\|>")
# Times follow it.
NO_TIMESTAMPS = "<|notimestamps|>"


def write_vocabulary(folder: Path) -> None:
    """Write the files that are missing beside the folder's `tokenizer.json`."""
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    stored = json.loads(content)
    model = stored["model"]
    vocabulary = _vocabulary(model)
    files = {VOCABULARY: json.dumps(vocabulary, ensure_ascii=False), TOKENS: _tokens(content, stored)}
    if model.get("merges"):
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
        files[MERGES] = "\n".join(["#version: 0.2", *pairs, ""])
    added = {token["content"]: token["id"] for token in stored.get("added_tokens", [])}
    named = {text: number for text, number in added.items() if text not in vocabulary}
    files[ADDED] = json.dumps(named | _times(vocabulary | added), indent=2)
    for name, text in files.items():
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")


def _times(tokens: Mapping[str, int]) -> dict[str, int]:
    """Whisper's times at the ids that no token has; empty for other models."""
    if NO_TIMESTAMPS not in tokens:
        return {}
    taken = set(tokens.values())
    times = enumerate(time_tokens(), tokens[NO_TIMESTAMPS] + 1)
    return {text: number for number, text in times if text not in tokens and number not in taken}


def token_table(tokenizer: Path) -> str:
    """The contents of `tokens.txt` for a `tokenizer.json`."""
    content = tokenizer.read_text(encoding="utf-8")
    return _tokens(content, json.loads(content))


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """Ids by token. Unigram models store a list of tokens with scores, all others a dict."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _tokens(content: str, stored: Mapping[str, Any]) -> str:
    # The runtime takes constants from this module, and starts without this package.
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content)
    is_bytes = "ByteLevel" in json.dumps(stored.get("decoder"))
    values = {text: value for value, text in byte_letters().items()}
    added = tokenizer.get_added_tokens_decoder()
    lines = []
    for text, number in sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1]):
        one = added.get(number)
        if one is not None and (one.special or TIME.fullmatch(text)):
            continue
        if one is not None:
            spoken = text.encode()
        elif is_bytes:
            spoken = bytes(values[letter] for letter in text)
        elif single := BYTE.fullmatch(text):
            spoken = bytes.fromhex(single[1])
        else:
            spoken = text.replace(SPACE, " ").encode()
        if spoken:
            lines.append(f"{base64.b64encode(spoken).decode()} {number}\n")
    return "".join(lines)


def time_tokens() -> list[str]:
    """Whisper's times in the order of their ids: from 0.00 to 30.00 s in steps of 0.02 s."""
    return [f"<|{0.02 * number:.2f}|>" for number in range(1501)]


def byte_letters() -> dict[int, str]:
    """The letter of each byte in a byte-level vocabulary (GPT-2): printable bytes stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {value: chr(256 + n) for n, value in enumerate(others)}
