"""Transcripts as OpenAI's answers."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from edge_asr_deploy.families.languages import LANGUAGE_CODES
from edge_asr_deploy.runtime.transcript import Segment, Transcript
from edge_asr_deploy.serve.faults import Fault

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
# Formats without times cost what a plain transcription costs.
UNTIMED = ("json", "text")


def fault_response(fault: Fault) -> JSONResponse:
    """A fault as OpenAI's error object. Its client tries again after a 429."""
    error = {"message": fault.sentence, "type": fault.kind, "param": fault.field, "code": fault.code}
    headers = {"Retry-After": "1"} if fault.status in (429, 503) else {}
    if fault.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error}, fault.status, headers)


def response(form: str, transcript: Transcript, language: str, task: str, granularities: frozenset[str]) -> Response:
    """A transcript in one of the formats. `language` is the code of what was spoken."""
    if form == "json":
        return JSONResponse({"text": transcript.text, "usage": _usage(transcript)})
    if form == "text":
        return PlainTextResponse(transcript.text + "\n")
    if form == "verbose_json":
        return JSONResponse(_verbose(transcript, language, task, granularities))
    from edge_asr_deploy import subtitles

    write = {"srt": subtitles.srt, "vtt": subtitles.vtt}[form]
    return PlainTextResponse(write(transcript.segments))


def event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.seconds)}


def _verbose(transcript: Transcript, language: str, task: str, granularities: frozenset[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": task,
        "language": "english" if task == "translate" else language_name(language),
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
    }
    if "segment" in granularities:
        found["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    if "word" in granularities:
        found["words"] = [
            {"word": word.text.strip(), "start": round(word.start, 3), "end": round(word.end, 3)}
            for segment in transcript.segments
            for word in segment.words
        ]
    return {**found, "usage": _usage(transcript)}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.average_log_probability,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_probability or 0.0,
    }


def language_name(code: str) -> str:
    """`english` for `en`, as OpenAI names languages; the code where no name is known."""
    return next((name for name, known in LANGUAGE_CODES.items() if known == code), code)
