"""The virtual environment on a board: this package's pinned requirements, by the board's index or from here."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_asr_deploy.boards.ssh import Connection
from edge_asr_deploy.boards.sync import hashes, synchronize
from edge_asr_deploy.pack.requirements import MACHINES, download_wheels, pip_fault, requirements

OLDEST_PYTHON = (3, 11)
# What pip downloads and unpacks for the base install, with some air.
SPACE = 300_000_000


def check_board(connection: Connection) -> str:
    """The board's pip platform (a key of MACHINES). UserError when this package cannot run there."""
    about = connection.about
    python = ".".join(map(str, about["python"]))
    if tuple(about["python"]) < OLDEST_PYTHON:
        connection.fail(f"its python3 is {python}; install Python 3.11 or newer")
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(about["machine"], about["machine"])
    platform = next((name for name, known in MACHINES.items() if known == machine), None)
    if platform is None or about["bits"] != 64 or about["system"] != "Linux":
        system = f"{about['system']} on {about['machine']}, {about['bits']} bits"
        connection.fail(f"is {system}; bundles run on 64-bit Linux on {' or '.join(MACHINES.values())}")
    if not about["venv"]:
        connection.fail("its python3 cannot make environments; install venv (Debian: apt install python3-venv)")
    return platform


def make_environment(connection: Connection, platform: str) -> str:
    """Make the environment unless it is there; its key. UserError when pip cannot, neither there nor from here.

    A board without internet gets wheels that this machine downloads for it.
    """
    python = ".".join(map(str, connection.about["python"]))
    key = hashlib.sha256(f"{python}\n{requirements(platform)}".encode()).hexdigest()[:16]
    first = _ask(connection, key, platform, {})
    if first["made"]:
        return key
    with tempfile.TemporaryDirectory() as folder:
        wheels = {path: sha256 for path, sha256 in hashes(download_wheels(platform, [python], Path(folder))).items()}
        synchronize(connection, wheels)
        second = _ask(connection, key, platform, {path.name: sha256 for path, sha256 in wheels.items()})
    if not second["made"]:
        connection.fail(f"no environment can be made there ({pip_fault(second['log'])}); mend its Python or pip")
    return key


def _ask(connection: Connection, key: str, platform: str, wheels: Mapping[str, str]) -> dict[str, Any]:
    return connection.ask("environment", key=key, requirements=requirements(platform), wheels=wheels, space=SPACE)
