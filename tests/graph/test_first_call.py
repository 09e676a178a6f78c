"""The decoder's first call as other engines make it: with a past of zeros, each in a shape of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.families import family
from edge_asr_deploy.graph.build import MERGED
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import parse
from tests.support.graphs import build
from tests.support.tiny import MODELS

PROMPT = np.array([[1, 5, 7]], np.int64)
FRAMES = 50

# batch and length of the past: Optimum, transformers.js and sherpa-onnx; onnx-asr; transcribe-rs; Optimum's exporter;
# the past of another utterance.
PASTS = {"empty": (1, 0), "no batch": (0, 0), "no batch, one step": (0, 1), "one step": (1, 1), "many": (2, 9)}


@pytest.fixture(scope="module", params=["whisper", "moonshine"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    model = MODELS[name]()
    components = ("encoder", "cross_attention", "decoder", "embedding")
    recipe = parse({"name": name, "family": name, **{one: {"weights": {"bits": 4}} for one in components}}, "test")
    build(model, recipe, quantize(model, family(name), recipe, []), folder)
    return onnxruntime.InferenceSession(folder / MERGED, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, tokens: NDArray[np.int64], past: dict[str, Any], cached: bool
) -> dict[str, NDArray[np.float32]]:
    hidden = next(value for value in session.get_inputs() if value.name == "encoder_hidden_states")
    states = np.random.default_rng(0).normal(size=(1, FRAMES, hidden.shape[2])).astype(np.float32)
    feeds = {"input_ids": tokens, "use_cache_branch": np.array([cached]), "encoder_hidden_states": states, **past}
    if any(value.name == "encoder_attention_mask" for value in session.get_inputs()):
        feeds["encoder_attention_mask"] = np.ones((1, 384 * FRAMES), np.int64)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def past_of(session: onnxruntime.InferenceSession, batch: int, length: int) -> dict[str, NDArray[np.float32]]:
    values = [value for value in session.get_inputs() if value.name.startswith("past_key_values")]
    generator = np.random.default_rng(1)
    return {
        value.name: generator.normal(size=(batch, value.shape[1], length, value.shape[3])).astype(np.float32)
        for value in values
    }


@pytest.mark.parametrize("name", PASTS)
def test_the_first_call_reads_no_past(decoder: onnxruntime.InferenceSession, name: str) -> None:
    expected = run(decoder, PROMPT, past_of(decoder, *PASTS["empty"]), cached=False)
    found = run(decoder, PROMPT, past_of(decoder, *PASTS[name]), cached=False)
    for output, value in expected.items():
        np.testing.assert_array_equal(found[output], value, err_msg=output)


def test_later_calls_continue_the_first(decoder: onnxruntime.InferenceSession) -> None:
    """A step after two tokens is the third of three; the cross-attention's keys and values come back with batch 0."""
    whole = run(decoder, PROMPT, past_of(decoder, 0, 0), cached=False)
    first = run(decoder, PROMPT[:, :2], past_of(decoder, 0, 0), cached=False)
    past = {
        name.replace("present", "past_key_values"): value for name, value in first.items() if name.startswith("present")
    }
    later = run(decoder, PROMPT[:, 2:], past, cached=True)
    np.testing.assert_allclose(later["logits"][0, -1], whole["logits"][0, -1], atol=1e-4)
    for name, value in later.items():
        if ".encoder." in name:
            # The rule by which onnx-asr keeps its own, and the shape that Optimum's merged file gives.
            assert value.shape[0] == 0
        elif ".decoder." in name:
            np.testing.assert_allclose(value, whole[name], atol=1e-5)
