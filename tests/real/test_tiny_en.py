"""The main job on whisper tiny.en and a little real speech: what `make test` proves each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.cli import app
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.runtime.audio.features import LogMel
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exact_bundles import exact_here
from tests.support.fixtures_real import Exporter
from tests.support.optimized import large_dequantize, operators

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
MODEL = "whisper-tiny.en"
# Fewer calibration clips than the recipe's 64, to stay quick; the table of README is made with all of them.
CLIPS = 8


def test_the_float_bundle_says_what_transformers_says(exported: Exporter, data: Path) -> None:
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    from edge_asr_deploy.checkpoints import resolve

    folder = resolve(MODEL).folder
    model, processor = AutoModelForSpeechSeq2Seq.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    ours = Transcriber.open(exported(MODEL, 32), audio_context="full")
    for utterance in read_manifest(data / "common_voice_en.jsonl")[:8]:
        features = processor(utterance.samples(), sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            tokens = model.generate(features, do_sample=False, num_beams=1)
        expected = processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        assert ours.transcribe(utterance.samples()).text == expected, utterance.id


def test_four_bits_hear_nearly_what_float_hears_in_a_sixth_of_the_bytes(
    exported: Exporter, data: Path, tmp_path: Path
) -> None:
    float_bundle, bundle = exported(MODEL, 32), exported(MODEL, 4, CLIPS)
    output = tmp_path / "result.json"
    manifests = ["librispeech_test_clean", "asterisk_prompts"]
    arguments = ["evaluate", str(bundle), "--baseline", str(float_bundle), "--limit", "15", "--output", str(output)]
    for name in manifests:
        arguments += ["--data", str(data / f"{name}.jsonl")]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    result = Result.model_validate_json(output.read_text())
    assert result.comparison is not None and result.comparison.speed is not None
    assert result.baseline is not None and result.baseline.accuracy.pooled.wer < 0.08
    # 30 utterances: three points are far outside what 4 bits cost, and inside what 3 bits without GPTQ do.
    assert result.comparison.wer_difference < 0.03
    assert result.bundle.accuracy.runaway == result.bundle.accuracy.empty == 0
    assert result.bundle.size.onnx <= 27e6
    assert result.comparison.size_ratio < 0.18
    assert result.comparison.speed.tokens_per_second is not None
    # Goal 2; a loaded machine must not make this fail.
    assert result.comparison.speed.tokens_per_second > 1.3


def test_all_matrices_run_in_low_bit_kernels(exported: Exporter) -> None:
    bundle = exported(MODEL, 4, CLIPS)
    counts = {name: operators(bundle / name) for name in ("encoder_model.onnx", "decoder_model_merged.onnx")}
    # Encoder: 6 Linear layers a block, two products in each of 12 blocks of queries, two convolutions; means of values.
    encoder = counts["encoder_model.onnx"]
    assert encoder["MatMulIntegerToFloat"] + encoder["DynamicQuantizeMatMul"] == 4 * (6 + 2 * 12) + 2
    assert (encoder["MatMul"], encoder["MatMulNBits"]) == (4, 0)
    # Decoder: 8 matrices a block and the head; the keys and values of cross-attention are integer products, too.
    assert counts["decoder_model_merged.onnx"]["MatMulNBits"] == 4 * 8 + 1
    assert counts["decoder_model_merged.onnx"]["MatMulIntegerToFloat"] == 4 * 2
    assert counts["decoder_model_merged.onnx"]["MatMul"] == 16, "four layers' cross-attention, in both branches"
    assert not any(large_dequantize(bundle / name) for name in counts)


def test_optimum_opens_the_bundle_and_hears_the_same(exported: Exporter, data: Path, tmp_path: Path) -> None:
    import torch
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
    from transformers import AutoProcessor

    bundle = exported(MODEL, 4, CLIPS)
    theirs = ORTModelForSpeechSeq2Seq.from_pretrained(exact_here(bundle, tmp_path))
    processor = AutoProcessor.from_pretrained(bundle)
    ours, log_mel = Transcriber.open(bundle, SessionSettings(threads=1), audio_context="full", vad=False), LogMel()
    for utterance in read_manifest(data / "common_voice_en.jsonl")[:5]:
        features = torch.from_numpy(log_mel(utterance.samples()))
        tokens = theirs.generate(features, do_sample=False, num_beams=1)
        expected = processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        assert ours.transcribe(utterance.samples()).text == expected, utterance.id


def test_long_audio_is_heard_to_its_end(exported: Exporter, data: Path) -> None:
    utterance = next(u for u in read_manifest(data / "misc.jsonl") if u.id.endswith("two_cities"))
    transcript = Transcriber.open(exported(MODEL, 4, CLIPS)).transcribe(utterance.samples())
    assert transcript.windows == 2
    text = transcript.text.lower()
    assert "best of times" in text and "superlative degree of comparison" in text


def test_the_command_line_transcribes(exported: Exporter, data: Path) -> None:
    bundle, clip = exported(MODEL, 4, CLIPS), data / "misc" / "jfk.flac"
    ran = CliRunner().invoke(app, ["transcribe", str(bundle), str(clip), "--json"])
    assert ran.exit_code == 0, ran.output
    assert "ask what you can do for your country" in json.loads(ran.stdout)[0]["text"]


def test_the_manifest_explains_the_bundle(exported: Exporter) -> None:
    manifest = verify(exported(MODEL, 4, CLIPS))
    assert manifest.model.sha256.startswith("1a5afae06a4db91c"), "the public Systran/faster-whisper-tiny.en"
    assert manifest.calibration is not None and manifest.calibration.number == CLIPS
    assert manifest.metrics["agreement_with_pytorch"]["tokens"] == 1
    onnx_bytes = size_of(exported(MODEL, 4, CLIPS)).onnx
    assert sum(layer.bytes for layer in manifest.layers) == pytest.approx(onnx_bytes, rel=0.03)
