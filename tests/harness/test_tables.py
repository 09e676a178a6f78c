"""Every table at 80 and at 120 columns, with names as long as people's are: no word is broken, none is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from edge_asr_deploy.bundle.manifest import Layer, Manifest, read_manifest
from edge_asr_deploy.harness.benchmark.report import bench_tables
from edge_asr_deploy.harness.benchmark.result import (
    Benchmark,
    Comparison,
    GraphProfile,
    LengthTimes,
    NodeTime,
    OperatorTime,
    Options,
    Ratio,
    Run,
    Soak,
    Subject,
    Times,
)
from edge_asr_deploy.harness.doctor.doctor import Diagnosis
from edge_asr_deploy.harness.doctor.finding import Finding
from edge_asr_deploy.harness.doctor.report import diagnosis_table
from edge_asr_deploy.harness.evaluation.result import Percentiles, Result, Unreadable
from edge_asr_deploy.harness.gate.checks import BundleReport, Check
from edge_asr_deploy.harness.inspection.cost import GraphCost, OperatorCost
from edge_asr_deploy.harness.inspection.inspect import Inspection
from edge_asr_deploy.harness.machine.state import BoardState
from edge_asr_deploy.harness.reporting.tables import (
    checks_table,
    cost_table,
    evaluation_table,
    export_table,
    inspection_tables,
)
from tests.support.fakes import write_bundle
from tests.support.results import make_result
from tests.support.tables import WIDTHS, broken, shown

NAME, FLOAT = "moonshine-streaming-small-w4-two-level", "whisper-large-v3-turbo-float"
CORPORA = {"librispeech_test_clean": 2620, "common_voice_17_0_de": 16183}
TIMES = Percentiles(p50=1580.44, p90=12987.5, p99=20111.25)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A comparison with long names, long times, and clips that were left out."""
    made = make_result(tmp_path, monkeypatch, hears={"long": "no"})
    assert made.baseline is not None and made.bundle.speed is not None

    def renamed(name: str, measured: object) -> object:
        errors = measured.accuracy.pooled  # type: ignore[attr-defined]
        accuracy = measured.accuracy.model_copy(update={"by_corpus": dict.fromkeys(CORPORA, errors)})  # type: ignore[attr-defined]
        speed = measured.speed.model_copy(update={"encoder_ms": TIMES, "per_token_ms": TIMES})  # type: ignore[attr-defined]
        return measured.model_copy(update={"name": name, "accuracy": accuracy, "speed": speed})  # type: ignore[attr-defined]

    return made.model_copy(
        update={
            "bundle": renamed(NAME, made.bundle),
            "baseline": renamed(FLOAT, made.baseline),
            "corpora": CORPORA,
            "dropped": 12,
            "unreadable": [Unreadable(id="a", source="b", reason="c")] * 1234,
        }
    )


def layer(name: str, component: str, bits: int, **changes: object) -> Layer:
    given = {"method": "awq+qep+gptq", "group": 16, "symmetric": False, "shape": [51864, 1280], "bytes": 83_800_000}
    more = {"error": 0.0236, "effective_bits": 4.54, "storage": "two-level", "activations": "int8-dynamic"}
    return Layer(name=name, component=component, bits=bits, **{**given, **more, **changes})  # type: ignore[arg-type]


LAYERS = [
    layer("model.encoder.layers.11.self_attn.out_proj", "encoder", 4),
    layer("model.encoder.layers.11.fc2", "encoder", 3, method="spqr", outliers=66_000, activations="int8-token"),
    layer("model.decoder.layers.11.encoder_attn.out_proj", "cross_attention", 8, group=None, symmetric=True),
    layer("encoder.embed_positions", "stem", 8, group=None, symmetric=None, method="int8 per row", error=None),
]


def inspection(result: Result, manifest: Manifest) -> Inspection:
    operators = {
        "decoder_model_merged_pi4.onnx": {"MatMulIntegerToFloat": 114, "SkipSimplifiedLayerNormalization": 2},
        "encoder_model_pi4.onnx": {"DynamicQuantizeLinear": 60},
    }
    return Inspection(
        name=NAME, family="whisper", hash="a", model=manifest.model, recipe="r", size=result.bundle.size,
        layers=LAYERS, operators=operators, large_dequantize={},
    )  # fmt: skip


