"""How much the server takes on at once: requests that wait, and bytes that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_asr_deploy.serve.faults import Busy


class Places:
    """Places for requests: one that runs, and those that wait. Used by the event loop's thread alone."""

    def __init__(self, waiting: int) -> None:
        self.most = 1 + waiting
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place. Busy when none is free."""
        if self.taken >= self.most:
            raise Busy(f"{self.taken} requests are being heard or wait, which is all that this server takes; try later")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Held:
    """Bytes that a request holds, out of those that all requests may hold together."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.bytes = budget, 0

    def take(self, number: int) -> None:
        """Hold so many bytes more. Busy when all requests together would hold too many."""
        if self._budget.taken + number > self._budget.most:
            megabytes = self._budget.most // 10**6
            raise Busy(f"the requests of all clients hold {megabytes} MB, which is all that they may; try later")
        self._budget.taken += number
        self.bytes += number

    def release(self) -> None:
        """Hold nothing any more."""
        self._budget.taken -= self.bytes
        self.bytes = 0


class Budget:
    """Bytes that all requests may hold together. Used by the event loop's thread alone."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @contextmanager
    def held(self) -> Iterator[Held]:
        """What one request holds, until it ends."""
        held = Held(self)
        try:
            yield held
        finally:
            held.release()
