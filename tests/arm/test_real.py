"""Whisper tiny.en on emulated Cortex-A72 and A76: x86's tokens and text, and the instructions that decide how a
matrix is deployed on a Raspberry Pi 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import pytest

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.pipeline import Request, export
from edge_asr_deploy.runtime.features import LogMel
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.text import TextDecoder
from edge_asr_deploy.runtime.transcriber import FAMILIES
from tests.arm.conftest import Figures
from tests.arm.emulator import CPUS, Emulator
from tests.arm.measure import Measured, emulated, prepared
from tests.arm.probe import Task, run
from tests.real.conftest import Exporter, data, exported  # noqa: F401

pytestmark = [pytest.mark.arm, pytest.mark.real, pytest.mark.timeout(3600)]
MODEL, CLIPS, SECONDS = "whisper-tiny.en", 8, 3.0
COMPONENTS = ("encoder", "cross_attention", "decoder")
FORMS = ("float", "w8", "w4", "w8a8")


@dataclass(frozen=True)
class Case:
    """By form: a task that counts and says a clip of about 3 s, and its text on x86."""

    tasks: dict[str, Task]
    texts: dict[str, str]

    def text(self, form: str, tokens: list[int]) -> str:
        bundle = Path(self.tasks[form].bundle)
        return TextDecoder(bundle, FAMILIES["whisper"](bundle).first_timestamp)(tokens)


@pytest.fixture(scope="module")
def case(exported: Exporter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:  # noqa: F811
    from rich.console import Console

    folder = tmp_path_factory.mktemp("arm")
    settings = [
        f"{component}.{setting}"
        for component in COMPONENTS
        for setting in ("weights.granularity=channel", "weights.symmetric=true", "activations=int8-dynamic")
    ]
    bundles = {"float": exported(MODEL, 32), "w8": exported(MODEL, 8), "w4": exported(MODEL, 4, CLIPS)}
    request = Request(model=MODEL, bits=8, settings=settings, output=folder / "w8a8")
    bundles["w8a8"] = export(request, Console(quiet=True))[0]
    utterances = read_manifest(data / "common_voice_en.jsonl")
    clip = min(utterances, key=lambda utterance: abs(len(utterance.samples()) / 16_000 - SECONDS)).samples()
    features = LogMel(80, 30)(clip)
    tasks, texts = {}, {}
    for form, bundle in bundles.items():
        task = prepared(bundle, SECONDS, folder / form)
        # The whole window is encoded here: it would take minutes there, and what is compared is the decoder.
        encoder = open_session(bundle / "encoder_model.onnx", SessionSettings())
        [hidden] = encoder.run(["last_hidden_state"], {"input_features": features})
        np.save(folder / form / "hidden.npy", hidden)
        np.save(folder / form / "features.npy", features[:, :, : round(SECONDS * 100)])
        tasks[form] = replace(task, tokens=40)
    made = Case(tasks, texts)
    texts |= {form: made.text(form, run(task)["tokens"]) for form, task in tasks.items()}
    return made


@pytest.fixture(scope="module", params=CPUS)
def cpu(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def counted(cpu: str, counting: Emulator, case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    measured = emulated(counting, cpu, [*case.tasks.values()], tmp_path_factory.mktemp(cpu))
    return dict(zip(FORMS, measured, strict=True))


@pytest.mark.parametrize("form", ["float", "w8a8"])
def test_float_and_int8_say_what_they_say_on_x86(form: str, counted: dict[str, Measured], case: Case) -> None:
    tokens = counted[form].result["tokens"]
    assert len(tokens) > 3
    assert case.text(form, tokens) == case.texts[form]


@pytest.mark.parametrize("form", ["w8", "w4"])
def test_low_bit_kernels_say_it_up_to_a_word(form: str, counted: dict[str, Measured], case: Case) -> None:
    difference = jiwer.process_words(case.texts[form], case.text(form, counted[form].result["tokens"]))
    assert difference.substitutions + difference.deletions + difference.insertions <= 1


@pytest.mark.parametrize("form", FORMS)
def test_it_takes_the_instructions_that_are_recorded(
    cpu: str, form: str, counted: dict[str, Measured], regression: Callable[[str, str, Figures], list[str]]
) -> None:
    measured = counted[form]
    figures = {"encoder, per second": measured.encoder(SECONDS), "decoder step": measured.step}
    assert not regression(cpu, f"{MODEL} {form}", figures)
