"""Every rival's form of a checkpoint, and our bundles: made once, kept in the work folder."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cells import Configuration
from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.checkpoints.moonshine_tokenizer import read_pieces
from edge_asr_deploy.checkpoints.wheels import WHEELS, locate

ROOT = Path(__file__).parents[1]
SECONDS = 1800


class Unavailable(Exception):
    """Why a configuration cannot be run here."""


@dataclass(frozen=True)
class Forms:
    """`work` keeps what is made; `python` runs where the rivals are installed; `bundles` holds our bundles.

    With `exports` a bundle that is missing there is exported on the spot.
    """

    work: Path
    python: Path
    bundles: Path
    exports: bool

    def folder(self, checkpoint: Checkpoint, configuration: Configuration) -> Path:
        """The folder that the configuration runs from, made where it is missing. Unavailable tells what went wrong."""
        form = configuration.form
        if configuration.is_ours:
            return self._bundle(checkpoint, form)
        if form == "checkpoint":
            return checkpoint.folder
        target = (self.work / "forms" / f"{checkpoint.name}-{checkpoint.sha256[:12]}" / form).absolute()
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if form == "ort":
            vendors_files(checkpoint, target, self._newest(checkpoint.name))
        elif form == "sherpa-int8":
            self._sherpa(checkpoint, target)
        else:
            _run([str(self.python), "-m", "benchmarks.convert", form, str(checkpoint.folder), str(target)])
        return target

    def _newest(self, name: str) -> Path | None:
        """The folder of the files that the installed release of the vendor's runtime brings, where it brings any."""
        size = name.removeprefix("moonshine-")
        pattern = f"lib/python3*/site-packages/moonshine_voice/assets/{size}-en"
        return next(iter(self.python.parent.parent.glob(pattern)), None)

    def _sherpa(self, checkpoint: Checkpoint, target: Path) -> None:
        """sherpa-onnx's int8 files of a Whisper, from the float bundle in its layout."""
        from benchmarks.sherpa_whisper import own_int8

        arranged = target.with_name("sherpa-float")
        if not arranged.is_dir():
            words = [str(self._bundle(checkpoint, "float")), "--layout", "sherpa-onnx", "--output", str(arranged)]
            _run([sys.executable, "-m", "edge_asr_deploy", "arrange", *words])
        own_int8(arranged, target)

    def _bundle(self, checkpoint: Checkpoint, name: str) -> Path:
        folder = (self.bundles / f"{checkpoint.name}-{name}").absolute()
        if not (folder / "manifest.json").is_file():
            bits = re.fullmatch(r"w([2-8])|float", name)
            if not self.exports or not bits:
                raise Unavailable(f"there is no bundle {folder.name} in {self.bundles}")
            options = ["--model", checkpoint.name, "--bits", bits[1] or "32", "--output", str(folder)]
            _run([sys.executable, "-m", "edge_asr_deploy", "export", *options])
        if read_manifest(folder).model.sha256 != checkpoint.sha256:
            raise Unavailable(f"{folder.name} was made from other weights than {checkpoint.origin}")
        return folder


def vendors_files(checkpoint: Checkpoint, target: Path, newest: Path | None) -> None:
    """Moonshine's .ort files, and their pieces of text in base64, one a line.

    `newest` has those of a later release (the same weights, stored in fewer bytes); else those of the wheel that the
    checkpoint came from.
    """
    files = locate(WHEELS[checkpoint.name]) if checkpoint.name in WHEELS else None
    if files is None or checkpoint.sha256 not in _pinned(checkpoint.name):
        raise Unavailable("the vendor's wheel with these weights is not installed")
    partial = target.with_name(f".{target.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, (path,) in files.items():
        later = newest / name if newest else path
        (partial / name).symlink_to(later if later.exists() else path)
    pieces = read_pieces(partial / "tokenizer.bin")
    lines = (f"{base64.b64encode(piece).decode()} {number}\n" for number, piece in enumerate(pieces))
    (partial / "tokens.txt").write_text("".join(lines))
    partial.rename(target)


def language_of(checkpoint: Checkpoint) -> str | None:
    """`en` for a model that must be told the language."""
    path = checkpoint.folder / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return "en" if "lang_to_id" in generation else None


def fingerprint(folder: Path) -> str:
    """What decides about a measurement of ours: the bundle, and the runtime's code."""
    import hashlib

    digest = hashlib.sha256(bundle_hash(read_manifest(folder)).encode())
    for path in sorted((ROOT / "edge_asr_deploy" / "runtime").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def installed(python: Path, packages: dict[str, tuple[str, ...]]) -> dict[str, str | None]:
    """By rival why it cannot run: the package that is missing where `python` is; None where nothing is."""
    if not python.exists():
        return dict.fromkeys(packages, f"{python} does not exist; `make bench-peers` makes it")
    program = "import importlib.util as u, json, sys\n" + _FINDER
    names = json.dumps(packages)
    answer = subprocess.run([str(python), "-c", program, names], capture_output=True, text=True, timeout=120)
    missing: dict[str, str | None] = json.loads(answer.stdout)
    return {rival: name and f"{name} is not installed" for rival, name in missing.items()}


_FINDER = """
def has(name):
    try:
        return u.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
wanted = json.loads(sys.argv[1])
print(json.dumps({rival: next((n for n in names if not has(n)), None) for rival, names in wanted.items()}))
"""


def _pinned(name: str) -> str:
    from edge_asr_deploy.checkpoints.wheels import weights_hash

    return weights_hash(WHEELS[name])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[2]} {command[3]}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"{' '.join(command[2:4])} failed: {last[:300]}")
