"""For all tests: the mark `fast`, and a folder of the run for what starts keep, instead of the user's cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

# Their assertions, too, say what was compared.
pytest.register_assert_rewrite("tests.support")

from tests.support import fast  # noqa: E402


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast` the files without a fast test are not even imported: that takes longer than some tests."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    is_left_out = is_test and config.option.markexpr == "fast" and fast.relative(collection_path) not in fast.FILES
    return True if is_left_out else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests, before pytest selects by marks."""
    for item in items:
        is_slow = any(item.get_closest_marker(name) for name in ("real", "real_full", "arm"))
        if not is_slow and fast.is_fast(item.path, item.name):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session", autouse=True)
def startup_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_ASR_STARTUP_CACHE", str(tmp_path_factory.mktemp("startup")))
        yield
