"""How one recipe document is laid over another: the one rule for `--set`, targets' storage and sweeps.

Documents are decoded YAML: nested mappings that are not validated yet. Nothing here changes a document in place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
# The three components that hold the Linear layers of the blocks: the key `blocks` stands for them.
BLOCKS = ("encoder", "cross_attention", "decoder")


def lay_over(document: Document, fragment: Mapping[str, Any]) -> Document:
    """`fragment` over `document`, as a new document: mappings merge key by key, everything else is replaced.

    A mapping with another `method` replaces the old one, so that no option of the old method is left in it. `blocks`
    in either is written out.
    """
    return _merged(spread_blocks(document), spread_blocks(fragment))


def spread_blocks(document: Mapping[str, Any]) -> Document:
    """The document with `blocks` written out for its three components. A component's own keys go over `blocks`."""
    if "blocks" not in document:
        return dict(document)
    rest = {key: value for key, value in document.items() if key != "blocks"}
    return _merged({name: copy.deepcopy(document["blocks"]) for name in BLOCKS}, rest)


def as_group(key: str, value: Any) -> Any:
    """The mapping that a value is short for: `activations` may be the kind alone. Other values stay as they are."""
    return {"kind": value} if key == "activations" and isinstance(value, str) else value


def _merged(document: Document, fragment: Mapping[str, Any]) -> Document:
    result = copy.deepcopy(document)
    for key, value in fragment.items():
        group = as_group(key, result.get(key))
        if isinstance(group, dict) and isinstance(value, Mapping) and not _is_other_method(group, value):
            result[key] = _merged(group, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _is_other_method(old: Document, new: Mapping[str, Any]) -> bool:
    return "method" in new and new["method"] != old.get("method")
