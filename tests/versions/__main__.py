"""`python -m tests.versions`: bundles on every minor release of onnxruntime that pyproject.toml admits.

What each release says is compared with the newest, which is the one that exports run on. It prints a table for the
docs and ends with 1 when a release cannot run a bundle, or real speech becomes other words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import jiwer
import typer

from edge_asr_deploy.errors import UserError
from tests.support.clients import short_clips
from tests.support.clips import write_clips
from tests.versions.bundles import random_bundles, real_bundles
from tools.arm.emulator import Emulator, Unavailable, emulator

ROOT = Path(__file__).parents[2]
HEAR = Path(__file__).with_name("hear.py")
REAL_CLIPS, NOISES = 8, 3
ARM = "cortex-a76"
# Words of a real bundle that a release may hear otherwise, as a share: its kernels round sums in another order, which
# decides between words that are near to each other. A kernel that is wrong changes most words.
MAY_DIFFER = 0.15

Heard = Mapping[str, list[str] | str]


@dataclass(frozen=True)
class Group:
    """Bundles that stand in one column of the table, and the clips that they hear."""

    name: str
    bundles: Sequence[Path]
    clips: Sequence[Path]
    is_real: bool


def main(
    work: Annotated[Path, typer.Option(help="Folder of bundles and releases, kept.")] = Path("exported/versions"),
    releases: Annotated[str, typer.Option(help="Minor releases, by comma; else all that are admitted.")] = "",
    real: Annotated[bool, typer.Option(help="Real checkpoints, too.")] = True,
    arm: Annotated[bool, typer.Option(help="The random models on an emulated Cortex-A76, too.")] = False,
) -> None:
    """Print the table; exit code 1 when a release fails."""
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    groups = [*_random(work), *(_real(work) if real else [])]
    places: list[tuple[Group, Emulator | None]] = [(group, None) for group in groups]
    if arm:
        try:
            machine = emulator()
            places += [(group, machine) for group in groups if not group.is_real]
        except Unavailable as error:
            print(f"no ARM emulator: {error}", file=sys.stderr)
    names = [f"{group.name} on ARM" if machine else group.name for group, machine in places]
    lines = [f"| onnxruntime | {' | '.join(names)} |", "|---" * (len(places) + 1) + "|"]
    expected = [hear(None, group, machine, work) for group, machine in places]
    failed = False
    for release in releases.split(",") if releases else admitted():
        cells = []
        for (group, machine), newest in zip(places, expected, strict=True):
            found = newest if is_own(release) else hear(fetched(release, machine, work), group, machine, work)
            cells.append(compared(group, found, newest))
        failed |= any(not good for _, good in cells)
        lines.append(f"| {release} | {' | '.join(text for text, _ in cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    sys.exit(failed)


def is_own(release: str) -> bool:
    """Whether this is the environment's own release, with which bundles are made."""
    return version("onnxruntime").startswith(f"{release}.")


def admitted() -> list[str]:
    """Minor releases from the bound to the one that is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bound = next(one.partition(">=")[2] for one in project["dependencies"] if one.startswith("onnxruntime>="))
    (major, first), (_, last) = ([int(part) for part in one.split(".")[:2]] for one in (bound, version("onnxruntime")))
    return [f"{major}.{minor}" for minor in range(first, last + 1)]


def fetched(release: str, machine: Emulator | None, work: Path) -> Path:
    """A folder with this release, which comes before the environment's own on the path."""
    folder = work / f"onnxruntime-{release}{'-arm' if machine else ''}"
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.partial")
        if machine:
            machine.wheels_for([f"onnxruntime=={release}.*"], partial)
        else:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--target", str(partial), f"onnxruntime=={release}.*"], check=True)
        partial.rename(folder)
    return folder


def hear(site: Path | None, group: Group, machine: Emulator | None, work: Path) -> Heard:
    """What the bundles of a group say with the release in `site`, or with the environment's own."""
    job = work / "job.json"
    job.write_text(json.dumps({"bundles": [*map(str, group.bundles)], "clips": [*map(str, group.clips)]}))
    try:
        said = machine.run(ARM, [HEAR, job], packages=site, timeout=3600) if machine else _here(site, job)
    except RuntimeError as error:
        return {str(bundle): str(error).strip().splitlines()[-1][:200] for bundle in group.bundles}
    return dict(json.loads(said))


def _here(site: Path | None, job: Path) -> str:
    path = ":".join([*([str(site)] if site else []), str(ROOT)])
    variables = {**os.environ, "PYTHONPATH": path, "EDGE_ASR_STARTUP_CACHE": "off", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, str(HEAR), str(job)], env=variables, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"exit code {ran.returncode}: {ran.stderr}")
    return ran.stdout


def compared(group: Group, found: Heard, expected: Heard) -> tuple[str, bool]:
    """The cell of the table, and whether the release may be used."""
    faults = {name: text for name, text in found.items() if isinstance(text, str)}
    if faults:
        name, text = next(iter(faults.items()))
        return f"**{len(faults)} of {len(found)} fail**: {Path(name).name}: {text}", False
    pairs = [pair for name, texts in found.items() for pair in zip(texts, expected[name], strict=True)]
    same = sum(ours == theirs for ours, theirs in pairs)
    if same == len(pairs):
        return "same", True
    text = f"{same} of {len(pairs)} clips the same"
    if not group.is_real:
        return text, True
    changed = jiwer.process_words([theirs for _, theirs in pairs], [ours for ours, _ in pairs])
    words = changed.hits + changed.substitutions + changed.deletions
    return f"{text}, {changed.wer:.1%} of {words} words changed", changed.wer <= MAY_DIFFER


def _random(work: Path) -> list[Group]:
    clips = write_clips(work / "noise", NOISES, seconds=1.5)
    by_family: dict[str, list[Path]] = defaultdict(list)
    for bundle in random_bundles(work / "random"):
        by_family[bundle.name.partition("-")[0]].append(bundle)
    return [Group(f"random {name}, {len(found)} recipes", found, clips, False) for name, found in by_family.items()]


def _real(work: Path) -> list[Group]:
    if "EDGE_ASR_DATA" not in os.environ:
        print("EDGE_ASR_DATA is not set: no real speech", file=sys.stderr)
        return []
    clips = [Path(str(one.audio)) for one in short_clips(Path(os.environ["EDGE_ASR_DATA"]))][:: 20 // REAL_CLIPS]
    try:
        return [Group(one.name, [one], clips, True) for one in real_bundles(work / "real")]
    except UserError as error:
        print(error, file=sys.stderr)
        return []


if __name__ == "__main__":
    typer.run(main)
