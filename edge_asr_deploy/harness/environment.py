"""The machine a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnxruntime
import psutil

import edge_asr_deploy
from edge_asr_deploy.harness.result import Environment


def environment() -> Environment:
    """Name the CPU, the system and the versions that decide about speed and rounding."""
    return Environment(
        cpu=cpu_name(),
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        system=platform.platform(),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        edge_asr_deploy=edge_asr_deploy.__version__,
        governor=_first_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature=_temperature(),
    )


def cpu_name() -> str:
    """The board's name where there is one (`Raspberry Pi 5 Model B`), else the processor's."""
    board = _first_text("/proc/device-tree/model")
    info = _first_text("/proc/cpuinfo") or ""
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return board or (model[1].strip() if model else "") or platform.processor() or platform.machine()


def _first_text(path: str) -> str | None:
    with suppress(OSError):
        # Device-tree strings end in a zero byte.
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    return None


def _temperature() -> float | None:
    # psutil has no such function on systems without sensors.
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    return max((float(entry.current) for entries in sensors.values() for entry in entries), default=None)
