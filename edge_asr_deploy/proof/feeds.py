"""Inputs of the two graphs, from a prepared clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from edge_asr_deploy.ptq.calibration.samples import Sample


def encoder_inputs(model: Any, encoder: onnxruntime.InferenceSession, sample: Sample) -> dict[str, torch.Tensor]:
    """Keyword arguments of the Transformers model's encoder, and by the same names the inputs of the encoder graph."""
    inputs = {model.get_encoder().main_input_name: sample.inputs}
    if "attention_mask" in {value.name for value in encoder.get_inputs()}:
        inputs["attention_mask"] = torch.ones(sample.inputs.shape, dtype=torch.int64)
    return inputs


def decoder_feeds(
    decoder: onnxruntime.InferenceSession,
    common: Mapping[str, NDArray[Any] | None],
    tokens: NDArray[np.int64],
    past: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, Any]:
    """Inputs of a decoder call on `tokens`; `common` holds the encoder's output and mask, `past` is empty at first."""
    feeds: dict[str, Any] = {"input_ids": tokens, "use_cache_branch": np.array([past is not None])}
    for value in decoder.get_inputs():
        if common.get(value.name) is not None:
            feeds[value.name] = common[value.name]
        elif value.name.startswith("past_key_values"):
            _, heads, _, channels = value.shape
            feeds[value.name] = past[value.name] if past else np.zeros((1, heads, 0, channels), np.float32)
    return feeds
