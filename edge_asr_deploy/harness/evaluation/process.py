"""The parent's side of `harness.evaluation.worker`: a bundle opened in a fresh process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import TypeAdapter

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.options import Margin
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.cache import VARIABLE as STARTUP_CACHE
from edge_asr_deploy.runtime.transcript import Transcript


@dataclass(frozen=True)
class Answer:
    """A transcript, and the worker's peak memory after it in bytes."""

    transcript: Transcript
    peak_rss: int


class Worker:
    """A bundle in a process of its own, used as a context manager. `load_seconds` says how long opening took.

    `target` names one of the bundle's targets; without it the CPU decides. `audio_context` is the silence after the
    clip, in seconds, that Whisper's encoder gets; None stands for its whole window. Without `caches` nothing that an
    earlier start left is used, as befits who judges a bundle. Without `vad` sounds without speech are decoded, too.
    UserError when the bundle does not open, or when the process dies (on small boards mostly for lack of memory).
    """

    def __init__(
        self,
        bundle: Path,
        settings: SessionSettings,
        target: str | None = None,
        audio_context: Margin = None,
        caches: bool = True,
        vad: bool = True,
    ) -> None:
        # The import says, also to keys of caches, which code the process runs.
        from edge_asr_deploy.harness.evaluation import worker

        self.bundle = bundle
        # A process group of its own: Ctrl-C then reaches only the parent, which ends its workers itself.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            env=None if caches else {**os.environ, STARTUP_CACHE: "off"},
        )
        try:
            job = {
                "bundle": str(bundle),
                "settings": dataclasses.asdict(settings),
                "target": target,
                "audio_context": audio_context,
                "vad": vad,
            }
            self.load_seconds = float(self._ask(json.dumps(job).encode() + b"\n")["load_seconds"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def transcribe(self, samples: NDArray[np.float32], options: dict[str, str]) -> Answer:
        """Transcribe 16 kHz mono samples, shape (samples,); `options` are keywords of `Transcriber.transcribe`."""
        request = json.dumps({"samples": len(samples), "options": options}).encode() + b"\n"
        reply = self._ask(request + np.ascontiguousarray(samples, dtype=np.float32).tobytes())
        transcript: Transcript = TypeAdapter(Transcript).validate_python(reply["transcript"])
        return Answer(transcript, int(reply["peak_rss"]))

    def rss(self) -> int:
        """Resident memory of the process now, bytes."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                # Closing flushes the pipe. The worker is dead, so data that it never read may be dropped.
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _ask(self, request: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = self._process.wait()
            remedy = f"the process that ran it ended with code {code}; if that is -9, there was too little memory"
            raise UserError("bundle", self.bundle, remedy)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise UserError(*reply["error"])
        return reply
