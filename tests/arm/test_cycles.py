"""How counted blocks become estimated milliseconds. The parts without LLVM run anywhere."""

from __future__ import annotations

import pytest

from tools.arm.cycles import BOARDS, Board, Simulator, hottest, length, milliseconds, read_blocks
from tools.arm.emulator import Unavailable
from tools.arm.probe import PARTS

# Assembled by Arm's manual, as qemu hands them over: eight `fmla v16.4s, v4.4s, v8.s[0]` on v16 to v23.
FMLA = "".join(f"{0x4F881090 + register:08x}" for register in range(8))
UNKNOWN = "ffffffff"


def _line(code: str, **times: int) -> str:
    return f"block {code} {' '.join(str(times.get(part, 0)) for part in PARTS)} 0 0\n"


def test_the_same_code_at_two_places_is_one_block() -> None:
    step = PARTS.index("step")
    text = f"bytes {step} 128\nbytes {step} 64\nbytes 15 7\n"
    ran = read_blocks(text + _line("aa" * 8, step=3) + _line("bb" * 4, step=1, encoder=5) + _line("aa" * 8, step=4))
    assert ran.blocks["step"] == {"aa" * 8: 7, "bb" * 4: 1} and ran.blocks["encoder"] == {"bb" * 4: 5}
    assert ran.instructions("step") == 2 * 7 + 1
    assert ran.fetched["step"] == 192 and sum(ran.fetched.values()) == 192


def test_the_rest_runs_as_fast_as_what_is_simulated() -> None:
    hot, cold = "aa" * 16, "bb" * 4
    ran = read_blocks(f"bytes {PARTS.index('step')} 3000000\n" + _line(hot, step=1_000_000) + _line(cold, step=40_000))
    assert hottest(ran) == [hot], "99 % of all instructions"
    board = Board("a board", "a model", clock=2.0, cache=1024, traffic=1.5)
    busy, waiting = milliseconds(ran, "step", {hot: 2.0}, board)
    # Four instructions take two cycles, 4.04 million then 2.02 million cycles, at 2 GHz.
    assert busy == pytest.approx(1.01) and waiting == pytest.approx(2.0)


def test_float_products_take_twice_as_long_on_the_older_processor() -> None:
    try:
        simulator = Simulator()
    except Unavailable as error:
        pytest.skip(str(error))
    [lines] = simulator.assembly([FMLA + UNKNOWN])
    assert len(lines) == length(FMLA) == 8 and all(line.startswith("fmla") for line in lines)
    # By Arm's optimization guides a vector of four floats takes both pipes of a Cortex-A72, and one of a Cortex-A76.
    taken = {cpu: simulator.cycles([FMLA], board.model)[FMLA] for cpu, board in BOARDS.items()}
    assert taken == pytest.approx({"cortex-a72": 8.0, "cortex-a76": 4.0}, rel=0.05)
