"""Files that go along to a board: named, hashed, and copied where they are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.boards.ssh import Connection
from edge_asr_deploy.errors import UserError


@dataclass(frozen=True)
class Files:
    """An argument that is a file or a folder: `path` names it on the board, below the job's folder.

    `contents` are the files it consists of, by their path there; `shown` is what the user calls it.
    """

    path: str
    contents: Mapping[str, Path]
    shown: str


def files_of(path: Path, folder: str) -> Files:
    """A local file or folder as an argument that keeps its name, below `folder` on the board. UserError if missing."""
    name = f"{folder}/{path.resolve().name}"
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
        return Files(name, {f"{name}/{file.relative_to(path).as_posix()}": file for file in found}, str(path))
    if not path.is_file():
        raise UserError("file", path, "no such file; correct the path")
    return Files(name, {name: path}, str(path))


def hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """sha256 of files. UserError for one that cannot be read."""
    found = {}
    for path in dict.fromkeys(paths):
        try:
            with path.open("rb") as file:
                found[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError("file", path, f"cannot be read ({error.strerror}); mend that first") from None
    return found


def missing_bytes(missing: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Bytes still to be copied of files whose first bytes may be there already."""
    return sum(sizes[sha256] - there for sha256, there in missing.items())


def synchronize(connection: Connection, known: Mapping[Path, str]) -> int:
    """Copy what the board lacks of these files (path and sha256). Returns the bytes copied.

    The board hashes what it has; a file that was cut off earlier goes on where it ended. Nothing gets its name before
    it is complete and its hash is right.
    """
    by_hash = {sha256: path for path, sha256 in known.items()}
    sizes = {sha256: path.stat().st_size for sha256, path in by_hash.items()}
    missing = connection.ask("have", files=sizes)["missing"]
    for sha256, there in missing.items():
        connection.put(by_hash[sha256], sha256, there if there < sizes[sha256] else 0)
    return missing_bytes(missing, sizes)
