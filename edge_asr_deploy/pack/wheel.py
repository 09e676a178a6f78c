"""The running package as a wheel: built from what is installed, so a board gets exactly the code that runs here."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import edge_asr_deploy
from edge_asr_deploy.recipe.files import shipped

DISTRIBUTION = "edge-asr-deploy"
# The earliest time that a zip file can hold; equal contents give equal files.
_TIME = (1980, 1, 1, 0, 0, 0)
_WHEEL = b"Wheel-Version: 1.0\nGenerator: edge-deploy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(folder: Path) -> Path:
    """Write the wheel of this package into `folder`, byte for byte the same for the same code.

    Pure Python (https://packaging.python.org/en/latest/specifications/binary-distribution-format/): the package's
    files, with the installed distribution's metadata. No source tree and no build tool is needed.
    """
    distribution = metadata.distribution(DISTRIBUTION)
    name = f"{DISTRIBUTION.replace('-', '_')}-{distribution.version}"
    info = f"{name}.dist-info"
    contents = dict(_package_files())
    contents[f"{info}/METADATA"] = _metadata(distribution)
    contents[f"{info}/WHEEL"] = _WHEEL
    contents[f"{info}/entry_points.txt"] = (distribution.read_text("entry_points.txt") or "").encode()
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in sorted(contents.items())]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return wheel


def _package_files() -> Iterator[tuple[str, bytes]]:
    root = Path(edge_asr_deploy.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{root.name}/{path.relative_to(root).as_posix()}", path.read_bytes()
    # In a source tree the recipes stand beside the package; a wheel has them inside.
    for path in sorted(shipped().rglob("*.yaml")):
        yield f"{root.name}/recipe/shipped/{path.relative_to(shipped()).as_posix()}", path.read_bytes()


def _metadata(distribution: metadata.Distribution) -> bytes:
    # A source tree that was never installed has PKG-INFO; the format is the same.
    return (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
