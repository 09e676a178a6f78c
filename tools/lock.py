"""Write the hashes of the pinned packages anew, after a version was changed: `python -m tools.lock`.

For every Python and processor of boards pip chooses the wheel (nothing is downloaded); the lists in
`edge_asr_deploy/pack` get the sha256 of each. It asks the package index that pip is configured for.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from edge_asr_deploy.pack.requirements import MACHINES, platform_tags

FOLDER = Path(__file__).parents[1] / "edge_asr_deploy" / "pack"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LISTS = {"requirements.txt": tuple(MACHINES.values()), "requirements-build.txt": ("x86_64",)}
LISTS |= {f"requirements-{machine}.txt": (machine,) for machine in MACHINES.values()}


def main() -> None:
    """Rewrite every list that is there."""
    for name, machines in LISTS.items():
        path = FOLDER / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            pins = [line.split()[0] for line in text.splitlines() if re.match(r"\w", line)]
            hashes = hashes_of(pins, machines)
            comments = [line for line in text.splitlines() if line.startswith("#")]
            lines = [[pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[pin]))] for pin in pins]
            entries = [" \\\n    ".join(words) for words in lines]
            path.write_text("\n".join([*comments, *entries, ""]), encoding="utf-8")


def hashes_of(pins: list[str], machines: tuple[str, ...]) -> dict[str, set[str]]:
    """The sha256 of every wheel that pip would take, by pin."""
    found: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        listed, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        listed.write_text("\n".join(pins), encoding="utf-8")
        for machine in machines:
            for python in PYTHONS:
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
