"""Reads the small JSON files of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when the file is missing. UserError when the file holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
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


def token_set(value: int | list[int] | None) -> frozenset[int]:
    """The set of token ids that a configuration gives as one number, as a list or not at all."""
    return frozenset([value] if isinstance(value, int) else value or [])
