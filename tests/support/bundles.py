"""Bundles of small random models, as the pipeline leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import Manifest, Model
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.recipe.document import Recipe
from tests.support.vocabulary import tokenizer


def pack(folder: Path, name: str, model: Any, recipe: Recipe, graphs: Callable[[Path], dict[str, Any]]) -> Path:
    """A bundle of `model`: `graphs` writes the model files into a folder and says what the manifest has of them."""
    with BundleWriter(folder) as writer:
        stored = graphs(writer.folder)
        model.config.save_pretrained(writer.folder)
        model.generation_config.save_pretrained(writer.folder)
        tokenizer().save(str(writer.folder / "tokenizer.json"))
        writer.commit(
            Manifest(
                name=name,
                family=recipe.family,
                model=Model(name="tiny", origin="random", sha256="a" * 64),
                recipe=recipe.model_dump(mode="json"),
                versions={},
                created="2025-01-01T00:00:00+00:00",
                **stored,
            )
        )
    return folder
