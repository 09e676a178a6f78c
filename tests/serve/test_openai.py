"""OpenAI's paths of a server process: every field, every answer, every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.subtitles import srt, vtt
from tests.support.serving import Answer, Served, ask, form, metric, serving, sound, transcribe


@pytest.fixture(scope="module")
def words(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the bundle hears in a second of sound, by language and task."""
    path = tmp_path_factory.mktemp("clip") / "a.wav"
    path.write_bytes(sound())
    transcriber, samples = Transcriber.open(bundle), read_audio(path)
    return {
        f"{language} {task}": transcriber.transcribe(samples, language, task).text
        for language in ("en", "de")
        for task in ("transcribe", "translate")
    }


def test_json_is_the_default(served: Served, words: dict[str, str]) -> None:
    answer = transcribe(served, sound(), model=served_name(served), language="en")
    assert answer.json == {"text": words["en transcribe"], "usage": {"type": "duration", "seconds": 1}}
    assert answer.headers["content-type"] == "application/json"


def served_name(served: Served) -> str:
    return str(ask(f"{served.http}/v1/models").json["data"][0]["id"])


def test_text_is_plain(served: Served, words: dict[str, str]) -> None:
    answer = transcribe(served, sound(), language="de", response_format="text")
    assert answer.body.decode() == words["de transcribe"] + "\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_translations_ask_for_the_task(served: Served, words: dict[str, str]) -> None:
    answer = transcribe(served, sound(), "translations", language="de")
    assert answer.json["text"] == words["de translate"] != words["de transcribe"]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_of_files_is_read(served: Served, kind: str) -> None:
    assert transcribe(served, sound(1.5, kind, 22_050)).json["usage"]["seconds"] == 2


def test_times_are_those_of_the_runtime(served: Served, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sound(3.0))
    transcript = Transcriber.open(bundle).transcribe(path, "en", timestamps="segment")
    recording, language = path.read_bytes(), {"language": "en"}
    assert transcribe(served, recording, response_format="srt", **language).body.decode() == srt(transcript.segments)
    assert transcribe(served, recording, response_format="vtt", **language).body.decode() == vtt(transcript.segments)
    verbose = transcribe(served, recording, response_format="verbose_json", **language).json
    assert verbose["language"] == "english" and verbose["task"] == "transcribe" and verbose["duration"] == 3.0
    assert verbose["text"] == transcript.text and "words" not in verbose
    keys = {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio"}
    for found, expected in zip(verbose["segments"], transcript.segments, strict=True):
        assert found.keys() == keys | {"no_speech_prob"}
        assert (found["start"], found["end"]) == pytest.approx((expected.start, expected.end), abs=1e-3)
        assert (found["text"], found["tokens"]) == (expected.text, list(expected.tokens))


def test_words_of_a_bundle_without_alignment_are_refused(served: Served) -> None:
    wish = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    refused(transcribe(served, sound(), **wish), 400, "timestamps: word: this bundle was exported before word times")


@pytest.mark.parametrize(
    ("fields", "keywords"),
    [
        ({"prompt": "w1 w2"}, {"prompt": "w1 w2"}),
        ({"keywords[]": "w7"}, {"hotwords": ["w7"]}),
        ({"hotwords": "w7,w8"}, {"hotwords": ["w7", "w8"]}),
        ({"temperature": "0.5"}, {"temperature": 0.5}),
    ],
)
def test_wishes_reach_the_model(
    served: Served, bundle: Path, tmp_path: Path, fields: dict[str, str], keywords: dict[str, Any]
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sound())
    expected = Transcriber.open(bundle).transcribe(path, "en", **keywords).text
    assert transcribe(served, sound(), language="en", **fields).json["text"] == expected


def test_silence_has_no_text(served: Served) -> None:
    import io

    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000), 16_000, format="WAV")
    assert transcribe(served, file.getvalue()).json["text"] == ""
    events = transcribe(served, file.getvalue(), stream="true")
    assert events.body == b'data: {"type": "transcript.text.done", "text": ""}\n\n'


def test_a_stream_has_deltas_and_the_whole(served: Served, words: dict[str, str]) -> None:
    answer = transcribe(served, sound(), language="en", stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.body.decode().strip().split("\n\n")]
    assert [one["type"] for one in events] == ["transcript.text.delta"] * (len(events) - 1) + ["transcript.text.done"]
    assert "".join(one["delta"] for one in events[:-1]) == events[-1]["text"] == words["en transcribe"]


def test_models_and_health(served: Served) -> None:
    [model] = ask(f"{served.http}/v1/models").json["data"]
    assert set(model) == {"id", "object", "created", "owned_by"} and model["object"] == "model"
    for name in (model["id"], "whisper-1"):
        assert ask(f"{served.http}/v1/models/{name}").json == model
    assert ask(f"{served.http}/health").json == {"status": "ok", "model": model["id"]}


