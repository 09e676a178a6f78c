"""Moonshine's own `tokenizer.bin` to `tokenizer.json`.

`tokenizer.bin` lists the pieces in the order of their ids: a length (one byte below 128, else two:
low + 128 * high - 128), then the bytes. Llama's tokenizer it is: three control tokens, 256 single bytes, and
SentencePiece BPE pieces in the order in which they were merged, so the merges can be told from the pieces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy.checkpoints.checkpoint import write_json
from edge_asr_deploy.errors import UserError

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPACE = "▁"
CONTROL = (UNKNOWN, BEGIN, END)
FIRST_PIECE = len(CONTROL) + 256
FIRST_ADDED = 32_000


def write_tokenizer(source: Path, vocabulary: int, folder: Path) -> None:
    """Write `tokenizer.json` and its two configuration files; it decodes and encodes as the vendor's `tokenizer.json`.

    `vocabulary` counts ids: where the file ends before them, the vendor's names of the unused ids are filled in.
    UserError when the file is not in the vendor's format.
    """
    pieces = read_pieces(source)
    if len(pieces) < FIRST_ADDED or tuple(pieces[: len(CONTROL)]) != tuple(c.encode() for c in CONTROL):
        raise UserError("--model", source, "is no Moonshine tokenizer; install the wheel again")
    write_json(folder / "tokenizer.json", _document(pieces[:FIRST_ADDED], vocabulary))
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Wav2Vec2Processor",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    write_json(folder / "tokenizer_config.json", {**configuration, **special})


def read_pieces(path: Path) -> list[bytes]:
    """The pieces of a `tokenizer.bin`, in the order of their ids. UserError when it is cut short."""
    data, position, pieces = path.read_bytes(), 0, []
    while position < len(data):
        length = data[position]
        position += 1
        if length >= 128 and position < len(data):
            length += 128 * data[position] - 128
            position += 1
        if position + length > len(data):
            raise UserError("--model", path, "is cut short; install the wheel again")
        pieces.append(data[position : position + length])
        position += length
    return pieces


def _document(pieces: list[bytes], vocabulary: int) -> dict[str, Any]:
    texts = [piece.decode() for piece in pieces[: len(CONTROL)]]
    texts += [f"<0x{byte:02X}>" for byte in range(256)]
    # The vendor wrote the file line by line, so the one piece that is a line separator came out empty.
    texts += [piece.decode() or "\u2028" for piece in pieces[FIRST_PIECE:]]
    ids = {text: number for number, text in enumerate(texts)}
    added = {number: text for number, text in enumerate(CONTROL)}
    added |= {number: f"<<ST_{number - FIRST_ADDED}>>" for number in range(FIRST_ADDED, vocabulary)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(number, text) for number, text in added.items()],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": _begin_with(BEGIN),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [f"{left} {right}" for left, right in _merges(ids)],
        },
    }


def _merges(ids: dict[str, int]) -> list[tuple[str, str]]:
    """All splits of every piece into two pieces, in the order of the pieces; runs of spaces are merged last."""
    pieces = [text for text, number in ids.items() if number >= FIRST_PIECE]
    pieces.sort(key=lambda text: (set(text) == {SPACE}, ids[text]))
    merges: list[tuple[str, str]] = []
    for text in pieces:
        splits = [(text[:at], text[at:]) for at in range(1, len(text)) if text[:at] in ids and text[at:] in ids]
        merges += sorted(splits, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges


def _added_token(number: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": True}


def _begin_with(token: str) -> dict[str, Any]:
    def begin(kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin(0), first],
        "pair": [begin(0), first, begin(1), second],
        "special_tokens": {token: {"id": token, "ids": [CONTROL.index(token)], "tokens": [token]}},
    }
