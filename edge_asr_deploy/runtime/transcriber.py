"""Transcribes speech with a bundle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import onnxruntime
from numpy.typing import ArrayLike

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.runtime.attempts import Attempts
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, read_audio
from edge_asr_deploy.runtime.audio.samples import as_samples
from edge_asr_deploy.runtime.audio.windows import is_silent, within
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.request import Request
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.engine import Engine, Job, timings_of
from edge_asr_deploy.runtime.options import (
    AUTO_MARGIN,
    DEFAULT_AUDIO_CONTEXT,
    describe_audio_context,
    margin_of,
    parse_audio_context,
)
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized, release_memory
from edge_asr_deploy.runtime.startup.verified_bundles import TOKENIZER, verified_bundle
from edge_asr_deploy.runtime.targets import GENERIC, SessionOverrides, choose
from edge_asr_deploy.runtime.times.details import Details
from edge_asr_deploy.runtime.transcript import Transcript

if TYPE_CHECKING:
    # This module loads pydantic, 15 MB and 80 ms that a later start does not need.
    from edge_asr_deploy.bundle.manifest import Graphs

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
    ) -> None:
        self.engine, self._margin = Engine(encoder, decoder, family, text, batch), margin
        self._details = Details(family, text, decoder)
        self.target = target
        """The name of the target whose graphs run; None if the folder has no manifest."""

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
        verify: bool = True,
        family: str | None = None,
        graphs: Graphs | None = None,
    ) -> Self:
        """Load a bundle. With `verify`, every byte is first checked against the manifest. UserError when it is damaged.

        `target` names one of the bundle's targets; without it the CPU decides. `threads` and `accuracy_level` (of the
        low-bit MatMul) replace the target's own; `settings` replaces all session settings at once. `audio_context` says
        how much of its window Whisper's encoder gets: `auto` (the clip and 3 s of silence), `full` or None (30 s), or
        seconds of silence after the clip. Bundles of earlier versions take full windows only, and get them for `auto`,
        with a note. `batch` is the number of windows of long audio that are decoded together. `family` (`whisper` or
        `moonshine`) and `graphs` describe a folder without a manifest, and no manifest is read if `family` is given.
        Later starts reuse the verification and the optimized graphs in the start-up cache (`runtime.startup`).
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
        if margin == AUTO_MARGIN and not takes_any_length(session):
            said = f"{bundle} was exported before short windows: every clip costs 30 s of encoder; export it again"
            warnings.warn(Note(said), stacklevel=2)
            margin = None
        if margin is not None and not takes_any_length(session):
            remedy = f"{bundle} only takes full windows; export it again"
            raise UserError("--audio-context", describe_audio_context(margin), remedy)
        transcriber = cls(
            session,
            Decoder(open_optimized(bundle / decoder, settings, contents.get(decoder))),
            rules,
            TextDecoder(bundle, contents.get(TOKENIZER)),
            target,
            margin,
            batch,
        )
        release_memory()
        return transcriber

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
    ) -> Transcript:
        """Transcribe an audio file, or samples (n,) at 16 kHz, mono, full scale 1. Silence gives an empty text.

        Integers are scaled, channels (n, channels) mixed, and lists converted, as `samples.as_samples` says.

        `language` ("de" or "german") and `task` are for multilingual Whispers. Without `language`, the language is
        detected in the first window. `timestamps` (`segment` or `word`) fills `segments`. `prompt` and `hotwords` are
        text that a Whisper is told before every window; with `previous_text` it is also told what it wrote for the
        window before. Of several numbers as `temperature`, later ones are tried where a text looks wrong.
        `clip_timestamps` are start, end, start, end, ... of the parts to transcribe, in seconds.

        UserError for what the model lacks, and for samples that are not audio: NaN, infinite, far beyond full scale, of
        another type or shape.
        """
        request = Request.of(timestamps, prompt, hotwords, previous_text, temperature, beam_size, clip_timestamps)
        samples = read_audio(audio) if isinstance(audio, str | PathLike) else as_samples(audio)
        started = perf_counter()
        clips = within(samples, request.ranges, self.engine.family.window_seconds)
        audible = [clip for clip in clips if not is_silent(clip.samples)]
        attempts = Attempts(self.engine, self._details, request)
        heard, job = attempts.run(audible, self._job(request, language, task))
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


def takes_any_length(encoder: onnxruntime.InferenceSession) -> bool:
    """Whether an encoder accepts inputs of any length."""
    return not isinstance(encoder.get_inputs()[0].shape[-1], int)
