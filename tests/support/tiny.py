"""Small random models of both families: real architecture, real exporter, no download."""

from __future__ import annotations

from typing import Any

import pytest

VOCABULARY = 320


def whisper(seed: int = 0) -> Any:
    """A Whisper of 2 + 2 layers and 32 channels; the encoder keeps its 1500 frames, which the exporter expects."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_target_positions=48,
        num_mel_bins=80,
        init_std=0.2,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return _ready(transformers.WhisperForConditionalGeneration(config))


def moonshine(seed: int = 0) -> Any:
    """A Moonshine of 2 + 2 layers and 36 channels: heads of 9, of which 8 are rotated, and a ragged last group."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.MoonshineConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=96,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        partial_rotary_factor=0.67,
        initializer_range=0.2,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return _ready(transformers.MoonshineForConditionalGeneration(config))


def sure(model: Any) -> Any:
    """The same model, sure of every token: its scores are larger, in the same order.

    Else its texts would count as made of sounds that are no words (`runtime.times.segments.says_nothing`).
    """
    decoder = model.model.decoder
    norm = decoder.layer_norm if model.config.model_type == "whisper" else decoder.norm
    for parameter in norm.parameters():
        parameter.data *= 30
    return model


def _ready(model: Any) -> Any:
    # A random model tends to say one token for ever; what it would stop at is of no interest here.
    model.generation_config.max_length = 24
    return model.eval()


MODELS = {"whisper": whisper, "moonshine": moonshine}
