"""The table of the README on four real checkpoints and all speech: `make test-real`, hours on two cores."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.harness.evaluation.evaluate import run
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.runtime.audio.features import LogMel
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exact_bundles import exact_here
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real_full, pytest.mark.timeout(7200)]

# model: bits -> (largest rise of the pooled WER, percentage points; most megabytes of graphs)
LIMITS = {
    "whisper-tiny.en": {8: (0.15, 42), 4: (1.0, 27), 3: (1.8, 24)},
    "whisper-base": {8: (0.15, 81), 4: (0.7, 48), 3: (1.4, 42)},
    "moonshine-tiny": {8: (0.2, 31), 4: (0.9, 20), 3: (1.2, 17)},
    "moonshine-base": {8: (0.2, 69), 4: (0.5, 42), 3: (0.8, 36)},
}
CASES = [(model, bits) for model, by_bits in LIMITS.items() for bits in by_bits]


@pytest.mark.parametrize(("model", "bits"), CASES)
def test_accuracy_and_size_stay_within_the_limits(model: str, bits: int, exported: Exporter, data: Path) -> None:
    rise, megabytes = LIMITS[model][bits]
    # A short window costs more than 8 bits do: float, too, has 0.3 to 0.4 points more in it than in a full one.
    context = "full" if bits == 8 else "auto"
    options = EvaluateOptions(baseline=str(exported(model, 32)), jobs=2, speed=False, audio_context=context)
    result = run(exported(model, bits), options)
    assert result.comparison is not None
    assert sum(result.corpora.values()) >= 270
    assert 100 * result.comparison.wer_difference <= rise
    assert result.bundle.size.onnx <= megabytes * 1e6


@pytest.mark.parametrize("model", LIMITS)
def test_the_float_bundle_says_what_transformers_says(model: str, exported: Exporter, data: Path) -> None:
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    from edge_asr_deploy.checkpoints import resolve

    folder = resolve(model).folder
    theirs, processor = AutoModelForSpeechSeq2Seq.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    ours, language = (
        Transcriber.open(exported(model, 32), audio_context="full"),
        "en" if model == "whisper-base" else None,
    )
    utterances = [u for name in ("common_voice_en", "asterisk_prompts") for u in read_manifest(data / f"{name}.jsonl")]
    same = 0
    for utterance in utterances:
        samples = utterance.samples()
        inputs = processor(samples, sampling_rate=16_000, return_tensors="pt")
        options = {"language": language} if language else {}
        if model.startswith("moonshine"):
            options["max_new_tokens"] = int(len(samples) * 6.5 / 16_000) + 2
        with torch.no_grad():
            tokens = theirs.generate(**inputs, do_sample=False, num_beams=1, **options)
        expected = processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        same += ours.transcribe(samples, language).text == expected
    assert same / len(utterances) >= 0.98


def test_optimum_hears_the_same_on_all_of_common_voice(exported: Exporter, data: Path, tmp_path: Path) -> None:
    """The same features give the same text, always.

    Transformers' own features, which torch computes in float32, are off by 1e-5 here and there: where int8 activations
    stand between two words, that can tip one.
    """
    import torch
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
    from transformers import AutoProcessor

    bundle = exported("whisper-tiny.en", 4)
    theirs = ORTModelForSpeechSeq2Seq.from_pretrained(exact_here(bundle, tmp_path))
    processor = AutoProcessor.from_pretrained(bundle)
    ours, log_mel = Transcriber.open(bundle, audio_context="full"), LogMel()

    def said(features: torch.Tensor) -> str:
        tokens = theirs.generate(features, do_sample=False, num_beams=1)
        text: str = processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return text

    utterances = read_manifest(data / "common_voice_en.jsonl")
    tipped = 0
    for utterance in utterances:
        samples = utterance.samples()
        text = ours.transcribe(samples).text
        assert said(torch.from_numpy(log_mel(samples))) == text, utterance.id
        tipped += said(processor(samples, sampling_rate=16_000, return_tensors="pt").input_features) != text
    assert tipped <= 0.04 * len(utterances)
