"""Products of NumPy that wake no thread of OpenBLAS."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edge_asr_deploy.runtime.products import LARGEST, product

MEASURE = """
import time
import numpy as np
from edge_asr_deploy.runtime.products import product
left, right = np.ones((3000, 201), np.float32), np.ones((201, 80), np.float32)
multiply = {"blocks": product, "whole": np.matmul}[{how!r}]
multiply(left, right)
process, thread = time.process_time(), time.thread_time()
for _ in range(200):
    multiply(left, right)
thread, process = time.thread_time() - thread, time.process_time() - process
print((process - thread) / thread)
"""


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 3, 2), (1000, 201, 80), (30, 64, 1500), (5, 4, LARGEST)])
def test_it_is_the_product(rows: int, inner: int, columns: int) -> None:
    random = np.random.default_rng(0)
    left = random.standard_normal((rows, inner)).astype(np.float32)
    right = random.standard_normal((inner, columns)).astype(np.float32)
    np.testing.assert_allclose(product(left, right), left @ right, rtol=1e-4, atol=1e-4)


def test_of_nothing_it_is_nothing() -> None:
    assert product(np.ones((0, 3), np.float32), np.ones((3, 2), np.float32)).shape == (0, 2)


def others(how: str) -> float:
    """Processor time of all other threads of a process that multiplies, as a multiple of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    words = [sys.executable, "-c", MEASURE.replace("{how!r}", repr(how))]
    return float(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: OpenBLAS starts no threads")
def test_no_other_thread_works() -> None:
    if others("whole") < 0.3:
        pytest.skip("this NumPy multiplies on one thread anyway")
    assert others("blocks") < 0.1
