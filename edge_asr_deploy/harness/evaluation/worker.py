"""Runs one bundle in a process of its own: `python -m edge_asr_deploy.harness.evaluation.worker`.

`process.Worker` is the parent's side. Load time and peak memory are those of the bundle alone only if the process never
held anything else. Protocol: the first JSON line opens the bundle. Then follow, for each clip, one JSON line and the
samples as raw float32. Each request is answered by one JSON line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until the input ends. A UserError is sent to the parent and ends the process."""
    try:
        job = json.loads(requests.readline())
        started = time.perf_counter()
        settings = SessionSettings(**job["settings"])
        chosen = {name: job[name] for name in ("audio_context", "target", "vad")}
        transcriber = Transcriber.open(job["bundle"], settings, **chosen, verify=False)
        _reply(replies, {"load_seconds": time.perf_counter() - started})
        while line := requests.readline():
            request = json.loads(line)
            samples = np.frombuffer(requests.read(4 * request["samples"]), dtype=np.float32)
            transcript = transcriber.transcribe(samples, **request["options"])
            _reply(replies, {"transcript": dataclasses.asdict(transcript), "peak_rss": peak_rss()})
    except UserError as error:
        _reply(replies, {"error": [error.thing, str(error.value), error.remedy]})


def peak_rss() -> int:
    """The highest resident memory of this process so far, in bytes.

    On Linux, `ru_maxrss` starts at the size of the parent that forked this process; VmHWM counts only this program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reply(replies: IO[bytes], message: dict[str, Any]) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def main() -> None:
    """Serve on standard input and output."""
    replies = os.fdopen(os.dup(1), "wb")
    # Libraries may print to standard output; their lines must not mix with the replies.
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
