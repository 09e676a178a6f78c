"""`blocks` in recipe files, and what rules between keys answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits, load_document, override, stored_for
from edge_asr_deploy.recipe.overlay import BLOCKS, lay_over
from edge_asr_deploy.runtime.targets import TARGETS

W8 = {"bits": 8, "granularity": "channel", "symmetric": True}
SHORT: dict[str, Any] = {
    "name": "x",
    "family": "whisper",
    "blocks": {
        "weights": {"bits": 4, "granularity": "group:32", "quantizer": {"method": "gptq"}},
        "activations": "float",
    },
    "decoder": {"weights": {"bits": 3}},
    "embedding": {"weights": {"bits": 8, "granularity": "channel"}},
}


def test_blocks_stand_for_three_components_and_a_component_s_own_keys_go_over_them(tmp_path: Path) -> None:
    recipe = parse(SHORT, "test")
    assert [recipe.component(name).bits for name in (*BLOCKS, "embedding")] == [4, 4, 3, 8]
    assert {recipe.component(name).method for name in BLOCKS} == {"gptq"}
    assert recipe.embedding.weights.method == "rtn"
    dumped = recipe.model_dump(mode="json")
    assert "blocks" not in dumped and parse(dumped, "test") == recipe
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(SHORT))
    document = load_document(tmp_path / "short.yaml")
    assert parse(document, "test") == recipe
    # What reads documents by component finds all of them.
    assert parse(stored_for(document, [TARGETS["x86"]]), "test").encoder.weights.storage == "two-level"


def test_a_setting_of_blocks_sets_all_three() -> None:
    document = for_bits("whisper", 4)
    recipe = parse(override(document, ["blocks.weights.bits=6", "decoder.weights.bits=5"]), "test")
    assert [recipe.component(name).bits for name in (*BLOCKS, "embedding")] == [6, 6, 5, 5]
    assert document == for_bits("whisper", 4)
    with pytest.raises(UserError, match="`bits` is a value"):
        override(document, ["blocks.weights.bits.x=6"])


def test_a_setting_replaces_exactly_its_key() -> None:
    document = {"encoder": {"weights": {"quantizer": {"method": "gptq", "damping": 0.1, "clip_steps": 10}}}}
    quantizer = override(document, ["encoder.weights.quantizer={method: gptq}"])["encoder"]["weights"]["quantizer"]
    assert quantizer == {"method": "gptq"}
    changed = override(document, ["encoder.weights.quantizer.damping=1", "stem.bits=8"])
    assert changed["encoder"]["weights"]["quantizer"] == {"method": "gptq", "damping": 1, "clip_steps": 10}
    assert changed["stem"] == {"bits": 8}


def test_a_kind_alone_keeps_its_meaning_under_other_keys() -> None:
    laid = lay_over({"encoder": {"activations": "int8-dynamic"}}, {"encoder": {"activations": {"skip": ["x"]}}})
    assert laid == {"encoder": {"activations": {"kind": "int8-dynamic", "skip": ["x"]}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"embedding": {"shortlist": 16, "weights": {"bits": 16}}}, r"embedding\.shortlist 16: shortlist reads codes"),
        ({"stem": {"bits": 16, "activations": "int8-token"}}, r"stem\.activations 'int8-token': convolutions of 16"),
        (
            {"encoder": {"weights": W8, "activations": {"kind": "int8-static", "token": ["*"]}}},
            r"encoder\.activations \{'kind': 'int8-static', 'token': \['\*'\]\}: token \['\*'\] needs",
        ),
        (
            {"encoder": {"weights": {"quantizer": {"method": "omniquant"}, "steps": [{"method": "qep"}]}}},
            r"encoder\.weights\.quantizer omniquant: omniquant learns",
        ),
        (
            {"blocks": {"weights": {"steps": [{"method": "awq"}, {"method": "smoothquant"}]}}},
            r"encoder\.weights\.steps awq, smoothquant: awq and smoothquant both scale",
        ),
        ({"embedding": {"weights": {"quantizer": {"method": "spqr"}}}}, r"quantizer spqr: the tied table has no"),
        ({"family": "moonshine", "stem": {"bits": 8, "activations": "int8-dynamic"}}, "choose int8-token or float"),
    ],
)
def test_keys_that_do_not_fit_together_are_one_line(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse({"name": "x", "family": "whisper", **document}, "test")
    assert "\n" not in str(caught.value)
