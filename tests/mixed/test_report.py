"""What `fit` and `analyze` print, at 80 and 120 columns."""

from __future__ import annotations

import pytest

from tests.support.tables import WIDTHS, broken, shown

pytest.importorskip("torch")

from edge_asr_deploy.experiments.analysis.analyze import Analysis, tables
from edge_asr_deploy.experiments.analysis.statistics import MatrixStatistics, Spread
from edge_asr_deploy.experiments.mixed.fit import Fit
from edge_asr_deploy.experiments.mixed.report import fit_table

PATH = "model.decoder.layers.11.encoder_attn.out_proj"
SPREAD = Spread(low=-12345.6, high=0.0000412, deviation=1.0, kurtosis=12345.6, outliers=123, peak=12.0)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_is_broken(width: int) -> None:
    fitted = Fit(
        recipe="recipes/experiments/whisper-large-v3-turbo-fitted-to-700-megabytes.yaml",
        size=700_000_000, smallest=500_000_000, divergence=1.25e-7, bits={"a": 2, "b": 3, "c": 4, "d": 8}, front=[],
        speech="", rise=0.25, judged_on="librispeech_test_clean.jsonl", searched={"trials": 20, "divergence": 12345.6},
    )  # fmt: skip
    analysis = Analysis(
        model="whisper-large-v3-turbo", speech="Calibrated on 64 clips of calibration.jsonl of EDGE_ASR_DATA.",
        statistics=[MatrixStatistics(PATH, "cross_attention", (1280, 1280), SPREAD, SPREAD)],
        sensitivity={PATH: {2: 12.5, 3: 0.25, 4: 4.12e-5, 8: 1e-9}}, fisher=None,
        words={PATH: {2: 1.0, 3: 0.5, 4: 0.0}},
    )  # fmt: skip
    printed = [fit_table(fitted), *tables(analysis)]
    assert not broken(printed, width)
    text = shown(printed, 120)
    assert "0.000041" in text and "0.0000001250" in text and "-12346 to 0.000041" in text
