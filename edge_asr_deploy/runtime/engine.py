"""Runs encoder and decoder on windows of audio, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.errors import Stopped
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.windows import batches
from edge_asr_deploy.runtime.decoding.audio_context import context_seconds
from edge_asr_deploy.runtime.decoding.decoder import Decoded, Decoder, Steering, from_numpy, greedy
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.loops import begins_loop
from edge_asr_deploy.runtime.decoding.recording import Recorder, Wanted
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps
from edge_asr_deploy.runtime.session import running
from edge_asr_deploy.runtime.transcript import Timings

# The first tokens of decoding, with None in place of a language to be detected.
Prompt = tuple[int | None, ...]
# A language is taken from a shortened window where it has this probability among all; else the full window decides.
SURE_LANGUAGE = 0.5
# Says that a transcription is to be given up.
Stop = Callable[[], bool]


def never() -> bool:
    """Nothing is given up."""
    return False


@dataclass(frozen=True)
class Job:
    """How windows are decoded. `margin` is the audio context, None for full windows.

    `times` asks for timestamp tokens, `wanted` for what is written down. A `temperature` above 0 draws tokens.
    The texts begin with the tokens `said`, which the windows' own tokens follow. `stop` is asked before every window
    and every token; once it says so, Stopped is raised. A `quick` one takes a language as a shortened window hears it.
    """

    prompt: Prompt
    margin: float | None
    times: bool = False
    wanted: Wanted | None = None
    temperature: float = 0.0
    said: tuple[int, ...] = ()
    stop: Stop = never
    quick: bool = False

    def check(self) -> None:
        """Stopped where this is given up."""
        if self.stop():
            raise Stopped("the transcription was given up")


@dataclass(frozen=True)
class Window:
    """The result of one window, with times in seconds.

    `is_cut` says that the encoder got less than a full window. The decoder was fed `prompt` tokens first.
    """

    decoded: Decoded
    features: float
    encoder: float
    detection: float
    is_cut: bool
    prompt: int
    temperature: float


class Engine:
    """The sessions of a bundle. `batch` windows are decoded together."""

    def __init__(
        self, encoder: onnxruntime.InferenceSession, decoder: Decoder, family: Family, text: TextDecoder, batch: int
    ) -> None:
        self._encoder, self.decoder, self.family, self.text, self.batch = encoder, decoder, family, text, batch
        self._encoder_accepts = {value.name for value in encoder.get_inputs()}

    def windows(self, clips: Sequence[NDArray[np.float32]], job: Job) -> tuple[list[Window], Job]:
        """Transcribe windows in groups. Also returns the job with the language, which the first window decides."""
        transcribed: dict[int, Window] = {}
        for group in batches([len(clip) for clip in clips], self.batch, first_alone=None in job.prompt):
            with running():
                windows, job = self._group([clips[index] for index in group], job)
            transcribed.update(zip(group, windows, strict=True))
        return [transcribed[index] for index in range(len(clips))], job

    def _group(self, clips: Sequence[NDArray[np.float32]], job: Job) -> tuple[list[Window], Job]:
        """Transcribe a group of windows: the encoder runs them one by one (no slower), the decoder all together.

        Where a shortened window leaves the language in doubt, the full one decides, and is what is transcribed. The
        language is detected in a group of one window.
        """
        family, window = self.family, self.family.window_seconds
        seconds = None if job.margin is None else context_seconds(max(map(len, clips)), job.margin, window)
        is_cut = seconds is not None and seconds < window
        context, times = self._encode(clips, seconds, job)
        prompt, detection = [token for token in job.prompt if token is not None], 0.0
        if None in job.prompt:
            started = perf_counter()
            language, share = self._detect(context, job.prompt)
            prompt = [language if token is None else token for token in job.prompt]
            detection = perf_counter() - started
            if is_cut and share < SURE_LANGUAGE and not job.quick:
                windows, decided = self._group(clips, replace(job, margin=None))
                spent = sum(sum(each) for each in times) + detection
                windows[0] = replace(windows[0], detection=windows[0].detection + spent)
                return windows, replace(decided, margin=job.margin)
        before = (*prompt, *job.said)
        limits = [family.longest(len(clip), len(before)) for clip in clips]

        def extended(row: int, tokens: Sequence[int]) -> int:
            return family.longest(len(clips[row]), len(before), (self.text(tokens), len(tokens)))

        # A full window may hold a refrain. A shortened one that seems to loop is only decoded again.
        loops = None
        if is_cut:
            # Times differ from one repetition to the next.
            loops = loops_without(family.timestamps) if job.times and family.timestamps else begins_loop
        layers = () if job.wanted is None else job.wanted.layers
        cache, steering = self.decoder.start(context, layers), self._steering(job, prompt, [*map(len, clips)])
        rules = replace(family.rules, never_first=family.rules.never_first[:0]) if job.said else family.rules
        decoded = greedy(cache, before, rules, limits, extended, loops, steering)
        windows = [
            Window(result, features, encoder, detection / len(clips), is_cut, len(before), job.temperature)
            for result, (features, encoder) in zip(decoded, times, strict=True)
        ]
        return windows, replace(job, prompt=tuple(prompt))

    def _encode(
        self, clips: Sequence[NDArray[np.float32]], seconds: int | None, job: Job
    ) -> tuple[dict[str, onnxruntime.OrtValue], list[tuple[float, float]]]:
        """What the decoder reads of all windows, and the seconds of features and encoder for each."""
        outputs, times = [], []
        for clip in clips:
            job.check()
            started = perf_counter()
            inputs = self.family.inputs(clip, seconds)
            features_done = perf_counter()
            feeds = {name: from_numpy(value) for name, value in inputs.items() if name in self._encoder_accepts}
            outputs.append(self._encoder.run_with_ort_values(["last_hidden_state"], feeds)[0].numpy())
            times.append((features_done - started, perf_counter() - features_done))
        return {name: from_numpy(value) for name, value in self.family.join(outputs).items()}, times

    def _steering(self, job: Job, prompt: Sequence[int], lengths: Sequence[int]) -> Steering:
        """What the job changes of decoding, for windows of so many samples."""
        restrict, choose = None, None
        if job.times and (timestamps := self.family.timestamps) is not None:

            def restrict(row: int, tokens: Sequence[int], scores: NDArray[np.float32]) -> None:
                timestamps.restrict(scores, tokens, lengths[row] / SAMPLE_RATE)

        if job.temperature:
            choose = drawing(job.temperature)
        recorder = None if job.wanted is None else Recorder(job.wanted, prompt.index(self.family.start))
        return Steering(restrict, choose, recorder, job.check)

    def _detect(self, context: dict[str, onnxruntime.OrtValue], prompt: Prompt) -> tuple[int, float]:
        """The language token with the highest score right after the start token, which stands before it, and its
        probability among all languages."""
        start = prompt[prompt.index(None) - 1]
        [scores] = self.decoder.start(context).step(np.array([[token for token in (start,) if token is not None]]))
        tokens = [*self.family.languages()]
        shares = np.exp(scores[tokens] - scores[tokens].max())
        best = int(shares.argmax())
        return tokens[best], float(shares[best] / shares.sum())


def loops_without(times: Timestamps) -> Callable[[Sequence[int]], bool]:
    """Whether a text repeats itself, whatever times it has."""
    return lambda tokens: begins_loop(times.without(tokens))


def timings_of(windows: Sequence[Window], total: float) -> Timings:
    """The times of all windows together, of a call that took `total` seconds."""
    calls = [window.decoded.seconds for window in windows]
    detection = sum(window.detection for window in windows)
    return Timings(
        features=sum(window.features for window in windows),
        encoder=sum(window.encoder for window in windows),
        first_token=detection + sum(first for first, *_ in calls),
        decoder=detection + sum(sum(seconds) for seconds in calls),
        tokens=sum(len(seconds) for seconds in calls),
        per_token=tuple(second for _, *later in calls for second in later),
        total=total,
    )


def drawing(temperature: float) -> Callable[[NDArray[np.float32]], NDArray[np.intp]]:
    """Draws tokens by their probability at a temperature. The same audio gets the same text: the seed is fixed."""
    generator = np.random.default_rng(0)

    def choose(scores: NDArray[np.float32]) -> NDArray[np.intp]:
        # The best of scores with Gumbel noise is a draw by the softmax of the scores.
        return np.asarray((scores / temperature + generator.gumbel(size=scores.shape)).argmax(axis=1))

    return choose