def test_metrics_count(served: Served) -> None:
    names = ("edge_asr_audio_seconds_total", "edge_asr_answer_seconds_count")
    before = [metric(served, name) for name in names]
    transcribe(served, sound(2.0))
    assert [metric(served, name) for name in names] == [before[0] + 2, before[1] + 1]
    assert metric(served, "edge_asr_real_time_factor") > 0
    assert metric(served, "process_resident_memory_bytes") > 1e7
    assert metric(served, 'edge_asr_answer_seconds_bucket{le="+Inf"}') == before[1] + 1
    assert metric(served, "edge_asr_places_taken") == metric(served, "edge_asr_held_bytes") == 0


def test_metrics_are_what_prometheus_reads(served: Served) -> None:
    answer = ask(f"{served.http}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    for line in lines:
        if not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            assert {
                name,
                name.removesuffix("_bucket"),
                name.removesuffix("_sum"),
                name.removesuffix("_count"),
            } & described
            float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"language": "fr"}, 400, "language: fr: this model does not know the language; choose one of de, en"),
        ({"model": "large-v3"}, 404, "model: large-v3: this server has "),
        ({"response_format": "diarized_json"}, 400, "choose one of json, text, srt, verbose_json, vtt"),
        ({"response_format": "srt", "stream": "true"}, 400, "a stream has text only"),
        ({"stream": "perhaps"}, 400, "give true or false"),
        ({"temperature": "hot"}, 400, "give a number from 0 to 1"),
        ({"temperature": "nan"}, 400, "give a number from 0 to 1"),
        ({"include[]": "logprobs"}, 400, "no log-probabilities"),
        ({"timestamp_granularities[]": "word"}, 400, "need response_format=verbose_json"),
        ({"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, 400, "choose segment, word or"),
        ({"prompt": "x" * 100_000}, 413, "a field of more than 65536 bytes"),
        ({str(number): "" for number in range(65)}, 413, "too many fields: more than 64"),
    ],
)
def test_a_wrong_field_is_one_sentence(served: Served, fields: dict[str, str], status: int, said: str) -> None:
    answer = transcribe(served, sound(), **fields)
    assert answer.status == status and said in answer.error["message"]


@pytest.mark.parametrize(
    ("recording", "said"),
    [
        (b"", "audio: speech.wav: is empty (0 bytes)"),
        (b"no audio" * 1000, "is not audio in a supported format"),
        (sound()[:-1000], "is cut short"),
        (sound(0.02), "too short to hold a word"),
        (sound(601, "FLAC", 8_000), "more than 600 s; cut it into parts"),
    ],
)
def test_a_wrong_recording_is_one_sentence(served: Served, recording: bytes, said: str) -> None:
    answer = transcribe(served, recording)
    assert answer.status == 400 and said in answer.error["message"]


def refused(answer: Answer, status: int, said: str) -> None:
    assert answer.status == status and said in answer.error["message"], answer.body


def test_other_requests_are_one_sentence(served: Served) -> None:
    url = f"{served.http}/v1/audio/transcriptions"
    refused(ask(url), 405, "GET /v1/audio/transcriptions: is not asked this way")
    refused(ask(f"{served.http}/v1/chat/completions"), 404, "/v1/chat/completions: is not here")
    refused(ask(url, b"{}", Content_Type="application/json"), 400, "is no form")
    refused(ask(url, b"x=1", Content_Type="multipart/form-data"), 400, "is no form")
    refused(ask(url, form({}, None)), 400, "no recording")
    refused(ask(url, form({}, sound())[:-500]), 400, "cut short")
    refused(ask(url, b"garbage" * 100), 400, "damaged or cut short")
    twice = form({}, sound())[: -len("--b0undary--\r\n")] + form({}, sound())
    refused(ask(url, twice), 400, "another file")
    refused(ask(url, form({}, sound()).replace(b'"file"', b'"sound"')), 400, "another file")
    refused(ask(f"{served.http}/v1/models/large"), 404, "model: large")


def test_a_key_is_demanded_everywhere_but_for_health(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "served", "--port", "0", EDGE_ASR_API_KEY="geheim ö") as served:
        for path in ("/v1/models", "/metrics", "/v1/audio/transcriptions", "/nothing"):
            for key in ("", "wrong", "geheim"):
                answer = ask(served.http + path, key=key)
                refused(answer, 401, "the key is missing or wrong")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert ask(f"{served.http}/health").status == 200
    with serving(bundle, tmp_path / "served", "--port", "0", "--api-key", "secret") as served:
        assert ask(f"{served.http}/v1/models", key="secret").status == 200
        assert ask(f"{served.http}/v1/audio/transcriptions", form({}, sound()), key="secret").status == 200
