"""`python -m tests.support.gate_noise BUNDLE FLOAT`: how often the gate's speed is wrong beside other programs.

For each number of busy programs it measures the bundle, and the bundle with an encoder that takes a fifth more time,
against the ratios of a quiet start. It prints what the gate would say: false alarms, "not measured", faults passed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import onnx
import typer

from edge_asr_deploy.harness.gate.checks import check_speed
from edge_asr_deploy.harness.gate.relative_speed import relative_speed
from edge_asr_deploy.harness.gate.tolerances import Tolerances
from edge_asr_deploy.runtime.transcriber import ENCODER
from tests.support.gate_faults import slower

SLOWER = 0.22
BUSY = "while True: pass"


def main(
    bundle: Path,
    float_bundle: Path,
    runs: Annotated[int, typer.Option(help="Runs under each load.")] = 20,
    loads: Annotated[str, typer.Option(help="Numbers of busy programs.")] = "0,1,3",
    slow_every: Annotated[int, typer.Option(help="Measure the slower bundle in each n-th run.")] = 1,
) -> None:
    """Print one line a run and a table of the outcomes."""
    allowed = 1 + Tolerances().speed
    first = relative_speed(bundle, float_bundle, None, {})
    limits = {part: ratio.value * allowed for part, ratio in first.items()}
    print("record:", {part: round(ratio.value, 3) for part, ratio in first.items()}, next(iter(first.values())).busy)
    with tempfile.TemporaryDirectory() as folder:
        slow = Path(shutil.copytree(bundle, Path(folder) / "slow"))
        model = onnx.load(slow / ENCODER)
        slower(bundle, SLOWER)(model)
        onnx.save(model, slow / ENCODER)
        for number in map(int, loads.split(",")):
            outcomes: Counter[str] = Counter()
            for run in range(runs):
                for name, measured in (("good", bundle), ("slow", slow))[: 1 if run % slow_every else 2]:
                    began = time.perf_counter()
                    with busy(number):
                        ratios = relative_speed(measured, float_bundle, None, limits)
                    checks = [check_speed(part, ratio, limits[part]) for part, ratio in ratios.items()]
                    verdicts = {check.verdict for check in checks}
                    if name == "slow":
                        verdicts = {checks[0].verdict}
                    worst = next(one for one in ("failed", "not measured", "passed") if one in verdicts)
                    outcomes[f"{name} {worst}"] += 1
                    shown = ", ".join(
                        f"{check.name[6:]} {check.measured.split()[0]} {check.verdict}" for check in checks
                    )
                    print(f"{number} busy, run {run}, {name}: {shown}; {time.perf_counter() - began:.0f} s", flush=True)
            print(f"{number} busy: {dict(sorted(outcomes.items()))}", flush=True)


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Let `number` programs compute without end."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


if __name__ == "__main__":
    typer.run(main)
