"""`blocks` in recipe files, and what rules between keys answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits, load_document, override, read_mapping, shipped, stored_for
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
        (
            {"embedding": {"rare": {"bits": 4, "after": 9}, "weights": {"bits": 4}}},
            r"rare .*: must have fewer bits than .* 4",
        ),
        ({"embedding": {"rare": {"bits": 4, "after": 9}, "weights": {"bits": 16}}}, r"rare .*: must have fewer bits"),
        (
            {"embedding": {"rare": {"bits": 4, "after": 9}, "weights": {"bits": 6, "storage": "two-level"}}},
            r"rare .*: two-level storage has one width for all tokens",
        ),
        (
            {"embedding": {"rare": {"bits": 4, "after": 9}, "weights": {"bits": 6, "quantizer": {"method": "spqr"}}}},
            r"rare .*: spqr rounds all rows together",
        ),
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
        ({"family": "moonshine", "encoder": {"end": {}}}, r"encoder\.end: is for Whisper's window"),
        ({"encoder": {"end": {"frames": 26, "margin": 0.5}}}, r"end\.frames 26: the margin of 0\.5 s has 25 frames"),
    ],
)
def test_keys_that_do_not_fit_together_are_one_line(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse({"name": "x", "family": "whisper", **document}, "test")
    assert "\n" not in str(caught.value)


def read(tmp_path: Path, text: str) -> Any:
    (tmp_path / "x.yaml").write_text(text)
    return read_mapping("--recipe", tmp_path / "x.yaml", "a name")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nfamily: whisper\nname: b\n", "`name` stands in line 1 and again in line 3"),
        ("a:\n  bits: 3\n  bits: 4\n", "`bits` stands in line 2 and again in line 3"),
        ("a: {bits: 3, bits: 4}", "`bits` stands in line 1"),
        ("a: [1\n", "line 2"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: &a [*a]", "aliases unfold"),
        ("a: &a {b: *a}", "aliases unfold"),
        ("a: 2020-99-99", "cannot be read as YAML"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a, b]\n: c\n? {d: e}\n: f", "unhashable"),
        ("a: \x00", "cannot be read as YAML"),
        ("- a", "must be a YAML mapping"),
        ("", "must be a YAML mapping"),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_aliases_that_unfold_to_a_bomb_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 9)]
    with pytest.raises(UserError, match="unfold to more than 100000 values"):
        read(tmp_path, "\n".join(lines))


def test_aliases_and_merged_keys_within_reason_are_read(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &a {bits: 3, group: 16}\nb: {<<: *a, bits: 4}\nc: *a\n")
    assert document == {"a": {"bits": 3, "group": 16}, "b": {"bits": 4, "group": 16}, "c": {"bits": 3, "group": 16}}


def test_norwegian_is_a_language_and_true_is_true(tmp_path: Path) -> None:
    """YAML 1.1 takes `no` for false."""
    document = read(tmp_path, "language: no\nother: [on, y, Yes, off]\ngood: true\nbad: False\n")
    assert document == {"language": "no", "other": ["on", "y", "Yes", "off"], "good": True, "bad": False}


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("no", False), ("true", True), ("off", False)])
def test_a_switch_of_a_recipe_may_be_yes_or_no(text: str, value: bool) -> None:
    changed = override(SHORT, [f"embedding.weights.symmetric={text}"])
    assert parse(changed, "test").embedding.weights.symmetric is value


def test_no_shipped_document_is_read_otherwise() -> None:
    paths = [path for path in shipped().rglob("*.yaml")]
    assert len(paths) > 5
    for path in paths:
        assert read_mapping("recipe", path, "a name") == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_what_is_left_out_may_be_excluded_as_well() -> None:
    """`fit` writes recipes without keys that are null, `rare` among them."""
    recipe = parse(for_bits("whisper", 5), "test")
    assert recipe.embedding.rare is None
    assert "rare" not in recipe.model_dump(mode="json", exclude_none=True)["embedding"]
