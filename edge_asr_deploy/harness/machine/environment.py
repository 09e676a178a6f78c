"""The machine and the software that a measurement was made with."""

from __future__ import annotations

import os
import platform
from typing import Any

import onnxruntime
import psutil
from pydantic import BaseModel, ConfigDict, Field

import edge_asr_deploy
from edge_asr_deploy.harness.machine.state import ROOT, machine_name, read_text


class Environment(BaseModel):
    """The machine and the software."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    machine: str
    cores: int
    system: str
    python: str
    onnxruntime: str
    edge_asr_deploy: str
    governor: str | None = Field(description="cpufreq governor, where the system shows it")
    temperature: float | None = Field(description="hottest sensor at the start, degrees Celsius")


def environment() -> Environment:
    """Describe the CPU, the system and the versions: they decide speed and rounding."""
    return Environment(
        cpu=cpu_name(),
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        system=platform.platform(),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        edge_asr_deploy=edge_asr_deploy.__version__,
        governor=read_text(ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature=_temperature(),
    )


def cpu_name() -> str:
    """The board's name if it has one (`Raspberry Pi 5 Model B`), else the processor's."""
    return machine_name() or platform.processor() or platform.machine()


def _temperature() -> float | None:
    # psutil has no such function on systems without sensors.
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    return max((float(entry.current) for entries in sensors.values() for entry in entries), default=None)
