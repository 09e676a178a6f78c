"""Tests stand alone: what several need is in `tests/support`, and nothing outside `tests` imports from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
OUTSIDE = sorted(path.relative_to(ROOT) for name in ("benchmarks", "tools") for path in (ROOT / name).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Every module and every name of a module that a source imports, as a dotted path."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def forbidden(source: str) -> list[str]:
    """Imports from a test module or from a conftest."""
    parts = {name: name.split(".") for name in imported(source)}
    return [name for name, path in parts.items() if any(p.startswith("test_") or p == "conftest" for p in path)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_test_imports_from_a_test_or_a_conftest(path: Path) -> None:
    assert forbidden((ROOT / path).read_text()) == []


def test_such_an_import_would_be_noticed() -> None:
    names = ["tests.cli.test_export.run", "tests.cli.test_bench", ".conftest.data"]
    source = "def f():\n    from tests.cli.test_export import run\nfrom tests.cli import test_bench\n"
    assert forbidden(f"{source}from .conftest import data\nfrom tests.support import tiny\n") == [
        names[1],
        names[2],
        names[0],
    ]


@pytest.mark.parametrize("path", OUTSIDE, ids=str)
def test_programs_do_not_need_the_tests(path: Path) -> None:
    assert [name for name in imported((ROOT / path).read_text()) if name.split(".")[0] == "tests"] == []


def test_fixtures_of_several_folders_are_named_so() -> None:
    """A module of `tests/support` that defines fixtures is called `fixtures_...`."""
    support = [path for path in FILES if path.parts[1] == "support"]
    with_fixtures = [path.stem for path in support if "@pytest.fixture" in (ROOT / path).read_text()]
    assert with_fixtures and all(name.startswith("fixtures") for name in with_fixtures)
