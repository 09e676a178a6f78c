"""What counts as a change of the recorded instructions, and how the counter's lines are read. Runs anywhere."""

from __future__ import annotations

from tools.arm.measure import Counts, Measured, read_counts
from tools.arm.probe import PARTS
from tools.arm.record import differences


def test_one_per_cent_either_way_is_a_change() -> None:
    known = {"step": 1000.0, "encoder": 1000.0}
    assert differences(known, {"step": 1009, "encoder": 991}) == []
    assert differences(known, {"step": 1011, "encoder": 1000}) == ["step: 1011 instructions, 1000 recorded (+1.1%)"]
    assert differences(known, {"step": 989, "encoder": 1000}) == ["step: 989 instructions, 1000 recorded (-1.1%)"]
    assert len(differences(known, {"step": 1000})) == 1, "a part that is gone"


def test_marks_are_summed_by_part_and_task() -> None:
    def line(tag: int, total: int) -> str:
        return f"{tag} total={total} sdot=1 udot=2 fmla=3\n"

    step, end = PARTS.index("step"), len(PARTS)
    text = line(0, 5) + line(step, 8) + line(0, 1) + line(step, 4) + line(end, 9) + line(step, 7) + line(end, 9)
    first, second = read_counts(text)
    assert first["step"] == Counts(12, 2, 4, 6) and first["other"].total == 6
    assert second == {"step": Counts(7, 1, 2, 3)}
    assert Measured({}, first).step == 3
