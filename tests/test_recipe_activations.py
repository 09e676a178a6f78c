"""What a recipe says of activations and of two-level storage, and what it may not say."""

from __future__ import annotations

from typing import Any

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe.activations import ActivationSpec
from edge_asr_deploy.recipe.document import float_recipe, parse
from edge_asr_deploy.recipe.files import override

W8 = {"bits": 8, "granularity": "channel", "symmetric": True}
TWO_LEVEL = {"bits": 4, "granularity": "group:32", "storage": "two-level"}


def document(weights: dict[str, Any], activations: Any = "float", component: str = "encoder") -> dict[str, Any]:
    return {"name": "x", "family": "whisper", component: {"weights": weights, "activations": activations}}


@pytest.mark.parametrize(
    "activations", ["int8-dynamic", {"kind": "int8-static", "calibrator": "mse", "skip": ["*.fc2"]}]
)
@pytest.mark.parametrize("weights", [W8, TWO_LEVEL, {"bits": 6, "granularity": "channel"}])
def test_a_dump_says_what_was_written_and_can_be_read_again(weights: dict[str, Any], activations: Any) -> None:
    recipe = parse(document(weights, activations), "test")
    dumped = recipe.model_dump(mode="json")
    assert dumped["encoder"]["activations"] == activations
    assert dumped["encoder"]["weights"].get("storage") == weights.get("storage")
    assert parse(dumped, "test") == recipe


def test_float_activations_and_plain_storage_go_unsaid() -> None:
    dumped = float_recipe("whisper").model_dump(mode="json")
    for component in COMPONENTS:
        assert "activations" not in dumped[component]
        assert "storage" not in dumped[component]["weights"]


def test_the_kind_alone_is_short_for_a_mapping() -> None:
    short, long = (parse(document(W8, a), "test") for a in ("int8-static", {"kind": "int8-static"}))
    assert short == long
    changed = override(document(W8), ["encoder.activations=int8-dynamic"])
    assert override(changed, ["encoder.activations.skip=[x]"])["encoder"]["activations"] == {
        "kind": "int8-dynamic",
        "skip": ["x"],
    }
    assert parse(changed, "test").encoder.activations == ActivationSpec(kind="int8-dynamic")


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"granularity": "group:32"}, "weights.granularity: channel"),
        ({"symmetric": False}, "weights.symmetric: true"),
        ({"bits": 16}, "bits: 2 to 8"),
    ],
)
def test_weights_without_an_integer_kernel_are_refused_with_a_remedy(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError, match=r"encoder\.activations 'int8-dynamic'") as caught:
        parse(document({**W8, **changes}, "int8-dynamic"), "test")
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"bits": 8}, "bits: 2 to 7"),
        ({"granularity": "channel"}, "group:32"),
        ({"quantizer": {"method": "tesseraq"}}, "rtn or gptq"),
    ],
)
def test_two_level_codes_that_cannot_be_are_refused(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError, match=r"encoder\.weights\.storage 'two-level'") as caught:
        parse(document({**TWO_LEVEL, **changes}), "test")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "value", ["int4", {"kind": "int8-static", "calibrator": "best"}, {"kind": "int8-dynamic", "x": 1}]
)
def test_a_wrong_value_is_named_with_its_key(value: Any) -> None:
    with pytest.raises(UserError, match=r"encoder\.activations") as caught:
        parse(document(W8, value), "test")
    assert "\n" not in str(caught.value)


def test_the_tied_table_takes_two_levels_but_leaves_its_inputs_to_the_target() -> None:
    assert parse(document(TWO_LEVEL, component="embedding"), "test").embedding.weights.storage == "two-level"
    with pytest.raises(UserError, match=r"embedding\.activations 'int8-dynamic'.*the target decides"):
        parse(document(W8, "int8-dynamic", "embedding"), "test")
