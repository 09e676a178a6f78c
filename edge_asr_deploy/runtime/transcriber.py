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
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.windows import batches, cut, is_silent
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.audio_context import context_seconds, describe_audio_context, is_doubtful
from edge_asr_deploy.runtime.decoding.decoder import Decoded, Decoder, from_numpy, greedy
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.loops import without_loop
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized, release_memory
from edge_asr_deploy.runtime.startup.verified_bundles import known
from edge_asr_deploy.runtime.targets import GENERIC, Wish, choose

if TYPE_CHECKING:
    # pydantic: 15 MB and 80 ms that a later start does without.
    from edge_asr_deploy.bundle.manifest import Graphs

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
    """What was said. `tokens` are without prompt and end, `seconds` of audio.

    `hit_length_cap`: in some window the limit on tokens ended decoding, mostly because it repeated itself.
    `loops`: in how many windows it did so until the end: the text has that phrase once (`tokens` has all).
    `fallbacks`: how many windows were transcribed again with their full context, because the shorter one that
    `SessionSettings.audio_context` asks for gave a doubtful text; their first attempt counts in `timings`.
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
        settings: SessionSettings,
        target: str | None = None,
    ) -> None:
        self._encoder, self._decoder, self._family, self._text = encoder, decoder, family, text
        self._margin, self._batch = settings.audio_context, settings.batch
        self._encoder_accepts = {value.name for value in encoder.get_inputs()}
        self.target = target
        """The name of the target whose graphs these are; None where no manifest says so."""

    @classmethod
    def open(
        cls,
        bundle: Path,
        settings: SessionSettings | Wish = Wish(),  # noqa: B008
        verify: bool = True,
        family: str | None = None,
        target: str | None = None,
        graphs: Graphs | None = None,
    ) -> Self:
        """Load a bundle; `verify` checks every byte against the manifest first. UserError when it is damaged.

        `target` names one of those that the bundle is for; without it the CPU decides. What a `Wish` leaves out is the
        target's own. Later starts read what was checked and optimized from the start-up cache (`runtime.startup`).
        `family` (`whisper` or `moonshine`) and `graphs` are for a folder that has no manifest yet: then none is read,
        and nothing kept.
        """
        chosen, bundle_hash = GENERIC, None
        encoder, decoder = (graphs.encoder, graphs.decoder) if graphs else (ENCODER, DECODER)
        if family is None:
            found = known(bundle, verify)
            family, bundle_hash = found.family, found.hash
            chosen = choose(found.targets, target, cpu_features())
            target, (encoder, decoder) = chosen.name, found.targets[chosen.name]
        settings = chosen.settings(settings) if isinstance(settings, Wish) else settings
        try:
            rules = FAMILIES[family](bundle)
        except KeyError as error:
            raise UserError("bundle", bundle, f"its configuration has no {error}; export it again") from None
        session = open_optimized(bundle / encoder, settings, bundle_hash)
        if settings.audio_context is not None and not takes_any_length(session):
            given = describe_audio_context(settings.audio_context)
            raise UserError("--audio-context", given, f"{bundle} takes full windows only; export it again")
        transcriber = cls(
            session,
            Decoder(open_optimized(bundle / decoder, settings, bundle_hash)),
            rules,
            TextDecoder(bundle, rules.first_timestamp, bundle_hash),
            settings,
            target,
        )
        release_memory()
        return transcriber

    def transcribe(
        self, samples: NDArray[np.float32], language: str | None = None, task: str | None = None
    ) -> Transcript:
        """The text of samples (n,), 16 kHz mono, full scale 1. Silence gives an empty text.

        `language` ("de" or "german") and `task` are for multilingual Whispers; without `language` it is detected in
        the first window. UserError for a language or task that the model does not have, and for samples that are NaN.
        """
        started = perf_counter()
        if samples.ndim != 1:
            raise ValueError(f"one channel is needed, shape (samples,), not {samples.shape}")
        if not np.isfinite(samples).all():
            raise UserError("samples", "NaN or infinite", "check where the audio comes from")
        prompt = self._family.prompt(language, task)
        pieces = cut(samples.astype(np.float32, copy=False), self._family.window_seconds)
        heard = [piece for piece in pieces if not is_silent(piece)]
        windows, prompt = self._windows(heard, prompt, self._margin)
        tried = list(windows)
        doubtful = [index for index, window in enumerate(windows) if self._is_doubtful(window)]
        again, _ = self._windows([heard[index] for index in doubtful], prompt, None)
        for index, window in zip(doubtful, again, strict=True):
            windows[index] = window
        tried += again
        decoded = [window.decoded for window in windows]
        said = [without_loop(one.tokens) if one.capped else one.tokens for one in decoded]
        texts = [self._text(tokens) for tokens in said]
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
            loops=sum(len(some) < len(one.tokens) for some, one in zip(said, decoded, strict=True)),
        )

    def _windows(
        self, pieces: Sequence[NDArray[np.float32]], prompt: Prompt, margin: float | None
    ) -> tuple[list[_Window], Prompt]:
        """Transcribe windows, several at once; also the prompt with the language in it, detected in the first one."""
        found: dict[int, _Window] = {}
        for group in batches([len(piece) for piece in pieces], self._batch, first_alone=None in prompt):
            some = [pieces[index] for index in group]
            windows, prompt = self._group(some, prompt, margin)
            found.update(zip(group, windows, strict=True))
        return [found[index] for index in range(len(pieces))], prompt

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
            _Window(said, features, encoder, detection / len(pieces), is_cut)
            for said, (features, encoder) in zip(decoded, spent, strict=True)
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
