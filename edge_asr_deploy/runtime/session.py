"""Creates onnxruntime sessions, all in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.exact import needs_unsigned, with_unsigned_operands

# Constants of an optimized graph that are smaller than this stay in the file with the nodes.
EXTERNAL_BYTES = 1024
# pyproject.toml has the same bound. Older ones do not know the operators of low-bit weights, or do not fuse those of 8.
LOWEST_ONNXRUNTIME = (1, 25)
# What onnxruntime, C++ and protobuf say when they get no memory.
_NO_MEMORY = ("bad_alloc", "Failed to allocate", "Cannot allocate", "Failed to serialize proto")
# onnxruntime's operator for a sum and its norm takes six times as long as the two (docs/log/performance.md).
SLOWER_FUSIONS = ("SkipLayerNormFusion",)
# The bytes with which onnxruntime's arena starts. They are reserved at once, but use memory only when written. An arena
# that grows from nothing has regions of 1, 2, 4, 8 MB and so on; with tensors of 9 MB the small regions stay unused.
FIRST_REGION = 32 * 2**20


@dataclass(frozen=True)
class SessionSettings:
    """How a graph is run.

    `threads` is the number within an operator. `accuracy_level` is that of the low-bit MatMul: None leaves
    onnxruntime's default, 4, which quantizes activations to int8 block by block; 0 and 1 keep them float. With
    `spinning`, waiting threads keep their core busy.
    """

    threads: int = 2
    accuracy_level: int | None = None
    spinning: bool = True


def open_session(
    path: Path,
    settings: SessionSettings,
    profile_prefix: Path | None = None,
    save_to: Path | None = None,
    optimized: bool = False,
    alone: bool = False,
) -> onnxruntime.InferenceSession:
    """Load a model file on the CPU. UserError when onnxruntime cannot load it.

    With `profile_prefix` onnxruntime records the time of every operator; `end_profiling()` returns the file's name.
    With `save_to` the optimized graph is stored there, its weights in a `.data` file beside it that can be mapped. With
    `optimized`, `path` is such a stored graph and is not optimized again. A session that is `alone` shares no arena
    with others: all of its memory goes when it is closed.
    """
    options = onnxruntime.SessionOptions()
    # Always set: onnxruntime's own choice pins threads to cores, which fails in containers with fewer cores.
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    # Errors raise exceptions. Warnings about folded initializers would only hide them.
    options.log_severity_level = 4
    # Memory patterns would allocate a second set of buffers beside those of the first run, and save no time.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", str(int(not alone and _share_arena())))
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    # Threads sleep between runs. Otherwise the threads of the last session keep cores busy that the next one needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if settings.accuracy_level is not None:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", str(settings.accuracy_level))
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
        data = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{data}_file_name", f"{save_to.name}.data")
        options.add_session_config_entry(f"{data}_min_size_in_bytes", str(EXTERNAL_BYTES))
        # Nothing runs in it, so that kernels need no copies of their weights.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model: Path | bytes = path
    try:
        if not optimized and needs_unsigned(path):
            model = with_unsigned_operands(path)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
        )
    except UserError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no public base class
        raise UserError("bundle", path, _why_not(error)) from error


@contextmanager
def running() -> Iterator[None]:
    """UserError where onnxruntime fails in the middle of a run: the graphs are not what their files beside them say."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no public base class
        if not isinstance(error, RuntimeError) and not type(error).__module__.startswith("onnxruntime"):
            raise
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        reason = " ".join(str(error).split())[:200]
        raise UserError("bundle", "its graphs", f"onnxruntime cannot run them ({reason}); export it again") from error


def _why_not(error: Exception) -> str:
    """Why a graph cannot be loaded, and what helps: more memory, a newer onnxruntime, or another export."""
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    said = f"onnxruntime {onnxruntime.__version__} cannot load it ({reason})"
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return f"{said}; there is too little memory: free some, or raise its limit (`ulimit -v`, the container's)"
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < LOWEST_ONNXRUNTIME:
        return f"{said}; install onnxruntime {'.'.join(map(str, LOWEST_ONNXRUNTIME))} or newer"
    return f"{said}; export the bundle again"


@cache
def _share_arena() -> bool:
    """Let all sessions of the process share one arena, so that the decoder reuses the encoder's buffers.

    False if this fails, for example because another user of onnxruntime has registered an allocator already.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    try:
        arena = onnxruntime.OrtArenaCfg({"initial_chunk_size_bytes": FIRST_REGION})
        onnxruntime.create_and_register_allocator(memory, arena)
    except Exception:  # onnxruntime's exceptions have no public base class
        return False
    return True
