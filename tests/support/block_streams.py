"""What enters a block of a short model of `tests.support.short`."""

from __future__ import annotations

from typing import Any

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.calibration.stream import Stream
from tests.support import short


def enter(model: Any, name: str, side: str) -> tuple[Any, Stream]:
    """The second block of that side and what enters it."""
    structure, samples = family(name).structure(model.config), short.samples(name, 5)
    block = getattr(structure, side)[1]
    runs = [lambda s=s: model(s.inputs, decoder_input_ids=s.tokens, use_cache=False) for s in samples]  # type: ignore[misc]
    real = [s.frames if side == "encoder" else s.tokens.shape[1] for s in samples]
    return block, Stream.enter(model.get_submodule(block.path), runs, real)
