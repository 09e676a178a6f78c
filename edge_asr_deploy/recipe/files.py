"""Recipe documents: read from YAML files, shipped ones by bits, overridden key by key, stored for targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from edge_asr_deploy.runtime.targets import Target


def shipped() -> Path:
    """The folder of shipped recipes: inside the installed package, or `recipes` of the source tree that runs."""
    installed = Path(__file__).with_name("shipped")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def load(path: Path) -> Recipe:
    """Read a recipe file."""
    return parse(load_document(path), path.name)


def load_document(path: Path) -> dict[str, Any]:
    """Read a recipe file without validating it, so that overrides can be laid over it first."""
    return read_mapping("--recipe", path, "at least `name` and `family`")


def read_mapping(thing: str, path: Path, content: str) -> dict[str, Any]:
    """A YAML file that holds a mapping; UserError, which names the file a `thing` and says the `content` it needs."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(thing, path, "no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(thing, path, f"cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(document, dict):
        raise UserError(thing, path, f"must be a YAML mapping with {content}")
    return document


def for_bits(family: str, bits: int) -> dict[str, Any]:
    """The shipped recipe document behind `--bits N`, 32 for the float baseline; other widths change those of `w4`,
    whose tied table never has fewer than the rest."""
    if bits == 32:
        return float_recipe(family).model_dump(mode="json")
    if bits not in range(2, 9):
        raise UserError("--bits", bits, "choose 2 to 8, or 32 for the float bundle")
    path = shipped() / f"{family}-w{bits}.yaml"
    if path.exists():
        return load_document(path)
    document = load_document(shipped() / f"{family}-w4.yaml")
    document["name"] = f"{family}-w{bits}"
    for component in ("encoder", "cross_attention", "decoder"):
        document[component]["weights"]["bits"] = bits
    table = document["embedding"]["weights"]
    table["bits"] = max(table["bits"], bits)
    return document


def stored_for(document: dict[str, Any], targets: Sequence[Target]) -> dict[str, Any]:
    """A recipe document for these targets, its codes stored so that all their kernels take them.

    Where one of them multiplies int8, groups get two-level scales, and 8-bit codes one symmetric scale per channel.
    """
    result = {**document, "target": [target.name for target in targets]}
    for component in COMPONENTS:
        spec: dict[str, Any] = document[component]["weights"]
        if not any(target.forms[component] == "int8" for target in targets) or spec["bits"] > 8:
            continue
        wide = {"granularity": "channel", "symmetric": True}
        change = wide if spec["bits"] == 8 else {"storage": "two-level"} if spec["granularity"] != "channel" else {}
        result[component] = {**document[component], "weights": {**spec, **change}}
    return result


def override(document: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Lay `key.path=value` settings (values as YAML) over a recipe document; returns a new one."""
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(document))
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path:
            raise UserError("--set", setting, "write key.path=value, for example decoder.weights.bits=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError("--set", setting, "the value is not YAML") from None
        node = result
        *parents, leaf = path.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if parent == "activations" and isinstance(child, str):  # The kind alone, short for a group.
                child = node[parent] = {"kind": child}
            if not isinstance(child, dict):
                raise UserError("--set", setting, f"`{parent}` is a value, not a group of keys")
            node = child
        node[leaf] = value
    return result
