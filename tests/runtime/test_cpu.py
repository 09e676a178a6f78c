"""Processor features from the kernel's text."""

from __future__ import annotations

import pytest

from edge_asr_deploy.runtime.cpu import CpuFeatures, cpu_features

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
