"""Tests stand alone: what several need is in `tests/support`, and nothing outside `tests` imports from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fast

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


@pytest.mark.parametrize("name", fast.FAST)
def test_every_fast_test_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert f"def {test.partition('[')[0] or 'test_'}" in (ROOT / "tests" / file).read_text()


def test_fast_tests_touch_every_room() -> None:
    """Each room of the package is imported by a fast test itself, or by a helper of its folder."""
    package = ROOT / "edge_asr_deploy"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} | {"pipeline", "stages"}
    helpers = {str(path.parent / "conftest.py") for path in map(Path, fast.FILES)}
    texts = [ROOT / "tests" / name for name in (*fast.FILES, *helpers) if (ROOT / "tests" / name).exists()]
    touched = {name for path in texts for name in imported(path.read_text()) if name.startswith(package.name)}
    assert {room for room in rooms if not any(f".{room}." in f"{name}." for name in touched)} == set()


def test_fixtures_of_several_folders_are_named_so() -> None:
    """A module of `tests/support` that defines fixtures is called `fixtures_...`."""
    support = [path for path in FILES if path.parts[1] == "support"]
    with_fixtures = [path.stem for path in support if "@pytest.fixture" in (ROOT / path).read_text()]
    assert with_fixtures and all(name.startswith("fixtures") for name in with_fixtures)
