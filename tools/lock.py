"""Write the hashes of the pinned packages anew, after a version was changed: `python -m tools.lock`.

For every Python and processor of boards pip chooses the wheel (nothing is downloaded); the lists in
`edge_asr_deploy/pack` get the sha256 of each. It asks the package index that pip is configured for.

What exporting needs beside torch, and what serving needs, is pinned to the versions of the environment that this runs
in. Which torch one takes depends on the machine (CUDA or not) and its index, so torch is pinned by its version alone,
where it is installed.
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
# For the images that export and serve, and for CI, which run Python 3.11.
EXPORT, SERVE = (Path(__file__).with_name(f"requirements-{name}.txt") for name in ("export", "serve"))
IMAGE_PYTHON = "3.11"


def main() -> None:
    """Rewrite every list that is there."""
    for name, machines in LISTS.items():
        path = FOLDER / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            pins = [line.split()[0] for line in text.splitlines() if re.match(r"\w", line)]
            comments = [line for line in text.splitlines() if line.startswith("#")]
            path.write_text(locked(comments, pins, machines, PYTHONS), encoding="utf-8")
    write_extras(EXPORT, "# All that exporting needs but torch", ("export", "demo"), {"torch"})
    there = {line.partition("==")[0] for line in (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()}
    write_extras(SERVE, "# All that serving needs beside the list of boards", ("serve",), there, with_base=False)


def write_extras(path: Path, about: str, extras: tuple[str, ...], without: set[str], with_base: bool = True) -> None:
    """Write the list of what extras need."""
    comments = [f"{about}; made by `python -m tools.lock`, like the hashes."]
    pins = extra_pins(extras, without, with_base)
    path.write_text(locked(comments, pins, tuple(MACHINES.values()), (IMAGE_PYTHON,)), encoding="utf-8")


def extra_pins(extras: Iterable[str], without: set[str], with_base: bool = True) -> list[str]:
    """Every package that extras bring in, at the version that is installed here, but those in `without`.

    With the base install, or what the extras bring in themselves.
    """
    found: dict[str, set[str]] = {}

    def visit(name: str, extras: Iterable[str], is_base: bool) -> None:
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in without:
            return
        new = {*([""] if is_base else []), *extras} - found.setdefault(key, set())
        found[key] |= new
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            wanted = [one for one in new if needed.marker is None or needed.marker.evaluate({"extra": one})]
            if wanted and (is_base or needed.marker is not None):
                visit(needed.name, needed.extras, True)

    visit(PROJECT, extras, with_base)
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
