"""Small random Whisper and Moonshine models, and speech-like noise for them; no network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.recipe.document import Recipe, parse

VOCABULARY = 120
FRAMES = 50


def whisper(width: int = 32, layers: int = 2) -> Any:
    """One second of window: 50 encoder frames."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        num_mel_bins=16,
        max_source_positions=FRAMES,
        max_target_positions=32,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        begin_suppress_tokens=None,
        suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        decoder_start_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        no_timestamps_token_id=VOCABULARY - 1,
        max_length=20,
    )
    return _spread(model)


def moonshine(width: int = 36, layers: int = 2) -> Any:
    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        encoder_num_hidden_layers=layers,
        decoder_num_hidden_layers=layers,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        decoder_start_token_id=1,
    )
    return _spread(MoonshineForConditionalGeneration(config).eval())


def _spread(model: Any) -> Any:
    """Freshly initialized layers barely differ from zero; trained ones do."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5)
    model.tie_weights()
    return model


def model(family: str) -> Any:
    return whisper() if family == "whisper" else moonshine()


def extractor(family: str) -> Any:
    if family == "whisper":
        return WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    return Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (0.1 * generator.normal(size=int(seconds * 16_000))).astype(np.float32)


def samples(family: str, number: int = 6, tokens: int = 12) -> list[Sample]:
    """Random encoder inputs and tokens: Whisper's with padding behind the first frames."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for index in range(number):
        if family == "whisper":
            inputs, frames = torch.randn(1, 16, 2 * FRAMES, generator=generator), 20 + index
        else:
            inputs, frames = 0.1 * torch.randn(1, 16_000 + 1000 * index, generator=generator), 10_000
        result.append(Sample(inputs, frames, torch.randint(4, VOCABULARY - 1, (1, tokens), generator=generator)))
    return result


def recipe(family: str, quantizer: dict[str, Any], bits: int = 4, **components: dict[str, Any]) -> Recipe:
    """Every component by the same quantizer in groups of 16, but for the components given."""
    same = {"bits": bits, "granularity": "group:16", "quantizer": quantizer}
    chosen = {name: {"weights": components.get(name, same)} for name in COMPONENTS}
    return parse({"name": "test", "family": family, **chosen}, "test")


def shuffled(family: str, seed: int) -> Any:
    """Other weights, and norms and biases that are not all one and zero; some channels are much stronger."""
    result, generator = model(family), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in result.modules():
            if isinstance(module, torch.nn.Linear) and module is not result.proj_out:
                module.weight.normal_(0, module.in_features**-0.5, generator=generator)
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator).mul(0.8).exp())
            if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm) and module.bias is not None:
                module.bias.normal_(0, 0.2, generator=generator)
    return result
