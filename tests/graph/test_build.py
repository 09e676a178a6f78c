"""Small random models, exported whole: the graphs compute what PyTorch computes, and Optimum runs them as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.errors import UserError  # noqa: E402
from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.graph.build import MERGED  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.stem import narrow_in_place  # noqa: E402
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse  # noqa: E402
from tests.support.graphs import agreement_of, build  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402
from tests.support.tiny_samples import sample  # noqa: E402

FAMILIES = ("whisper", "moonshine")
# Every way of storing a matrix in one model: packed and native, grouped and per channel, float16.
WIDTHS = {
    "encoder": (3, "group:16"),
    "cross_attention": (4, "group:32"),
    "decoder": (8, "channel"),
    "embedding": (5, "group:16"),
}


def mixed_recipe(name: str) -> Recipe:
    parts = {c: {"weights": {"bits": bits, "granularity": g}} for c, (bits, g) in WIDTHS.items()}
    return parse({"name": f"{name}-mixed", "family": name, "stem": {"bits": 8}, **parts}, "test")


def exported(name: str, recipe: Recipe, folder: Path) -> tuple[Any, list[Any]]:
    model = MODELS[name]()
    narrow_in_place(model, family(name).structure(model.config).components(), recipe)
    weights = quantize(model, family(name), recipe, [])
    layers = build(model, recipe, weights, folder)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    return model, layers


@pytest.fixture(scope="module", params=FAMILIES)
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any, list[Any]]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *exported(request.param, mixed_recipe(request.param), folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_float_bundle_is_the_model(name: str, tmp_path: Path) -> None:
    model, layers = exported(name, float_recipe(name), tmp_path)
    check_files(tmp_path)
    assert check_operators(tmp_path, layers)[MERGED]["MatMulNBits"] == 0
    agreement = agreement_of(model, tmp_path, [sample(name)])
    check_agreement(agreement)
    assert max(agreement.encoder, agreement.logits, agreement.cached) < 1e-4
    parameters = sum(p.numel() for p in model.parameters())
    overhead = 150_000
    stored = sum((tmp_path / file).stat().st_size for file in (ENCODER, MERGED))
    assert 4 * parameters <= stored < 4 * parameters + overhead, "no weight is stored twice"


def test_every_matrix_runs_in_a_low_bit_kernel(mixed: tuple[str, Path, Any, list[Any]]) -> None:
    name, folder, model, layers = mixed
    check_files(folder)
    counts = check_operators(folder, layers)
    linears = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert counts[ENCODER]["MatMulNBits"] + counts[MERGED]["MatMulNBits"] == linears
    assert {layer.name for layer in layers if layer.group is not None or layer.symmetric is not None} == set(
        family(name).structure(model.config).components()
    )


def test_the_quantized_graph_is_the_fake_quantized_model(mixed: tuple[str, Path, Any, list[Any]]) -> None:
    name, folder, model, _ = mixed
    agreement = agreement_of(model, folder, [sample(name), sample(name, 2.3, 4)])
    check_agreement(agreement)
    assert agreement.tokens == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_shortlisted_head_gives_the_tokens_of_the_whole_one(name: str, tmp_path: Path) -> None:
    recipe = mixed_recipe(name)
    recipe = recipe.model_copy(update={"embedding": recipe.embedding.model_copy(update={"shortlist": 64})})
    model, layers = exported(name, recipe, tmp_path)
    check_files(tmp_path)
    check_operators(tmp_path, layers)
    samples = [sample(name), sample(name, 2.3, 4)]
    agreement = agreement_of(model, tmp_path, samples, shortlist=64)
    check_agreement(agreement)
    assert agreement.tokens == 1
    assert agreement_of(model, tmp_path, samples).logits > agreement.logits, "all other tokens are rough"


def test_inputs_and_outputs_are_those_of_optimum(mixed: tuple[str, Path, Any, list[Any]], tmp_path: Path) -> None:
    from optimum.exporters.onnx import onnx_export_from_model

    _, folder, model, _ = mixed
    onnx_export_from_model(
        model, tmp_path, task="automatic-speech-recognition-with-past", do_validation=False, preprocessors=[]
    )
    for file in (ENCODER, MERGED):
        ours, theirs = (onnx.load(path / file, load_external_data=False).graph for path in (folder, tmp_path))
        assert [value.name for value in ours.input] == [value.name for value in theirs.input]
        names = [value.name for value in theirs.output]
        assert [value.name for value in ours.output][: len(names)] == names
        further = [value.name for value in ours.output][len(names) :]
        assert further == [f"queries.{layer}" for layer in range(2)] * (file == MERGED)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam search"])
def test_optimum_opens_it_unchanged_and_says_the_same(
    mixed: tuple[str, Path, Any, list[Any]], options: dict[str, int]
) -> None:
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq

    name, folder, model, _ = mixed
    session = _float_activations()
    opened = ORTModelForSpeechSeq2Seq.from_pretrained(folder, session_options=session)
    inputs = torch.cat([sample(name).inputs, sample(name).inputs.flip(-1)])
    extra = {} if name == "whisper" else {"attention_mask": torch.ones(inputs.shape, dtype=torch.long)}
    if extra:
        # The second clip of the batch is shorter: the padding must not be heard.
        extra["attention_mask"][1, 12_000:] = 0
    said = [m.generate(inputs, max_new_tokens=12, do_sample=False, **extra, **options) for m in (opened, model)]
    assert torch.equal(*said)
    assert said[0].unique().numel() > 1, "the random model says more than one token for ever"


def _float_activations() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return options


def test_a_weight_that_the_trace_does_not_hold_is_refused(tmp_path: Path) -> None:
    model, recipe = MODELS["whisper"](), mixed_recipe("whisper")
    weights = quantize(model, family("whisper"), recipe, [])
    with torch.no_grad():
        model.get_submodule(weights[0].name).weight[0, 0] += 1
    with pytest.raises(UserError, match=weights[0].name):
        build(model, recipe, weights, tmp_path)


def test_a_matrix_that_runs_in_float_is_found(mixed: tuple[str, Path, Any, list[Any]], tmp_path: Path) -> None:
    name, _, _, layers = mixed
    exported(name, float_recipe(name), tmp_path)
    with pytest.raises(UserError, match="low-bit kernel"):
        check_operators(tmp_path, layers)


def test_another_graph_than_the_models_is_found(mixed: tuple[str, Path, Any, list[Any]]) -> None:
    name, folder, _, _ = mixed
    with pytest.raises(UserError, match="differs from PyTorch"):
        check_agreement(agreement_of(MODELS[name](seed=1), folder, [sample(name)]))
