"""Processor features from the kernel's text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_asr_deploy.runtime.cpu import CpuFeatures, cpu_features, usable_cores

A72 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
A76 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull crc32 atomics asimdhp cpuid asimdrdm asimddp\n"
EPYC = "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 avx512_vnni\nvmx flags\t: ept vpid\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "target"),
    [
        (A72, "aarch64", "pi4"),
        (A76, "aarch64", "pi5"),
        (A76, "arm64", "pi5"),
        (EPYC, "x86_64", "x86"),
        (EPYC, "AMD64", "x86"),
        (EPYC.replace("avx512_vnni", ""), "x86_64", "generic"),
        (A72, "armv7l", "generic"),
        ("isa\t: rv64imafdc\n", "riscv64", "generic"),
    ],
)
def test_the_target_follows_from_architecture_and_dot_products(cpuinfo: str, machine: str, target: str) -> None:
    assert cpu_features(cpuinfo, machine).target == target


def test_flags_are_the_kernels_words() -> None:
    assert cpu_features(EPYC, "x86_64") == CpuFeatures("x86_64", frozenset({"fpu", "sse4_2", "avx2", "avx512_vnni"}))


def test_a_flag_that_one_core_lacks_does_not_count() -> None:
    assert cpu_features(A76 + "\n" + A72, "aarch64").target == "pi4"


def test_no_text_means_no_flags() -> None:
    assert cpu_features("", "x86_64").flags == frozenset()


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "nonsense\n0::\n", "sys/fs/cgroup/cpu.max": "1 0\n"}, 8),
    ],
)
def test_a_quota_counts_as_cores(eight_cores: None, tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert usable_cores(write(tmp_path, files)) == cores


def test_the_affinity_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert usable_cores(tmp_path) == 1
    assert usable_cores(write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"})) == 1
