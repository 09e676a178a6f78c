"""Checks whether a bundle fits and runs on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from edge_asr_deploy.bundle.manifest import Manifest, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.doctor.finding import MB, Finding, Status
from edge_asr_deploy.harness.machine.resources import Machine

# An upper bound for the peak memory, in bytes, of a process that runs a bundle. It was fitted to measurements on x86-64
# with onnxruntime 1.32 (tiny and base of both families at 3, 4, 8 and 32 bits) and exceeds none by more than a third.
# `BASE` covers Python, onnxruntime and the encoder's activations. Files are held twice: as read, and as packed for the
# kernels. Codes are unpacked when the session is created; codes of odd widths pass through wider integers.
BASE = {"whisper": 300 * MB, "moonshine": 140 * MB}
PER_FILE_BYTE = 1.5
PER_CODE, PER_ODD_CODE = 2.5, 5.5
# With less memory than this share of the bound, a bundle will hardly run.
SURE = 0.75


def bundle_findings(bundle: Path, machine: Machine, is_sound: bool) -> Iterator[Finding]:
    """Check hashes, memory and kernels; if the machine itself `is_sound`, also run the bundle once.

    UserError when the folder is not a bundle at all.
    """
    manifest = read_manifest(bundle)
    try:
        verify(bundle)
    except UserError as error:
        yield Finding(check="bundle files", status="problem", found=str(error.value), remedy=error.remedy)
        return
    yield Finding(check="bundle files", status="ok", found=f"all {len(manifest.files)} files are intact")
    memory = memory_finding(needed_memory(manifest), machine.available)
    yield memory
    yield kernel_finding(manifest, machine)
    if is_sound and memory.status != "problem":
        yield trial(bundle, machine.cores)


def needed_memory(manifest: Manifest) -> int:
    """An upper bound for the peak memory of a process that runs the bundle, in bytes."""
    files = sum(entry.size for name, entry in manifest.files.items() if ".onnx" in name)
    codes = sum(
        math.prod(layer.shape) * (PER_CODE if layer.bits in (4, 8) else PER_ODD_CODE)
        for layer in manifest.layers
        if layer.bits <= 8
    )
    return round(BASE[manifest.family] + PER_FILE_BYTE * files + codes)


def memory_finding(needed: int, available: int | None) -> Finding:
    """Whether the bundle fits into memory. `available` is None when the system does not report free memory."""
    status: Status = "ok"
    if available is not None and needed > available:
        status = "problem" if SURE * needed > available else "warning"
    remedy = "end other programs, or export with fewer bits"
    found = f"at most {needed / MB:.0f} MB needed"
    return Finding(check="bundle memory", status=status, found=found, remedy="" if status == "ok" else remedy)


def kernel_finding(manifest: Manifest, machine: Machine) -> Finding:
    """Whether fast kernels exist here. ARM without dot products unpacks weight-only layers at every call."""
    slow = [
        layer
        for layer in manifest.layers
        if layer.group is not None and layer.storage == "plain" and layer.activations == "float"
    ]
    if machine.cpu.target != "pi4" or "pi4" in manifest.targets or not slow:
        return Finding(check="bundle kernels", status="ok", found="this processor has the fast kernels")
    found = f"{len(slow)} of {len(manifest.layers)} matrices are weight-only, which is slow without dot products"
    remedy = "export with `--target pi4`, and compare with `edge-deploy bench --baseline`"
    return Finding(check="bundle kernels", status="warning", found=found, remedy=remedy)


def trial(bundle: Path, cores: int) -> Finding:
    """Open the bundle in a process of its own and transcribe a second of noise."""
    # Imported only here, because the other findings must work on a machine where these imports fail.
    import numpy as np

    from edge_asr_deploy.harness.evaluation.evaluate import language_options
    from edge_asr_deploy.harness.evaluation.process import Worker
    from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
    from edge_asr_deploy.runtime.session import SessionSettings

    noise = (0.1 * np.random.default_rng(0).normal(size=SAMPLE_RATE)).astype(np.float32)
    try:
        with Worker(bundle, SessionSettings(threads=min(cores, 4)), vad=False) as worker:
            started = time.perf_counter()
            answer = worker.transcribe(noise, language_options(bundle, "en"))
            seconds = time.perf_counter() - started
            found = f"loads in {worker.load_seconds:.1f} s, 1 s of noise takes {seconds:.1f} s"
            return Finding(check="bundle run", status="ok", found=f"{found}, peak memory {answer.peak_rss / MB:.0f} MB")
    except UserError as error:
        return Finding(check="bundle run", status="problem", found=str(error.value), remedy=error.remedy)
