"""A seal finds every change of what it covers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.cache import Values
from edge_asr_deploy.sealing import SEAL, is_sealed, seal_folder, sealed, unsealed


@given(text=st.text())
def test_a_text_comes_back(text: str) -> None:
    assert unsealed(sealed(text).encode()) == text


@given(text=st.text(), position=st.integers(0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_text_is_noticed(text: str, position: int, bit: int) -> None:
    content = bytearray(sealed(text).encode())
    content[position % len(content)] ^= 1 << bit
    assert unsealed(bytes(content)) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"\nsha256 ", b"text\nsha256 0\n"])
def test_what_has_no_seal_is_nothing(content: bytes) -> None:
    assert unsealed(content) is None


def test_a_folder_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert not is_sealed(tmp_path) and not is_sealed(tmp_path / "absent")
    seal_folder(tmp_path)
    assert is_sealed(tmp_path)
    for name, content in (("a", b"2"), ("b", b""), (SEAL, b"")):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        (tmp_path / name).write_bytes(content)
        assert not is_sealed(tmp_path)
        (tmp_path / name).unlink() if before is None else (tmp_path / name).write_bytes(before)
        assert is_sealed(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": 1}', b"[" * 200_000])
def test_values_that_were_changed_are_none(tmp_path: Path, content: bytes) -> None:
    values = Values(tmp_path, "key")
    values.put("a", 1)
    values.save()
    assert Values(tmp_path, "key").get("a") == 1
    assert values.path is not None
    values.path.write_bytes(content)
    assert "a" not in Values(tmp_path, "key")
