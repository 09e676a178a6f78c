"""The normalizers are Whisper's own, and say which."""

from __future__ import annotations

import json
import os
from importlib import metadata, resources
from pathlib import Path

import pytest

from edge_asr_deploy.corpora.normalize import Normalizer, normalizer, normalizer_for
from edge_asr_deploy.errors import UserError

TEXTS = [
    "Mr. Smith's colour wasn't grey; he'd realised that.",
    "It's twenty-one o'clock on the 3rd of May, 1960s style: ten percent, £5.20, double oh seven.",
    "[noise] uh, hmm (laughs) We're gonna go -- y'all ain't",
    "  Grüße aus São Paulo!  ",
    "",
]


def transformers_normalizer(name: str) -> Normalizer:
    pytest.importorskip("transformers", reason="the exporter is not installed: pip install edge-asr-deploy[export]")
    from transformers.models.whisper import english_normalizer as theirs

    spelling = json.loads((resources.files("whisper_normalizer") / "normalizers" / "english.json").read_text())
    rule = theirs.EnglishTextNormalizer(spelling) if name == "whisper-english" else theirs.BasicTextNormalizer()
    return Normalizer(name, "transformers", rule)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["whisper-english", "whisper-basic"])
def test_equal_to_transformers(name: str, text: str) -> None:
    assert normalizer(name)(text) == transformers_normalizer(name)(text)


@pytest.mark.real
@pytest.mark.parametrize("name", ["whisper-english", "whisper-basic"])
def test_equal_to_transformers_on_real_references(name: str) -> None:
    if "EDGE_ASR_DATA" not in os.environ:
        pytest.skip("EDGE_ASR_DATA is not set: no real references")
    theirs = transformers_normalizer(name)
    manifests = sorted(Path(os.environ["EDGE_ASR_DATA"]).glob("*.jsonl"))
    rows = [json.loads(line) for path in manifests for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows if row.get("text")]
    assert texts
    assert [text for text in texts if normalizer(name)(text) != theirs(text)] == []


def test_english_maps_british_spellings_and_numbers_and_basic_does_not() -> None:
    assert normalizer("whisper-english")("Colour, twenty-one!") == "color 21"
    assert normalizer("whisper-basic")("Colour, twenty-one!") == "colour twenty one"


def test_the_language_chooses_and_the_package_version_is_named() -> None:
    assert normalizer_for(None).name == normalizer_for("en").name == normalizer_for("English").name == "whisper-english"
    assert normalizer_for("de").name == "whisper-marks"
    assert normalizer_for("de").version == f"whisper-normalizer {metadata.version('whisper-normalizer')}"


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="whisper-english, whisper-marks, whisper-characters, whisper-basic"):
        normalizer("kaldi")
