"""Transcribes speech with a bundle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, read_audio
from edge_asr_deploy.runtime.audio.samples import as_samples
from edge_asr_deploy.runtime.audio.windows import Clip, batches, cut, cut_speech, is_silent
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.audio_context import context_seconds, is_doubtful
from edge_asr_deploy.runtime.decoding.decoder import Decoded, Decoder, from_numpy, greedy
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.loops import begins_loop, without_loop
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.live.stream import Stream
from edge_asr_deploy.runtime.options import (
    AUTO_MARGIN,
    DEFAULT_AUDIO_CONTEXT,
    describe_audio_context,
    margin_of,
    parse_audio_context,
)
from edge_asr_deploy.runtime.session import SessionSettings, running
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized, release_memory
from edge_asr_deploy.runtime.startup.verified_bundles import TOKENIZER, verified_bundle
from edge_asr_deploy.runtime.targets import GENERIC, SessionOverrides, choose
from edge_asr_deploy.runtime.transcript import Segment, Timings, Transcript
from edge_asr_deploy.runtime.voice import VoiceDetector

if TYPE_CHECKING:
    # This module loads pydantic, 15 MB and 80 ms that a later start does not need.
    from edge_asr_deploy.bundle.manifest import Graphs

# Windows of long audio that are decoded together.
BATCH = 4
ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
# The first tokens of decoding, with None in place of a language to be detected.
Prompt = tuple[int | None, ...]
FAMILIES: dict[str, type[Whisper] | type[Moonshine]] = {"whisper": Whisper, "moonshine": Moonshine}


@dataclass(frozen=True)
class _Window:
    """The result of one window, with times in seconds. `is_cut` says that the encoder got less than a full window."""

    decoded: Decoded
    features: float
    encoder: float
    detection: float
    is_cut: bool


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
        self._encoder, self._decoder, self._family, self._text = encoder, decoder, family, text
        self._margin, self._batch, self._vad = margin, batch, vad
        self._encoder_accepts = {value.name for value in encoder.get_inputs()}
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
        low-bit MatMul) replace the target's own; `settings` replaces all session settings at once. `audio_context` says
        how much of its window Whisper's encoder gets: `auto` (the clip and 3 s of silence), `full` or None (30 s), or
        seconds of silence after the clip. Bundles of earlier versions take full windows only, and get them for `auto`,
        with a note. `batch` is the number of windows of long audio that are decoded together. With `vad` a network
        finds where somebody speaks (`voice`): sounds without speech get no text, and pauses cost no time. `family`
        (`whisper` or `moonshine`) and `graphs` describe a folder without a manifest, and no manifest is read if
        `family` is given. Later starts reuse the verification and the optimized graphs in the start-up cache
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
            vad,
        )
        release_memory()
        return transcriber

    def warm_up(self) -> None:
        """Run the model once, whatever voice activity says: the first run is slower than others."""
        self._windows([np.full(SAMPLE_RATE, 0.01, np.float32)], self._family.prompt(None, None), self._margin)

    def transcribe(
        self, audio: str | PathLike[str] | ArrayLike, language: str | None = None, task: str | None = None
    ) -> Transcript:
        """Transcribe an audio file, or samples (n,) at 16 kHz, mono, full scale 1. Silence gives an empty text.

        Integers are scaled, channels (n, channels) mixed, and lists converted, as `samples.as_samples` says.

        `language` ("de" or "german") and `task` are for multilingual Whispers. Without `language`, the language is
        detected in the first window. UserError for a language or task that the model lacks, and for samples that are
        not audio: NaN, infinite, far beyond full scale, of another type or shape.
        """
        samples = read_audio(audio) if isinstance(audio, str | PathLike) else as_samples(audio)
        started = perf_counter()
        prompt = self._family.prompt(language, task)
        clips = self._clips(samples)
        audible = [clip.samples for clip in clips]
        windows, prompt = self._windows(audible, prompt, self._margin)
        attempts = list(windows)
        doubtful = [index for index, window in enumerate(windows) if self._is_doubtful(window)]
        fallbacks, _ = self._windows([audible[index] for index in doubtful], prompt, None)
        for index, window in zip(doubtful, fallbacks, strict=True):
            windows[index] = window
        attempts += fallbacks
        decoded = [window.decoded for window in windows]
        shown_tokens = [without_loop(result.tokens) if result.capped else result.tokens for result in decoded]
        texts = [self._text(tokens) for tokens in shown_tokens]
        calls = [window.decoded.seconds for window in attempts]
        detection = sum(window.detection for window in attempts)
        timings = Timings(
            features=sum(window.features for window in attempts),
            encoder=sum(window.encoder for window in attempts),
            first_token=detection + sum(first for first, *_ in calls),
            decoder=detection + sum(sum(seconds) for seconds in calls),
            tokens=sum(len(seconds) for seconds in calls),
            per_token=tuple(second for _, *later in calls for second in later),
            total=perf_counter() - started,
        )
        return Transcript(
            text=" ".join(text for text in texts if text),
            tokens=tuple(token for result in decoded for token in result.tokens),
            seconds=len(samples) / SAMPLE_RATE,
            windows=len(clips),
            hit_length_cap=any(result.capped for result in decoded),
            timings=timings,
            fallbacks=len(fallbacks),
            loops=sum(len(shown) < len(result.tokens) for shown, result in zip(shown_tokens, decoded, strict=True)),
        )

    def stream(self, language: str | None = None, task: str | None = None) -> Stream:
        """Transcribe speech as it arrives; `Stream.push` takes samples, and gives text as soon as it is stable.

        `language` and `task` as for `transcribe`. Without `language` it is detected anew for each stretch of speech.
        UserError for a language or task that the model lacks.
        """
        prompt = self._family.prompt(language, task)

        def decode(samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
            [window], full_prompt = self._windows([samples], prompt, self._margin, said)
            if last and self._is_doubtful(window):
                [window], _ = self._windows([samples], full_prompt, None, said)
            own = window.decoded.tokens
            tokens = (*said, *(without_loop(own) if window.decoded.capped else own))
            text = self._text(tokens)
            return Segment(0.0, len(samples) / SAMPLE_RATE, text, tokens, window.decoded.ending, None, 0.0, 0.0)

        return Stream(decode, self._text, self._voice)

    def _clips(self, samples: NDArray[np.float32]) -> list[Clip]:
        """The windows of a recording that may hold speech."""
        seconds = self._family.window_seconds
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

    def _windows(
        self, clips: Sequence[NDArray[np.float32]], prompt: Prompt, margin: float | None, said: tuple[int, ...] = ()
    ) -> tuple[list[_Window], Prompt]:
        """Transcribe windows in groups. Also returns the prompt with the language, which the first window decides.

        `said`: tokens that the texts begin with, which the windows' own tokens follow.
        """
        transcribed: dict[int, _Window] = {}
        for group in batches([len(clip) for clip in clips], self._batch, first_alone=None in prompt):
            with running():
                windows, prompt = self._group([clips[index] for index in group], prompt, margin, said)
            transcribed.update(zip(group, windows, strict=True))
        return [transcribed[index] for index in range(len(clips))], prompt

    def _group(
        self, clips: Sequence[NDArray[np.float32]], prompt: Prompt, margin: float | None, said: tuple[int, ...] = ()
    ) -> tuple[list[_Window], Prompt]:
        """Transcribe a group of windows: the encoder runs them one by one (no slower), the decoder all together."""
        window = self._family.window_seconds
        seconds = None if margin is None else context_seconds(max(map(len, clips)), margin, window)
        encoder_outputs, times = [], []
        for clip in clips:
            started = perf_counter()
            inputs = self._family.inputs(clip, seconds)
            features_done = perf_counter()
            feeds = {name: from_numpy(value) for name, value in inputs.items() if name in self._encoder_accepts}
            encoder_outputs.append(self._encoder.run_with_ort_values(["last_hidden_state"], feeds)[0].numpy())
            times.append((features_done - started, perf_counter() - features_done))
        context = {name: from_numpy(value) for name, value in self._family.join(encoder_outputs).items()}
        started = perf_counter()
        full_prompt = tuple(self._detect(context, prompt) if token is None else token for token in prompt)
        detection = perf_counter() - started
        before = (*full_prompt, *said)
        limits = [self._family.longest(len(clip), len(before)) for clip in clips]

        def extended(row: int, tokens: Sequence[int]) -> int:
            return self._family.longest(len(clips[row]), len(before), (self._text(tokens), len(tokens)))

        is_cut = seconds is not None and seconds < window
        # A full window may hold a refrain. A shortened one that seems to loop is only decoded again.
        loops = begins_loop if is_cut else None
        rules = self._family.rules
        if said:
            rules = replace(rules, never_first=rules.never_first[:0])
        decoded = greedy(self._decoder.start(context), before, rules, limits, extended, loops)
        windows = [
            _Window(result, features, encoder, detection / len(clips), is_cut)
            for result, (features, encoder) in zip(decoded, times, strict=True)
        ]
        return windows, full_prompt

    def _is_doubtful(self, window: _Window) -> bool:
        """Whether a window with shortened context may have a wrong text."""
        return window.is_cut and is_doubtful(window.decoded, self._text(window.decoded.tokens))

    def _detect(self, context: dict[str, onnxruntime.OrtValue], prompt: Prompt) -> int:
        """The language token with the highest score right after the start token."""
        [scores] = self._decoder.start(context).step(np.array([[token for token in prompt[:1] if token is not None]]))
        return max(self._family.languages(), key=lambda token: float(scores[token]))


def takes_any_length(encoder: onnxruntime.InferenceSession) -> bool:
    """Whether an encoder accepts inputs of any length."""
    return not isinstance(encoder.get_inputs()[0].shape[-1], int)
