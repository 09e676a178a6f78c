"""What the fields of a request ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_asr_deploy.serve.faults import Fault, Unknown
from edge_asr_deploy.serve.hearing import Wish
from edge_asr_deploy.serve.openai.answers import FORMATS, UNTIMED
from edge_asr_deploy.serve.openai.form import Form
from edge_asr_deploy.serve.shared import Shared

# What clients send where nobody chose a model.
USUAL_MODELS = ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
GRANULARITIES = frozenset({"segment", "word"})
TRUE, FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Asked:
    """How to hear a recording, and how to answer."""

    wish: Wish
    format: str
    granularities: frozenset[str]
    is_streamed: bool


def asked(form: Form, task: str, shared: Shared) -> Asked:
    """What a form asks for. Fault for what is unknown; fields that ask for nothing here are ignored."""
    check_model(form.one("model"), shared.model)
    kind = form.one("response_format") or "json"
    if kind not in FORMATS:
        raise Fault(f"response_format: {kind}: choose one of {', '.join(FORMATS)}", "response_format")
    streamed = (form.one("stream") or "false").lower()
    if streamed not in (*TRUE, *FALSE):
        raise Fault(f"stream: {streamed}: give true or false", "stream")
    is_streamed = streamed in TRUE
    if is_streamed and kind not in UNTIMED:
        raise Fault(f"response_format: {kind}: a stream has text only; give json", "response_format")
    if form.all("include"):
        raise Fault("include: this server has no log-probabilities of tokens; use verbose_json", "include")
    granularities = _granularities(form, kind)
    timestamps = None if kind in UNTIMED else "word" if "word" in granularities else "segment"
    words = tuple(word for given in form.all("keywords") + form.all("hotwords") for word in given.split(",") if word)
    wish = Wish(
        language=form.one("language") or shared.language,
        task=None if task == "transcribe" else task,
        timestamps=timestamps,
        prompt=form.one("prompt") or shared.prompt,
        hotwords=words or shared.hotwords,
        temperature=_temperature(form.one("temperature")),
    )
    return Asked(wish, kind, granularities, is_streamed)


def check_model(given: str | None, model: str) -> None:
    """Fault unless a name is that of the bundle, or one that clients send by themselves."""
    if given not in (None, model, *USUAL_MODELS):
        raise Unknown(f"model: {given}: this server has {model}, which whisper-1 means, too", "model")


def _granularities(form: Form, kind: str) -> frozenset[str]:
    given = frozenset(form.all("timestamp_granularities"))
    if given - GRANULARITIES:
        wrong = ", ".join(sorted(given - GRANULARITIES))
        raise Fault(f"timestamp_granularities: {wrong}: choose segment, word or both", "timestamp_granularities")
    if given and kind != "verbose_json":
        raise Fault("timestamp_granularities: need response_format=verbose_json", "timestamp_granularities")
    return given or frozenset({"segment"})


def _temperature(given: str | None) -> float:
    try:
        value = float(given or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Fault(f"temperature: {given}: give a number from 0 to 1", "temperature")
    return value
