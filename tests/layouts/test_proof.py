"""A layout is refused where it says something else than its bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.layouts.layouts import LAYOUTS
from edge_asr_deploy.layouts.proof import measure_agreement
from edge_asr_deploy.progress import silent
from tests.support.fixtures_layouts import make


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("whisper", "low-bit", tmp_path_factory.mktemp("proof") / "bundle").folder


def clip() -> Utterance:
    samples = (np.random.default_rng(0).normal(size=48_000) * 0.1).astype(np.float32)
    return Utterance("noise", samples, None, "noise", seconds=3.0)


def test_files_that_say_the_same_agree_on_every_token(bundle: Path, tmp_path: Path) -> None:
    layout = LAYOUTS["sherpa-onnx"]
    layout.arrange(bundle, tmp_path)
    found = measure_agreement(bundle, tmp_path, layout, [clip(), clip()], silent)
    assert found["clips"] == 2 and found["tokens"] > 10 and found["agreement"] == 1


@pytest.mark.parametrize("heard", [Heard([]), Heard([3] * 20), Heard([3] * 5, is_capped=True)])
def test_other_words_are_refused(bundle: Path, tmp_path: Path, heard: Heard) -> None:
    layout: Layout = replace(LAYOUTS["sherpa-onnx"], hear=lambda *_: heard)
    with pytest.raises(UserError, match="agree with it on 0% of the tokens only"):
        measure_agreement(bundle, tmp_path, layout, [clip()], silent)
