"""Instructions of Whisper bundles as a table: `python -m tools.arm.table BUNDLE...`, the float one first.

Of a bundle for several targets the graphs are those for the CPU. Millions per decoder step, with a whole window of 30 s
to attend to, and per second of a 3 s encoder window.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.arm.emulator import CPUS, Emulator, Unavailable, emulator
from tools.arm.measure import Measured, emulated, prepared, target_for
from tools.arm.probe import STEPS

SECONDS = 3.0
COLUMNS = ("bundle", "CPU", "decoder step", "/ first", "encoder, per s", "/ first", "dot products per step")


def rows(machine: Emulator, bundles: Sequence[Path]) -> Iterator[str]:
    """Lines of a Markdown table, each as soon as it is measured."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for cpu in CPUS:
        first: Measured | None = None
        for bundle in bundles:
            with tempfile.TemporaryDirectory() as name:
                task = prepared(bundle, SECONDS, Path(name), target_for(bundle, cpu))
                [measured] = emulated(machine, cpu, [task])
            first = first or measured
            step, encoder = measured.step, measured.encoder(SECONDS)
            dots = (measured.counts["step"].sdot + measured.counts["step"].udot) / STEPS
            cells = [
                bundle.name,
                cpu,
                f"{step / 1e6:.2f}",
                f"{step / first.step:.2f}",
                f"{encoder / 1e6:.1f}",
                f"{encoder / first.encoder(SECONDS):.2f}",
                f"{dots / 1e6:.2f}",
            ]
            yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        for row in rows(emulator(), [Path(name) for name in sys.argv[1:]]):
            print(row, flush=True)
    except Unavailable as error:
        sys.exit(str(error))
