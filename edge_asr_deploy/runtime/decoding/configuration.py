"""Reads the small JSON files of a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError


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


def read_generation(bundle: Path) -> dict[str, Any]:
    """The settings for decoding: `generation_config.json`, completed from `config.json`."""
    generation = {
        key: value for key, value in read_json(bundle / "generation_config.json").items() if value is not None
    }
    return {**read_json(bundle / "config.json"), **generation}


def token_ids(value: int | list[int] | None, vocabulary: int | None) -> NDArray[np.intp]:
    """Token ids in order, without those outside the vocabulary: -1 stands for none, and fine-tunes leave others."""
    known = range(sys.maxsize if vocabulary is None else vocabulary)
    return np.array(sorted(token for token in token_set(value) if token in known), np.intp)


def token_set(value: int | list[int] | None) -> frozenset[int]:
    """The set of token ids that a configuration gives as one number, as a list or not at all."""
    return frozenset([value] if isinstance(value, int) else value or [])
