"""Measurements that took time, stored one by one, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_asr_deploy.files import write_atomically


class Measurements:
    """JSON values by name, in one file in `folder` (None: in memory only).

    `key` is everything else that the values depend on: hashes, settings, versions. A file that cannot be
    read counts as empty. One that cannot be written is left out; its values are then measured again.
    """

    def __init__(self, folder: Path | None, *key: str) -> None:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
        self.path = None if folder is None else folder / f"{name}.json"
        self._values: dict[str, Any] = {}
        if self.path is not None:
            with suppress(OSError, ValueError):
                self._values = dict(json.loads(self.path.read_text(encoding="utf-8")))

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The value of that name: the stored one, or measured now and stored."""
        if name not in self._values:
            self._values[name] = measure()
            self._save()
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def _save(self) -> None:
        if self.path is None:
            return
        with suppress(OSError):
            write_atomically(self.path, json.dumps(self._values, indent=1))
