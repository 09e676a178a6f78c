"""YAML as people mean it: no key twice, `no` is a word, and no document that unfolds to more than anyone writes."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

# Nodes of a document with its aliases written out. The largest sweep of this project has some hundred.
MOST_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """The safe loader, whose booleans are those of YAML 1.2: `no`, `on` and `y` are words, as in `language: no`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; ConstructorError for a key that stands in it twice. Keys that `<<` brings in may stand again."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in lines:
                    reason = f"`{key.value}` stands in line {lines[key.value]} and again in line {line}; keep one"
                    raise yaml.constructor.ConstructorError(None, None, reason)
                lines[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def parse_yaml(text: str) -> Any:
    """The value of a YAML document. ValueError, with the reason in one line, for anything that is none."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _unfolded(node, {}) > MOST_NODES:
                raise ValueError(f"its aliases unfold to more than {MOST_NODES} values; write it without them")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _unfolded(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values a node stands for when every alias is written out; more than the limit inside itself."""
    if node not in known:
        # A node that is met again before it is counted holds itself.
        known[node] = MOST_NODES + 1
        parts = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[node] = 1 + sum(_unfolded(part, known) for part in parts)
    return known[node]
