"""Transcribes speech with a bundle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.families.whisper import MARGIN_ENTRY, TAIL_ENTRY, TAIL_SECONDS
from edge_asr_deploy.runtime.attempts import Attempts, Told
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, read_audio
from edge_asr_deploy.runtime.audio.samples import as_samples
from edge_asr_deploy.runtime.audio.windows import Clip, cut, cut_speech, is_silent
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.request import Request, parts_of
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.engine import Engine, Job, Stop, never, timings_of
from edge_asr_deploy.runtime.memory import release_memory
from edge_asr_deploy.runtime.options import (
    AUTO_MARGIN,
    DEFAULT_AUDIO_CONTEXT,
    Margin,
    describe_audio_context,
    margin_of,
    parse_audio_context,
)
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized
from edge_asr_deploy.runtime.startup.verified_bundles import TOKENIZER, verified_bundle
from edge_asr_deploy.runtime.targets import GENERIC, SessionOverrides, choose
from edge_asr_deploy.runtime.times.details import Details
from edge_asr_deploy.runtime.times.segments import Heard
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.runtime.voice import VoiceDetector

if TYPE_CHECKING:
    # This module loads pydantic, 15 MB and 80 ms that a later start does not need.
    from edge_asr_deploy.bundle.manifest import Graphs
    from edge_asr_deploy.runtime.live.stream import Stream

# Windows of long audio that are decoded together.
BATCH = 4
ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
FAMILIES: dict[str, type[Whisper] | type[Moonshine]] = {"whisper": Whisper, "moonshine": Moonshine}


class Transcriber:
    """An opened bundle. It is not thread-safe: open one for each thread."""

    def __init__(
        self,
        encoder: onnxruntime.InferenceSession,
        decoder: Decoder,
        family: Family,
        text: TextDecoder,
        target: str | None = None,
        margin: float | None = None,
        batch: int = BATCH,
        vad: bool = True,
    ) -> None:
        self.engine, self._margin, self._vad = Engine(encoder, decoder, family, text, batch), margin, vad
        self._details = Details(family, text, decoder)
        self.target = target
        """The name of the target whose graphs run; None if the folder has no manifest."""
        self.languages = tuple(sorted({*family.languages().values()})) or ("en",)
        """The codes of the languages that the model knows; `en` for one without a choice of languages."""

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        settings: SessionSettings | None = None,
        *,
        threads: int | None = None,
        accuracy_level: int | None = None,
        audio_context: str | float | None = DEFAULT_AUDIO_CONTEXT,
        target: str | None = None,
        batch: int = BATCH,
        vad: bool = True,
        verify: bool = True,
        family: str | None = None,
        graphs: Graphs | None = None,
    ) -> Self:
        """Load a bundle. With `verify`, every byte is first checked against the manifest. UserError when it is damaged.

        `target` names one of the bundle's targets; without it the CPU decides. `threads` and `accuracy_level` (of the
        low-bit MatMul) replace the target's own; `settings` replaces all session settings at once.
        `audio_context` says how much of its window Whisper's encoder gets: `auto` (the clip and as much silence
        as the bundle needs, 1 to 3 s), `full` or None (30 s), or seconds of silence after the clip. Bundles of
        earlier versions take full windows only, and get them for `auto`, with a note. `batch` is the number of
        windows of long audio that are decoded together. With `vad` a network finds where somebody speaks
        (`voice`): sounds without speech get no text, and pauses cost no time. `family` (`whisper` or
        `moonshine`) and `graphs` describe a folder without a manifest, and no manifest is read if `family` is
        given. Later starts reuse the verification and the optimized graphs in the start-up cache
        (`runtime.startup`).
        """
        bundle, margin = Path(bundle), parse_audio_context(audio_context)
        chosen, contents = GENERIC, dict[str, str]()
        encoder, decoder = (graphs.encoder, graphs.decoder) if graphs else (ENCODER, DECODER)
        if family is None:
            verified = verified_bundle(bundle, verify)
            family, contents = verified.family, verified.contents
            chosen = choose(verified.targets, target, cpu_features())
            target, (encoder, decoder) = chosen.name, verified.targets[chosen.name]
        settings = settings or chosen.settings(SessionOverrides(threads, accuracy_level))
        rules, margin = FAMILIES[family](bundle), margin_of(family, margin)
        session = open_optimized(bundle / encoder, settings, contents.get(encoder))
        transcriber = cls(
            session,
            Decoder(open_optimized(bundle / decoder, settings, contents.get(decoder))),
            rules,
            TextDecoder(bundle, contents.get(TOKENIZER)),
            target,
            margin_seconds(margin, session, bundle),
            batch,
            vad,
        )
        release_memory()
        return transcriber

    def warm_up(self) -> None:
        """Load what is loaded when it is first needed, and run the model once: the first run is slower than others."""
        if self._vad:
            _ = self._voice
        job = Job(self.engine.family.prompt(None, None), self._margin)
        self.engine.windows([np.full(SAMPLE_RATE, 0.01, np.float32)], job)

    def transcribe(
        self,
        audio: str | PathLike[str] | ArrayLike,
        language: str | None = None,
        task: str | None = None,
        *,
        timestamps: str | None = None,
        prompt: str | None = None,
        hotwords: Sequence[str] = (),
        previous_text: bool = False,
        temperature: float | Sequence[float] = 0.0,
        beam_size: int = 1,
        clip_timestamps: Sequence[float] = (),
        on_text: Callable[[str], None] | None = None,
        stop: Stop = never,
    ) -> Transcript:
        """Transcribe an audio file, or samples (n,) at 16 kHz, mono, full scale 1. Silence gives an empty text.

        Integers are scaled, channels (n, channels) mixed, and lists converted, as `samples.as_samples` says.

        `language` ("de" or "german") and `task` are for multilingual Whispers. Without `language`, the language is
        detected in the first window. `timestamps` (`segment` or `word`) fills `segments`. `prompt` and `hotwords` are
        text that a Whisper is told before every window; with `previous_text` it is also told what it wrote for the
        window before. Of several numbers as `temperature`, later ones are tried where a text looks wrong.
        `clip_timestamps` are start, end, start, end, ... of the parts to transcribe, in seconds.

        `on_text` is given the text piece by piece, while later windows of a long recording are still to be heard; the
        pieces joined are the text. `stop` is asked before every window and every token: once it says True, Stopped is
        raised.

        UserError for what the model lacks, and for samples that are not audio: NaN, infinite, far beyond full scale, of
        another type or shape.
        """
        request = Request.of(timestamps, prompt, hotwords, previous_text, temperature, beam_size, clip_timestamps)
        samples = read_audio(audio) if isinstance(audio, str | PathLike) else as_samples(audio)
        started = perf_counter()
        parts = parts_of(len(samples), request.ranges)
        clips = [clip.moved(start) for start, end in parts for clip in self._clips(samples[start:end])]
        attempts = Attempts(self.engine, self._details, request, self._vad)
        job = replace(self._job(request, language, task), stop=stop)
        heard, job = attempts.run(clips, job, None if on_text is None else _telling(on_text))
        return Transcript(
            text=" ".join(one.text for one in heard if one.text),
            tokens=tuple(token for one in heard for token in one.decoded.tokens),
            seconds=len(samples) / SAMPLE_RATE,
            windows=len(clips),
            hit_length_cap=any(one.decoded.capped for one in heard),
            timings=timings_of(attempts.all, perf_counter() - started),
            fallbacks=attempts.again,
            loops=sum(len(one.tokens) < len(one.decoded.tokens) for one in heard),
            segments=self._details.segments(heard, request, job.prompt),
            language=self._details.language(job.prompt),
        )

    def stream(
        self,
        language: str | None = None,
        task: str | None = None,
        *,
        prompt: str | None = None,
        hotwords: Sequence[str] = (),
        only_stable: bool = False,
        hurry: Stop = never,
    ) -> Stream:
        """Transcribe speech as it arrives; `Stream.push` takes samples, and gives text as soon as it is stable.

        `language`, `task`, `prompt` and `hotwords` as for `transcribe`. Without `language` it is detected anew for each
        stretch of speech. With `only_stable` nothing is decoded that cannot bring stable text. While `hurry` says True,
        only final texts are decoded; it is also asked before every token of a partial text, which is then given up.
        UserError for a language, a task or a prompt that the model lacks.
        """
        # Not needed for files.
        from edge_asr_deploy.runtime.live.decoding import StretchDecoder
        from edge_asr_deploy.runtime.live.stream import Stream

        job = self._job(Request.of(None, prompt, hotwords), language, task)
        decode = StretchDecoder(self.engine, self._details, job, hurry)
        return Stream(decode, self.engine.text, self._voice, only_stable, hurry)

    def _clips(self, samples: NDArray[np.float32]) -> list[Clip]:
        """The windows of a recording that may hold speech."""
        seconds = self.engine.family.window_seconds
        if not self._vad:
            return [clip for clip in cut(samples, seconds) if not is_silent(clip.samples)]
        if is_silent(samples):
            return []
        if len(samples) > seconds * SAMPLE_RATE:
            # A full window costs the same however little is in it.
            return cut_speech(samples, seconds, self._voice.spans(samples), join=self._margin is None)
        return cut(samples, seconds) if self._voice.has_speech(samples) else []

    @cached_property
    def _voice(self) -> VoiceDetector:
        """Loaded when it is first needed."""
        return VoiceDetector.open()

    def _job(self, request: Request, language: str | None, task: str | None) -> Job:
        """How the windows of a request are decoded at first."""
        family = self.engine.family
        times = request.timestamps == "segment" and self._details.by_tokens
        given = family.prompting.given(request)
        # With the text of earlier windows every window gets a prompt of its own.
        context = () if request.previous_text else family.prompting.with_text(given, ())
        wanted = self._details.wanted(request) if request.needs_scores else None
        prompt = (*context, *family.prompt(language, task, times))
        return Job(prompt, self._margin, times, wanted, request.temperatures[0])


def margin_seconds(margin: Margin, encoder: onnxruntime.InferenceSession, bundle: Path) -> float | None:
    """The margin of this encoder, in seconds. UserError for one that it cannot take."""
    if margin is None:
        return None
    if not takes_any_length(encoder):
        if margin != "auto":
            remedy = f"{bundle} only takes full windows; export it again"
            raise UserError("--audio-context", describe_audio_context(margin), remedy)
        said = f"{bundle} was exported before short windows: every clip costs 30 s of encoder; export it again"
        warnings.warn(Note(said), stacklevel=3)
        return None
    entries = encoder.get_modelmeta().custom_metadata_map
    if margin == "auto":
        return float(entries.get(MARGIN_ENTRY, AUTO_MARGIN))
    least = float(entries.get(TAIL_ENTRY, TAIL_SECONDS))
    if margin < least:
        remedy = f"{bundle} needs at least {least:g} s of silence after the clip; give more, or auto"
        raise UserError("--audio-context", describe_audio_context(margin), remedy)
    return margin


def takes_any_length(encoder: onnxruntime.InferenceSession) -> bool:
    """Whether an encoder accepts inputs of any length."""
    return not isinstance(encoder.get_inputs()[0].shape[-1], int)


def _telling(on_text: Callable[[str], None]) -> Told:
    """Gives the texts of windows to `on_text`, with what joins them."""
    space = ""

    def told(heard: Heard) -> None:
        nonlocal space
        if heard.text:
            on_text(space + heard.text)
            space = " "

    return told
