"""Measures a bundle's times divided by those of its float bundle: in one process, in turn, on fixed inputs.

The measured time is the processor time of one thread, which other programs on the machine hardly change. Two times
measured right after each other have the same clock frequency, so their ratio does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import thread_time

import numpy as np
from onnxruntime import InferenceSession

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.decoder import Decoder, from_numpy
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.targets import choose
from edge_asr_deploy.runtime.transcriber import FAMILIES

PARTS = ("encoder", "prompt", "step")
SECONDS = 8
PROMPT = 4
ROUNDS = 11
# How often rounds are added while the interval includes the limit. After that, the median decides.
WIDENINGS = 4
# The least seconds of one measurement. Short calls are repeated until they take this long.
BURST = 0.01


@dataclass(frozen=True)
class Ratio:
    """The median of the time ratios bundle / float over `rounds` pairs, and the 99 % interval of that median."""

    value: float
    low: float
    high: float
    rounds: int


def relative_speed(
    bundle: Path, float_bundle: Path, accuracy_level: int | None, limits: Mapping[str, float]
) -> dict[str, Ratio]:
    """The ratios of the encoder, of the decoder's first call (`prompt`) and of a later call (`step`).

    While the interval of a part includes its limit, more rounds are added.
    """
    settings = SessionSettings(threads=1, accuracy_level=accuracy_level)
    ours, theirs = (
        part_calls(folder, *(open_session(path, settings) for path in graph_files(folder)))
        for folder in (bundle, float_bundle)
    )
    return {part: measure_ratio(ours[part], theirs[part], limits.get(part)) for part in PARTS}


def graph_files(bundle: Path, target: str | None = None) -> tuple[Path, Path]:
    """The encoder and decoder files of a bundle: those of `target`, else those for this CPU."""
    targets = read_manifest(bundle).targets
    graphs = targets[choose(targets, target, cpu_features()).name]
    return bundle / graphs.encoder, bundle / graphs.decoder


def measure_ratio(ours: Callable[[], object], theirs: Callable[[], object], limit: float | None) -> Ratio:
    """The ratio of the processor times of two calls, which are made in turn: A B, B A, A B."""
    number = max(math.ceil(BURST / max(1e-6, _seconds(call, 1))) for call in (ours, theirs))
    ratios: list[float] = []
    for widening in range(WIDENINGS):
        for index in range(ROUNDS):
            first, second = (ours, theirs) if index % 2 else (theirs, ours)
            times = {first: _seconds(first, number), second: _seconds(second, number)}
            ratios.append(times[ours] / times[theirs])
        ratio = median_ratio(ratios)
        is_settled = limit is None and widening > 0
        if is_settled or (limit is not None and not ratio.low <= limit <= ratio.high):
            break
    return ratio


def median_ratio(ratios: list[float]) -> Ratio:
    """The median and its distribution-free 99 % interval, from order statistics (ranks by normal approximation)."""
    ordered = sorted(ratios)
    reach = 2.576 * math.sqrt(len(ordered)) / 2
    low = max(0, math.floor(len(ordered) / 2 - reach))
    return Ratio(float(np.median(ordered)), ordered[low], ordered[-1 - low], len(ordered))


def _seconds(call: Callable[[], object], number: int) -> float:
    started = thread_time()
    for _ in range(number):
        call()
    return thread_time() - started


def part_calls(
    bundle: Path, encoder: InferenceSession, decoder_session: InferenceSession
) -> dict[str, Callable[[], object]]:
    """One function for each of `PARTS`, already warmed up. Every bundle of a model gets the same samples and tokens."""
    samples = (0.1 * np.random.default_rng(0).normal(size=SECONDS * SAMPLE_RATE)).astype(np.float32)
    inputs = FAMILIES[read_manifest(bundle).family](bundle).inputs(samples)
    values = {name: from_numpy(value) for name, value in inputs.items()}
    accepted = {value.name for value in encoder.get_inputs()}
    feeds = {name: value for name, value in values.items() if name in accepted}
    [hidden] = encoder.run_with_ort_values(["last_hidden_state"], feeds)

    decoder = Decoder(decoder_session)
    prompt = from_numpy(np.ones((1, PROMPT), np.int64))
    context = {**values, "encoder_hidden_states": hidden, "use_cache_branch": decoder.no, "input_ids": prompt}
    first = {name: value for name, value in {**context, **decoder.empty(1)}.items() if name in decoder.accepts}
    _, *present = decoder.session.run_with_ort_values(["logits", *decoder.present], first)
    past_names = [name.replace("present", "past_key_values") for name in decoder.present]
    past = dict(zip(past_names, present, strict=True))
    token = from_numpy(np.ones((1, 1), np.int64))
    later = {**first, **past, "input_ids": token}
    if "use_cache_branch" in decoder.accepts:
        later["use_cache_branch"] = decoder.yes
    own = ["logits", *(name for name in decoder.present if ".decoder." in name)]
    calls: dict[str, Callable[[], object]] = {
        "encoder": lambda: encoder.run_with_ort_values(["last_hidden_state"], feeds),
        "prompt": lambda: decoder.session.run_with_ort_values(["logits", *decoder.present], first),
        "step": lambda: decoder.session.run_with_ort_values(own, later),
    }
    for call in calls.values():
        call()
    return calls
