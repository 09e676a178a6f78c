"""The names of a bundle's small files: a module of its own, since a start reads them without the manifest."""

from __future__ import annotations

# What of `tokenizer.json` is written again for engines that do not read it (`bundle.vocabulary`).
VOCABULARY_FILES = ("vocab.json", "merges.txt", "added_tokens.json", "tokens.txt")
# The files that a bundle carries beside the graphs. The runtime and other engines read them by these names.
SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "normalizer.json",
    *VOCABULARY_FILES,
)
