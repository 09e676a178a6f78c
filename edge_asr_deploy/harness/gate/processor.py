"""Which processor this is, as far as it decides how kernels round and how fast they are."""

from __future__ import annotations

from edge_asr_deploy.harness.machine.environment import cpu_name
from edge_asr_deploy.runtime.cpu import cpu_features

# The instruction sets by which onnxruntime chooses kernels for floats and bytes. A virtual machine's processor has one
# name (`AMD EPYC`) for generations that differ in them, and so by a factor of two in the time of int8 products.
KERNEL_FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
)


def processor() -> str:
    """The processor's name, and the instruction sets that kernels are chosen by: `AMD EPYC (avx2 fma)`."""
    flags = cpu_features().flags
    return f"{cpu_name()} ({' '.join(flag for flag in KERNEL_FLAGS if flag in flags)})"
