"""`edge-deploy arrange`, and what becomes of the folder that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

from click.testing import Result
from typer.testing import CliRunner

from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify, verify_files
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts import layouts
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.layouts.layouts import named
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support import small_bundles
from tests.support.export_command import user_error


def copied(bundle: Path, folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "model.onnx").write_bytes((bundle / "encoder_model.onnx").read_bytes())


COPY = Layout(copied, lambda bundle, folder, samples: Heard((1, 2)), lambda family: f"open FOLDER ({family})\n")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layouts, "LAYOUTS", {"copy": COPY, "twin": COPY})
    # No speech: the bundle below has graphs of a few bytes.
    monkeypatch.setattr(layouts, "calibration_corpus", no_speech)
    small_bundles.write(Path("tiny-w4"))
    return lambda *words: CliRunner().invoke(app, ["arrange", *words])


def no_speech(*_: object) -> None:
    raise UserError("calibration", "no speech found", "give some")


def test_a_layout_is_a_folder_beside_the_bundle_that_says_what_it_is(run: Callable[..., Result]) -> None:
    ran = run("tiny-w4", "--layout", "copy,twin")
    assert ran.exit_code == 0, ran.output
    assert [line.partition(",")[0] for line in ran.stdout.splitlines()] == [
        "tiny-w4-copy: for copy",
        "tiny-w4-twin: for twin",
    ]
    manifest, bundle = verify_files(Path("tiny-w4-copy")), read_manifest(Path("tiny-w4"))
    assert (manifest.name, manifest.layout, manifest.targets) == ("tiny-w4-copy", "copy", {})
    assert manifest.files.keys() == {"README.md", "inner/model.onnx"}
    assert manifest.metrics == {"made_from": bundle_hash(bundle)}
    assert manifest.layers == bundle.layers
    assert "open tiny-w4-copy (whisper)" in Path("tiny-w4-copy/README.md").read_text()
    assert "layout" not in json.loads(Path("tiny-w4/manifest.json").read_text())


def test_its_bytes_are_checked_but_no_command_takes_it_for_a_bundle(run: Callable[..., Result]) -> None:
    assert run("tiny-w4", "--layout", "copy").exit_code == 0
    arranged = Path("tiny-w4-copy")
    assert CliRunner().invoke(app, ["verify", str(arranged)]).exit_code == 0
    said = "is arranged for copy; give the bundle that it was made from"
    for open_it in (verify, Transcriber.open, lambda path: Transcriber.open(path, verify=False)):
        with pytest.raises(UserError, match=said):
            open_it(arranged)
    assert said in user_error(run("tiny-w4-copy", "--layout", "copy"))
    (arranged / "inner" / "model.onnx").write_bytes(b"e" * 5)
    with pytest.raises(UserError, match="has 5 bytes"):
        verify_files(arranged)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layout", "sherpa"), "--layout: sherpa: no such layout; choose optimum, copy, twin"),
        (("--layout", "copy,"), "--layout: : no such layout; choose optimum, copy, twin"),
        (("--layout", "optimum"), "--layout: optimum: is what the bundle has already; name another engine"),
        (("--layout", "copy,twin", "--output", "x"), "--output: x: is one folder for several layouts"),
        (("--layout", "copy", "--output", "tiny-w4"), "exists already; add --overwrite to replace it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run: Callable[..., Result], words: tuple[str, ...], said: str) -> None:
    assert said in user_error(run("tiny-w4", *words))
    assert [path.name for path in Path().iterdir()] == ["tiny-w4"]


def test_files_that_say_something_else_leave_nothing_behind(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "calibration_corpus", lambda *_: (["a clip"], ""))

    def differs(*_: object) -> None:
        raise UserError("layout", "copy", "its files agree with the bundle on 3% of the tokens only; report this")

    monkeypatch.setattr(layouts, "measure_agreement", differs)
    assert "on 3% of the tokens" in user_error(run("tiny-w4", "--layout", "copy"))
    assert [path.name for path in Path().iterdir()] == ["tiny-w4"]


def test_names_stand_in_a_list_each_once() -> None:
    assert named(None) == named("optimum") == ()
    assert named("sherpa-onnx, optimum,sherpa-onnx") == ("sherpa-onnx",)
