"""Which target a CPU gets, what a bundle that is not for it gives instead, and how sessions are run."""

from __future__ import annotations

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.targets import TARGETS, SessionOverrides, choose

VNNI = CpuFeatures("x86_64", frozenset({"avx2", "avx_vnni"}))
A72, A76 = CpuFeatures("aarch64", frozenset({"asimd"})), CpuFeatures("aarch64", frozenset({"asimd", "asimddp"}))
RISC = CpuFeatures("riscv64", frozenset())


@pytest.mark.parametrize(("cpu", "name"), [(VNNI, "x86"), (A72, "pi4"), (A76, "pi5"), (RISC, "generic")])
def test_features_decide(cpu: CpuFeatures, name: str) -> None:
    assert choose(TARGETS, None, cpu).name == name


def test_an_x86_whose_byte_products_overflow_is_generic() -> None:
    overflowing = CpuFeatures("x86_64", frozenset({"avx2", "avx512f"}))
    assert choose(TARGETS, None, overflowing).name == "generic"


@pytest.mark.parametrize(
    ("available", "cpu", "name"),
    [
        (["generic"], A72, "generic"),
        (["pi4"], VNNI, "pi4"),
        (["generic", "pi4", "pi5"], VNNI, "pi5"),
        (["generic", "x86"], A72, "x86"),
        (["pi4", "pi5", "x86"], RISC, "x86"),
        (["pi4", "generic"], A76, "pi4"),
    ],
)
def test_a_bundle_for_other_targets_runs_in_the_nearest_form(available: list[str], cpu: CpuFeatures, name: str) -> None:
    assert choose(available, None, cpu).name == name


def test_a_wish_comes_first_and_is_refused_where_it_cannot_be() -> None:
    assert choose(["x86", "pi4"], "pi4", VNNI).name == "pi4"
    with pytest.raises(UserError, match="no such target; choose generic, x86, pi4, pi5"):
        choose(["x86", "pi4"], "pi3", VNNI)
    with pytest.raises(UserError, match=r"this bundle is for x86, pi4; .*--target pi5"):
        choose(["x86", "pi4"], "pi5", VNNI)
    with pytest.raises(UserError, match="none of the targets"):
        choose(["pi9"], None, VNNI)


def test_every_target_has_a_form_for_every_component() -> None:
    for name, target in TARGETS.items():
        assert (name, tuple(target.forms)) == (target.name, COMPONENTS)
    assert set(TARGETS["pi4"].forms.values()) == {"int8"}, "its low-bit kernels dequantize in every call"


def on_cores(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("edge_asr_deploy.runtime.targets.usable_cores", lambda: number)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_sessions_use_the_targets_settings_but_for_what_is_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 8)
    assert (TARGETS["pi4"].settings().threads, TARGETS["generic"].settings().threads) == (4, 2)
    assert TARGETS["pi5"].settings().accuracy_level == 4
    assert TARGETS["pi5"].settings(SessionOverrides(threads=1, accuracy_level=1)).accuracy_level == 1
    assert TARGETS["pi5"].settings(SessionOverrides(threads=7)).threads == 7
    on_cores(monkeypatch, 2)
    assert TARGETS["pi4"].settings().threads == 2, "more threads than cores wait for each other"


def test_threads_spin_only_on_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 2)
    assert TARGETS["pi4"].settings().spinning
    assert not TARGETS["pi4"].settings(SessionOverrides(threads=4)).spinning


@pytest.mark.parametrize(("value", "threads"), [("1", 1), ("3,2", 3), ("64", 4), ("", 4), ("many", 4), ("0", 1)])
def test_omp_num_threads_limits_the_default(monkeypatch: pytest.MonkeyPatch, value: str, threads: int) -> None:
    on_cores(monkeypatch, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert TARGETS["pi4"].settings().threads == threads
    assert TARGETS["pi4"].settings(SessionOverrides(threads=4)).threads == 4, "what is asked for holds"
