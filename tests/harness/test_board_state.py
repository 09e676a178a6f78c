"""What a board says of itself, and what spoils a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.harness.machine.state import BoardState, board_state, disturbances, machine_name
from tests.support.boards import lay_out, pi


def no_tool(what: str) -> None:
    return None


def test_a_raspberry_pi_is_read_from_its_files(tmp_path: Path) -> None:
    root = pi(tmp_path, governor="ondemand", celsius=61.3, mhz=600, throttled=0x50005)
    assert board_state(root, no_tool) == BoardState(
        governor="ondemand", temperature=61.3, mhz=600, limit_mhz=1500, throttled=0x50005
    )
    assert machine_name(root) == "Raspberry Pi 4 Model B Rev 1.4"


def test_the_firmware_is_asked_where_the_kernel_does_not_show_it(tmp_path: Path) -> None:
    asked: list[str] = []

    def vcgencmd(what: str) -> str:
        asked.append(what)
        return "throttled=0x80008"

    state = board_state(pi(tmp_path, throttled=None), vcgencmd)
    assert (asked, state.flags, state.flags_since_boot) == (
        ["get_throttled"],
        ["soft temperature limit"],
        ["soft temperature limit"],
    )


@pytest.mark.parametrize("answer", ["", "error=1 error_msg='Command not registered'", None])
def test_an_answer_that_is_none_says_nothing(tmp_path: Path, answer: str | None) -> None:
    assert board_state(pi(tmp_path, throttled=None), lambda what: answer).throttled is None


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert board_state(tmp_path, no_tool) == BoardState()
    assert machine_name(tmp_path) is None


def test_x86_counts_its_throttling(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    counts = {f"{cpu}/cpu{n}/thermal_throttle/{kind}_throttle_count": n for n in (1, 2) for kind in ("core", "package")}
    device = "sys/class/thermal/cooling_device0"
    root = lay_out(tmp_path, {**counts, f"{device}/type": "Processor", f"{device}/cur_state": 2})
    state = board_state(root, no_tool)
    assert (state.throttle_events, state.cooling) == (6, 2)


CALM: dict[str, Any] = {
    "governor": "performance",
    "temperature": 60.0,
    "mhz": 1500.0,
    "limit_mhz": 1500.0,
    "throttled": 0x10000,
    "throttle_events": 4,
    "cooling": 0,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"throttled": 0x10001}, "under-voltage while measuring"),
        ({"throttled": 0x50000}, "throttled in between"),
        ({"throttle_events": 5}, "slowed by heat or power"),
        ({"governor": "powersave"}, "changed from performance to powersave"),
        ({"limit_mhz": 1000.0}, "fell from 1500 to 1000 MHz"),
        ({"cooling": 1}, "cooling device"),
        ({"mhz": 1200.0}, "clock fell from 1500 to 1200 MHz"),
    ],
)
def test_what_slows_a_board_spoils_the_measurement(change: dict[str, Any], named: str) -> None:
    calm, changed = BoardState(**CALM), BoardState(**{**CALM, **change})
    [found] = disturbances([calm, changed])
    assert named in found


def test_what_happened_before_and_what_is_normal_spoils_nothing() -> None:
    hot = BoardState(**{**CALM, "temperature": 79.0, "mhz": 1490.0})
    assert disturbances([BoardState(**CALM), hot, hot]) == []
    assert disturbances([BoardState(), BoardState()]) == []
    # On demand the clock moves with the load; that is not heat.
    slow = [BoardState(governor="ondemand", mhz=mhz) for mhz in (600, 1500)]
    assert disturbances(slow) == []


def test_a_board_that_recovers_at_the_end_is_found_out_all_the_same() -> None:
    calm, hot = BoardState(**CALM), BoardState(**{**CALM, "throttled": 0x50004})
    assert disturbances([calm, hot, calm]) == ["throttled while measuring", "throttled in between"]
