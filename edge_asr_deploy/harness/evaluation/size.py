"""The size of a bundle on disk, by component."""

from __future__ import annotations

from pathlib import Path

from edge_asr_deploy.harness.evaluation.result import Size


def size_of(folder: Path) -> Size:
    """Sum up the bytes of a bundle's files by component. An external data file counts with its graph."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    graphs = {name: size for name, size in sizes.items() if ".onnx" in name}
    return Size(
        encoder=sum(size for name, size in graphs.items() if name.startswith("encoder")),
        decoder=sum(size for name, size in graphs.items() if name.startswith("decoder")),
        onnx=sum(graphs.values()),
        other=sum(sizes.values()) - sum(graphs.values()),
    )
