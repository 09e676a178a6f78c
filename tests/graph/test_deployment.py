"""One bundle for several targets: every graph in its own form, all weights stored once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.bundle.manifest import Graphs, Manifest  # noqa: E402
from edge_asr_deploy.bundle.verification import verify  # noqa: E402
from edge_asr_deploy.errors import UserError  # noqa: E402
from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.families.structure import COMPONENTS  # noqa: E402
from edge_asr_deploy.graph.build import MERGED  # noqa: E402
from edge_asr_deploy.graph.deployment import Deployment, deploy  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.files import SMALLEST  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.graph.storing.integer import INTEGER_KERNELS  # noqa: E402
from edge_asr_deploy.harness.gate.facts import stored_twice  # noqa: E402
from edge_asr_deploy.harness.gate.relative_speed import graph_files  # noqa: E402
from edge_asr_deploy.progress import silent  # noqa: E402
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators, measure_agreement  # noqa: E402
from edge_asr_deploy.ptq.forms import quantized_models  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.stem import narrow_in_place  # noqa: E402
from edge_asr_deploy.quantized.inputs import Dynamic, Static  # noqa: E402
from edge_asr_deploy.quantized.model import QuantizedModel  # noqa: E402
from edge_asr_deploy.quantized.scales import PlainScales  # noqa: E402
from edge_asr_deploy.quantized.weight import QuantizedWeight  # noqa: E402
from edge_asr_deploy.recipe.document import Recipe, parse  # noqa: E402
from edge_asr_deploy.runtime import transcriber  # noqa: E402
from edge_asr_deploy.runtime.cpu import CpuFeatures  # noqa: E402
from edge_asr_deploy.runtime.targets import TARGETS  # noqa: E402
from edge_asr_deploy.runtime.transcriber import Transcriber  # noqa: E402
from tests.support.bundles import pack  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402
from tests.support.tiny_samples import sample  # noqa: E402
from tests.support.vocabulary import GENERATION  # noqa: E402

# Three forms in one bundle: all low-bit, int8 where many rows meet, int8 throughout.
NAMES = ("generic", "pi4", "pi5", "x86")
SHORTLIST = 64
TWO_LEVEL = {"storage": "two-level", "granularity": "group:16"}
# Native and packed codes, symmetric and not, groups and whole channels.
WIDTHS: dict[str, dict[str, Any]] = {
    "encoder": {"bits": 8, "granularity": "channel", "symmetric": True},
    "cross_attention": {"bits": 4, **TWO_LEVEL},
    "decoder": {"bits": 3, **TWO_LEVEL, "symmetric": True},
    "embedding": {"bits": 5, **TWO_LEVEL},
}


@dataclass(frozen=True)
class Made:
    """A small random model, and what became of it."""

    name: str
    folder: Path
    model: Any
    weights: Sequence[QuantizedWeight]
    deployments: Sequence[Deployment]

    def of(self, target: str) -> Deployment:
        return next(made for made in self.deployments if target in made.targets)


def recipe_for(name: str, targets: Sequence[str] = NAMES, shortlist: int = SHORTLIST) -> Recipe:
    document: dict[str, Any] = {component: {"weights": spec} for component, spec in WIDTHS.items()}
    document["embedding"]["shortlist"] = shortlist
    return parse({"name": f"{name}-targets", "family": name, "target": list(targets), **document}, "test")


def quantized(name: str, recipe: Recipe) -> tuple[Any, list[QuantizedWeight]]:
    model = MODELS[name]()
    narrow_in_place(model, family(name).structure(model.config).components(), recipe)
    return model, quantize(model, family(name), recipe, [])


def decided(model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight]) -> dict[str, QuantizedModel]:
    return quantized_models(weights, recipe, family(recipe.family).structure(model.config).components())


@pytest.fixture(scope="module", params=["whisper", "moonshine"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name = request.param
    recipe = recipe_for(name)
    model, weights = quantized(name, recipe)
    for key, value in GENERATION[name].items():
        setattr(model.generation_config, key, value)
    folder = tmp_path_factory.mktemp(name) / "bundle"
    deployments: list[Deployment] = []

    def graphs(target: Path) -> dict[str, Any]:
        deployments.extend(deploy(model, decided(model, recipe, weights), target, silent))
        return {"targets": {name: one.graphs for one in deployments for name in one.targets}}

    pack(folder, "tiny", model, recipe, graphs)
    return Made(name, folder, model, weights, deployments)


def test_targets_of_one_form_share_their_graphs_and_the_first_has_optimums_names(made: Made) -> None:
    assert [one.targets for one in made.deployments] == [("generic",), ("pi4",), ("pi5",), ("x86",)]
    assert made.of("generic").graphs == Graphs()
    assert made.of("pi4").graphs == Graphs(encoder="encoder_model_pi4.onnx", decoder="decoder_model_merged_pi4.onnx")
    assert made.of("pi5").graphs == Graphs(encoder="encoder_model_pi4.onnx", decoder="decoder_model_merged_pi5.onnx")
    assert made.of("x86").graphs == Graphs(encoder="encoder_model_pi4.onnx", decoder="decoder_model_merged_x86.onnx")


@pytest.mark.parametrize("target", NAMES)
def test_each_graph_runs_in_its_targets_kernels_and_is_the_fake_quantized_model(made: Made, target: str) -> None:
    one = made.of(target)
    check_files(made.folder, one.graphs)
    counts = check_operators(made.folder, one.layers, one.graphs)
    whole = {layer.component for layer in one.layers if layer.activations == "int8-dynamic"}
    assert whole == {component for component, form in TARGETS[target].forms.items() if form == "int8"}
    if target == "pi4":
        assert counts[one.graphs.decoder]["MatMulNBits"] == 0, "it would dequantize the matrix in every call"
        assert sum(counts[one.graphs.decoder][kernel] for kernel in INTEGER_KERNELS) > 0
    samples = [sample(made.name)]
    agreement = measure_agreement(made.model, made.folder, samples, one.quantized, one.graphs)
    check_agreement(agreement)
    assert (agreement.layers is None) == (target == "generic")


def test_nothing_is_stored_twice(made: Made) -> None:
    graphs = sorted(path for path in made.folder.iterdir() if path.suffix == ".onnx")
    assert len(graphs) == 6
    assert stored_twice(graphs) == []
    codes = sum(weight.codes.size * weight.bits / 8 for weight in made.weights)
    data = {path.name: path.stat().st_size for path in made.folder.iterdir() if path.name.endswith("_data")}
    assert data.keys() == {f"{ENCODER}_data", f"{MERGED}_data"}
    named = sum(layer.bytes for layer in made.of("generic").layers)
    assert codes < sum(data.values()) < named + 60_000, "beside the matrices there are norms and biases"
    for path in graphs:
        held = [value.const_value for graph in ir.load(path).graphs() for value in graph.initializers.values()]
        assert all(isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < SMALLEST for tensor in held)


def test_all_graphs_say_the_same_and_the_cpu_picks_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = (np.random.default_rng(0).normal(size=16_000) * 0.1).astype(np.float32)
    said = {}
    for name, cpu in {
        "x86": CpuFeatures("x86_64", frozenset({"avx512_vnni"})),
        "generic": CpuFeatures("x86_64", frozenset({"avx2"})),
        "pi4": CpuFeatures("aarch64", frozenset()),
        "pi5": CpuFeatures("aarch64", frozenset({"asimddp"})),
    }.items():
        monkeypatch.setattr(transcriber, "cpu_features", lambda cpu=cpu: cpu)
        opened = Transcriber.open(made.folder)
        assert opened.target == name
        said[name] = opened.transcribe(noise).tokens
    monkeypatch.setattr(transcriber, "cpu_features", lambda: CpuFeatures("x86_64", frozenset({"avx512_vnni"})))
    asked = Transcriber.open(made.folder, target="pi4")
    assert graph_files(made.folder, "pi4") == tuple(
        made.folder / name for name in made.of("pi4").graphs.model_dump().values()
    )
    assert (asked.target, asked.transcribe(noise).tokens) == ("pi4", said["pi4"])
    assert said["pi5"] == said["pi4"], "the same encoder and decoder layers, heads that differ only in the rough pass"
    with pytest.raises(UserError, match="no such target; choose generic, x86, pi4, pi5"):
        Transcriber.open(made.folder, target="pi6")


def test_optimum_opens_the_bundle_unchanged(made: Made) -> None:
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq

    opened = ORTModelForSpeechSeq2Seq.from_pretrained(made.folder)
    assert Path(opened.encoder.path).name == ENCODER and Path(opened.decoder.path).name == MERGED
    extra = {}
    if made.name == "moonshine":
        extra["attention_mask"] = torch.ones(sample(made.name).inputs.shape, dtype=torch.long)
    said = opened.generate(sample(made.name).inputs, max_new_tokens=5, do_sample=False, **extra)
    assert said.shape[1] > 1


def test_the_manifest_names_the_graphs_of_each_target(made: Made) -> None:
    manifest = verify(made.folder)
    assert set(manifest.targets) == set(NAMES)
    for graphs in manifest.targets.values():
        assert {graphs.encoder, graphs.decoder} <= manifest.files.keys()
    document = json.loads(manifest.model_dump_json())
    assert Manifest.model_validate(document) == manifest
    del document["targets"]
    assert Manifest.model_validate(document).targets == {"generic": Graphs()}, "as bundles were before there were any"


def test_one_target_needs_no_data_file(tmp_path: Path) -> None:
    recipe = recipe_for("whisper", ["pi4"], shortlist=0)
    model, weights = quantized("whisper", recipe)
    (one,) = deploy(model, decided(model, recipe, weights), tmp_path, silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MERGED, ENCODER]
    check_operators(tmp_path, one.layers, one.graphs)
    check_agreement(measure_agreement(model, tmp_path, [sample("whisper")], one.quantized))
    head = onnx.load(tmp_path / MERGED).graph
    assert head.output[0].name == "logits"


def test_the_recipe_says_how_an_int8_form_rounds_and_the_target_whether() -> None:
    static = {"weights": WIDTHS["encoder"], "activations": {"kind": "int8-dynamic", "skip": ["*.fc2"]}}
    recipe = recipe_for("whisper")
    recipe = parse({**recipe.model_dump(mode="json"), "encoder": static, "decoder": static}, "test")
    fixed = Static(np.float32(0.1), 3)
    rows = [("model.encoder.layers.0.fc1", "encoder", fixed), ("model.encoder.layers.0.fc2", "encoder", None)]
    rows += [("model.decoder.layers.0.fc1", "decoder", fixed), ("model.decoder.embed_tokens", "embedding", None)]
    weights = [
        QuantizedWeight(
            name=name,
            component=component,
            method="rtn",
            bits=8,
            group=None,
            symmetric=True,
            codes=np.zeros((2, 2), np.uint8),
            scales=PlainScales(np.ones((2, 1), np.float16)),
            zero_points=np.full((2, 1), 128, np.uint8),
            inputs=inputs,
        )
        for name, component, inputs in rows
    ]
    dynamic = Dynamic()
    expected = {
        "generic": [fixed, None, fixed, None],
        "pi5": [fixed, None, fixed, None],
        "x86": [fixed, None, None, None],
        "pi4": [fixed, None, fixed, dynamic],
    }
    models = quantized_models(weights, recipe, {name: component for name, component, _ in rows})
    for target, inputs in expected.items():
        assert [weight.inputs for weight in models[target].weights] == inputs


@pytest.mark.parametrize("component", COMPONENTS)
def test_codes_that_a_targets_kernels_do_not_take_are_refused_in_one_line(component: str) -> None:
    document = recipe_for("whisper").model_dump(mode="json")
    document[component]["weights"] = {"bits": 4, "granularity": "group:32"}
    with pytest.raises(UserError, match=rf"{component}, int8 on (x86|pi4).*two-level") as caught:
        parse(document, "test")
    assert "\n" not in str(caught.value)
    assert parse({**document, "target": "generic"}, "test").target == ("generic",)
