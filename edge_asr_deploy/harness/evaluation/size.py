"""The size of a bundle on disk, by component."""

from __future__ import annotations

from pathlib import Path

from edge_asr_deploy.bundle.manifest import own_files
from edge_asr_deploy.harness.evaluation.result import Size


def size_of(folder: Path) -> Size:
    """Sum up the bytes of a bundle's own files by component. An external data file counts with its graph."""
    sizes = {name: (folder / name).stat().st_size for name in own_files(folder)}
    graphs = {name: size for name, size in sizes.items() if ".onnx" in name}
    return Size(
        encoder=sum(size for name, size in graphs.items() if name.startswith("encoder")),
        decoder=sum(size for name, size in graphs.items() if name.startswith("decoder")),
        onnx=sum(graphs.values()),
        other=sum(sizes.values()) - sum(graphs.values()),
    )
