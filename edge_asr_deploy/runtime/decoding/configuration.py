"""Reads the small JSON files of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError

# Whisper's largest vocabulary has 51,866 tokens, Moonshine's 32,768; fine-tunes add some.
MOST_TOKENS = 1_000_000


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when the file is missing. UserError when the file holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("bundle", path, f"is not JSON ({error}); export the bundle again") from None
    if not isinstance(content, dict):
        raise UserError("bundle", path, "must be a JSON object; export the bundle again")
    return content


@dataclass(frozen=True)
class Settings:
    """Settings for decoding, each checked when it is asked for. UserError names the key, the value and the file."""

    values: Mapping[str, Any]
    path: Path

    @property
    def vocabulary(self) -> int:
        """How many token ids there are; `MOST_TOKENS` where the model does not say."""
        return self.count("vocab_size", MOST_TOKENS, MOST_TOKENS)

    def token(self, key: str) -> int:
        """One token id, which must be there."""
        return self._token(key, self.values.get(key))

    def optional_token(self, key: str) -> int | None:
        """One token id, or None."""
        value = self.values.get(key)
        return None if value is None else self._token(key, value)

    def tokens(self, key: str, required: bool = False) -> frozenset[int]:
        """Token ids, given as one number, as a list, or not at all; some may be outside the vocabulary."""
        value = self.values.get(key)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(_is_whole(token) for token in values) or (required and not values):
            raise self._wrong(key, value, "one token id or a list of them")
        return frozenset(values)

    def named_tokens(self, key: str) -> dict[str, int]:
        """Token ids by name; empty where there are none."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "token ids by name")
        return {str(name): self._token(key, token) for name, token in value.items()}

    def heads(self, key: str, layers: int, heads: int) -> tuple[tuple[int, int], ...]:
        """Pairs of layer and head; empty where there are none, or some that the model does not have."""
        named = self.values.get(key)
        pairs = [pair for pair in named if isinstance(pair, list)] if isinstance(named, list) else []
        valid = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and all(type(index) is int for index in pair)]
        inside = all(0 <= layer < layers and 0 <= head < heads for layer, head in valid)
        return tuple(valid) if inside else ()

    def text(self, key: str) -> str | None:
        """A word; None where there is none, or a list for several clips."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        value = self.values.get(key)
        value = default if value is None else value
        if not _is_whole(value) or not 0 < value <= most:
            raise self._wrong(key, value, f"a whole number from 1 to {most}")
        return int(value)

    def _token(self, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < self.vocabulary:
            raise self._wrong(key, value, f"a token id below {self.vocabulary}")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> UserError:
        return UserError("bundle", self.path, f"{key} is {repr(value)[:60]}, not {wanted}; export the bundle again")


def read_generation(bundle: Path) -> Settings:
    """The settings for decoding: `generation_config.json`, completed from `config.json`."""
    path = bundle / "generation_config.json"
    generation = {key: value for key, value in read_json(path).items() if value is not None}
    return Settings({**read_json(bundle / "config.json"), **generation}, path)


def in_order(tokens: Iterable[int], vocabulary: int) -> NDArray[np.intp]:
    """Token ids in order, without those outside the vocabulary: -1 stands for none, and fine-tunes leave others."""
    return np.array(sorted(token for token in tokens if 0 <= token < vocabulary), np.intp)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
