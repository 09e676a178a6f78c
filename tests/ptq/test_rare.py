"""Rare tokens in fewer bits: which rows of the table these are, and what becomes of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.families.structure import TABLE  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.rare import rare_rows  # noqa: E402
from edge_asr_deploy.quantized.rare import RareRows  # noqa: E402
from edge_asr_deploy.recipe.components import Rare  # noqa: E402
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse  # noqa: E402
from edge_asr_deploy.recipe.files import stored_for  # noqa: E402
from edge_asr_deploy.recipe.weights import WeightSpec  # noqa: E402
from edge_asr_deploy.runtime.targets import TARGETS  # noqa: E402
from tests.support import short  # noqa: E402

WIDE: dict[str, Any] = {"bits": 6, "granularity": "group:16", "quantizer": {"method": "gptq", "clip_steps": 4}}


def document(name: str, **rare: int) -> dict[str, Any]:
    whole = float_recipe(name).model_dump(mode="json")
    return {**whole, "embedding": {"weights": WIDE, **({"rare": rare} if rare else {})}}


def quantized(name: str, recipe: Recipe) -> tuple[Any, Any]:
    model = short.model(name)
    (table,) = quantize(model, family(name), recipe, short.samples(name))
    return model, table


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_model_computes_with_the_table_that_is_stored(name: str) -> None:
    model, table = quantized(name, parse(document(name, bits=4, after=40), "test"))
    assert table.rare == RareRows(40, short.VOCABULARY, 2)
    assert (table.codes[40:] % 4 == 0).all()
    assert (table.codes[:40] % 4 != 0).any()
    assert np.array_equal(model.get_submodule(TABLE).weight.detach().numpy(), table.dequantize())


def test_common_rows_are_those_of_a_wide_table_and_rare_ones_those_of_a_narrow_one() -> None:
    _, mixed = quantized("whisper", parse(document("whisper", bits=4, after=40), "test"))
    _, wide = quantized("whisper", parse(document("whisper"), "test"))
    narrow_document = document("whisper")
    narrow_document["embedding"]["weights"] = {**WIDE, "bits": 4}
    _, narrow = quantized("whisper", parse(narrow_document, "test"))
    assert np.array_equal(mixed.dequantize()[:40], wide.dequantize()[:40])
    assert np.array_equal(mixed.dequantize()[40:], narrow.dequantize()[40:])
    assert narrow.error > mixed.error > wide.error


@pytest.mark.parametrize(
    ("end", "after", "expected"),
    [
        (90, 40, RareRows(40, 90, 2)),
        (2, 40, RareRows(40, 100, 2)),
        (None, 40, RareRows(40, 100, 2)),
        ([90, 91], 40, RareRows(40, 100, 2)),
        (90, 90, RareRows(90, 100, 2)),
        (None, 100, None),
    ],
)
def test_what_follows_the_end_token_is_not_rare(end: Any, after: int, expected: RareRows | None) -> None:
    config = SimpleNamespace(eos_token_id=end, vocab_size=100)
    assert rare_rows(Rare(bits=4, after=after), WeightSpec(bits=6), config) == expected


def test_a_table_of_no_more_bits_has_no_rare_rows() -> None:
    config = SimpleNamespace(eos_token_id=90, vocab_size=100)
    assert rare_rows(Rare(bits=4, after=40), WeightSpec(bits=4), config) is None
    assert rare_rows(None, WeightSpec(bits=6), config) is None


def test_boards_with_integer_tables_and_other_widths_have_one_width() -> None:
    whole = document("whisper", bits=4, after=40)
    assert parse(stored_for(whole, [TARGETS["pi4"]]), "test").embedding.rare is None
    assert parse(whole, "test").with_weights({"embedding": WeightSpec(bits=3)}).embedding.rare is None
