"""`edge-deploy report`: one page that holds all it needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Ran

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Measured, NormalizerName, Percentiles, Result
from tests.support.results import make_result

pytest.importorskip("jinja2")

HOSTILE = "<script>alert(1)</script> \"><img src=http://evil.example/x onerror='alert(2)'> {{ 7 * 7 }} & co"
VOID = {"meta", "link", "br", "img", "hr", "input"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Page(HTMLParser):
    """Elements with their attributes, and the text of each section; any tag that is not closed in order is noted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.section = ""
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.elements.append((tag, found))
        if tag == "section":
            self.section = found["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.unbalanced += [] if self.open and self.open.pop() == tag else [tag]
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"]):
            self.text[self.section] = " ".join((self.text.get(self.section, "") + " " + data).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(folder: Path, *results: Result, more: tuple[str, ...] = ()) -> tuple[Ran, str]:
    paths = []
    for index, result in enumerate(results):
        paths.append(folder / f"{index}.json")
        paths[-1].write_text(result.model_dump_json())
    output = folder / "report.html"
    ran = CliRunner().invoke(app, ["report", *map(str, paths), "--output", str(output), *more])
    return ran, output.read_text(encoding="utf-8") if output.exists() else ""


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """w4 mishears the middle clip and goes astray in the long one."""
    hears = {"middle": "he opened a heavy door", "long": "and then " * 9}
    made = make_result(tmp_path, monkeypatch, hears)
    return made.model_copy(update={"command": "edge-deploy evaluate w4 --data 'my speech.jsonl'"})


def test_every_part_is_there(tmp_path: Path, result: Result) -> None:
    ran, text = report(tmp_path, result)
    assert ran.exit_code == 0, ran.output
    assert "report.html: 1 result" in ran.stdout
    page = Page(text)
    assert page.unbalanced == page.open == []
    ids = ["summary", "size", "corpora", "durations", "latency", "worst", "made"]
    assert [attributes["id"] for attributes in page.of("section")] == ids
    assert {link["href"] for link in page.of("a")} == {f"#{name}" for name in ids}
    size = result.bundle.size
    assert f"{size.encoder:,}" in page.text["size"] and f"{size.decoder:,}" in page.text["size"]
    assert "0.12 ×" in page.text["size"]
    assert all(name in page.text["corpora"] for name in ("all, pooled", "mean of the corpora", "desk", "street"))
    assert all(name in page.text["durations"] for name in ("0 to 2 s", "2 to 5 s"))
    assert all(name in page.text["latency"] for name in ("Encoder", "First token", "Per token", "100 / 100 ms"))
    assert "edge-deploy evaluate w4 --data 'my speech.jsonl'" in page.text["made"]
    assert result.environment.cpu in page.text["made"] and result.normalizer.version in page.text["made"]
    assert "rough WER" in page.text["made"]


def test_figures_are_those_of_the_result(tmp_path: Path, result: Result) -> None:
    _, text = report(tmp_path, result)
    page = Page(text)
    pooled = result.bundle.accuracy.pooled
    low, high = pooled.interval
    assert f"{100 * pooled.wer:.2f} % ({100 * low:.2f} to {100 * high:.2f}; 3 clips)" in page.text["corpora"]
    assert f"+{100 * pooled.wer:.2f}" in page.text["summary"]
    tracks = [track["aria-label"] for track in page.of("div") if track.get("role") == "img"]
    assert "float: 0.00 % (0.00 to 0.00; 3 clips)" in tracks


def test_the_differences_of_the_worst_utterances_are_marked(tmp_path: Path, result: Result) -> None:
    _, text = report(tmp_path, result)
    page = Page(text)
    assert page.text["worst"].index("long ·") < page.text["worst"].index("middle ·")
    assert '<mark title="heard instead"><s>the</s> a</mark>' in text
    assert '<del title="left out">slowly</del>' in text
    assert '<ins title="added">' in text
    assert "runaway" in page.text["worst"]
    assert "short ·" not in page.text["worst"]
    fewer = Page(report(tmp_path, result, more=("--worst", "1"))[1])
    assert "middle ·" not in fewer.text["worst"]


def test_several_results_stand_side_by_side_and_share_a_baseline(tmp_path: Path, result: Result) -> None:
    other = result.bundle.model_copy(update={"name": "w3", "hash": "f" * 64})
    ran, text = report(tmp_path, result, result.model_copy(update={"bundle": other}), result)
    assert "3 results" in ran.stdout
    rows = text.split('<section id="summary">')[1].split("</section>")[0]
    names = [row.split("</th>")[0] for row in rows.split('<th scope="row">')[1:]]
    assert names == ["float", "w4", "w3", "w4 (2)"]


def test_what_is_missing_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make_result(tmp_path, monkeypatch, clips=0, baseline=False)
    ran, text = report(tmp_path, alone)
    assert ran.exit_code == 0, ran.output
    page = Page(text)
    assert "not measured: no baseline" in page.text["summary"]
    assert "not measured" in page.text["latency"] and "Encoder, per clip" not in page.text["latency"]
    assert "command: not recorded" in page.text["made"]
    assert "governor not measured" in page.text["made"] or alone.environment.governor
    assert "No utterance has more errors" in page.text["worst"]


def test_a_corpus_of_one_result_is_not_measured_in_the_other(tmp_path: Path, result: Result) -> None:
    accuracy = result.bundle.accuracy.model_copy(update={"by_corpus": {"sea": result.bundle.accuracy.pooled}})
    bundle = result.bundle.model_copy(update={"accuracy": accuracy, "name": "w3"})
    alone = result.model_copy(update={"bundle": bundle, "baseline": None, "comparison": None})
    _, text = report(tmp_path, result, alone)
    section = Page(text).text["corpora"]
    assert "w3 not measured" in section.split("desk")[1].split("street")[0]
    assert "w4 not measured" in section.split("sea")[1]


def test_a_bundle_without_rows_still_has_its_page(tmp_path: Path, result: Result) -> None:
    accuracy = result.bundle.accuracy.model_copy(update={"by_corpus": {}, "rows": []})
    bundle = result.bundle.model_copy(update={"accuracy": accuracy, "name": "w3"})
    ran, text = report(tmp_path, result, result.model_copy(update={"bundle": bundle}))
    assert ran.exit_code == 0, ran.output
    assert "w3 not measured" in Page(text).text["durations"]


def hostile(result: Result) -> Result:
    """Every text of the result tries to break out."""
    data = json.loads(result.model_dump_json())

    def spoil(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: spoil(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner, key) for inner in value]
        # The normalizer has to be one that exists; ids pair the rows.
        return f"{value} {HOSTILE}" if isinstance(value, str) and key not in ("name", "id", "source", "rate") else value

    data = spoil(data)
    data["bundle"]["name"] = data["bundle"]["recipe"] = HOSTILE
    for measured in (data["bundle"], data["baseline"]):
        measured["accuracy"]["by_corpus"] = {HOSTILE: measured["accuracy"]["pooled"]}
        for row in measured["accuracy"]["rows"]:
            row["id"] = row["source"] = HOSTILE
    data["notes"] = [HOSTILE]
    return Result.model_validate(data)


def test_texts_cannot_break_out(tmp_path: Path, result: Result) -> None:
    ran, text = report(tmp_path, hostile(result))
    assert ran.exit_code == 0, ran.output
    page = Page(text)
    assert page.unbalanced == page.open == []
    assert not page.of("script") and not page.of("img")
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert HOSTILE in page.text["made"]
    assert "{{ 7 * 7 }}" in page.text["worst"]


def test_nothing_comes_from_elsewhere(tmp_path: Path, result: Result) -> None:
    _, text = report(tmp_path, result)
    page = Page(text)
    references = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert references and all(value.startswith("#") or value == "data:," for value in references)
    assert not {"script", "iframe", "object", "embed", "img"} & {tag for tag, _ in page.elements}
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "@import" not in text and "url(" not in text
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("content", [None, "not JSON", "{}", "[1]", '{"schema_version": 99}', b"\xff\xfe"])
def test_what_is_no_result_is_named_and_nothing_is_written(tmp_path: Path, content: str | bytes | None) -> None:
    path, output = tmp_path / "x.json", tmp_path / "report.html"
    output.write_text("the page of yesterday")
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = CliRunner().invoke(app, ["report", str(path), "--output", str(output)])
    assert isinstance(ran.exception, UserError)
    assert "x.json" in str(ran.exception) and "\n" not in str(ran.exception)
    assert output.read_text() == "the page of yesterday"


def test_another_schema_is_named(tmp_path: Path, result: Result) -> None:
    data = json.loads(result.model_dump_json())
    (tmp_path / "x.json").write_text(json.dumps({**data, "schema_version": 2}))
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "x.json"), "--output", str(tmp_path / "report.html")])
    with pytest.raises(UserError, match="schema_version: Input should be 1"):
        raise ran.exception or AssertionError


