"""The resources of a machine: cores, memory, word size and disk. Files are read below a root folder, for tests."""

from __future__ import annotations

import platform
import re
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.harness.machine.state import ROOT, machine_name, read_text
from edge_asr_deploy.runtime.cpu import CpuFeatures, cpu_features, usable_cores


@dataclass(frozen=True)
class Machine:
    """A machine's resources. `memory`, `available` and `disk` are bytes; a container's memory limit is respected.

    `cores` are those that this process may use. `bits` is the word size of Python, `kernel_bits` that of the kernel: a
    32-bit system on a 64-bit kernel is common on older Raspberry Pi cards.
    """

    name: str
    cpu: CpuFeatures
    cores: int
    memory: int | None
    available: int | None
    disk: int
    bits: int
    kernel_bits: int
    python: str
    system: str


def read_machine(root: Path = ROOT, folder: Path | None = None, architecture: str | None = None) -> Machine:
    """Describe this machine, or one whose files lie below `root`. `folder` says on which disk free space is counted.

    `architecture` replaces the output of `uname -m`.
    """
    cpu = cpu_features(read_text(root / "proc/cpuinfo") or "", architecture)
    memory, available = _memory(root)
    return Machine(
        name=machine_name(root) or platform.processor() or cpu.architecture,
        cpu=cpu,
        cores=_cores(root),
        memory=memory,
        available=available,
        disk=shutil.disk_usage(folder or Path.cwd()).free,
        bits=8 * struct.calcsize("P"),
        kernel_bits=64 if "64" in cpu.architecture else 32,
        python=platform.python_version(),
        system=_system(root),
    )


def _memory(root: Path) -> tuple[int | None, int | None]:
    """Total and available memory in bytes: the smaller of the machine's and the control group's (version 2)."""
    lines = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read_text(root / "proc/meminfo") or "", re.MULTILINE))
    total, available = (int(lines[key]) * 1024 if key in lines else None for key in ("MemTotal", "MemAvailable"))
    with suppress(ValueError, TypeError):
        # The file holds "max" if there is no limit, and is missing outside control groups.
        limit = int(read_text(root / "sys/fs/cgroup/memory.max") or "")
        used = int(read_text(root / "sys/fs/cgroup/memory.current") or "0")
        # Cached files count as used, but the kernel drops them when memory is needed.
        cached = re.search(r"^inactive_file (\d+)$", read_text(root / "sys/fs/cgroup/memory.stat") or "", re.MULTILINE)
        used -= int(cached[1]) if cached else 0
        total = min(limit, total or limit)
        available = min(max(0, limit - used), available or limit)
    return total, available


def _cores(root: Path) -> int:
    if root == ROOT:
        return usable_cores()
    return len(re.findall(r"^processor\s*:", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)) or 1


def _system(root: Path) -> str:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', read_text(root / "etc/os-release") or "", re.MULTILINE))
    return release.get("PRETTY_NAME") or platform.platform()
