"""JavaScript clients: what `make clients-js` installs, and bundles arranged for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.javascript.installed import CLIENTS
from tests.support.fixtures_real import Exporter, data, exported

__all__ = ["data", "exported"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

Node = Callable[..., Any]
Arrange = Callable[..., Path]


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with `node_modules` and the archives of the page's engine."""
    if shutil.which("node") is None:
        pytest.skip("no node: the clients are JavaScript")
    if not (CLIENTS / ".done").is_file():
        pytest.skip("no JavaScript clients: run `make clients-js`")
    return CLIENTS


@pytest.fixture(scope="session")
def chromium() -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    return CHROMIUM


@pytest.fixture(scope="session")
def node(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Runs a script beside `node_modules`, where it finds its packages; gives what it printed as JSON."""

    def run(script: Path, *arguments: object, **environment: str) -> Any:
        beside = clients / f"{os.getpid()}-{script.name}"
        shutil.copyfile(script, beside)
        try:
            command = ["node", str(beside), *map(str, arguments)]
            ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
        finally:
            beside.unlink()
        assert ran.returncode == 0, ran.stderr[-3000:]
        return json.loads(ran.stdout.strip().splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def arranged(exported: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Arrange:
    """`arranged(model, bits)`: the layout of a bundle, as it is shipped."""
    # Not above: a base install collects these tests, too, and has no exporter.
    from edge_asr_deploy.layouts import transformers_js

    def make(model: str, bits: int) -> Path:
        bundle = exported(model, bits, 8)
        folder = tmp_path_factory.mktemp("layout") / bundle.name
        folder.mkdir()
        transformers_js.arrange(bundle, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[Any]], list[Path]]:
    """Utterances as files of float32 samples, which is what a program in Node passes on."""
    folder = tmp_path_factory.mktemp("raw")

    def write(utterances: Sequence[Any]) -> list[Path]:
        paths = [folder / f"{utterance.id.replace('/', '-')}.f32" for utterance in utterances]
        for path, utterance in zip(paths, utterances, strict=True):
            utterance.samples().astype(np.float32).tofile(path)
        return paths

    return write
