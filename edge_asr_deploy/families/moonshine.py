"""Moonshine: raw audio of any length, rotary positions, LayerNorms and attentions without bias, a gated decoder MLP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_asr_deploy.families.structure import LOWEST, Block, Step, Structure, attention

# (kernel, stride) of the three convolutions in front of the encoder.
_CONVOLUTIONS = ((127, 64), (7, 3), (3, 2))


@dataclass(frozen=True)
class Moonshine:
    """`MoonshineForConditionalGeneration`, every size."""

    name: str = "moonshine"
    fixed_window: bool = False

    def structure(self, config: Any) -> Structure:
        """The module paths; reads the numbers of layers and `encoder_hidden_act`."""
        layers = config.decoder_num_hidden_layers
        lowest = LOWEST.get(config.encoder_hidden_act)
        return Structure(
            encoder=tuple(
                _encoder_block(f"model.encoder.layers.{i}", lowest) for i in range(config.encoder_num_hidden_layers)
            ),
            decoder=tuple(_decoder_block(f"model.decoder.layers.{i}") for i in range(layers)),
            cross=Step(
                tuple(f"model.decoder.layers.{i}.encoder_attn.{name}_proj" for i in range(layers) for name in "kv"),
                "cross_attention",
                "model.encoder.layer_norm",
            ),
            encoder_norm="model.encoder.layer_norm",
            decoder_norm="model.decoder.norm",
            table="model.decoder.embed_tokens",
            head="proj_out",
        )

    def frames(self, samples: int, config: Any) -> int:
        """All of them: nothing is padded. 0 for a clip too short for the convolutions (less than about 0.06 s)."""
        length = samples
        for kernel, stride in _CONVOLUTIONS:
            length = max(0, (length - kernel) // stride + 1)
        return length

    def prompt(self, generation: Any, language: str, task: str) -> tuple[int, ...]:
        """The start token alone."""
        return (int(generation.decoder_start_token_id),)

    def length_cap(self, samples: int) -> int | None:
        """6.5 tokens a second and 2 more, as in the Open ASR leaderboard's script: without it, noise becomes loops."""
        return int(samples * 6.5 / 16_000 + 2)


def _encoder_block(path: str, lowest: float | None) -> Block:
    inputs, output = attention(f"{path}.self_attn", "o_proj")
    return Block(
        path,
        (
            Step(inputs, "encoder", f"{path}.input_layernorm"),
            Step((output,), "encoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            Step((f"{path}.mlp.fc1",), "encoder", f"{path}.post_attention_layernorm"),
            Step((f"{path}.mlp.fc2",), "encoder", lowest=lowest),
        ),
    )


def _decoder_block(path: str) -> Block:
    inputs, output = attention(f"{path}.self_attn", "o_proj")
    cross_query, cross_output = attention(f"{path}.encoder_attn", "o_proj", "q")
    return Block(
        path,
        (
            Step(inputs, "decoder", f"{path}.input_layernorm"),
            Step((output,), "decoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            Step(cross_query, "decoder", f"{path}.post_attention_layernorm"),
            Step((cross_output,), "decoder", source=f"{path}.encoder_attn.v_proj", closes=f"{path}.encoder_attn"),
            Step((f"{path}.mlp.fc1",), "decoder", f"{path}.final_layernorm"),
            # fc1 gives the values first and behind them the gate, which passes through an activation.
            Step((f"{path}.mlp.fc2",), "decoder", source=f"{path}.mlp.fc1"),
        ),
    )
