"""From a sweep file to cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep.grid import expand, load_sweep, select
from edge_asr_deploy.recipe.overlay import lay_over


def names(document: dict[str, Any], write: Callable[..., Path]) -> list[str]:
    return [cell.name for cell in expand(load_sweep(write(document)))]


def test_cells_are_all_combinations_and_a_baseline_per_model(
    document: dict[str, Any], write: Callable[..., Path]
) -> None:
    expected = ["tiny/float", "tiny/rtn/w4", "tiny/rtn/w3", "tiny/gptq/w4", "tiny/gptq/w3"]
    assert names(document, write) == expected
    # The same cell again adds nothing.
    document["cells"].append({"method": ["gptq"], "setting": ["w3"]})
    assert names(document, write) == expected


def test_fragments_of_all_axes_make_the_recipe(document: dict[str, Any], write: Callable[..., Path]) -> None:
    cells = {cell.name: cell for cell in expand(load_sweep(write(document)))}
    recipe = cells["tiny/gptq/w3"].recipe
    assert recipe.name == "whisper-gptq-w3"
    for component in ("encoder", "cross_attention", "decoder"):
        spec = recipe.component(component)
        assert (spec.bits, spec.quantizer.method, spec.group_size) == (3, "gptq", 16)
    assert recipe.component("embedding").bits == 8
    assert cells["tiny/float"].recipe.is_float
    assert cells["tiny/rtn/w4"].evaluation.accuracy_level == 1
    assert cells["tiny/rtn/w3"].evaluation.accuracy_level is None


def test_an_adjustment_reaches_its_cells_alone(document: dict[str, Any], write: Callable[..., Path]) -> None:
    fragment = {"decoder": {"weights": {"quantizer": {"damping": 1.0}}}}
    document["adjustments"] = [{"where": {"method": ["gptq"], "setting": ["w3"]}, "fragment": fragment}]
    cells = {cell.name: cell for cell in expand(load_sweep(write(document)))}
    damping = {
        name: [cell.recipe.component(c).quantizer.model_dump().get("damping") for c in ("encoder", "decoder")]
        for name, cell in cells.items()
    }
    assert damping["tiny/gptq/w3"] == [0.01, 1.0]
    assert damping["tiny/gptq/w4"] == [0.01, 0.01]


def test_a_further_axis_counts(document: dict[str, Any], write: Callable[..., Path]) -> None:
    document["axes"]["scope"] = {"blocks": None, "full": {"embedding": {"weights": {"bits": 4}}}}
    document["cells"] = [{"setting": ["w4"], "method": ["rtn"]}]
    cells = expand(load_sweep(write(document)))
    assert [(c.name, c.recipe.embedding.weights.bits) for c in cells[1:]] == [
        ("tiny/rtn/w4/blocks", 8),
        ("tiny/rtn/w4/full", 4),
    ]


def test_another_method_leaves_no_options_of_the_old_one() -> None:
    old = {"quantizer": {"method": "rtn", "clip_steps": 10}, "bits": 4}
    assert lay_over(old, {"quantizer": {"method": "gptq"}}) == {"quantizer": {"method": "gptq"}, "bits": 4}
    assert lay_over(old, {"quantizer": {"weighted": True}})["quantizer"]["clip_steps"] == 10


DOCUMENTS = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
MAPPINGS = st.dictionaries(st.sampled_from("abc"), DOCUMENTS, max_size=3)


@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_laying_over_twice_is_laying_over_once_and_changes_nothing_that_it_is_given(a: Any, b: Any, c: Any) -> None:
    before = repr((a, b, c))
    assert lay_over(a, {}) == a
    assert lay_over({}, a) == a
    assert lay_over(lay_over(a, b), b) == lay_over(a, b)
    lay_over(lay_over(a, b), c)
    assert repr((a, b, c)) == before


def test_only_selects_by_name_and_keeps_the_baseline(document: dict[str, Any], write: Callable[..., Path]) -> None:
    cells = expand(load_sweep(write(document)))
    assert [c.name for c in select(cells, ["*/gptq/*"])] == ["tiny/float", "tiny/gptq/w4", "tiny/gptq/w3"]
    assert select(cells, []) == cells
    with pytest.raises(UserError, match="--only: nothing/\\*: matches no cell"):
        select(cells, ["nothing/*"])


def broken(**changes: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        for path, value in changes.items():
            node = document
            *parents, leaf = path.split("__")
            for parent in parents:
                node = node[parent]
            node[leaf] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (broken(colour="red"), "colour: no such key; allowed here: name"),
        (broken(name="a/b"), "name 'a/b'"),
        (broken(evaluation__accuracy_level=9), "evaluation.accuracy_level 9"),
        (broken(evaluation__speed=1), "evaluation.speed: no such key; allowed here: data"),
        (broken(axes__setting__w4__evaluation={"speed": 1}), "tiny/rtn/w4: speed: no such key"),
        (broken(axes={"model": {}}), "axes.method: is missing"),
        (broken(axes__method__float={}), "axes.method.float"),
        (broken(cells=[{"colour": ["red"]}]), "cells.0.colour: no such axis; there are model, method, setting"),
        (broken(cells=[{"setting": ["w5"]}]), "cells.0.setting w5: no such value; there are w4, w3"),
        (broken(cells=[]), "cells"),
        (broken(adjustments=[{"where": {"method": ["awq"]}, "fragment": {}}]), "adjustments.0.where.method awq"),
        (
            broken(axes__method__gptq={"blocks": {"weights": {"quantizer": {"method": "gptq", "speed": 1}}}}),
            "tiny/gptq/w4: encoder.weights.quantizer.speed: no such key; allowed here: method, damping",
        ),
        (broken(axes__setting__w3__blocks__weights__bits=9), "tiny/rtn/w3: encoder.weights.bits 9"),
    ],
)
def test_what_is_wrong_is_one_line(
    document: dict[str, Any], write: Callable[..., Path], change: Any, named: str
) -> None:
    change(document)
    with pytest.raises(UserError) as caught:
        expand(load_sweep(write(document)))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "named"), [(None, "no such file"), ("a: [", "cannot be read"), ("- a", "mapping")])
def test_a_file_that_is_no_sweep_is_named(tmp_path: Path, text: str | None, named: str) -> None:
    path = tmp_path / "sweep.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=named):
        load_sweep(path)


@pytest.mark.parametrize(
    ("name", "cells"), [("edge-asr", 4 + 2 * 8 * 4 + 2 * 6 * 3 + 3 * 2 + 2 * 2 + 4 * 3 + 2 + 1), ("smoke", 1 + 4)]
)
def test_shipped_sweeps_expand(name: str, cells: int) -> None:
    from edge_asr_deploy.recipe.files import shipped

    assert len(expand(load_sweep(shipped() / "sweeps" / f"{name}.yaml"))) == cells
