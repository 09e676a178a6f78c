"""What a tiny model of `tests.support.tiny` hears: noise and tokens."""

from __future__ import annotations

import torch

from edge_asr_deploy.ptq.calibration.samples import Sample


def sample(name: str, seconds: float = 1.0, steps: int = 9) -> Sample:
    """Random encoder inputs of a family, and as many random tokens."""
    generator = torch.Generator().manual_seed(3)
    shape = (1, 80, 3000) if name == "whisper" else (1, int(16_000 * seconds))
    tokens = torch.randint(3, 300, (1, steps), generator=generator)
    return Sample(torch.randn(shape, generator=generator), 50, tokens)
