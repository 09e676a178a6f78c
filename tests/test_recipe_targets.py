"""What a recipe says of the devices it is for."""

from __future__ import annotations

from typing import Any

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits, override, stored_for
from edge_asr_deploy.runtime.targets import TARGETS

PLAIN: dict[str, Any] = {"name": "x", "family": "whisper"}


@pytest.mark.parametrize(
    ("written", "targets"),
    [
        ("pi4", ("pi4",)),
        ("pi4,pi5, x86", ("pi4", "pi5", "x86")),
        (["pi5", "pi4"], ("pi5", "pi4")),
        ("x86,x86", ("x86",)),
    ],
)
def test_one_target_or_several(written: Any, targets: tuple[str, ...]) -> None:
    document = stored_for(for_bits("whisper", 4), [TARGETS[name] for name in targets])
    recipe = parse({**document, "target": written}, "test")
    assert recipe.target == targets
    dumped = recipe.model_dump(mode="json")
    assert dumped["target"] == (targets[0] if len(targets) == 1 else list(targets))
    assert parse(dumped, "test") == recipe


def test_without_any_it_is_generic_and_says_so_as_ever() -> None:
    recipe = parse(PLAIN, "test")
    assert recipe.target == ("generic",)
    assert recipe.model_dump(mode="json")["target"] == "generic"


def test_an_unknown_target_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no such target; choose generic, x86, pi4, pi5") as caught:
        parse({**PLAIN, "target": "pi4,pi3"}, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8, 32])
@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_shipped_recipes_fit_every_target_once_their_storage_does(family: str, bits: int) -> None:
    document = for_bits(family, bits)
    recipe = parse(stored_for(document, list(TARGETS.values())), "test")
    assert recipe.target == tuple(TARGETS)
    for component in COMPONENTS:
        assert recipe.component(component).bits == parse(document, "test").component(component).bits
    assert stored_for(document, [TARGETS["generic"]]) == {**document, "target": ["generic"]}


def test_what_the_user_sets_besides_is_judged_too() -> None:
    document = stored_for(for_bits("whisper", 4), [TARGETS["pi4"]])
    with pytest.raises(UserError, match="decoder, int8 on pi4"):
        parse(override(document, ["decoder.weights.storage=plain"]), "test")


def test_single_layers_are_judged_with_the_model() -> None:
    document = stored_for(for_bits("whisper", 4), [TARGETS["x86"]])
    components = {"model.encoder.layers.0.fc1": "encoder", "model.decoder.layers.0.fc1": "decoder"}
    parse({**document, "layers": {"*.fc1": {"bits": 6}}}, "test").require_kernels(components)
    # 8 bits have no room for multipliers: one scale per channel unless the recipe says otherwise.
    parse({**document, "layers": {"*.fc1": {"bits": 8}}}, "test").require_kernels(components)
    grouped = {"*.fc1": {"bits": 8, "granularity": "group:64"}}
    with pytest.raises(UserError, match=r"model\.encoder\.layers\.0\.fc1, int8 on x86.*one scale per output channel"):
        parse({**document, "layers": grouped}, "test").require_kernels(components)
    skipping = override(document, ["encoder.activations={kind: int8-dynamic, skip: ['*.fc1']}"])
    parse({**skipping, "layers": grouped}, "test").require_kernels(components)
