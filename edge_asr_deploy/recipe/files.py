"""Recipe documents: read from YAML files, shipped ones by bits, overridden key by key, stored for targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe.document import float_recipe
from edge_asr_deploy.recipe.overlay import BLOCKS, Document, as_group, lay_over, spread_blocks
from edge_asr_deploy.recipe.reading import parse_yaml
from edge_asr_deploy.runtime.targets import Target


def shipped() -> Path:
    """The folder of shipped recipes: inside the installed package, or `recipes` of the source tree that runs."""
    installed = Path(__file__).with_name("shipped")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def load_document(path: Path) -> Document:
    """Read a recipe file without validating it, so that overrides can be laid over it first; `blocks` written out."""
    return spread_blocks(read_mapping("--recipe", path, "at least `name` and `family`"))


def read_mapping(thing: str, path: Path, content: str) -> Document:
    """A YAML file that holds a mapping; UserError, which names the file a `thing` and says the `content` it needs."""
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(thing, path, "no such file") from None
    except OSError as error:
        raise UserError(thing, path, f"cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise UserError(thing, path, f"cannot be read as YAML ({error})") from None
    if not isinstance(document, dict):
        raise UserError(thing, path, f"must be a YAML mapping with {content}")
    return document


def for_bits(family: str, bits: int) -> Document:
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
    for component in BLOCKS:
        document[component]["weights"]["bits"] = bits
    table = document["embedding"]["weights"]
    table["bits"] = max(table["bits"], bits)
    return document


def stored_for(document: Document, targets: Sequence[Target]) -> Document:
    """A recipe document for these targets, its codes stored so that all their kernels take them.

    Where one of them multiplies int8, groups get two-level scales, and 8-bit codes one symmetric scale per channel.
    """
    result = lay_over(document, {"target": [target.name for target in targets]})
    for component in COMPONENTS:
        spec = result[component]["weights"]
        if any(target.forms[component] == "int8" for target in targets):
            changes: Document = {"weights": _storage_for_int8(spec["bits"], spec["granularity"])}
            if component == "embedding":
                # Multipliers leave no room for rows of another width.
                changes["rare"] = None
            result = lay_over(result, {component: changes})
    return result


def _storage_for_int8(bits: int, granularity: str) -> Document:
    """What a weight spec must be changed to, so that integer kernels take its codes; nothing for float weights."""
    if bits == 8:
        return {"granularity": "channel", "symmetric": True}
    return {"storage": "two-level"} if bits < 8 and granularity != "channel" else {}


def override(document: Document, settings: Sequence[str]) -> Document:
    """Lay `key.path=value` settings (values as YAML) over a recipe document; returns a new one.

    A setting replaces exactly the key that it names. `blocks.weights.bits=3` sets it in all three components.
    """
    result = spread_blocks(document)
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path:
            raise UserError("--set", setting, "write key.path=value, for example decoder.weights.bits=3")
        try:
            value = parse_yaml(text)
        except ValueError:
            raise UserError("--set", setting, "the value is not YAML") from None
        first, *rest = path.split(".")
        for key in BLOCKS if first == "blocks" else (first,):
            result = _with_key(result, [key, *rest], value, setting)
    return result


def _with_key(document: Document, keys: Sequence[str], value: Any, setting: str) -> Document:
    """The document with `value` at the path `keys`; UserError, which cites the setting, where a key holds no group."""
    key, *rest = keys
    if not rest:
        return {**document, key: value}
    group = as_group(key, document.get(key, {}))
    if not isinstance(group, dict):
        raise UserError("--set", setting, f"`{key}` is a value, not a group of keys")
    return {**document, key: _with_key(group, rest, value, setting)}
