"""Whisper tiny.en on emulated Cortex-A72 and A76: x86's tokens and text, and the instructions that decide how a
matrix is deployed on a Raspberry Pi 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.harness.gate.relative_speed import graph_files
from edge_asr_deploy.runtime.audio.features import LogMel
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from tests.support.fixtures_real import Exporter
from tools.arm.emulator import CPUS, Emulator
from tools.arm.measure import Measured, emulated, prepared
from tools.arm.probe import Task, run
from tools.arm.record import Figures

Array = npt.NDArray[np.float32]

pytestmark = [pytest.mark.arm, pytest.mark.real, pytest.mark.timeout(3600)]
MODEL, SECONDS = "whisper-tiny.en", 3.0
# Clips of about so many seconds that the whole pipeline transcribes; a window of each takes half a minute there.
WHOLE_CLIPS = 3
# Roundings to int8 tip where processors differ in the last bit of a float, so that encoder outputs differ; neither may
# be farther from the float encoder's than the other, by more than this.
FARTHER = 1.05
# The last two are the graphs of one bundle.
FORMS = ("float", "w8", "w4", "pi4", "pi5")
PICKED = {"cortex-a72": "pi4", "cortex-a76": "pi5"}
# Instructions of a decoder step, at most so many times those of the float bundle.
DEAREST = {"cortex-a72": 0.97, "cortex-a76": 0.8}


@dataclass(frozen=True)
class Case:
    """By form: a task that counts and says a clip of about 3 s, its text on x86, and its encoder output there.

    `whole`: tasks that transcribe clips with the bundle for several targets. `window`: the first clip's features.
    """

    tasks: dict[str, Task]
    texts: dict[str, str]
    hidden: dict[str, Array]
    whole: list[Task]
    window: Path

    def text(self, form: str, tokens: list[int]) -> str:
        bundle = Path(self.tasks[form].bundle)
        return TextDecoder(bundle)(tokens)


@pytest.fixture(scope="module")
def case(exported: Exporter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("arm")
    several = exported(MODEL, 4, target="pi4,pi5,x86")
    bundles = {"float": exported(MODEL, 32), "w8": exported(MODEL, 8), "w4": exported(MODEL, 4)}
    bundles |= {"pi4": several, "pi5": several}
    utterances = read_manifest(data / "common_voice_en.jsonl")
    nearest = sorted(utterances, key=lambda utterance: abs(len(utterance.samples()) / 16_000 - SECONDS))
    whole = []
    for number, utterance in enumerate(nearest[:WHOLE_CLIPS]):
        np.save(folder / f"clip{number}.npy", utterance.samples())
        whole.append(Task(str(several), samples=str(folder / f"clip{number}.npy")))
    window = folder / "window.npy"
    features = LogMel(80, 30)(nearest[0].samples())
    np.save(window, features)
    made = Case({}, {}, {}, whole, window)
    for form, bundle in bundles.items():
        target = form if bundle is several else "generic"
        task = prepared(bundle, SECONDS, folder / form, target)
        # The whole window is encoded here: it would take minutes there, and what is compared is the decoder.
        encoder = open_session(graph_files(bundle, target)[0], SessionSettings())
        [made.hidden[form]] = encoder.run(["last_hidden_state"], {"input_features": features})
        np.save(folder / form / "hidden.npy", made.hidden[form])
        np.save(folder / form / "features.npy", features[:, :, : round(SECONDS * 100)])
        made.tasks[form] = replace(task, tokens=40)
    made.texts.update((form, made.text(form, run(task)["tokens"])) for form, task in made.tasks.items())
    return made


@pytest.fixture(scope="module", params=CPUS)
def cpu(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def counted(cpu: str, counting: Emulator, case: Case) -> dict[str, Measured]:
    measured = emulated(counting, cpu, [*case.tasks.values()])
    return dict(zip(FORMS, measured, strict=True))


@pytest.mark.parametrize("form", ["float", "pi4"])
def test_float_and_int8_say_what_they_say_on_x86(form: str, counted: dict[str, Measured], case: Case) -> None:
    tokens = counted[form].result["tokens"]
    assert len(tokens) > 3
    assert case.text(form, tokens) == case.texts[form]


@pytest.mark.parametrize("form", ["w8", "w4", "pi5"])
def test_low_bit_kernels_say_it_up_to_a_word(form: str, counted: dict[str, Measured], case: Case) -> None:
    difference = jiwer.process_words(case.texts[form], case.text(form, counted[form].result["tokens"]))
    assert difference.substitutions + difference.deletions + difference.insertions <= 1


def test_the_bundle_for_several_targets_runs_as_the_processors_own(cpu: str, machine: Emulator, case: Case) -> None:
    form = PICKED[cpu]
    encode = Task(case.tasks[form].bundle, encoder=case.tasks[form].encoder, features=str(case.window), arrays=True)
    *there, encoded = (one.result for one in emulated(machine, cpu, [*case.whole, encode], counted=False))
    assert {result["target"] for result in there} == {form}
    here = [run(replace(task, target=form))["text"] for task in case.whole]
    difference = jiwer.process_words(here, [result["text"] for result in there])
    assert difference.substitutions + difference.deletions + difference.insertions <= 1
    away = np.linalg.norm(np.array(encoded["hidden"]) - case.hidden["float"])
    assert away <= FARTHER * np.linalg.norm(case.hidden[form] - case.hidden["float"])


def test_the_kernels_are_those_of_the_target(cpu: str, counted: dict[str, Measured]) -> None:
    float_step, own = counted["float"].counts["step"], counted[PICKED[cpu]].counts["step"]
    assert float_step.sdot + float_step.udot == 0
    assert (own.sdot + own.udot > 0) == (cpu == "cortex-a76")


def test_a_step_takes_no_more_instructions_than_promised(cpu: str, counted: dict[str, Measured]) -> None:
    assert counted[PICKED[cpu]].step <= DEAREST[cpu] * counted["float"].step


@pytest.mark.parametrize("form", FORMS)
def test_it_takes_the_instructions_that_are_recorded(
    cpu: str, form: str, counted: dict[str, Measured], regression: Callable[[str, str, Figures], list[str]]
) -> None:
    measured = counted[form]
    figures = {"encoder, per second": measured.encoder(SECONDS), "decoder step": measured.step}
    assert not regression(cpu, f"{MODEL} {form}", figures)
