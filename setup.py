"""Builds the package with its recipes: `recipes/` of the source tree becomes `edge_asr_deploy/recipe/shipped/`.

All else about the package is in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).parent / "recipes"
TARGET = Path("edge_asr_deploy", "recipe", "shipped")


class BuildWithRecipes(build_py):
    """Builds the package's files, then adds the recipes. An editable install reads them from the source tree."""

    def run(self) -> None:
        """Build, and replace the recipes of an earlier build."""
        super().run()
        if not self.editable_mode:
            shutil.rmtree(self.build_lib / TARGET, ignore_errors=True)
            for source, target in self._recipes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file that the build writes."""
        recipes = [] if self.editable_mode else [str(target) for _, target in self._recipes()]
        return [*super().get_outputs(include_bytecode), *recipes]

    def _recipes(self) -> list[tuple[Path, Path]]:
        """Each recipe of the source tree, and where the build puts it."""
        found = sorted(SOURCE.rglob("*.yaml"))
        return [(path, self.build_lib / TARGET / path.relative_to(SOURCE)) for path in found]


setup(cmdclass={"build_py": BuildWithRecipes})
