"""Speech to text with a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, read_audio
from edge_asr_deploy.runtime.audio.windows import batches, cut, is_silent
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.audio_context import context_seconds, is_doubtful
from edge_asr_deploy.runtime.decoding.decoder import Decoded, Decoder, from_numpy, greedy
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.loops import without_loop
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.options import describe_audio_context, parse_audio_context
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized, release_memory
from edge_asr_deploy.runtime.startup.verified_bundles import verified_bundle
from edge_asr_deploy.runtime.targets import GENERIC, SessionOverrides, choose

if TYPE_CHECKING:
    # pydantic: 15 MB and 80 ms that a later start does without.
    from edge_asr_deploy.bundle.manifest import Graphs

# Windows of long audio that are decoded together.
BATCH = 4
ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
# What decoding begins with; None where the language has to be detected.
Prompt = tuple[int | None, ...]
FAMILIES: dict[str, type[Whisper] | type[Moonshine]] = {"whisper": Whisper, "moonshine": Moonshine}


@dataclass(frozen=True)
class Timings:
    """Seconds, summed over windows.

    `first_token`: decoder calls up to the first token (prompt, cross-attention keys and values, language detection).
    `decoder`: all decoder calls. `tokens`: how many they gave, end tokens included. `per_token`: every later call.
    `total`: the whole of `transcribe`.
    """

    features: float
    encoder: float
    first_token: float
    decoder: float
    tokens: int
    per_token: tuple[float, ...]
    total: float


@dataclass(frozen=True)
class Transcript:
    """The text of some audio. `tokens` are without prompt and end, `seconds` of audio.

    `hit_length_cap`: in some window decoding ended only at the limit on tokens, mostly in a repetition loop.
    `loops`: how many windows ended in such a loop; the text has its phrase once, `tokens` has all.
    `fallbacks`: how many windows were transcribed again with their full context, because the shorter audio context gave
    a doubtful text; their first attempt counts in `timings`.
    """

    text: str
    tokens: tuple[int, ...]
    seconds: float
    windows: int
    hit_length_cap: bool
    timings: Timings
    fallbacks: int = 0
    loops: int = 0


@dataclass(frozen=True)
class _Window:
    """What one window gave, and how long its parts took, seconds. `is_cut`: with less than its full context."""

    decoded: Decoded
    features: float
    encoder: float
    detection: float
    is_cut: bool


class Transcriber:
    """An opened bundle. Not for several threads at once: open one each."""

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
        self._encoder, self._decoder, self._family, self._text = encoder, decoder, family, text
        self._margin, self._batch = margin, batch
        self._encoder_accepts = {value.name for value in encoder.get_inputs()}
        self.target = target
        """The name of the target whose graphs these are; None where no manifest says so."""

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        settings: SessionSettings | None = None,
        *,
        threads: int | None = None,
        accuracy_level: int | None = None,
        audio_context: str | float | None = None,
        target: str | None = None,
        batch: int = BATCH,
        verify: bool = True,
        family: str | None = None,
        graphs: Graphs | None = None,
    ) -> Self:
        """Load a bundle; `verify` checks every byte against the manifest first. UserError when it is damaged.

        `target` names one of those that the bundle is for; without it the CPU decides. `threads` and `accuracy_level`
        (of the low-bit MatMul) are the target's own unless given; `settings` gives all settings of the sessions at
        once. `audio_context` says how much of its window Whisper's encoder is given: `full` (30 s, the default),
        `auto`, or seconds of silence after the clip. `batch` windows of long audio are decoded together.
        `family` (`whisper` or `moonshine`) and `graphs` are for a folder that has no manifest yet: then none is read.
        Later starts read what was checked and optimized from the start-up cache (`runtime.startup`).
        """
        bundle, margin = Path(bundle), parse_audio_context(audio_context)
        chosen, bundle_hash = GENERIC, None
        encoder, decoder = (graphs.encoder, graphs.decoder) if graphs else (ENCODER, DECODER)
        if family is None:
            verified = verified_bundle(bundle, verify)
            family, bundle_hash = verified.family, verified.hash
            chosen = choose(verified.targets, target, cpu_features())
            target, (encoder, decoder) = chosen.name, verified.targets[chosen.name]
        settings = settings or chosen.settings(SessionOverrides(threads, accuracy_level))
        try:
            rules = FAMILIES[family](bundle)
        except KeyError as error:
            raise UserError("bundle", bundle, f"its configuration has no {error}; export it again") from None
        session = open_optimized(bundle / encoder, settings, bundle_hash)
        if margin is not None and not takes_any_length(session):
            remedy = f"{bundle} takes full windows only; export it again"
            raise UserError("--audio-context", describe_audio_context(margin), remedy)
        transcriber = cls(
            session,
            Decoder(open_optimized(bundle / decoder, settings, bundle_hash)),
            rules,
            TextDecoder(bundle, rules.first_timestamp, bundle_hash),
            target,
            margin,
            batch,
        )
        release_memory()
        return transcriber

    def transcribe(
        self, audio: str | Path | NDArray[np.float32], language: str | None = None, task: str | None = None
    ) -> Transcript:
        """The text of an audio file, or of samples (n,), 16 kHz mono, full scale 1. Silence gives an empty text.

        `language` ("de" or "german") and `task` are for multilingual Whispers; without `language` it is detected in
        the first window. UserError for a language or task that the model does not have, and for samples that are NaN.
        """
        samples = read_audio(audio) if isinstance(audio, str | Path) else audio
        started = perf_counter()
        if samples.ndim != 1:
            raise ValueError(f"one channel is needed, shape (samples,), not {samples.shape}")
        if not np.isfinite(samples).all():
            raise UserError("samples", "NaN or infinite", "check where the audio comes from")
        prompt = self._family.prompt(language, task)
        pieces = cut(samples.astype(np.float32, copy=False), self._family.window_seconds)
        audible = [piece for piece in pieces if not is_silent(piece)]
        windows, prompt = self._windows(audible, prompt, self._margin)
        tried = list(windows)
        doubtful = [index for index, window in enumerate(windows) if self._is_doubtful(window)]
        again, _ = self._windows([audible[index] for index in doubtful], prompt, None)
        for index, window in zip(doubtful, again, strict=True):
            windows[index] = window
        tried += again
        decoded = [window.decoded for window in windows]
        shown = [without_loop(one.tokens) if one.capped else one.tokens for one in decoded]
        texts = [self._text(tokens) for tokens in shown]
        calls = [window.decoded.seconds for window in tried]
        detection = sum(window.detection for window in tried)
        timings = Timings(
            features=sum(window.features for window in tried),
            encoder=sum(window.encoder for window in tried),
            first_token=detection + sum(first for first, *_ in calls),
            decoder=detection + sum(sum(seconds) for seconds in calls),
            tokens=sum(len(seconds) for seconds in calls),
            per_token=tuple(second for _, *later in calls for second in later),
            total=perf_counter() - started,
        )
        return Transcript(
            text=" ".join(text for text in texts if text),
            tokens=tuple(token for one in decoded for token in one.tokens),
            seconds=len(samples) / SAMPLE_RATE,
            windows=len(pieces),
            hit_length_cap=any(one.capped for one in decoded),
            timings=timings,
            fallbacks=len(again),
            loops=sum(len(tokens) < len(one.tokens) for tokens, one in zip(shown, decoded, strict=True)),
        )

    def _windows(
        self, pieces: Sequence[NDArray[np.float32]], prompt: Prompt, margin: float | None
    ) -> tuple[list[_Window], Prompt]:
        """Transcribe windows, several at once; also the prompt with the language in it, detected in the first one."""
        transcribed: dict[int, _Window] = {}
        for group in batches([len(piece) for piece in pieces], self._batch, first_alone=None in prompt):
            some = [pieces[index] for index in group]
            windows, prompt = self._group(some, prompt, margin)
            transcribed.update(zip(group, windows, strict=True))
        return [transcribed[index] for index in range(len(pieces))], prompt

    def _group(
        self, pieces: Sequence[NDArray[np.float32]], prompt: Prompt, margin: float | None
    ) -> tuple[list[_Window], Prompt]:
        """Windows that go through the decoder together. The encoder gains nothing from that: it takes one by one."""
        window = self._family.window_seconds
        seconds = None if margin is None else context_seconds(max(map(len, pieces)), margin, window)
        hidden, spent = [], []
        for piece in pieces:
            times = [perf_counter()]
            inputs = self._family.inputs(piece, seconds)
            times.append(perf_counter())
            feeds = {name: from_numpy(value) for name, value in inputs.items() if name in self._encoder_accepts}
            hidden.append(self._encoder.run_with_ort_values(["last_hidden_state"], feeds)[0].numpy())
            times.append(perf_counter())
            spent.append((times[1] - times[0], times[2] - times[1]))
        context = {name: from_numpy(value) for name, value in self._family.join(hidden).items()}
        before = perf_counter()
        full = tuple(self._detect(context, prompt) if token is None else token for token in prompt)
        detection = perf_counter() - before
        limits = [self._family.longest(len(piece), len(full)) for piece in pieces]
        decoded = greedy(self._decoder.start(context), full, self._family.rules, limits)
        is_cut = seconds is not None and seconds < window
        return [
            _Window(one, features, encoder, detection / len(pieces), is_cut)
            for one, (features, encoder) in zip(decoded, spent, strict=True)
        ], full

    def _is_doubtful(self, window: _Window) -> bool:
        """Whether a window without its full context may have lost the audio."""
        return window.is_cut and is_doubtful(window.decoded, self._text(window.decoded.tokens))

    def _detect(self, context: dict[str, onnxruntime.OrtValue], prompt: Prompt) -> int:
        """The language token that scores highest right after the start token."""
        [scores] = self._decoder.start(context).step(np.array([[token for token in prompt[:1] if token is not None]]))
        return max(self._family.languages(), key=lambda token: float(scores[token]))


def takes_any_length(encoder: onnxruntime.InferenceSession) -> bool:
    """Whether an encoder's input has no fixed length."""
    return not isinstance(encoder.get_inputs()[0].shape[-1], int)
