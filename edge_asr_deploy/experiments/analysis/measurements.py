"""Figures that took time, kept as they are made, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_asr_deploy.files import write_atomically


class Measurements:
    """JSON values by name, in one file in `folder` (None: kept in memory alone).

    `key` is everything but the name that decides about the values: hashes, settings, versions. A file that cannot be
    read counts as empty, one that cannot be written costs time and nothing else.
    """

    def __init__(self, folder: Path | None, *key: str) -> None:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
        self.path = None if folder is None else folder / f"{name}.json"
        self._known: dict[str, Any] = {}
        if self.path is not None:
            with suppress(OSError, ValueError):
                self._known = dict(json.loads(self.path.read_text(encoding="utf-8")))

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The value of that name: known, or measured now and written down."""
        if name not in self._known:
            self._known[name] = measure()
            self._save()
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def _save(self) -> None:
        if self.path is None:
            return
        with suppress(OSError):
            write_atomically(self.path, json.dumps(self._known, indent=1))
