"""Estimated milliseconds of a voice command on one core of a board: `python -m tools.arm.cycles AUDIO BUNDLE...`.

The bundles are those of `tools.arm.command`. Which blocks of instructions run, how often, and what misses the last
cache is counted under emulation (blocks.c). The cycles of a block are what llvm-mca says for repeating it, from its
model of the processor. Time is cycles by the clock, and to that the bytes from memory by the board's bandwidth.
Needs llvm-mc and llvm-mca of LLVM 19 or newer (Debian's llvm-19): older ones model no Cortex-A76. An estimate, not a
measurement: every load that hits a cache costs the first cache's latency, no branch is mispredicted, and what is
fetched from memory waits for nothing but the bandwidth, but overlaps with nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.arm.command import COUNTED, commands
from tools.arm.emulator import Emulator, Unavailable, emulator
from tools.arm.measure import watched
from tools.arm.probe import PARTS, Task

BLOCKS = Path(__file__).with_name("blocks.c")
# Blocks are simulated, the most expensive first, until so much of a command's instructions is; the rest is taken to run
# as fast as these on the whole.
COVERED = 0.97
ITERATIONS = 100
# Hot loops in the table of a bundle.
SHOWN = 5
LEAST_VERSION = 19


@dataclass(frozen=True)
class Board:
    """A processor's model in LLVM, its clock in GHz, its last cache in KiB, and memory traffic in GB/s.

    Traffic is twice what memcpy copies in a second, for it reads and writes. Both are single-threaded measurements of
    sbc-bench (github.com/ThomasKaiser/sbc-bench, results/3OBF.txt: 2.33 GB/s; results/8-NK.txt: 6.03 GB/s).
    """

    name: str
    model: str
    clock: float
    cache: int
    traffic: float


BOARDS = {
    "cortex-a72": Board("Raspberry Pi 4", "cortex-a72", 1.8, 1024, 4.65),
    # The Neoverse N1 is the Cortex-A76 for servers; LLVM's cortex-a76 has the tables of a Cortex-A57.
    "cortex-a76": Board("Raspberry Pi 5", "neoverse-n1", 2.4, 2048, 12.05),
}


@dataclass(frozen=True)
class Ran:
    """By part of a command: how often each block ran, by its code in hexadecimal, and the bytes from memory."""

    blocks: dict[str, Counter[str]]
    fetched: dict[str, int]

    def instructions(self, part: str) -> int:
        """Instructions of a part."""
        return sum(length(code) * times for code, times in self.blocks[part].items())


def length(code: str) -> int:
    """How many instructions a block has: four bytes each, two digits a byte."""
    return len(code) // 8


def read_blocks(text: str) -> Ran:
    """What blocks.c wrote. The same code at several places is one block."""
    ran = Ran({part: Counter() for part in PARTS}, dict.fromkeys(PARTS, 0))
    for line in text.splitlines():
        kind, what, *numbers = line.split()
        if kind == "bytes":
            if int(what) < len(PARTS):
                ran.fetched[PARTS[int(what)]] += int(numbers[0])
        else:
            for part, times in zip(PARTS, numbers, strict=False):
                if int(times):
                    ran.blocks[part][what] += int(times)
    return ran


def hottest(ran: Ran, parts: Sequence[str] = COUNTED) -> list[str]:
    """The blocks in which COVERED of the parts' instructions are, the most expensive first."""
    weights: Counter[str] = Counter()
    for part in parts:
        for code, times in ran.blocks[part].items():
            weights[code] += length(code) * times
    chosen, left = [], weights.total() * COVERED
    for code, weight in weights.most_common():
        if left <= 0:
            break
        chosen.append(code)
        left -= weight
    return chosen


def milliseconds(ran: Ran, part: str, cycles: Mapping[str, float], board: Board) -> tuple[float, float]:
    """Of a part: the time that its instructions take, and that its bytes take from memory."""
    counts = ran.blocks[part]
    known = {code: times for code, times in counts.items() if code in cycles}
    spent = sum(cycles[code] * times for code, times in known.items())
    simulated = sum(length(code) * times for code, times in known.items())
    # Two instructions a cycle where nothing of a part was simulated.
    rate = spent / simulated if simulated else 0.5
    return ran.instructions(part) * rate / (board.clock * 1e6), ran.fetched[part] / (board.traffic * 1e6)


