"""Measures a bundle's times divided by those of its float bundle: in one process, in turn, on fixed inputs.

What shifts such a ratio, and what is done about it (docs/guide/gate.md has the figures):

* Waiting for a core: the measured time is the processor time of the one thread that computes.
* Cold caches after another program ran: of many single calls the low quantile counts.
* Where a session's weights lie in memory, which the system decides anew at each opening and which moves a step that
  reads all weights by a tenth: both bundles are opened several times, and the best placement of each counts.
* The clock, which changes from one opening to the next: the unit is the time of a calibration kernel beside the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from onnxruntime import InferenceSession

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.harness.gate.load import LoadMeter
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.decoder import Decoder, from_numpy
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.targets import choose
from edge_asr_deploy.runtime.transcriber import FAMILIES

PARTS = ("encoder", "prompt", "step")
SECONDS = 8
PROMPT = 4
# Openings of both bundles. Two are enough to pass: a further one only shows a faster bundle, or a faster float bundle
# than the best of two. To say that a bundle is slow takes four, and a record, whose ratio becomes a limit, six.
# The most are for a limit that is too near to the measured ratio to decide.
PASSING_OPENINGS = 2
FAILING_OPENINGS = 4
RECORD_OPENINGS = 6
MOST_OPENINGS = 12
# No further opening begins after these seconds.
PATIENCE = 60.0
# Seconds for the calls of one part at one opening, and the bounds of their number.
SHARE = 0.8
LEAST_CALLS = 2
MOST_CALLS = 60
# A tenth of the calls may be faster: clock counters have rare outliers, most of all in the shortest calls.
QUANTILE = 0.1
# A margin above the limit, chosen and not derived: ratios of a good bundle moved by 9 % from their record beside busy
# programs (`python -m tests.support.gate_noise`, 23 measurements), which the default tolerance of 10 % barely covers.
DISTURBED = 0.05
# Rows and columns of the calibration kernel: a product of integers within the first cache, a fifth of a millisecond.
KERNEL = 64

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Sample:
    """Times of one opening, in those of the calibration kernel."""

    ours: float
    theirs: float


@dataclass(frozen=True)
class Ratio:
    """The time ratio bundle / float over `rounds` openings of both; `low` to `high` without the best opening of either.

    `busy` says in words what disturbed the measurement; it is empty on a quiet machine.
    """

    value: float
    low: float
    high: float
    rounds: int
    busy: str = ""

    def is_doubtful(self, limit: float) -> bool:
        """True when a busy machine may have moved a good bundle's ratio beyond the limit."""
        return bool(self.busy) and limit < self.value <= limit * (1 + DISTURBED)

    def is_settled(self, limit: float) -> bool:
        """True when further openings would not change on which side of the limit the ratio lies."""
        if self.rounds < (PASSING_OPENINGS if self.value <= limit else FAILING_OPENINGS):
            return False
        return not self.low <= limit <= self.high and not self.is_doubtful(limit)


def relative_speed(
    bundle: Path, float_bundle: Path, accuracy_level: int | None, limits: Mapping[str, float]
) -> dict[str, Ratio]:
    """The ratios of the encoder, of the decoder's first call (`prompt`) and of a later call (`step`)."""
    settings = SessionSettings(threads=1, accuracy_level=accuracy_level)

    def opened(folder: Path) -> Calls:
        return part_calls(folder, *(open_session(path, settings) for path in graph_files(folder)))

    return measure_ratios(lambda: (opened(bundle), opened(float_bundle)), limits)


def graph_files(bundle: Path, target: str | None = None) -> tuple[Path, Path]:
    """The encoder and decoder files of a bundle: those of `target`, else those for this CPU."""
    targets = read_manifest(bundle).targets
    graphs = targets[choose(targets, target, cpu_features()).name]
    return bundle / graphs.encoder, bundle / graphs.decoder


def measure_ratios(open_both: Callable[[], tuple[Calls, Calls]], limits: Mapping[str, float]) -> dict[str, Ratio]:
    """The ratios of the calls that `open_both` gives, ours and theirs, for each of their parts.

    Each opening is a round. Rounds are added while a part is not settled, within MOST_OPENINGS and PATIENCE. Without
    limits the ratios are for a record, and take RECORD_OPENINGS.
    """
    samples: dict[str, list[Sample]] = {}
    meter, began = LoadMeter(), perf_counter()
    for number in range(1, MOST_OPENINGS + 1):
        ours, theirs = open_both()
        for part in ours:
            samples.setdefault(part, []).append(sample(ours[part], theirs[part], meter.seconds))
        busy = meter.load().reason
        ratios = {part: ratio_of(found, busy) for part, found in samples.items()}
        if limits:
            is_settled = all(ratios[part].is_settled(limit) for part, limit in limits.items())
            is_late = number >= FAILING_OPENINGS and perf_counter() - began > PATIENCE
            is_enough = is_settled or is_late
        else:
            is_enough = number >= RECORD_OPENINGS
        if is_enough:
            break
    return ratios


def sample(
    ours: Callable[[], object], theirs: Callable[[], object], seconds: Callable[[Callable[[], object]], float]
) -> Sample:
    """Time two calls and the calibration kernel in turn: A K B K, B K A K."""
    matrix = np.ones((KERNEL, KERNEL), np.int64)
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "kernel": []}
    order = [("ours", ours), ("theirs", theirs)]
    for number in range(MOST_CALLS):
        if number >= LEAST_CALLS and sum(map(sum, times.values())) > SHARE:
            break
        for name, call in order:
            times[name].append(seconds(call))
            times["kernel"].append(seconds(lambda: matrix @ matrix))
        order.reverse()
    low = {name: float(np.quantile(found, QUANTILE, method="lower")) for name, found in times.items()}
    unit = max(low["kernel"], 1e-9)
    return Sample(low["ours"] / unit, low["theirs"] / unit)


def ratio_of(samples: Sequence[Sample], busy: str = "") -> Ratio:
    """The ratio of the best openings of both. Without the best of one side it lies higher, of the other lower."""
    ours, theirs = sorted(one.ours for one in samples), sorted(one.theirs for one in samples)
    next_ours, next_theirs = ours[min(1, len(ours) - 1)], theirs[min(1, len(theirs) - 1)]
    return Ratio(ours[0] / theirs[0], ours[0] / next_theirs, next_ours / theirs[0], len(samples), busy)


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
