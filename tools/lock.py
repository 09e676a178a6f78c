"""Write the hashes of the pinned packages anew, after a version was changed: `python -m tools.lock`.

For every Python and processor of boards pip chooses the wheel (nothing is downloaded); the lists in
`edge_asr_deploy/pack` get the sha256 of each. It asks the package index that pip is configured for.

What exporting needs beside torch is pinned to the versions of the environment that this runs in. Which torch one takes
depends on the machine (CUDA or not) and its index, so torch is pinned by its version alone, where it is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from edge_asr_deploy.pack.requirements import MACHINES, platform_tags

PROJECT = "edge-asr-deploy"
FOLDER = Path(__file__).parents[1] / "edge_asr_deploy" / "pack"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LISTS = {"requirements.txt": tuple(MACHINES.values()), "requirements-build.txt": ("x86_64",)}
LISTS |= {f"requirements-{machine}.txt": (machine,) for machine in MACHINES.values()}
# For the image that exports and for CI, which run Python 3.11.
EXPORT, EXPORT_PYTHON = Path(__file__).with_name("requirements-export.txt"), "3.11"
EXTRAS = ("export", "demo")


def main() -> None:
    """Rewrite every list that is there."""
    for name, machines in LISTS.items():
        path = FOLDER / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            pins = [line.split()[0] for line in text.splitlines() if re.match(r"\w", line)]
            comments = [line for line in text.splitlines() if line.startswith("#")]
            path.write_text(locked(comments, pins, machines, PYTHONS), encoding="utf-8")
    comments = ["# All that exporting needs but torch; made by `python -m tools.lock`, like the hashes."]
    text = locked(comments, export_pins(), tuple(MACHINES.values()), (EXPORT_PYTHON,))
    EXPORT.write_text(text, encoding="utf-8")


def export_pins() -> list[str]:
    """Every package that the extras for exporting bring in, at the version that is installed here, without torch."""
    found: dict[str, set[str]] = {}

    def visit(name: str, extras: Iterable[str]) -> None:
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key == "torch":
            return
        new = {"", *extras} - found.setdefault(key, set())
        found[key] |= new
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            if any(needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in new):
                visit(needed.name, needed.extras)

    visit(PROJECT, EXTRAS)
    return sorted(f"{name}=={metadata.version(name)}" for name in found if name != PROJECT)


def locked(comments: list[str], pins: list[str], machines: tuple[str, ...], pythons: tuple[str, ...]) -> str:
    """The list with the hashes of the wheels for these machines and Pythons."""
    hashes = hashes_of(pins, machines, pythons)
    lines = [[pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[pin]))] for pin in pins]
    return "\n".join([*comments, *(" \\\n    ".join(words) for words in lines), ""])


def hashes_of(pins: list[str], machines: tuple[str, ...], pythons: tuple[str, ...]) -> dict[str, set[str]]:
    """The sha256 of every wheel that pip would take, by pin."""
    found: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        listed, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        listed.write_text("\n".join(pins), encoding="utf-8")
        for machine in machines:
            for python in pythons:
                command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
                command += ["--no-deps", "--only-binary=:all:", "--target", folder, "--python-version", python]
                command += [*platform_tags(machine), "--requirement", str(listed), "--report", str(report)]
                subprocess.run(command, check=True)
                chosen = [one["download_info"] for one in json.loads(report.read_bytes())["install"]]
                by_name = {_name(info["url"]): info["archive_info"]["hashes"]["sha256"] for info in chosen}
                for pin in pins:
                    found[pin].add(by_name[pin.partition("==")[0].replace("-", "_")])
    return found


def _name(url: str) -> str:
    return url.rpartition("/")[2].partition("-")[0].lower()


if __name__ == "__main__":
    main()