class Simulator:
    """llvm-mc and llvm-mca, the newest on this machine."""

    def __init__(self) -> None:
        names = [*(f"llvm-mca-{number}" for number in range(40, LEAST_VERSION - 1, -1)), "llvm-mca"]
        self._mca = next(filter(shutil.which, names), "")
        if not self._mca:
            raise Unavailable("llvm-mca is missing: install llvm-19")
        said = subprocess.run([self._mca, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"version (\d+)", said)
        if not version or int(version[1]) < LEAST_VERSION:
            raise Unavailable(f"{self._mca} is too old to know these processors: install llvm-19")
        self._mc = self._mca.replace("mca", "mc")
        if not shutil.which(self._mc):
            raise Unavailable(f"{self._mc} is missing: install llvm-19")

    def assembly(self, codes: Sequence[str]) -> list[list[str]]:
        """The instructions of blocks; those that LLVM does not know are left out."""
        words = sorted({word for code in codes for word in _words(code)})
        given = "\n".join(" ".join(f"0x{word[at : at + 2]}" for at in (6, 4, 2, 0)) for word in words)
        command = [self._mc, "-disassemble", "-triple=aarch64", "-mattr=+v8.2a,+dotprod,+fullfp16"]
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        unknown = {int(line) for line in re.findall(r"<stdin>:(\d+):\d+: warning", ran.stderr)}
        known = [word for number, word in enumerate(words, 1) if number not in unknown]
        lines = [line.strip() for line in ran.stdout.splitlines() if line.strip() and line.strip() != ".text"]
        texts = dict(zip(known, lines, strict=True))
        return [[texts[word] for word in _words(code) if word in texts] for code in codes]

    def cycles(self, codes: Sequence[str], model: str) -> dict[str, float]:
        """Cycles of one run of each block when it is repeated; without those that cannot be simulated."""
        regions = []
        for number, lines in enumerate(self.assembly(codes)):
            # Its model knows no system registers, and nothing runs on after a trap.
            kept = [line for line in lines if not line.startswith(("mrs", "msr", "svc", "brk", "udf"))]
            if kept:
                regions += [f"# LLVM-MCA-BEGIN {number}", *kept, f"# LLVM-MCA-END {number}"]
        command = [self._mca, "-mtriple=aarch64", f"-mcpu={model}", "-mattr=+v8.2a,+dotprod,+fullfp16", "-json"]
        command += [f"-iterations={ITERATIONS}", "-skip-unsupported-instructions=any"]
        ran = subprocess.run(command, input="\n".join(regions) + "\n", capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Unavailable(f"{self._mca}: {ran.stderr.strip().splitlines()[-1]}")
        found = json.loads(ran.stdout)["CodeRegions"]
        return {codes[int(one["Name"])]: one["SummaryView"]["TotalCycles"] / ITERATIONS for one in found}


def _words(code: str) -> list[str]:
    return [code[at : at + 8] for at in range(0, len(code), 8)]


def blocks_of(machine: Emulator, cpu: str, task: Task, folder: Path) -> Ran:
    """What a command runs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("a C compiler is missing")
    plugin, output = folder / "blocks.so", folder / "blocks"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", plugin, BLOCKS], check=True)
    watched(machine, cpu, [task], f"{plugin},out={output},cache={BOARDS[cpu].cache}")
    return read_blocks(output.read_text())


def rows(machine: Emulator, simulator: Simulator, audio: Path, bundles: Sequence[Path]) -> Iterator[str]:
    """Lines of Markdown: of each bundle its parts, then its hot loops."""
    for cpu, board in BOARDS.items():
        yield f"\n{board.name}, {cpu} at {board.clock} GHz, {board.traffic} GB/s; estimated milliseconds, one thread\n"
        yield "| bundle | part | million instructions | cycles | MB from memory | ms | of these memory |"
        yield "|---" * 7 + "|"
        loops: list[str] = []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for bundle, (context, task) in zip(bundles, commands(audio, bundles, cpu, folder), strict=True):
                ran = blocks_of(machine, cpu, task, folder)
                cycles = simulator.cycles(hottest(ran), board.model)
                sums = [0.0] * 5
                for part in COUNTED:
                    busy, waiting = milliseconds(ran, part, cycles, board)
                    clock = busy * board.clock
                    cells = [ran.instructions(part) / 1e6, clock, ran.fetched[part] / 1e6, busy + waiting, waiting]
                    sums = [old + new for old, new in zip(sums, cells, strict=True)]
                    yield _row(f"{bundle.name}, {context}", part, cells)
                yield _row(f"{bundle.name}, {context}", "all", sums)
                loops += _loops(bundle.name, ran, cycles, simulator)
        yield "\n| bundle | part | share | instructions | cycles | what it does most |"
        yield "|---" * 6 + "|"
        yield from loops


def _row(bundle: str, part: str, cells: Sequence[float]) -> str:
    return f"| {bundle} | {part} | {' | '.join(f'{cell:.1f}' for cell in cells)} |"


def _loops(bundle: str, ran: Ran, cycles: Mapping[str, float], simulator: Simulator) -> Iterator[str]:
    """The blocks in which the encoder and the decoder's steps spend most of their cycles."""
    for part in ("encoder", "step"):
        spent = Counter({code: round(cycles[code] * n) for code, n in ran.blocks[part].items() if code in cycles})
        chosen = [code for code, _ in spent.most_common(SHOWN)]
        for code, lines in zip(chosen, simulator.assembly(chosen), strict=True):
            kinds = Counter(line.split()[0] for line in lines).most_common(4)
            does = ", ".join(f"{number} {kind}" for kind, number in kinds)
            share = spent[code] / max(1, spent.total())
            yield f"| {bundle} | {part} | {share:.2f} | {length(code)} | {cycles[code]:.1f} | {does} |"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        for row in rows(emulator(), Simulator(), Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]):
            print(row, flush=True)
    except Unavailable as error:
        sys.exit(str(error))
