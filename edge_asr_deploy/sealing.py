"""Hashes inside what is kept: whatever was changed behind our back counts as absent, and is made again.

A seal finds damage and edits. It does not stop somebody who may write the folder and makes the seal anew, which is why
caches lie in folders that nobody else may write (`cache.own`).
"""

from __future__ import annotations

from pathlib import Path

SEAL = "SHA256SUMS"
_MARK = "\nsha256 "


def sealed(text: str) -> str:
    """A text with its own hash in a last line."""
    return f"{text}{_MARK}{_digest(text.encode())}\n"


def unsealed(content: bytes) -> str | None:
    """The text that `sealed` got; None for anything else."""
    try:
        whole = content.decode()
    except UnicodeDecodeError:
        return None
    text, mark, _ = whole.rpartition(_MARK)
    return text if mark and whole == sealed(text) else None


def seal_folder(folder: Path) -> None:
    """Write the hashes of a folder's files into it, as `sha256sum` would."""
    (folder / SEAL).write_text(_sums(folder), encoding="utf-8")


def is_sealed(folder: Path) -> bool:
    """Whether a folder holds what it held when it was sealed. Every byte is read."""
    try:
        return (folder / SEAL).read_bytes() == _sums(folder).encode()
    except OSError:
        return False


def _sums(folder: Path) -> str:
    import hashlib

    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != SEAL:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


def _digest(content: bytes) -> str:
    # Imported here: it loads OpenSSL, 3 MB that a later start of the runtime does not need.
    import hashlib

    return hashlib.sha256(content).hexdigest()
