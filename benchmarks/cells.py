"""What is compared: rivals and our bundles, each in a configuration; and a cell, one process of the comparison."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_asr_deploy.errors import UserError

OURS = "edge-deploy"
Family = Literal["whisper", "moonshine"]


@dataclass(frozen=True)
class Configuration:
    """One way to run a model. `form`: the shape of the checkpoint that it takes (see `forms`), for ours the bundle.

    `full_window`: it encodes 30 s however short the speech is. `accuracy_of`: the configuration whose word error rate
    is its own, where the two differ only in speed. `long_only`: it only makes sense on long audio.
    """

    rival: str
    name: str
    form: str
    full_window: bool = True
    accuracy_of: str | None = None
    long_only: bool = False

    @property
    def is_ours(self) -> bool:
        """True for our runtime."""
        return self.rival == OURS

    @property
    def options(self) -> dict[str, str]:
        """Options that follow the name of one of our bundles: `w4 --audio-context auto` gives audio_context.

        UserError when they are not pairs of `--option` and value.
        """
        words = shlex.split(self.name)[1:] if self.is_ours else []
        names, values = words[::2], words[1::2]
        if len(names) != len(values) or not all(name.startswith("--") for name in names):
            raise UserError("--ours", self.name, "write the bundle's name, then pairs of --option and value")
        return {name[2:].replace("-", "_"): value for name, value in zip(names, values, strict=True)}


FLOAT = Configuration("transformers", "fp32", "checkpoint")
_OPTIMUM = (Configuration("optimum", "fp32", "optimum-fp32"), Configuration("optimum", "int8", "optimum-int8"))
RIVALS: dict[Family, tuple[Configuration, ...]] = {
    "whisper": (
        FLOAT,
        Configuration("faster-whisper", "float32", "ct2-float16"),
        Configuration("faster-whisper", "int8", "ct2-int8"),
        Configuration("faster-whisper", "int8 batched", "ct2-int8", accuracy_of="int8", long_only=True),
        *(Configuration("whisper.cpp", bits, f"ggml-{bits}") for bits in ("q8_0", "q5_1", "q4_0")),
        # Its audio context cut to the clip and 10 s; cut closer it falls into loops.
        *(Configuration("whisper.cpp", f"{bits} ac+500", f"ggml-{bits}", False) for bits in ("q8_0", "q5_1")),
        # Its own int8 files, in its own layout; it pads a clip by 10 s instead of to 30 s.
        Configuration("sherpa-onnx", "int8", "sherpa-int8", False),
        *_OPTIMUM,
    ),
    "moonshine": (
        FLOAT,
        Configuration("moonshine", "voice", "ort"),
        Configuration("moonshine", "voice vad", "ort"),
        Configuration("moonshine", "onnxruntime", "ort"),
        Configuration("sherpa-onnx", "v2", "ort"),
        *_OPTIMUM,
    ),
}
# What must be importable where the rivals are installed.
PACKAGES: dict[str, tuple[str, ...]] = {
    "transformers": ("torch", "transformers"),
    "faster-whisper": ("faster_whisper",),
    "whisper.cpp": ("pywhispercpp",),
    "optimum": ("optimum.onnxruntime",),
    "moonshine": ("moonshine_voice", "onnxruntime"),
    "sherpa-onnx": ("sherpa_onnx",),
}


@dataclass(frozen=True)
class Cell:
    """One process. `part`: `clips` and `long` are timed, `wer:SHARE` is only heard."""

    model: str
    configuration: Configuration
    threads: int
    part: str
    round: int = 0

    @property
    def key(self) -> str:
        """Its name in the store."""
        one = self.configuration
        return f"{self.model} | {one.rival} | {one.name} | {self.threads} | {self.part} | {self.round}"


def ours(name: str) -> Configuration:
    """Our runtime on the bundle MODEL-NAME, with what options follow the name; without any it encodes what it needs."""
    return Configuration(OURS, name, shlex.split(name)[0], full_window="--audio-context full" in name)


def timed_cells(
    model: str, configurations: Sequence[Configuration], threads: Sequence[int], rounds: int, long: bool
) -> list[Cell]:
    """All timed cells in the order in which they run: A B C, C B A, A B C, so that neighbours are compared.

    The long audio comes last, once.
    """
    cells: list[Cell] = []
    for number in range(rounds):
        for count in threads:
            row = [Cell(model, one, count, "clips", number) for one in configurations if not one.long_only]
            cells += row[:: -1 if number % 2 else 1]
    if long:
        cells += [Cell(model, one, count, "long") for count in threads for one in configurations]
    return cells
