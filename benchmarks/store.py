"""What was measured, one JSON file: written whole after every cell, so that a run can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.cells import Cell
from edge_asr_deploy.errors import UserError

Record = dict[str, Any]
DONE, FAILED, SKIPPED = "done", "failed", "skipped"


class Store:
    """Records by `Cell.key`. `head` describes the run (machine, clips): a store continues only the same run.

    Records of models in `forgotten` are left out, and with such models another run's, too. UserError when the file
    holds another run or is damaged.
    """

    def __init__(self, path: Path, head: dict[str, Any], forgotten: Collection[str] = ()) -> None:
        self.path, self.head = path, head
        self.records: dict[str, Record] = {}
        self._lock = Lock()
        if path.exists():
            document = read(path)
            if document["head"] == json.loads(json.dumps(head)):
                records = document["records"].items()
                self.records = {key: one for key, one in records if one["cell"]["model"] not in forgotten}
            elif not forgotten:
                raise UserError("--work", path, "was measured on another machine or other clips; give --fresh")

    def finished(self, cell: Cell, fingerprint: str | None = None, retry: bool = False) -> bool:
        """True when the cell need not run: done with the same bundle and code, or failed (unless `retry`)."""
        record = self.records.get(cell.key)
        if record is None or record["outcome"] == SKIPPED or record.get("fingerprint") != fingerprint:
            return False
        return record["outcome"] == DONE or not retry

    def put(self, cell: Cell, record: Record) -> None:
        """Keep a record. The file is replaced at once: it is never half written."""
        with self._lock:
            self.records[cell.key] = {"cell": asdict(cell), **record}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            document = {"head": self.head, "records": self.records}
            partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(partial, self.path)


def read(path: Path) -> dict[str, Any]:
    """The document of a store: `head` and `records`. UserError when it is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["records"], dict) or "head" not in document:
            raise ValueError("no records")
    except FileNotFoundError:
        raise UserError("--work", path, "nothing was measured yet; `make bench-peers` does") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("--work", path, f"is not a record of measurements ({error}); move it away") from None
    return document


def records(path: Path) -> list[Record]:
    """All records of a store."""
    return list(read(path)["records"].values())
