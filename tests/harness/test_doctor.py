"""What a machine lacks, and what helps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.bundle.manifest import Graphs
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.doctor import bundle_findings
from edge_asr_deploy.harness.doctor.doctor import (
    Diagnosis,
    Finding,
    cooling_findings,
    cpu_findings,
    diagnose,
    probe_findings,
    run_probe,
    system_findings,
)
from edge_asr_deploy.harness.machine.resources import Machine, read_machine
from edge_asr_deploy.harness.machine.state import board_state
from edge_asr_deploy.runtime.cpu import CpuFeatures
from tests.support import probes
from tests.support.boards import A76, lay_out, pi
from tests.support.fakes import write_bundle

WORKS: list[dict[str, Any]] = [{"step": "import numpy"}, {"step": "import numpy", "found": "2.1.0"}]
GOOD = {
    "name": "board",
    "cpu": CpuFeatures("aarch64", frozenset(A76.split())),
    "cores": 4,
    "memory": 4_000_000_000,
    "available": 3_000_000_000,
    "disk": 9_000_000_000,
    "bits": 64,
    "kernel_bits": 64,
    "python": "3.11.2",
    "system": "Debian",
}


def by_check(findings: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def diagnosed(root: Path, bundle: Path | None = None, **probe: Any) -> Diagnosis:
    machine = read_machine(root, architecture=probe.pop("architecture", "aarch64"))
    answer = (probe.get("replies", WORKS), probe.get("code", 0))
    return diagnose(bundle, machine, board_state(root, lambda what: None), lambda: answer)


def test_a_raspberry_pi_4_is_recognized_and_runs(tmp_path: Path) -> None:
    found = diagnosed(pi(tmp_path))
    assert (found.machine, found.target, found.can_run) == ("Raspberry Pi 4 Model B Rev 1.4", "pi4", True)
    findings = by_check(found.findings)
    assert findings["memory"].found == "2048 of 3979 MB are free"
    assert findings["cores"].found.startswith("4")
    assert "bookworm" in findings["system"].found
    assert {finding.status for finding in found.findings if finding.check != "disk"} == {"ok"}


def test_a_raspberry_pi_5_has_dot_products(tmp_path: Path) -> None:
    assert diagnosed(pi(tmp_path, features=A76)).target == "pi5"


def test_heat_and_a_weak_supply_are_warnings_with_remedies(tmp_path: Path) -> None:
    found = diagnosed(pi(tmp_path, governor="ondemand", celsius=83, throttled=0x50005))
    findings = by_check(found.findings)
    assert found.can_run
    for check, remedy in (("governor", "performance"), ("temperature", "fan"), ("throttling", "power supply")):
        assert findings[check].status == "warning" and remedy in findings[check].remedy


def test_too_little_memory_must_be_mended(tmp_path: Path) -> None:
    found = diagnosed(pi(tmp_path, free_mb=60))
    assert not found.can_run
    assert by_check(found.findings)["memory"].status == "problem"


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    limits = {
        "sys/fs/cgroup/memory.max": 500_000_000,
        "sys/fs/cgroup/memory.current": 250_000_000,
        "sys/fs/cgroup/memory.stat": "anon 7\ninactive_file 50000000\nactive_file 9",
    }
    machine = read_machine(lay_out(pi(tmp_path), limits))
    assert (machine.memory, machine.available) == (500_000_000, 300_000_000)
    unlimited = read_machine(lay_out(tmp_path, {"sys/fs/cgroup/memory.max": "max"}))
    assert unlimited.memory == 3885396 * 1024


@pytest.mark.parametrize(
    ("change", "check", "remedy"),
    [
        ({"bits": 32, "kernel_bits": 64}, "system", "64-bit Raspberry Pi OS"),
        ({"python": "3.9.2"}, "Python", "3.11"),
        ({"available": 10**8}, "memory", "swap"),
        ({"disk": 10**6}, "disk", "remove files"),
    ],
)
def test_what_the_system_lacks_is_a_problem(change: dict[str, Any], check: str, remedy: str) -> None:
    finding = by_check(system_findings(Machine(**{**GOOD, **change})))[check]
    assert finding.status == "problem" and remedy in finding.remedy
    assert by_check(system_findings(Machine(**GOOD)))[check].status == "ok"


@pytest.mark.parametrize(
    ("architecture", "flags", "status", "named"),
    [
        ("x86_64", {"avx2", "avx512_vnni"}, "ok", "VNNI"),
        ("x86_64", {"avx2"}, "warning", "without VNNI"),
        ("x86_64", {"sse4_2"}, "warning", "without AVX2"),
        ("aarch64", {"asimddp", "i8mm"}, "ok", "i8mm"),
        ("aarch64", {"asimd"}, "ok", "without dot products"),
        ("riscv64", set(), "warning", "riscv64"),
    ],
)
def test_processors(architecture: str, flags: set[str], status: str, named: str) -> None:
    machine = Machine(**{**GOOD, "cpu": CpuFeatures(architecture, frozenset(flags))})
    finding = by_check(cpu_findings(machine))["processor"]
    assert finding.status == status and named in finding.found
    assert bool(finding.remedy) == (status != "ok")


def test_a_board_that_shows_nothing_gives_no_finding(tmp_path: Path) -> None:
    assert [*cooling_findings(board_state(tmp_path, lambda what: None))] == []


def test_the_step_at_which_the_probe_died_is_the_culprit(tmp_path: Path) -> None:
    replies = [*WORKS, {"step": "import onnxruntime"}]
    found = diagnosed(pi(tmp_path), replies=replies, code=-signal.SIGILL)
    assert not found.can_run
    finding = by_check(found.findings)["import onnxruntime"]
    assert "illegal instruction" in finding.found and "pip install" in finding.remedy


@pytest.mark.parametrize(
    ("replies", "code", "found"),
    [
        ([{"step": "import soxr"}, {"step": "import soxr", "error": "ImportError: no soxr"}], 0, "no soxr"),
        ([{"step": "run int8"}], -signal.SIGSEGV, "SIGSEGV"),
        ([{"step": "run int8"}], 3, "code 3"),
        ([], 1, "did not start"),
    ],
)
def test_other_deaths(replies: list[dict[str, Any]], code: int, found: str) -> None:
    [finding] = probe_findings(replies, code)
    assert finding.status == "problem" and found in finding.found and finding.remedy


def test_the_probe_runs_here_and_every_kernel_works() -> None:
    replies, code = run_probe()
    findings = by_check(probe_findings(replies, code))
    assert code == 0
    assert {"import onnxruntime", "run float", "run int8", "run 4-bit"} <= set(findings)
    assert {finding.status for finding in findings.values()} == {"ok"}, findings


@pytest.mark.parametrize("kind", probes.KINDS)
def test_the_probes_graphs_are_what_their_program_makes(kind: str) -> None:
    assert (probes.FOLDER / f"{kind}.onnx").read_bytes() == probes.graph(kind)


def test_an_illegal_instruction_in_onnxruntime_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    [*_, last] = probe_findings(*run_probe())
    assert (last.check, last.status) == ("import onnxruntime", "problem")
    assert "illegal instruction" in last.found


def test_the_doctor_itself_needs_nothing_that_may_be_broken() -> None:
    modules = ", ".join(f"edge_asr_deploy.{name}" for name in ("cli", "harness.doctor.report", "harness.doctor.doctor"))
    blocked = "sys.modules.update(dict.fromkeys(('onnxruntime', 'numpy', 'tokenizers', 'soundfile', 'soxr')))"
    ran = subprocess.run([sys.executable, "-c", f"import sys; {blocked}; import {modules}"], capture_output=True)
    assert ran.returncode == 0, ran.stderr


def test_a_damaged_bundle_is_a_finding_and_no_bundle_is_bad_input(tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    (tmp_path / "w4/config.json").write_text("[]")
    found = diagnosed(pi(tmp_path / "pi"), tmp_path / "w4")
    assert not found.can_run
    assert "config.json" in by_check(found.findings)["bundle files"].found
    with pytest.raises(UserError, match="no such folder"):
        diagnosed(pi(tmp_path / "pi"), tmp_path / "absent")


def test_a_bundle_that_cannot_run_is_a_finding(tmp_path: Path) -> None:
    """The files are as exported, but they are no ONNX graphs."""
    write_bundle(tmp_path / "w4", files={"generation_config.json": b"{}"})
    findings = by_check(diagnosed(pi(tmp_path / "pi"), tmp_path / "w4").findings)
    assert findings["bundle files"].status == findings["bundle memory"].status == "ok"
    assert findings["bundle run"].status == "problem"


def test_a_bundle_is_not_tried_on_a_machine_that_cannot_run_any(tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    found = diagnosed(pi(tmp_path / "pi"), tmp_path / "w4", replies=[{"step": "import onnxruntime"}], code=-4)
    assert "bundle run" not in by_check(found.findings)


@pytest.mark.parametrize(("share", "status"), [(1.01, "ok"), (0.9, "warning"), (0.7, "problem")])
def test_a_bundle_larger_than_memory_does_not_fit(tmp_path: Path, share: float, status: str) -> None:
    needed = bundle_findings.needed_memory(write_bundle(tmp_path / "w4"))
    machine = Machine(**{**GOOD, "available": round(share * needed)})
    findings = by_check(bundle_findings.bundle_findings(tmp_path / "w4", machine, True))
    assert findings["bundle memory"].status == status
    assert ("bundle run" in findings) == (status != "problem"), "what cannot fit is not tried"


def test_memory_grows_with_codes_and_files_and_odd_widths_cost_more(tmp_path: Path) -> None:
    four, three, five = (write_bundle(tmp_path / str(bits), bits=bits) for bits in (4, 3, 5))
    base = bundle_findings.BASE["whisper"]
    assert bundle_findings.needed_memory(four) == base + 1.5 * (300 * 4 + 10) + 2.5 * 384 * 1536
    assert (
        bundle_findings.needed_memory(four) < bundle_findings.needed_memory(three) < bundle_findings.needed_memory(five)
    )


def test_weight_only_layers_are_slow_without_dot_products(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "w4")
    pi4, pi5 = (Machine(**{**GOOD, "cpu": CpuFeatures("aarch64", frozenset(f))}) for f in ((), ("asimddp",)))
    assert bundle_findings.kernel_finding(manifest, pi4).status == "warning"
    assert bundle_findings.kernel_finding(manifest, pi5).status == "ok"
    both = manifest.model_copy(update={"targets": {"generic": Graphs(), "pi4": Graphs(decoder="decoder_pi4.onnx")}})
    assert bundle_findings.kernel_finding(both, pi4).status == "ok", "it has graphs without them"
