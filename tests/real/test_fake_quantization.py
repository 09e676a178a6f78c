"""What PyTorch's fake quantization says and what the exported graphs say, on all speech, activations in float."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.corpora.defaults import evaluation_corpus
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep.grid import expand, load_sweep, select
from edge_asr_deploy.families import family
from edge_asr_deploy.pipeline import Job, calibration_speech, make, write_files
from edge_asr_deploy.progress import silent
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber

pytestmark = [pytest.mark.real_full, pytest.mark.timeout(3600)]
SWEEP = Path(__file__).parents[2] / "recipes" / "sweeps" / "edge-asr.yaml"
CELLS = ["whisper-tiny.en/gptq/w4a16/blocks", "moonshine-tiny/spqr/w3a16/blocks"]


@pytest.mark.parametrize("name", CELLS)
def test_the_graphs_say_the_tokens_of_fake_quantization(name: str, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    from edge_asr_deploy.ptq.calibration.samples import prepare

    (cell,) = (found for found in select(expand(load_sweep(SWEEP)), [name]) if not found.is_float)
    try:
        checkpoint = resolve(cell.model)
    except UserError as error:
        pytest.skip(str(error))
    job = Job(name, checkpoint, cell.recipe, calibration_speech(cell.recipe))
    made = make(job, "en", silent)
    write_files(tmp_path, job, made, silent)

    kind, model = family(cell.recipe.family), made.model
    ours = Transcriber.open(
        tmp_path, SessionSettings(accuracy_level=1), audio_context="full", verify=False, family=cell.recipe.family
    )
    prompt = kind.prompt(model.generation_config, "en", "transcribe")
    utterances, same, compared = evaluation_corpus()[0], 0, 0
    for utterance in utterances:
        transcript = ours.transcribe(utterance.samples())
        if transcript.windows > 1:
            continue  # The runtime cuts what is longer than a window, Transformers does not.
        (theirs,) = prepare(model, kind, checkpoint.folder, [utterance], cell.recipe.calibration, "en")
        same += theirs.tokens[0, len(prompt) :].tolist() == list(transcript.tokens)
        compared += 1
    print(f"{name}: {same} of {compared} utterances have the same tokens")
    assert compared >= 0.9 * len(utterances)
    assert same >= 0.99 * compared
