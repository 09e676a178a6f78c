"""Instructions of one voice command, from samples to text: `python -m tools.arm.command AUDIO BUNDLE...`.

The first bundle is what the others are compared with: it hears a whole window of 30 s, as Whisper does without short
windows. The others get the audio context that is the default. Every process has heard something before; millions of
instructions on one thread. `before` is all before the encoder: finding speech, features. `python`: all after it that is
not a run of the decoder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.options import DEFAULT_AUDIO_CONTEXT
from tools.arm.emulator import CPUS, Emulator, Unavailable, emulator
from tools.arm.measure import emulated, target_for
from tools.arm.probe import Task

# What is counted, in the order of a command.
COUNTED = ("before", "encoder", "prompt", "step", "python")
COLUMNS = ("bundle", "CPU", "window", *COUNTED, "all", "/ first", "text")


def commands(audio: Path, bundles: Sequence[Path], cpu: str, folder: Path) -> list[tuple[str, Task]]:
    """By bundle what it hears, `full` or the default, and the task that does."""
    np.save(folder / "samples.npy", read_audio(audio))
    tasks = []
    for number, bundle in enumerate(bundles):
        graphs = read_manifest(bundle).targets[target_for(bundle, cpu)]
        encoder, decoder = (str(bundle.resolve() / name) for name in (graphs.encoder, graphs.decoder))
        context = DEFAULT_AUDIO_CONTEXT if number else "full"
        samples = str(folder / "samples.npy")
        task = Task(str(bundle.resolve()), samples=samples, encoder=encoder, decoder=decoder, command=context)
        tasks.append((context, task))
    return tasks


def rows(machine: Emulator, audio: Path, bundles: Sequence[Path]) -> Iterator[str]:
    """Lines of a Markdown table, each as soon as it is measured."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for cpu in CPUS:
        first = 0
        with tempfile.TemporaryDirectory() as name:
            for bundle, (context, task) in zip(bundles, commands(audio, bundles, cpu, Path(name)), strict=True):
                [measured] = emulated(machine, cpu, [task])
                counts = [measured.counts[part].total for part in COUNTED]
                first = first or sum(counts)
                cells = [bundle.name, cpu, context, *(f"{count / 1e6:.1f}" for count in [*counts, sum(counts)])]
                yield f"| {' | '.join([*cells, f'{sum(counts) / first:.3f}', measured.result['text']])} |"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        for row in rows(emulator(), Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]):
            print(row, flush=True)
    except Unavailable as error:
        sys.exit(str(error))
