"""Kills a process at its n-th call of the system, to see what it leaves behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from edge_asr_deploy.bundle import writer

STEPS = ("mkdir", "rename", "replace", "fsync", "open")


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that ends, as by SIGKILL, at its n-th call. False when it ended before that."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    left = step

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*arguments, **options)

        return replaced

    for name in STEPS:
        setattr(os, name, killing(getattr(os, name)))
    shutil.rmtree = killing(shutil.rmtree)  # type: ignore[assignment]
    writer.exchange = killing(writer.exchange)
    work()
    os._exit(0)
