"""Machines laid out below a folder, as /proc and /sys show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

A72 = "fp asimd evtstrm crc32 cpuid"
A76 = "fp asimd evtstrm aes pmull crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def pi(
    root: Path,
    features: str = A72,
    governor: str = "performance",
    celsius: float = 50.0,
    mhz: float = 1500.0,
    throttled: int | None = 0,
    free_mb: int = 2000,
    model: str = "Raspberry Pi 4 Model B Rev 1.4",
) -> Path:
    """A Raspberry Pi of four cores; called again it changes."""
    core = "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: {}\n\n"
    files: dict[str, Any] = {
        "proc/cpuinfo": "".join(core.format(number, features) for number in range(4)),
        "proc/meminfo": f"MemTotal:        3885396 kB\nMemFree: 1 kB\nMemAvailable:   {free_mb * 1000} kB\n",
        "proc/device-tree/model": model + "\0",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "sys/class/thermal/thermal_zone0/temp": round(celsius * 1000),
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": 3,
    }
    for number in range(4):
        folder = f"sys/devices/system/cpu/cpu{number}/cpufreq"
        files |= {
            f"{folder}/scaling_governor": governor,
            f"{folder}/scaling_cur_freq": round(mhz * 1000),
            f"{folder}/scaling_max_freq": 1_500_000,
        }
    if throttled is not None:
        files["sys/devices/platform/soc/soc:firmware/get_throttled"] = f"{throttled:x}"
    return lay_out(root, files)


def lay_out(root: Path, files: dict[str, Any]) -> Path:
    """Write files below `root`."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root
