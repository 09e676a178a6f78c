"""What is attacked: each target makes good input once, and a hostile case from it for every number."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import numpy as np
import soundfile

from edge_asr_deploy.bundle.manifest import MANIFEST, UNSEALED
from tests.fuzz.checkpoints import Checkpoint, Ct2, Ggml
from tests.fuzz.mutations import changed_bytes, changed_json
from tests.fuzz.running import Case, Wrong

SOUND = (0.1 * np.random.default_rng(0).normal(size=8000)).astype(np.float32)
CONTAINERS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "RF64", "CAF")


class Target(Protocol):
    """A kind of input. `prepare` is called once and may take seconds; its folder is not changed by cases."""

    def prepare(self, folder: Path) -> None:
        """Make the good input."""

    def case(self, random: Random) -> Case:
        """A function that makes one hostile input in an empty folder and uses it."""


class Audio:
    """Sound files of every container. Pages of Ogg have checksums, so that a change of one must be noticed."""

    def prepare(self, folder: Path) -> None:
        """One file of each container."""
        self.files = {}
        for container in CONTAINERS:
            buffer = io.BytesIO()
            soundfile.write(buffer, SOUND, 16_000, format=container)
            self.files[container] = buffer.getvalue()

    def case(self, random: Random) -> Case:
        """One changed file, read with its own suffix."""
        container = random.choice(CONTAINERS)
        content = changed_bytes(self.files[container], random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.runtime.audio.reading import read_audio

            path, good = folder / f"a.{container.lower()}", folder / f"good.{container.lower()}"
            path.write_bytes(content)
            good.write_bytes(self.files[container])
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always")
                samples = read_audio(path)
            inside = len(content) == len(self.files[container]) and content != self.files[container]
            if container == "OGG" and inside and not notes and not np.array_equal(samples, read_audio(good)):
                raise Wrong("other samples from an Ogg file whose checksums are there to be read")

        return run


class Bundle:
    """A small random Whisper as a bundle; `regenerated` makes the hashes anew after the change."""

    def __init__(self, regenerated: bool) -> None:
        self.regenerated = regenerated

    def prepare(self, folder: Path) -> None:
        """Export it once."""
        from tests.support.exported import export

        self.bundle = export("whisper", folder / "whisper").bundle
        self.names = sorted(path.name for path in self.bundle.iterdir() if path.name != "README.md")

    def case(self, random: Random) -> Case:
        """One changed file; with the hashes kept, opening it must fail."""
        name = random.choice(self.names)
        content = (self.bundle / name).read_bytes()
        if name.endswith(".json") and self.regenerated:
            changed = changed_json(content.decode(), random).encode()
        else:
            changed = changed_bytes(content, random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.bundle.verification import verify
            from edge_asr_deploy.runtime.session import SessionSettings
            from edge_asr_deploy.runtime.transcriber import Transcriber

            bundle = folder / "bundle"
            shutil.copytree(self.bundle, bundle)
            (bundle / name).write_bytes(changed)
            if self.regenerated:
                reseal(bundle)
            verify(bundle)
            if changed != content and not self.regenerated:
                raise Wrong(f"{name} was changed, and nobody noticed")
            transcriber = Transcriber.open(bundle, SessionSettings(threads=1))
            transcriber.transcribe(SOUND)

        return run


def reseal(bundle: Path) -> None:
    """Make the hashes of a bundle anew, as an attacker would; a manifest that is no JSON object stays."""
    try:
        document = json.loads((bundle / MANIFEST).read_bytes())
        for name, entry in document["files"].items():
            content = (bundle / name).read_bytes()
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        document["seal"] = UNSEALED
        text = json.dumps(document)
        text = text.replace(UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1)
        (bundle / MANIFEST).write_text(text)
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError, OSError):
        return


class Cache:
    """Files of the start-up cache: whatever is changed there, the text stays the same."""

    def prepare(self, folder: Path) -> None:
        """A bundle, its cache, and what it says."""
        from tests.support.exported import export

        self.bundle, self.cache = export("whisper", folder / "whisper").bundle, folder / "cache"
        self.said: list[object] = []

    def case(self, random: Random) -> Case:
        """One changed file of a copy of the cache."""

        def run(folder: Path) -> None:
            from edge_asr_deploy.runtime.session import SessionSettings
            from edge_asr_deploy.runtime.transcriber import Transcriber

            def say() -> object:
                opened = Transcriber.open(self.bundle, SessionSettings(threads=1))
                transcript = opened.transcribe(SOUND, "en")
                return transcript.tokens, transcript.text

            os.environ["EDGE_ASR_STARTUP_CACHE"] = str(folder / "cache")
            said = say()
            path = random.choice(sorted(path for path in (folder / "cache").rglob("*") if path.is_file()))
            path.write_bytes(changed_bytes(path.read_bytes(), random))
            for _ in range(2):
                if say() != said:
                    raise Wrong(f"another text after a change of {path.name}")

        return run


class Archive:
    """Archives of `pack`: bytes, and members that no `pack` writes."""

    def prepare(self, folder: Path) -> None:
        """An archive of a bundle of a few bytes."""
        from edge_asr_deploy.pack.archive import pack
        from tests.support.fakes import write_bundle

        write_bundle(folder / "w4")
        pack(folder / "w4", folder / "pi.tar.gz", "linux_aarch64", ["3.11"], wheels=False, overwrite=True)
        self.content = (folder / "pi.tar.gz").read_bytes()

    def case(self, random: Random) -> Case:
        """A changed stream, or a tar with a hostile member behind the good ones."""
        content = changed_bytes(self.content, random) if random.random() < 0.5 else self._with_member(random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.pack.verify import verify

            (folder / "pi.tar.gz").write_bytes(content)
            verify(folder / "pi.tar.gz")
            if content != self.content:
                with tarfile.open(fileobj=io.BytesIO(content)) as after:
                    with tarfile.open(fileobj=io.BytesIO(self.content)) as before:
                        names = [member.name for member in before]
                    if [member.name for member in after] != names:
                        raise Wrong("an archive with other members was called good")

        return run

    def _with_member(self, random: Random) -> bytes:
        names = ("../x", "/x", "pi/bundle/../x", "pi/run", "pi/\x1b[31m", "pi/" + "x" * 3000, "other/x")
        kinds = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        target = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(self.content)) as source,
            tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as archive,
        ):
            for member in source:
                archive.addfile(member, source.extractfile(member))
            extra = tarfile.TarInfo(random.choice(names))
            extra.type, extra.linkname = random.choice(kinds), random.choice(("", "../x", "/etc/passwd"))
            if random.random() < 0.3:
                extra.pax_headers = {"comment": "x" * random.choice((10, 3_000_000))}
            if extra.isreg():
                extra.size = random.choice((0, 10, 1 << 20))
            archive.addfile(extra, io.BytesIO(bytes(extra.size)))
        return target.getvalue()


class RecipeFile:
    """Recipes in YAML."""

    def prepare(self, folder: Path) -> None:
        """The shipped ones."""
        from edge_asr_deploy.recipe.files import shipped

        self.texts = [path.read_bytes() for path in sorted(shipped().rglob("*.yaml"))]

    def case(self, random: Random) -> Case:
        """One changed recipe."""
        content = changed_bytes(random.choice(self.texts), random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.recipe.document import parse
            from edge_asr_deploy.recipe.files import load_document

            (folder / "recipe.yaml").write_bytes(content)
            parse(load_document(folder / "recipe.yaml"), "recipe.yaml")

        return run


TARGETS: dict[str, Callable[[], Target]] = {
    "audio": Audio,
    "bundle": lambda: Bundle(regenerated=False),
    "resealed-bundle": lambda: Bundle(regenerated=True),
    "cache": Cache,
    "archive": Archive,
    "checkpoint": Checkpoint,
    "ctranslate2": Ct2,
    "ggml": Ggml,
    "recipe": RecipeFile,
}
