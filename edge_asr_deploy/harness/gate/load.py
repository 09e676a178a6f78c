"""How busy other programs keep the machine while something is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, thread_time

import psutil

# Shares from which other programs can move a ratio of two times by percents. Below them lie a shell, a kernel thread.
WAITED = 0.03
OTHERS = 0.10
STOLEN = 0.02


@dataclass(frozen=True)
class Load:
    """Shares between 0 and 1: of the timed calls' wall time, and of the processor time of all cores.

    `waited` is the time in which the calls wanted a core and had none. `others` is what other programs computed,
    `stolen` what the host of a virtual machine gave to others.
    """

    waited: float
    others: float
    stolen: float

    @property
    def reason(self) -> str:
        """Why times may be shifted, in words; empty on a quiet machine."""
        reasons = []
        if self.waited > WAITED:
            reasons.append(f"the calls waited for a core in {self.waited:.0%} of the time")
        if self.others > OTHERS:
            reasons.append(f"other programs used {self.others:.0%} of all cores")
        if self.stolen > STOLEN:
            reasons.append(f"the host took {self.stolen:.0%} of all cores")
        return ", ".join(reasons)


@dataclass(frozen=True)
class _Moment:
    """Processor seconds so far: of all cores together, idle or not; of work; stolen; of this process and children."""

    total: float
    worked: float
    stolen: float
    own: float

    @classmethod
    def now(cls) -> _Moment:
        # On Linux `guest` is counted within `user`. Systems without some of these fields have no such time.
        times = psutil.cpu_times()._asdict()
        times = {name: value for name, value in times.items() if not name.startswith("guest")}
        resting, stolen = times.get("idle", 0.0) + times.get("iowait", 0.0), times.get("steal", 0.0)
        total = sum(times.values())
        own = psutil.Process().cpu_times()
        return cls(total, total - resting - stolen, stolen, own.user + own.system)


@dataclass
class LoadMeter:
    """Times calls, and tells how busy the machine was from the meter's making on."""

    _begin: _Moment = field(default_factory=_Moment.now)
    _wall: float = 0.0
    _computed: float = 0.0

    def seconds(self, call: Callable[[], object]) -> float:
        """Processor seconds of this thread for one call, which must not sleep or hand work to other threads."""
        began, computed = perf_counter(), thread_time()
        call()
        spent = thread_time() - computed
        self._wall += perf_counter() - began
        self._computed += spent
        return spent

    def load(self) -> Load:
        """The load so far."""
        now, begin = _Moment.now(), self._begin
        total = max(1e-9, now.total - begin.total)
        others = (now.worked - begin.worked) - (now.own - begin.own)
        return Load(
            waited=max(0.0, 1 - self._computed / self._wall) if self._wall else 0.0,
            others=max(0.0, others / total),
            stolen=max(0.0, (now.stolen - begin.stolen) / total),
        )
