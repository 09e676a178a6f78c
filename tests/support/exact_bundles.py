"""Bundles that compute exactly in engines that are not ours."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_asr_deploy.runtime.exact import needs_unsigned, with_unsigned_operands


def exact_here(bundle: Path, copies: Path) -> Path:
    """The bundle, or where this processor's signed kernel saturates a copy in `copies` with unsigned operands.

    Our runtime makes these operands when it opens a bundle. Other engines read the graphs as they are stored.
    """
    changed = [path for path in sorted(bundle.glob("*.onnx")) if needs_unsigned(path)]
    if not changed:
        return bundle
    copy = copies / bundle.name
    shutil.copytree(bundle, copy)
    for path in changed:
        (copy / path.name).write_bytes(with_unsigned_operands(path))
    return copy
