"""Speech to text with a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio import SAMPLE_RATE
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoder import Decoded, Decoder, from_numpy, greedy
from edge_asr_deploy.runtime.family import Family
from edge_asr_deploy.runtime.known import known
from edge_asr_deploy.runtime.moonshine import Moonshine
from edge_asr_deploy.runtime.optimized import open_optimized, release_memory
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.targets import GENERIC, Wish, choose
from edge_asr_deploy.runtime.text import TextDecoder
from edge_asr_deploy.runtime.whisper import Whisper
from edge_asr_deploy.runtime.windows import cut, is_silent

if TYPE_CHECKING:
    # pydantic: 15 MB and 80 ms that a later start does without.
    from edge_asr_deploy.bundle import Graphs

ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
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
    """

    text: str
    tokens: tuple[int, ...]
    seconds: float
    windows: int
    hit_length_cap: bool
    timings: Timings


@dataclass(frozen=True)
class _Window:
    """What one window gave, and how long its parts took, seconds."""

    decoded: Decoded
    features: float
    encoder: float
    detection: float


class Transcriber:
    """An opened bundle. Not for several threads at once: open one each."""

    def __init__(
        self,
        encoder: onnxruntime.InferenceSession,
        decoder: Decoder,
        family: Family,
        text: TextDecoder,
        target: str | None = None,
    ) -> None:
        self._encoder, self._decoder, self._family, self._text = encoder, decoder, family, text
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
        target's own. Later starts take what was checked and optimized from the start-up cache (`runtime.kept`).
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
        transcriber = cls(
            open_optimized(bundle / encoder, settings, bundle_hash),
            Decoder(open_optimized(bundle / decoder, settings, bundle_hash)),
            rules,
            TextDecoder(bundle, rules.first_timestamp, bundle_hash),
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
        windows = []
        for piece in pieces:
            if not is_silent(piece):
                window, prompt = self._window(piece, prompt)
                windows.append(window)
        texts = [self._text(window.decoded.tokens) for window in windows]
        calls = [window.decoded.seconds for window in windows]
        detection = sum(window.detection for window in windows)
        timings = Timings(
            features=sum(window.features for window in windows),
            encoder=sum(window.encoder for window in windows),
            first_token=detection + sum(first for first, *_ in calls),
            decoder=detection + sum(sum(seconds) for seconds in calls),
            tokens=sum(len(seconds) for seconds in calls),
            per_token=tuple(second for _, *later in calls for second in later),
            total=perf_counter() - started,
        )
        return Transcript(
            text=" ".join(text for text in texts if text),
            tokens=tuple(token for window in windows for token in window.decoded.tokens),
            seconds=len(samples) / SAMPLE_RATE,
            windows=len(pieces),
            hit_length_cap=any(window.decoded.capped for window in windows),
            timings=timings,
        )

    def _window(
        self, samples: NDArray[np.float32], prompt: tuple[int | None, ...]
    ) -> tuple[_Window, tuple[int | None, ...]]:
        """Transcribe one window; also the prompt with the language in it, for the windows that follow."""
        times = [perf_counter()]
        inputs = {name: from_numpy(value) for name, value in self._family.inputs(samples).items()}
        times.append(perf_counter())
        feeds = {name: value for name, value in inputs.items() if name in self._encoder_accepts}
        [hidden] = self._encoder.run_with_ort_values(["last_hidden_state"], feeds)
        times.append(perf_counter())
        context = {**inputs, "encoder_hidden_states": hidden}
        full = tuple(self._detect(context, prompt) if token is None else token for token in prompt)
        times.append(perf_counter())
        limit = self._family.longest(len(samples), len(full))
        decoded = greedy(self._decoder.start(context), full, self._family.rules, limit)
        features, encoder, detection = np.diff(times).tolist()
        return _Window(decoded, features, encoder, detection), full

    def _detect(self, context: dict[str, onnxruntime.OrtValue], prompt: tuple[int | None, ...]) -> int:
        """The language token that scores highest right after the start token."""
        scores = self._decoder.start(context).step([token for token in prompt[:1] if token is not None])
        return max(self._family.languages(), key=lambda token: float(scores[token]))
