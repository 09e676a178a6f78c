"""What the service did, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from edge_asr_deploy.serve.places import Budget, Places

TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "edge_asr"
# Seconds; commands on a board take tenths, long recordings minutes.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters of both protocols. The model's thread and the event loop's write to them."""

    def __init__(self, places: Places, budget: Budget) -> None:
        self._places, self._budget = places, budget
        self._process, self._started = psutil.Process(), time.time()
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._audio = self._hearing = self._waited = self._answers = 0.0
        self._last = 0.0

    def answered(self, service: str, status: str) -> None:
        """Count a request: `openai` with its HTTP status, `wyoming` with `ok` or the code of its error."""
        with self._lock:
            self._requests[service, status] += 1

    def heard(self, audio: float, seconds: float, waited: float, before: float = 0.0) -> None:
        """Count a recording of `audio` seconds that took `seconds` after it had `waited`, and `before` it was whole."""
        with self._lock:
            self._audio += audio
            self._hearing += before + seconds
            self._waited += waited
            self._answers += seconds + waited
            self._last = (before + seconds) / audio if audio else 0.0
            place = next((index for index, bound in enumerate(BUCKETS) if seconds + waited <= bound), len(BUCKETS))
            self._buckets[place] += 1

    def text(self) -> str:
        """All of them."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests by service and status.")
        for (service, status), number in sorted(self._requests.items()):
            yield f'{PREFIX}_requests_total{{service="{service}",status="{status}"}} {number}'
        yield from _one("audio_seconds_total", "counter", "Seconds of audio heard.", self._audio)
        yield from _one("hearing_seconds_total", "counter", "Seconds spent on hearing them.", self._hearing)
        yield from _one("waiting_seconds_total", "counter", "Seconds that requests waited for others.", self._waited)
        yield from _one("real_time_factor", "gauge", "Seconds per second of audio, last recording.", self._last)
        yield from _head("answer_seconds", "histogram", "Seconds from a whole request to its text, waiting included.")
        total = 0
        for bound, number in zip((*BUCKETS, "+Inf"), self._buckets, strict=True):
            total += number
            yield f'{PREFIX}_answer_seconds_bucket{{le="{bound}"}} {total}'
        yield f"{PREFIX}_answer_seconds_sum {self._answers:.6f}"
        yield f"{PREFIX}_answer_seconds_count {total}"
        yield from _one("places_taken", "gauge", "Requests that are sent, heard or wait.", self._places.taken)
        yield from _one("places", "gauge", "Requests that may be there at once.", self._places.most)
        yield from _one("held_bytes", "gauge", "Bytes of uploads in memory.", self._budget.taken)
        memory = self._process.memory_info().rss
        yield from _one("resident_memory_bytes", "gauge", "Resident memory.", memory, "process")
        yield from _one("start_time_seconds", "gauge", "Start of the service.", self._started, "process")


def _head(name: str, kind: str, about: str, prefix: str = PREFIX) -> Iterator[str]:
    yield f"# HELP {prefix}_{name} {about}"
    yield f"# TYPE {prefix}_{name} {kind}"


def _one(name: str, kind: str, about: str, value: float, prefix: str = PREFIX) -> Iterator[str]:
    yield from _head(name, kind, about, prefix)
    yield f"{prefix}_{name} {value if isinstance(value, int) else format(value, '.6f')}"
