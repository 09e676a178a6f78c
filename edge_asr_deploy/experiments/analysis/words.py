"""Word error rate of rounding one matrix alone, against the float model's own transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jiwer
from torch import Tensor

from edge_asr_deploy.corpora.scripts import words_apart
from edge_asr_deploy.experiments.analysis.measurements import Measurements
from edge_asr_deploy.experiments.analysis.sensitivity import grid_name, holding, measured_widths, rounded
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample, transcribe
from edge_asr_deploy.recipe.weights import WeightSpec

# A model that repeats itself may give this many times the float model's tokens, and some more.
LONGEST, MORE = 2, 8


def word_changes(
    model: Any,
    tokenizer: Any,
    specs: Mapping[str, WeightSpec],
    samples: Sequence[Sample],
    prompt: int,
    choices: Sequence[int],
    measurements: Measurements,
    progress: Progress = silent,
) -> dict[str, dict[int, float]]:
    """Word errors per word of the float model's text, by path and width, each matrix alone rounded to nearest.

    `samples` hold the float model's transcripts behind `prompt` tokens; greedy decoding. Widths up to 4 bits, or the
    narrowest: wider ones change no words on few clips. Figures are stored in `measurements` at once.
    """
    transcripts = [_words(tokenizer, sample.tokens[0, prompt:]) for sample in samples]
    with_words = [(sample, words) for sample, words in zip(samples, transcripts, strict=True) if words]
    positions = getattr(model.config, "max_target_positions", None) or model.config.max_position_embeddings
    widths = measured_widths(choices)
    changes: dict[str, dict[int, float]] = {}

    def transcript_of(sample: Sample) -> str:
        longest = min(LONGEST * (sample.tokens.shape[1] - prompt) + MORE, positions - prompt - 1)
        (tokens,) = transcribe(model, sample.inputs, [tuple(sample.tokens[0, :prompt].tolist())], longest)
        return _words(tokenizer, tokens[0, prompt:])

    def measure(weight: Any, spec: WeightSpec) -> float:
        if not with_words:
            return 0.0
        with holding(weight, rounded(weight.detach(), spec)):
            hypotheses = [transcript_of(sample) for sample, _ in with_words]
        return float(jiwer.wer([words for _, words in with_words], hypotheses))

    for number, (path, spec) in enumerate(specs.items()):
        weight, changes[path] = model.get_submodule(path).weight, {}
        for done, bits in enumerate(widths, 1):
            changed = spec.at(bits)
            changes[path][bits] = measurements.measured(
                f"{path} {grid_name(changed)} words",
                lambda w=weight, s=changed: measure(w, s),  # type: ignore[misc]
            )
            progress(f"{path}, {bits} bits", number * len(widths) + done, len(specs) * len(widths))
    return changes


def _words(tokenizer: Any, tokens: Tensor) -> str:
    text = str(tokenizer.decode(tokens.tolist(), skip_special_tokens=True)).lower()
    return words_apart(" ".join(text.split()))
