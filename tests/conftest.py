"""For all tests: what starts keep goes to a folder of the run, not to the user's cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# Their assertions, too, say what was compared.
pytest.register_assert_rewrite("tests.support")


@pytest.fixture(scope="session", autouse=True)
def startup_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_ASR_STARTUP_CACHE", str(tmp_path_factory.mktemp("startup")))
        yield
