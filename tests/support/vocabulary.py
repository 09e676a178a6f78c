"""The vocabulary of small random models: a tokenizer of words without meaning, and Whisper's special tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models

# A multilingual Whisper's special tokens, in its vocabulary of 320.
SPECIAL = {"<|en|>": 300, "<|de|>": 301, "<|translate|>": 302, "<|transcribe|>": 303, "<|notimestamps|>": 304}
GENERATION = {
    "whisper": {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": 300, "<|de|>": 301},
        "task_to_id": {"translate": 302, "transcribe": 303},
        "no_timestamps_token_id": 304,
    },
    "moonshine": {},
}


def tokenizer() -> Tokenizer:
    """One word for each of the first 300 tokens, the special ones after them."""
    vocabulary = {f"▁w{number}": number for number in range(300)} | SPECIAL
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="▁w0"))
    built.decoder = decoders.Metaspace()
    built.add_special_tokens(list(SPECIAL))
    return built
