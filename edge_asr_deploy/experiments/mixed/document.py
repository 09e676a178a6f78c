"""A recipe as the YAML file that `export --recipe` takes."""

from __future__ import annotations

import yaml

from edge_asr_deploy.recipe.document import Recipe


def as_yaml(recipe: Recipe, comments: tuple[str, ...] = ()) -> str:
    """The recipe's every key, below comment lines."""
    document = recipe.model_dump(mode="json", exclude_none=True)
    head = "".join(f"# {line}\n" for line in comments)
    return head + yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)
