"""Files to be copied to a board: names, hashes, and the copying of missing ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.boards.ssh import Connection
from edge_asr_deploy.bundle.manifest import own_files
from edge_asr_deploy.errors import UserError


@dataclass(frozen=True)
class Files:
    """A command's argument that is a file or a folder. `path` is its path on the board, below the job's folder.

    `contents` are its local files, by their path on the board. `shown` is the argument as the user wrote it.
    `is_speech`: it is removed from the board after the run.
    """

    path: str
    contents: Mapping[str, Path]
    shown: str
    is_speech: bool = True


def files_of(path: Path, folder: str) -> Files:
    """A local file or folder as an argument: it keeps its name and lies in `folder` on the board.

    A folder is a bundle, of which only its own files go there; a file is speech. UserError if the file is missing.
    """
    place = f"{folder}/{path.resolve().name}"
    if path.is_dir():
        files = sorted(path / name for name in own_files(path) if (path / name).is_file())
        return Files(place, {f"{place}/{file.relative_to(path).as_posix()}": file for file in files}, str(path), False)
    if not path.is_file():
        raise UserError("file", path, "no such file; correct the path")
    return Files(place, {place: path}, str(path))


def hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """The sha256 of each file. UserError for a file that cannot be read."""
    sha256s = {}
    for path in dict.fromkeys(paths):
        try:
            with path.open("rb") as file:
                sha256s[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError("file", path, f"cannot be read ({error.strerror}); check its permissions") from None
    return sha256s


def missing_bytes(missing: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """How many bytes still have to be copied. `missing` says how many bytes of each file the board already has."""
    return sum(sizes[sha256] - arrived for sha256, arrived in missing.items())


def synchronize(connection: Connection, sha256s: Mapping[Path, str]) -> int:
    """Copy those files (path and sha256) that the board lacks. Returns the bytes copied.

    The board hashes the files it has. A copy that was interrupted continues where it stopped. A file gets its final
    name only when it is complete and its hash is right.
    """
    by_hash = {sha256: path for path, sha256 in sha256s.items()}
    sizes = {sha256: path.stat().st_size for sha256, path in by_hash.items()}
    missing = connection.ask("have", files=sizes)["missing"]
    if not missing.keys() <= sizes.keys():
        connection.fail("asks for files that it was not offered; check what its python3 runs")
    for sha256, arrived in missing.items():
        offset = arrived if arrived < sizes[sha256] else 0
        connection.put(by_hash[sha256], sha256, offset)
    return missing_bytes(missing, sizes)
