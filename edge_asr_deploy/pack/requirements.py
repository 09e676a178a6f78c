"""The packages that a board needs: one pinned list (requirements.txt), and their wheels for other machines."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

from edge_asr_deploy.errors import UserError

# The machines that onnxruntime has wheels for, as pip's platform tags name them.
MACHINES = {"linux_aarch64": "aarch64", "linux_x86_64": "x86_64"}
# Debian 12, the oldest system with Python 3.11, has glibc 2.36; manylinux2014 stands for all that is older than 2.18.
_NEWEST_GLIBC = 36


def requirements(platform: str) -> str:
    """The pinned list for a platform (a key of MACHINES): `name==version` with the sha256 of its wheels.

    It is complete, so that pip installs it without dependencies; a wheel with another hash is refused.
    """
    folder = resources.files("edge_asr_deploy.pack")
    parts = [folder.joinpath("requirements.txt"), folder.joinpath(f"requirements-{MACHINES[platform]}.txt")]
    return "".join(part.read_text(encoding="utf-8") for part in parts if part.is_file())


@dataclass(frozen=True)
class Pin:
    """A package of the list: its name, its version, and the sha256 of the wheels that may be installed."""

    name: str
    version: str
    sha256s: tuple[str, ...]


def pins(platform: str) -> list[Pin]:
    """The packages of the list for a platform."""
    found = []
    for line in requirements(platform).replace("\\\n", " ").splitlines():
        if not line.startswith("#"):
            pin, *options = line.split()
            name, _, version = pin.partition("==")
            found.append(Pin(name, version, tuple(option.removeprefix("--hash=sha256:") for option in options)))
    return found


def platform_tags(machine: str) -> list[str]:
    """The options that tell pip which wheels run on such a processor under Debian 12 and newer."""
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(18, _NEWEST_GLIBC + 1))]
    return [word for tag in tags for word in ("--platform", f"{tag}_{machine}")]


def download_wheels(platform: str, pythons: Sequence[str], folder: Path) -> list[Path]:
    """Fetch the wheels of the pinned list for `platform` (a key of MACHINES) and these Pythons (`3.11`) into `folder`.

    Uses this machine's pip, index and cache. UserError when pip is missing, or finds no wheel.
    """
    if util.find_spec("pip") is None:
        raise UserError("pip", sys.executable, "has no pip to download wheels with; `python -m ensurepip` brings it")
    with tempfile.TemporaryDirectory() as inputs:
        listed = Path(inputs) / "requirements.txt"
        listed.write_text(requirements(platform), encoding="utf-8")
        for python in pythons:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
            command += ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest", str(folder)]
            command += ["--require-hashes", *platform_tags(MACHINES[platform])]
            ran = subprocess.run([*command, "--requirement", str(listed)], capture_output=True, text=True)
            if ran.returncode:
                raise UserError("wheels", f"{platform}, Python {python}", pip_fault(ran.stderr))
    return sorted(folder.glob("*.whl"))


def pip_fault(log: str) -> str:
    """The line of pip's messages that names the error."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    faults = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (faults or lines or ["pip gave no reason"])[-1]
