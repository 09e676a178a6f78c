"""The page's npm packages: only as they were pinned, and a line that says how to get them."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts import page_runtime
from edge_asr_deploy.layouts.page_runtime import PACKAGES, WASM, runtime_files, runtime_folder


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with archives of a few bytes that are what is pinned."""
    pinned = []
    for package in PACKAGES:
        content = archive_of({name: name.encode() for name in package.files})
        (tmp_path / package.archive).write_bytes(content)
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        pinned.append(replace(package, integrity=f"sha512-{digest}"))
    monkeypatch.setattr(page_runtime, "PACKAGES", tuple(pinned))
    return tmp_path


def test_files_and_licences_come_out_of_the_archives(runtime: Path) -> None:
    files = runtime_files(runtime)
    assert files[WASM] == f"dist/{WASM}".encode()
    assert files["transformers.min.js"] == b"dist/transformers.min.js"
    assert [name for name in files if name.endswith(("LICENSE", "package.json"))] == [
        "huggingface-transformers-4.3.2.LICENSE",
        f"{PACKAGES[1].archive.removesuffix('.tgz')}.package.json",
    ]


def test_a_changed_archive_is_refused(runtime: Path) -> None:
    path = runtime / PACKAGES[1].archive
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=f"{path.name}: is not onnxruntime-web .*npm pack"):
        runtime_files(runtime)


def test_what_is_missing_is_got_by_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing; get it once: mkdir -p .*npm pack --pack-destination") as caught:
        runtime_files(tmp_path / "none")
    assert "@huggingface/transformers@4.3.2" in str(caught.value) and "\n" not in str(caught.value)


def test_the_folder_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_ASR_PAGE_RUNTIME", str(tmp_path))
    assert runtime_folder() == tmp_path
    monkeypatch.delenv("EDGE_ASR_PAGE_RUNTIME")
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path))
    assert runtime_folder() == tmp_path / "page-runtime"
