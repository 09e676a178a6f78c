"""The processor: its architecture, the instruction sets that the kernel lists, the cores that a process may use."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Other systems' names for what Linux calls x86_64 and aarch64.
_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
# Without these x86 adds pairs of int8 products in 16 bits, which overflow (VPMADDUBSW).
_EXACT_ON_X86 = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True)
class CpuFeatures:
    """`architecture` as Linux names it (`x86_64`, `aarch64`, `armv7l`); `flags` in the kernel's spelling.

    x86: `avx2`, `avx512_vnni`; ARM: `asimddp` (dot products), `i8mm` (int8 matrix products).
    """

    architecture: str
    flags: frozenset[str]

    @property
    def saturates(self) -> bool:
        """True if this processor cuts off the sum of two uint8 by int8 products at 16 bits (`runtime.exact`)."""
        return self.architecture == "x86_64" and not self.flags & _EXACT_ON_X86

    @property
    def target(self) -> str:
        """The target made for this processor: `x86`, `pi5` (64-bit ARM with dot products), `pi4` (without), `generic`.

        The Raspberry Pi 4's Cortex-A72 lacks `asimddp`, the Pi 5's Cortex-A76 has it. The target `x86` multiplies int8,
        so an x86-64 processor that does not sum these products exactly is `generic`.
        """
        if self.architecture == "x86_64":
            return "generic" if self.saturates else "x86"
        if self.architecture == "aarch64":
            return "pi5" if "asimddp" in self.flags else "pi4"
        return "generic"


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may keep busy: by its affinity, by the quotas of its control groups, at least 1.

    A quota of 2.5 cores counts as 2, since threads beyond a quota all stop together until the next period. Files are
    read below `root`, for tests; the affinity is that of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quota of each control group around this process, in cores: version 2 (`cpu.max`) and version 1."""
    groups = _read(root / "proc/self/cgroup").splitlines()
    for line in groups:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0":
            top = root / "sys/fs/cgroup"
            files: tuple[str, ...] = ("cpu.max",)
        elif "cpu" in controllers.split(","):
            top = root / "sys/fs/cgroup/cpu"
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            words = " ".join(_read(top.joinpath(*parts[:depth], name)) for name in files).split()
            if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
                yield int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_features(cpuinfo: str | None = None, machine: str | None = None) -> CpuFeatures:
    """The features of this machine, or of the machine with this /proc/cpuinfo text and this `uname -m`.

    If cores differ (big.LITTLE), a flag counts only if every core has it, because a thread may run on any core. Systems
    without /proc/cpuinfo have no flags.
    """
    if cpuinfo is None:
        cpuinfo = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    name = (machine or platform.machine()).lower()
    # The line is named "flags" on x86 and "Features" on ARM. The line "vmx flags" of x86 does not matter here.
    cores = [set(line.split()) for line in re.findall(r"^(?:flags|Features)[ \t]*:(.*)$", cpuinfo, re.MULTILINE)]
    return CpuFeatures(_ALIASES.get(name, name), frozenset(set.intersection(*cores) if cores else ()))
