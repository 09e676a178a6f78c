"""Opens sessions from graphs that onnxruntime optimized at an earlier start, with weights mapped from disk.

Optimizing takes most of the time and memory of loading: packed codes are unpacked (`pieces`), then onnxruntime fuses
low-bit operators. The result depends on the bundle, onnxruntime, the processor and the accuracy level,
so a cache entry is about all of these.
"""

from __future__ import annotations

import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

import onnxruntime

from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.memory import release_memory
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.startup.cache import load_or_make
from edge_asr_deploy.runtime.startup.pieces import unpack_codes

# Part of every cache key. Raise it when sessions are created in another way.
LAYOUT = 4
MODEL = "model.onnx"


def open_optimized(path: Path, settings: SessionSettings, content_hash: str | None) -> onnxruntime.InferenceSession:
    """Like `open_session`, but with an optimized copy from the start-up cache if `content_hash` is given."""
    if content_hash is None:
        return open_session(path, settings)
    about = describe(path.name, settings, content_hash)
    session = load_or_make(
        f"graphs/{path.stem}-{content_hash[:16]}-{zlib.crc32(about.encode()):08x}",
        about,
        lambda partial: _optimize(path, settings, partial),
        lambda folder: open_session(folder / MODEL, settings, optimized=True),
    )
    return session or open_session(path, settings)


def describe(graph: str, settings: SessionSettings, content_hash: str) -> str:
    """Everything that the optimized copy of a bundle's graph depends on."""
    cpu = cpu_features()
    parts = (
        f"layout {LAYOUT}",
        f"{graph} of {content_hash}",
        f"accuracy level {settings.accuracy_level}",
        f"onnxruntime {onnxruntime.__version__} {onnxruntime.get_build_info()}",
        f"{cpu.architecture} {' '.join(sorted(cpu.flags))}",
    )
    return "\n".join(parts)


def _optimize(path: Path, settings: SessionSettings, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = path
        # Where codes cannot be unpacked here, onnxruntime unpacks them, or says what is wrong with the graph.
        with suppress(Exception):
            source = unpack_codes(path, Path(scratch))
        open_session(source, settings, save_to=folder / MODEL)
    # Optimizing leaves a hundred megabytes unused.
    release_memory()
