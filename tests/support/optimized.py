"""What onnxruntime makes of a model file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edge_asr_deploy.harness.inspection.inspect import LARGE, count, expanded, optimized


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs in a model file after onnxruntime's optimization, including subgraphs."""
    return count(optimized(path))


def large_dequantize(path: Path, min_elements: int = LARGE) -> list[str]:
    """Names of the DequantizeLinear nodes of at least `min_elements` elements that survive the optimization."""
    return expanded(optimized(path), min_elements)