@pytest.mark.parametrize("output", ["absent/report.html", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, result: Result, output: str) -> None:
    (tmp_path / "x.json").write_text(result.model_dump_json())
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "x.json"), "--output", str(tmp_path / output)])
    with pytest.raises(UserError, match="--output"):
        raise ran.exception or AssertionError


def test_a_failure_leaves_the_old_page_and_no_other_file(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "x.json").write_text(result.model_dump_json())
    output = tmp_path / "pages" / "report.html"
    output.parent.mkdir()
    output.write_text("the page of yesterday")
    monkeypatch.setattr(os, "replace", full)
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "x.json"), "--output", str(output)])
    with pytest.raises(UserError, match=r"report\.html: cannot be written .No space left"):
        raise ran.exception or AssertionError
    assert output.read_text() == "the page of yesterday"
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]


def test_without_jinja2_the_extra_is_named(tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asr_deploy.harness.reporting.html.find_spec", lambda name: None)
    ran, _ = report(tmp_path, result)
    with pytest.raises(UserError, match=r"pip install .edge-asr-deploy\[report\]"):
        raise ran.exception or AssertionError


def opened(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """The document as Chromium built it, what it said on its console, and the addresses it asked for, but its own."""
    log = folder / "net.json"
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    arguments = [*options.split(), "--disable-component-update", "--enable-logging=stderr", "--dump-dom"]
    assert CHROMIUM is not None
    ran = subprocess.run(
        [CHROMIUM, *arguments, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    console = [line for line in ran.stderr.splitlines() if ":CONSOLE" in line]
    asked = {str(event.get("params", {}).get("url", "")) for event in json.loads(log.read_text())["events"]}
    own = ("google.com/", "googleapis.com/")
    return ran.stdout, console, sorted(url for url in asked if url and not any(host in url for host in own))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_opens_it_without_a_complaint(tmp_path: Path, result: Result) -> None:
    report(tmp_path, result, hostile(result))
    document, console, asked = opened(tmp_path / "report.html", tmp_path)
    assert "Worst utterances" in document and document.rstrip().endswith("</html>")
    assert console == asked == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_that_is_not_whole_would_be_noticed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://127.0.0.1:9/x.png"><script>throw new Error("boom")</script>')
    _, console, asked = opened(bad, tmp_path)
    assert "boom" in console[0]
    assert asked == ["http://127.0.0.1:9/x.png"]


def test_a_rate_over_characters_is_called_so(tmp_path: Path, result: Result) -> None:
    def counted(measured: Measured) -> Measured:
        return measured.model_copy(update={"accuracy": measured.accuracy.model_copy(update={"rate": "CER"})})

    assert result.baseline is not None
    changes = {"bundle": counted(result.bundle), "baseline": counted(result.baseline)}
    characters = result.model_copy(
        update={**changes, "normalizer": NormalizerName(name="whisper-characters", version="1")}
    )
    _, text = report(tmp_path, characters)
    page = Page(text)
    assert "CER" in page.text["summary"] and "WER" not in page.text["summary"] + page.text["corpora"]
    assert "characters" in page.text["worst"]
    _, text = report(tmp_path, result, characters)
    assert "WER or CER" in Page(text).text["summary"] and "% CER" in Page(text).text["corpora"]


def test_float_bundles_on_other_speech_have_names_of_their_own(tmp_path: Path, result: Result) -> None:
    accuracy = result.bundle.accuracy
    rows = [row.model_copy(update={"id": f"other {row.id}"}) for row in accuracy.rows]
    moved = result.bundle.model_copy(update={"accuracy": accuracy.model_copy(update={"rows": rows})})
    other = result.model_copy(update={"bundle": moved})
    _, text = report(tmp_path, result, other)
    assert "float (2)" in Page(text).text["summary"]
    _, text = report(tmp_path, result, result)
    assert "float (2)" not in Page(text).text["summary"]


def test_long_times_are_written_out(tmp_path: Path, result: Result) -> None:
    slow = Percentiles(p50=1580.4, p90=1234567.8, p99=2e6)
    assert result.bundle.speed is not None
    speed = result.bundle.speed.model_copy(update={"encoder_ms": slow})
    _, text = report(tmp_path, result.model_copy(update={"bundle": result.bundle.model_copy(update={"speed": speed})}))
    latency = Page(text).text["latency"]
    assert "1580 / 1234568 ms" in latency and not re.search(r"\de[+-]\d", latency)
