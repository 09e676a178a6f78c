"""Bundles of real checkpoints, exported once for all tests."""

from __future__ import annotations

from tests.support.fixtures_real import data, exported

__all__ = ["data", "exported"]
