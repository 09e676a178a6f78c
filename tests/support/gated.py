"""Two bundles for the gate to judge, and edits of their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from edge_asr_deploy.bundle.manifest import MANIFEST, Graphs, Layer, read_manifest
from edge_asr_deploy.bundle.writer import BundleWriter

ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"


@dataclass(frozen=True)
class Gated:
    """Two bundles in one folder, the 4-bit one's record, and the manifest of the speech."""

    bundle: Path
    float_bundle: Path
    baseline: Path
    data: Path

    def altered(
        self,
        folder: Path,
        edit: Callable[[Path], None],
        layers: list[Layer] | None = None,
        rehash: bool = True,
        targets: dict[str, Graphs] | None = None,
    ) -> Path:
        """A copy of the 4-bit bundle after `edit`; with `rehash` its manifest vouches for the changed files."""
        destination = folder / self.bundle.name
        if not rehash:
            shutil.copytree(self.bundle, destination)
            edit(destination)
            return destination
        manifest = read_manifest(self.bundle)
        with BundleWriter(destination) as writer:
            for path in self.bundle.iterdir():
                if path.name != MANIFEST:
                    shutil.copyfile(path, writer.folder / path.name)
            edit(writer.folder)
            changes = {"layers": layers or manifest.layers, "targets": targets or manifest.targets}
            writer.commit(manifest.model_copy(update=changes))
        return destination


def edit_graph(name: str, change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    """An edit of one model file of a bundle."""

    def edit(folder: Path) -> None:
        model = onnx.load(folder / name)
        change(model)
        onnx.save(model, folder / name)

    return edit
