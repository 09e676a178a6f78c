"""A hash of the code that something was computed with: whoever keeps results puts it into their key.

The code is found, not listed: a module and every module of this package that it imports, directly or through others.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
# Neither messages, progress bars nor the way files are written change what is computed.
NEUTRAL = ("errors", "progress", "files", "cache", "sources", "cli", "harness.reporting")


def source_hash(modules: Sequence[str], without: Collection[str] = (), root: Path = ROOT) -> str:
    """A hash of the source of `modules` and of what they import from this package, 64 hexadecimal digits.

    Modules are named as seen from the package: `ptq.quantize`. Those in `without`, and all below them, are neither
    counted nor followed.
    """
    digest = hashlib.sha256()
    for name in sorted(reached(modules, without, root)):
        digest.update(name.encode() + b"\0" + _file(root, name).read_bytes())
    return digest.hexdigest()


def reached(modules: Sequence[str], without: Collection[str] = (), root: Path = ROOT) -> set[str]:
    """The names of `modules` and of all modules that they import, directly or through others."""
    left_out = (*NEUTRAL, *without)
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or any(name == one or name.startswith(f"{one}.") for one in left_out):
            continue
        found.add(name)
        waiting += imports_of(root, name)
    return found


@cache
def imports_of(root: Path, name: str) -> tuple[str, ...]:
    """The modules of the package that a module imports, wherever in it."""
    tree = ast.parse(_file(root, name).read_bytes())
    return tuple(dict.fromkeys(_imports(root, tree)))


def _imports(root: Path, tree: ast.AST) -> Iterator[str]:
    prefix = f"{ROOT.name}."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(prefix) for alias in node.names if alias.name.startswith(prefix))
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(prefix):
            module = str(node.module).removeprefix(prefix.rstrip(".")).removeprefix(".")
            if module:
                yield module
            for alias in node.names:
                child = f"{module}.{alias.name}".removeprefix(".")
                if _file(root, child).is_file():
                    yield child


def _file(root: Path, name: str) -> Path:
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
