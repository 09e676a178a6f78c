"""One cell in a process of its own: `python -m edge_asr_deploy.experiments.sweep.worker`, driven by `sweep.local`.

It reads the store's folder and the job, a line each, and writes lines of JSON: stages, and at last the outcome.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread
from typing import IO

from edge_asr_deploy.experiments.sweep.cells import attempt, from_json, outcome_to_json
from edge_asr_deploy.experiments.sweep.store import Store
from edge_asr_deploy.progress import as_text


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Run the one job."""

    def tell(message: dict[str, str]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    store = Store(Path(requests.readline().rstrip("\n")))
    job = from_json(requests.readline())
    Thread(target=_end_with_parent, args=(requests,), daemon=True).start()
    tell({"outcome": outcome_to_json(attempt(job, store, lambda *report: tell({"stage": as_text(*report)})))})


def _end_with_parent(requests: IO[str]) -> None:
    # The parent keeps its end open as long as it lives, however it dies. Read past Python's buffer, whose lock the
    # interpreter would wait for when it ends.
    while os.read(requests.fileno(), 1024):
        continue
    os._exit(1)


def main() -> None:
    """Serve on standard input and output."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a library prints must not get between the replies.
    os.dup2(2, 1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
