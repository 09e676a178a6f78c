"""What a model is: blocks, which layers share an input, which norm feeds which layer, how it is prompted. No torch."""

from __future__ import annotations

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.moonshine import Moonshine
from edge_asr_deploy.families.structure import Block, Family, SharedInput, Structure
from edge_asr_deploy.families.whisper import Whisper

__all__ = ["FAMILIES", "Block", "Family", "Moonshine", "SharedInput", "Structure", "Whisper", "family"]

FAMILIES: tuple[Family, ...] = (Whisper(), Moonshine())


def family(name: str) -> Family:
    """The family of that name (Transformers' `model_type`); UserError for any other."""
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    raise UserError("model family", name, "choose " + " or ".join(f.name for f in FAMILIES))
