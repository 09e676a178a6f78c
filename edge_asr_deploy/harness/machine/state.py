"""A board's clock, temperature and throttling, and whether they disturbed a measurement.

All files are read below a root folder, so that tests can lay out a Raspberry Pi of their own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

ROOT = Path("/")
# Under the governor `performance`, a clock below this share of its highest reading was slowed down.
SLOWED = 0.85
# Bits of the Raspberry Pi firmware's get_throttled (raspberrypi.com, documentation of vcgencmd). The same bits shifted
# by SINCE_BOOT tell what happened since boot.
THROTTLE_BITS = {
    0: "under-voltage",
    1: "clock capped",
    2: "throttled",
    3: "soft temperature limit",
}
SINCE_BOOT = 16

Vcgencmd = Callable[[str], str | None]


class BoardState(BaseModel):
    """The state of a board at one moment. A field is None if the board does not show it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    governor: str | None = Field(None, description="of cpufreq")
    temperature: float | None = Field(None, description="hottest thermal zone, degrees Celsius")
    mhz: float | None = Field(None, description="clock of the slowest core")
    limit_mhz: float | None = Field(None, description="highest clock now allowed")
    throttled: int | None = Field(None, description="get_throttled of a Raspberry Pi's firmware, as bits")
    throttle_events: int | None = Field(None, description="x86: how often cores and package were slowed since boot")
    cooling: int | None = Field(None, description="steps by which cooling devices slow the processor, summed")

    @property
    def flags(self) -> list[str]:
        """What the firmware reports for this moment."""
        return [name for bit, name in THROTTLE_BITS.items() if (self.throttled or 0) >> bit & 1]

    @property
    def flags_since_boot(self) -> list[str]:
        """What the firmware reports for the time since boot."""
        return [name for bit, name in THROTTLE_BITS.items() if (self.throttled or 0) >> (bit + SINCE_BOOT) & 1]


def run_vcgencmd(command: str) -> str | None:
    """The output of the Raspberry Pi's own tool. None if the tool is missing or fails."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run([tool, command], capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None


def board_state(root: Path = ROOT, vcgencmd: Vcgencmd = run_vcgencmd) -> BoardState:
    """Read the state. Not for use during a timing: it reads files, and on a Raspberry Pi it starts a process."""
    cpus = root / "sys/devices/system/cpu"
    zones = [*_numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    if not zones:
        zones = [*_numbers((root / "sys/class/hwmon").glob("hwmon*/temp*_input"))]
    clocks = [*_numbers(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    limits = [*_numbers(cpus.glob("cpu[0-9]*/cpufreq/scaling_max_freq"))]
    events = [*_numbers(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))]
    governor_texts = [read_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")]
    governors = sorted({text for text in governor_texts if text})
    cooling = [
        *_numbers(
            device / "cur_state"
            for device in (root / "sys/class/thermal").glob("cooling_device*")
            if re.match(r"cpufreq|Processor|cpu", read_text(device / "type") or "")
        )
    ]
    return BoardState(
        governor=", ".join(governors) or None,
        temperature=max(zones) / 1000 if zones else None,
        mhz=min(clocks) / 1000 if clocks else None,
        limit_mhz=min(limits) / 1000 if limits else None,
        throttled=_throttled(root, vcgencmd),
        throttle_events=int(sum(events)) if events else None,
        cooling=int(sum(cooling)) if cooling else None,
    )


def disturbances(states: Sequence[BoardState]) -> list[str]:
    """Why times measured between these states cannot be compared; empty when they can.

    Every state except the first should be read right after work, while the clock is still high.
    """
    reasons = [f"{name} while measuring" for state in states for name in state.flags]
    for before, after in pairwise(states):
        reasons += [f"{name} in between" for name in after.flags_since_boot if name not in before.flags_since_boot]
        if after.throttle_events is not None and after.throttle_events > (before.throttle_events or 0):
            reasons.append("the processor was slowed by heat or power in between")
        if before.governor != after.governor:
            reasons.append(f"the governor changed from {before.governor} to {after.governor}")
        if before.limit_mhz and after.limit_mhz and after.limit_mhz < before.limit_mhz:
            reasons.append(f"the allowed clock fell from {before.limit_mhz:.0f} to {after.limit_mhz:.0f} MHz")
    if any(state.cooling for state in states):
        reasons.append("a cooling device lowered the clock")
    clocks = [state.mhz for state in states if state.mhz and state.governor == "performance"]
    if clocks and min(clocks) < SLOWED * max(clocks):
        reasons.append(f"the clock fell from {max(clocks):.0f} to {min(clocks):.0f} MHz")
    return list(dict.fromkeys(reasons))


def machine_name(root: Path = ROOT) -> str | None:
    """The board's name if it has one (`Raspberry Pi 5 Model B`), else the processor's, else None."""
    model = re.search(r"^model name\s*:\s*(.+)$", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return read_text(root / "proc/device-tree/model") or (model[1].strip() if model else None)


def read_text(path: Path) -> str | None:
    """The text of a file of /proc or /sys without outer spaces. None if it is missing or empty."""
    with suppress(OSError):
        # Device-tree strings end in a zero byte.
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    return None


def _throttled(root: Path, vcgencmd: Vcgencmd) -> int | None:
    """From sysfs if the kernel shows it (hexadecimal without 0x), else from `vcgencmd` (`throttled=0x50000`)."""
    files = sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled"))
    text = (read_text(files[0]) if files else None) or vcgencmd("get_throttled") or ""
    with suppress(ValueError):
        return int(text.rpartition("=")[2], 16)
    return None


def _numbers(paths: Iterator[Path]) -> Iterator[float]:
    for path in sorted(paths):
        with suppress(ValueError):
            yield float(read_text(path) or "")
