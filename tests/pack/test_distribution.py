"""The recipes are part of what is distributed: in the source distribution, and in the wheel that is built from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "77", reason="builds the package with setuptools, without isolation")

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def recipes_below(folder: Path) -> dict[str, bytes]:
    """The contents of a folder's recipes by their paths below it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.yaml")}


RECIPES = recipes_below(ROOT / "recipes")


def built(kind: str, source: Path, folder: Path) -> Path:
    """What setuptools builds of a source tree: `sdist` or `wheel`."""
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=source, env={}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder / ran.stdout.splitlines()[-1]


def python(program: str, package: Path, folder: Path) -> str:
    """What Python prints with the package of a folder."""
    environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of a wheel that was built from the source distribution."""
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in ("recipes", "edge_asr_deploy"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(built("sdist", source, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    with zipfile.ZipFile(built("wheel", unpacked, folder)) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


def test_every_recipe_is_found_in_an_installed_package(installed: Path, tmp_path: Path) -> None:
    program = "from edge_asr_deploy.recipe.files import shipped; print(shipped())"
    folder = Path(python(program, installed, tmp_path))
    assert folder == installed / "edge_asr_deploy" / "recipe" / "shipped"
    assert recipes_below(folder) == RECIPES


def test_the_installed_package_has_the_files_of_the_source_tree(installed: Path) -> None:
    source, found = ROOT / "edge_asr_deploy", installed / "edge_asr_deploy"
    expected = {path.relative_to(source) for path in source.rglob("*.*") if "__pycache__" not in path.parts}
    recipes = {Path("recipe", "shipped", name) for name in RECIPES}
    assert {path.relative_to(found) for path in found.rglob("*.*")} == expected | recipes


def test_a_wheel_that_the_installed_package_makes_of_itself_has_them_once(installed: Path, tmp_path: Path) -> None:
    program = "from pathlib import Path; from edge_asr_deploy.pack.wheel import build_wheel; print(build_wheel(Path()))"
    with zipfile.ZipFile(tmp_path / python(program, installed, tmp_path)) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".yaml")]
    assert sorted(names) == sorted(f"edge_asr_deploy/recipe/shipped/{name}" for name in RECIPES)
