"""Bundles of small random models, to be arranged for other engines."""

from __future__ import annotations

from tests.support.fixtures_layouts import small_bundle

__all__ = ["small_bundle"]
