"""Measurements that took time, stored one by one, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_asr_deploy.cache import Values


class Measurements(Values):
    """Values by name in one file, written as soon as they are measured."""

    def measured(self, name: str, measure: Callable[[], Any]) -> Any:
        """The value of that name: read, or measured now and written down."""
        if name not in self:
            self.put(name, measure())
            self.save()
        return self.get(name)
