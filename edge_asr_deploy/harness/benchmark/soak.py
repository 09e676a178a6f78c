"""Keeps a bundle under load for a while, to see whether its memory grows or the board slows down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.harness.benchmark.result import Soak
from edge_asr_deploy.harness.evaluation.measure import Subject
from edge_asr_deploy.harness.machine.state import BoardState, disturbances
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.runtime.session import SessionSettings

# The number of pairs grows with the square of the points. So many evenly spaced points per clip are enough.
POINTS = 400
PASSES_FOR_A_SLOPE = 3


@dataclass(frozen=True)
class Point:
    """Resident memory in bytes, `seconds` after the start, measured right after `clip`."""

    clip: str
    seconds: float
    rss: int


def soak(
    subject: Subject,
    clips: Sequence[Utterance],
    settings: SessionSettings,
    seconds: float,
    look: Callable[[], BoardState],
    progress: Progress,
) -> Soak:
    """Transcribe the clips in whole passes until `seconds` have gone by, at least once.

    `look` is called before the first pass and after every pass; `progress` receives the seconds. UserError when the
    process dies, which on a small board is mostly for lack of memory.
    """
    samples = {clip.id: clip.samples() for clip in clips}
    audio_seconds = sum(map(len, samples.values())) / SAMPLE_RATE
    board, points, peak = [look()], [], 0
    passes: list[float] = []
    with subject.worker(settings) as worker:
        started = monotonic()
        while not passes or monotonic() - started < seconds:
            busy = 0.0
            for name, audio in samples.items():
                answer = worker.transcribe(audio, subject.options)
                busy += answer.transcript.timings.total
                points.append(Point(name, monotonic() - started, worker.rss()))
                peak = max(peak, answer.peak_rss)
                progress("soaking", int(monotonic() - started), int(seconds))
            passes.append(busy / audio_seconds)
            board.append(look())
    # Memory pools and lazily allocated buffers grow during the first pass, which is not a leak.
    later = points[len(samples) :]
    return Soak(
        seconds=points[-1].seconds,
        threads=settings.threads,
        passes=len(passes),
        rss_first=points[len(samples) - 1].rss,
        rss_last=points[-1].rss,
        peak_rss=peak,
        rss_per_minute=60 * memory_slope(later) if len(passes) >= PASSES_FOR_A_SLOPE else None,
        rtf_first=passes[min(1, len(passes) - 1)],
        rtf_last=passes[-1],
        board=board,
        disturbances=disturbances(board),
    )


def memory_slope(points: Sequence[Point]) -> float:
    """Growth of memory, bytes per second: the seasonal Kendall slope (Hirsch, Slack and Smith, 1982).

    It is the median of the slopes between all pairs of points after the same clip. Therefore neither the clips'
    different sizes nor a few outliers matter. ValueError when no clip was transcribed twice.
    """
    by_clip: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_clip[point.clip].append(point)
    slopes = []
    for same in by_clip.values():
        chosen = np.linspace(0, len(same) - 1, min(POINTS, len(same))).astype(int)
        times = np.array([same[index].seconds for index in chosen])
        memory = np.array([same[index].rss for index in chosen], np.float64)
        first, second = np.triu_indices(len(chosen), 1)
        slopes.append((memory[second] - memory[first]) / (times[second] - times[first]))
    all_slopes = np.concatenate(slopes) if slopes else np.array([])
    if not all_slopes.size:
        raise ValueError("no clip was transcribed twice: there is no slope")
    return float(np.median(all_slopes))