def benchmark(result: Result) -> Benchmark:
    assert result.baseline and result.bundle.speed and result.comparison and result.comparison.speed
    by_length = [
        LengthTimes(name=f"{seconds:g} s", seconds=seconds, tokens=9, rtf=0.0123, total_ms=TIMES, features_ms=TIMES,
                    encoder_ms=TIMES, first_token_ms=TIMES, per_token_ms=TIMES)
        for seconds in (1.5, 75)
    ]  # fmt: skip
    times = Times(load_ms=TIMES, all_lengths=result.bundle.speed, by_length=by_length)
    ratios = {one.name: Ratio(value=0.25, low=0.2, high=0.3) for one in by_length}
    run = Run(threads=4, bundle=times, baseline=times, board=[], disturbances=["throttled"],
              comparison=Comparison(all_lengths=result.comparison.speed, total=ratios))  # fmt: skip
    subjects = [
        Subject(name=one.name, hash="a", recipe="r", model="m", model_sha256="b", versions={}, size=one.size)
        for one in (result.bundle, result.baseline)
    ]
    profile = GraphProfile(
        part="step", runs=3, ms=12.5, outside=0.1,
        operators=[OperatorTime(kind="SkipSimplifiedLayerNormalization", nodes=12, ms=1.25, share=0.125)],
        nodes=[NodeTime(name="/model/decoder/layers.11/encoder_attn/MatMul_1_quant", ms=0.5, share=0.04,
                        kind="SkipSimplifiedLayerNormalization")],
    )  # fmt: skip
    soak = Soak(seconds=600, threads=2, passes=12, rss_first=10**9, rss_last=10**9, peak_rss=10**9, rss_per_minute=1.0,
                rtf_first=0.1, rtf_last=0.1, board=[BoardState(temperature=50.0)], disturbances=[])  # fmt: skip
    options = Options(threads=(2, 4), accuracy_level=None, target=None, audio_context=None, lengths=(1.5, 75.0),
                      rounds=5, soak=600.0, profile=True)  # fmt: skip
    return Benchmark(
        created="2026", bundle=subjects[0], baseline=subjects[1], options=options, environment=result.environment,
        target="x86", cpu_flags=[], rule="", audio=[], runs=[run, run], soak=soak, profile=[profile], notes=[],
    )  # fmt: skip


def report() -> BundleReport:
    note = "model.decoder.layers.11.encoder_attn.out_proj was 4 bits, group 16, asymmetric, is float and 3 more"
    checks = [
        Check(name="speed-encoder", verdict="not measured", note=note),
        Check(name="layers", verdict="failed", measured="12 of 96 layers differ", limit="as recorded", note=note),
        Check(
            name="size", verdict="passed", measured="1524.786 MB", limit="2287.180 MB", slack="limit could be 1540.0"
        ),
    ]
    return BundleReport(bundle=f"exported/{NAME}", baseline=f"exported/baselines/{NAME}.json", checks=checks)


def diagnosis() -> Diagnosis:
    findings = [
        Finding(check="onnxruntime's kernels", status="problem", found="1.23.0 lacks com.microsoft.MatMulNBits/4-bit",
                remedy="in a virtual environment without system packages: pip install --force-reinstall onnxruntime"),
        Finding(check="memory", status="warning", found="512 MB free of 1024 MB, /sys/fs/cgroup/memory.max"),
    ]  # fmt: skip
    return Diagnosis(machine="Raspberry Pi 4 Model B Rev 1.5", architecture="aarch64", cpu_flags=[], target="pi4",
                     board=BoardState(), findings=findings)  # fmt: skip


def cost() -> GraphCost:
    return GraphCost("decoder, first call", 10**9, (OperatorCost("SkipSimplifiedLayerNormalization", 12, 10**12, 1),))


Make = Callable[[Result, Manifest], list[Table]]
TABLES: dict[str, Make] = {
    "evaluation": lambda result, manifest: [evaluation_table(result)],
    "alone": lambda result, manifest: [
        evaluation_table(result.model_copy(update={"baseline": None, "comparison": None}))
    ],
    "inspection": lambda result, manifest: [*inspection_tables(inspection(result, manifest))],
    "export": lambda result, manifest: [
        export_table(Path("/tmp/somebody/exports") / NAME, manifest.model_copy(update={"layers": LAYERS}))
    ],
    "cost": lambda result, manifest: [cost_table(cost())],
    "checks": lambda result, manifest: [checks_table(report())],
    "doctor": lambda result, manifest: [diagnosis_table(diagnosis())],
    "bench": lambda result, manifest: [*bench_tables(benchmark(result))],
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_no_word_is_broken(
    name: str, width: int, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_asr_deploy.harness.reporting.tables.size_of", lambda folder: result.bundle.size)
    manifest = read_manifest(tmp_path / "w4")
    assert not broken(TABLES[name](result, manifest), width)


def test_a_broken_word_would_be_noticed() -> None:
    table = Table()
    table.add_column("whisper-tiny.en-float", overflow="fold")
    table.add_column("x" * 70)
    assert broken([table], 80)


def test_the_first_table_says_what_same_text_means(result: Result) -> None:
    text = shown([evaluation_table(result)], 120)
    assert "same text with case and punctuation" in text
    assert "left out: no text" in text and "12" in text
    assert "left out: unreadable" in text and "1234" in text


def test_a_rate_over_characters_is_called_so(result: Result) -> None:
    accuracy = result.bundle.accuracy.model_copy(update={"rate": "CER"})
    counted = result.model_copy(update={"bundle": result.bundle.model_copy(update={"accuracy": accuracy})})
    assert "CER %, 3 utterances" in shown([evaluation_table(counted)], 120)
    assert "WER %, 3 utterances" in shown([evaluation_table(result)], 120)


def test_what_all_layers_share_is_said_once(result: Result, tmp_path: Path) -> None:
    write_bundle(tmp_path / "other")
    first = inspection_tables(inspection(result, read_manifest(tmp_path / "other")))[0]
    text = shown([first], 80)
    assert text.count("group 16 two-level") == 1
    for shown_once in ("layers.11.fc2", "4 bits asym", "3 bits asym", "int8-token", "awq+qep+gptq", "0.10% outliers"):
        assert shown_once in text, text
