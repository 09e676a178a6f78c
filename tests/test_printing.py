"""Names that no terminal shows, on one line."""

from __future__ import annotations

import json
import os

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.printing import decodable, one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"caf\xe9.wav"), r"caf\xe9.wav"),
        ("größer 👩‍🚀 日本.wav", "größer 👩‍🚀 日本.wav"),
        ("a\nb\x1b[31m\u2028.wav", r"a\nb\x1b[31m\u2028.wav"),
        ("\ud83d.wav", r"\ud83d.wav"),
    ],
)
def test_a_name_becomes_a_line_that_utf_8_holds(name: str, shown: str) -> None:
    assert one_line(name) == shown
    assert json.loads(json.dumps(decodable(name), ensure_ascii=False).encode()) == decodable(name)


def test_an_error_can_be_printed_anywhere() -> None:
    assert str(UserError("audio", os.fsdecode(b"\xff.wav"), "no such file")) == r"audio: \xff.wav: no such file"
