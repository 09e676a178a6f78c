"""Diagnoses whether this machine can run bundles. Imports no package that may itself be broken here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.harness.doctor.finding import MB, Finding, Status
from edge_asr_deploy.harness.doctor.releases import release_findings
from edge_asr_deploy.harness.machine.resources import Machine, read_machine
from edge_asr_deploy.harness.machine.state import BoardState, board_state

OLDEST_PYTHON = (3, 11)
# A process with onnxruntime, numpy and a tiny model needs the first; with less than the second it may swap.
LEAST_MEMORY, LITTLE_MEMORY = 150 * MB, 400 * MB
LEAST_DISK, LITTLE_DISK = 20 * MB, 500 * MB
# The Raspberry Pi 4 and 5 slow down from 80 to 85 degrees.
HOT = 80.0
TIMEOUT = 120

Reply = dict[str, Any]


class Diagnosis(BaseModel):
    """The output of `edge-deploy doctor --json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    machine: str
    architecture: str
    cpu_flags: list[str]
    target: str = Field(description="the deployment target that is made for this processor")
    board: BoardState
    findings: list[Finding]

    @property
    def can_run(self) -> bool:
        """True when no finding is a problem."""
        return all(finding.status != "problem" for finding in self.findings)


def diagnose(
    bundle: Path | None = None,
    machine: Machine | None = None,
    state: BoardState | None = None,
    probe: Callable[[], tuple[list[Reply], int]] | None = None,
) -> Diagnosis:
    """Diagnose this machine, or the one that the arguments describe; with `bundle`, also whether it fits and runs here.

    A damaged bundle is a finding. UserError when `bundle` is not a bundle at all.
    """
    machine = machine or read_machine()
    state = state or board_state()
    findings = [*system_findings(machine), *cpu_findings(machine), *cooling_findings(state)]
    replies, code = (probe or run_probe)()
    findings += probe_findings(replies, code)
    versions = [str(one["found"]) for one in replies if one["step"] == "import onnxruntime" and "found" in one]
    findings += [known for version in versions for known in release_findings(version, machine.cpu.architecture)]
    if bundle is not None:
        from edge_asr_deploy.harness.doctor.bundle_findings import bundle_findings

        is_sound = all(finding.status != "problem" for finding in findings)
        findings += bundle_findings(bundle, machine, is_sound)
    return Diagnosis(
        machine=machine.name,
        architecture=machine.cpu.architecture,
        cpu_flags=sorted(machine.cpu.flags),
        target=machine.cpu.target,
        board=state,
        findings=findings,
    )


def system_findings(machine: Machine) -> Iterator[Finding]:
    """Findings about word size, Python, cores, memory and disk."""
    system = f"{machine.bits}-bit Python on a {machine.kernel_bits}-bit kernel, {machine.system}"
    remedy = "onnxruntime has no 32-bit wheels: install the 64-bit Raspberry Pi OS (or another 64-bit system)"
    yield _finding("system", "ok" if machine.bits == 64 else "problem", system, remedy)
    version = tuple(int(part) for part in machine.python.split(".")[:2])
    wanted = ".".join(map(str, OLDEST_PYTHON))
    yield _finding(
        "Python", "ok" if version >= OLDEST_PYTHON else "problem", machine.python, f"install Python {wanted} or newer"
    )
    yield _finding("cores", "ok", f"{machine.cores}; use --threads {min(machine.cores, 4)}")
    if machine.memory is None or machine.available is None:
        yield _finding("memory", "warning", "this system does not report it", "check that 400 MB are free")
    else:
        found = f"{machine.available / MB:.0f} of {machine.memory / MB:.0f} MB are free"
        remedy = "end other programs, add swap, or raise the container's limit"
        yield _finding("memory", _level(machine.available, LEAST_MEMORY, LITTLE_MEMORY), found, remedy)
    status = _level(machine.disk, LEAST_DISK, LITTLE_DISK)
    yield _finding("disk", status, f"{machine.disk / MB:.0f} MB are free", "remove files, or use another disk")


def cpu_findings(machine: Machine) -> Iterator[Finding]:
    """Whether the processor has the instructions that fast kernels need, and which target is made for it."""
    flags, target = machine.cpu.flags, machine.cpu.target
    if target == "pi5":
        yield _finding("processor", "ok", f"aarch64 with dot products{' and i8mm' if 'i8mm' in flags else ''}")
    elif target == "pi4":
        found = "aarch64 without dot products: int8 layers are fast, 8- and 2-bit weight-only layers are not"
        yield _finding("processor", "ok", found)
    elif target == "x86":
        yield _finding("processor", "ok", "x86_64 with VNNI")
    elif machine.cpu.architecture != "x86_64":
        remedy = "onnxruntime has wheels for x86_64 and aarch64 only: build it yourself, or use another machine"
        yield _finding("processor", "warning", f"{machine.cpu.architecture}, which has no fast kernels", remedy)
    elif "avx2" in flags:
        remedy = "compare bundles with `edge-deploy bench`: int8 layers run here in a slower, but exact kernel"
        yield _finding("processor", "warning", "x86_64 without VNNI, which fast int8 layers need", remedy)
    else:
        remedy = "bundles run several times slower here; give a virtual machine the host's CPU model"
        yield _finding("processor", "warning", "x86_64 without AVX2", remedy)
    yield _finding("target", "ok", target)


def cooling_findings(state: BoardState) -> Iterator[Finding]:
    """Findings about governor, temperature and throttling."""
    if state.governor is not None:
        steady = state.governor == "performance"
        remedy = "for steady times: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield _finding("governor", "ok" if steady else "warning", state.governor, remedy)
    if state.temperature is not None:
        cool = state.temperature < HOT
        yield _finding(
            "temperature", "ok" if cool else "warning", f"{state.temperature:.0f} °C", "add a fan or heat sink"
        )
    if state.throttled is not None:
        now, past = ", ".join(state.flags), ", ".join(state.flags_since_boot)
        found = "none"
        if now:
            found = f"now: {now}"
        elif past:
            found = f"since boot: {past}"
        supply = "under-voltage" in (*state.flags, *state.flags_since_boot)
        remedy = "use the board's own power supply and a short cable" if supply else "add a fan or heat sink"
        yield _finding("throttling", "warning" if now or past else "ok", found, remedy)
    elif state.cooling:
        yield _finding("throttling", "warning", "a cooling device lowers the clock", "add a fan or heat sink")


def run_probe() -> tuple[list[Reply], int]:
    """Run `harness.doctor.probe` in a fresh process: its replies and its exit code (negative: killed by a signal)."""
    command = [sys.executable, "-P", "-m", "edge_asr_deploy.harness.doctor.probe"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        return _replies(output.decode() if isinstance(output, bytes) else output), -signal.SIGKILL
    return _replies(ran.stdout), ran.returncode


def probe_findings(replies: Sequence[Reply], code: int) -> Iterator[Finding]:
    """One finding for each step that the probe began. If the probe died, its last step is the problem."""
    ends = {reply["step"]: reply for reply in replies if "found" in reply or "error" in reply}
    for step in dict.fromkeys(reply["step"] for reply in replies):
        end = ends.get(step)
        if end is None:
            yield Finding(check=step, status="problem", found=_death(code), remedy=_remedy(step))
        elif "error" in end:
            yield Finding(check=step, status="problem", found=end["error"], remedy=_remedy(step))
        else:
            yield Finding(check=step, status="ok", found=end["found"] or "works")
    if not replies:
        remedy = "install edge-asr-deploy again, in a fresh virtual environment"
        yield Finding(check="probe", status="problem", found=f"did not start, exit code {code}", remedy=remedy)


def _death(code: int) -> str:
    if code == -signal.SIGILL:
        return "illegal instruction: the package was built for another processor"
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name}"
    return f"the process ended with code {code}"


def _remedy(step: str) -> str:
    verb, name = step.split(" ", 1)
    if verb == "run" or name == "onnxruntime":
        return (
            "in a virtual environment without system packages: pip install --force-reinstall 'onnxruntime>=1.25'; "
            "a distribution's own package may be built for newer processors"
        )
    return f"pip install --force-reinstall {name}"


def _replies(text: str) -> list[Reply]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def _level(value: int, least: int, little: int) -> Status:
    if value < least:
        return "problem"
    return "warning" if value < little else "ok"


def _finding(check: str, status: Status, found: str, remedy: str = "") -> Finding:
    """A finding, which has a remedy only if something is wrong."""
    return Finding(check=check, status=status, found=found, remedy="" if status == "ok" else remedy)
