"""Moonshine: raw audio of any length, rotary positions, LayerNorms and attentions without bias, a gated decoder MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import (
    HEAD,
    LOWEST,
    TABLE,
    Alignment,
    AttentionShape,
    Block,
    Half,
    SharedInput,
    StemPart,
    Structure,
    attention,
)

# (kernel, stride) of the three convolutions in front of the encoder; together a frame for every 384 samples.
CONVOLUTIONS = ((127, 64), (7, 3), (3, 2))
SAMPLES_PER_FRAME = 64 * 3 * 2
# The least samples that give a frame.
SHORTEST = 127 + (7 - 1 + (3 - 1) * 3) * 64
# Without a cap Moonshine loops on hard clips and noise; the Open ASR leaderboard's script decodes with this one.
TOKENS_PER_SECOND, SPARE_TOKENS = 6.5, 2
# The cap of a script that the vocabulary spells by bytes, as Moonshine's own runtime sets it (`max_tokens_per_second`
# 13 for languages not in Latin script).
SPELLED_TOKENS_PER_SECOND = 13.0
# A letter takes at most so many bytes in such a script, rarely four.
BYTES_PER_LETTER = 3
# Rotary positions set no window; it was trained on clips of up to about 30 s, and its decoder has so many positions.
WINDOW_SECONDS, POSITIONS = 30, 512
# By the decoder's layers and heads; found by `python -m benchmarks.alignment_heads`.
ALIGNMENTS: dict[tuple[int, int], Alignment] = {
    (6, 8): Alignment(((3, 6), (3, 7), (4, 5), (4, 7), (5, 6), (5, 7)), late=-0.04),
    (8, 8): Alignment(((4, 2), (5, 1), (5, 4), (6, 4))),
}


@dataclass(frozen=True)
class Moonshine:
    """`MoonshineForConditionalGeneration`, every size."""

    name: str = "moonshine"
    fixed_window: bool = False
    attention_blocks: int = 6
    stem: tuple[StemPart, ...] = (
        StemPart("model.encoder.conv1", reads="waveform"),
        StemPart("model.encoder.conv2"),
        StemPart("model.encoder.conv3", reads="gelu"),
    )

    def structure(self, config: Any) -> Structure:
        """The module paths; reads the numbers of layers and `encoder_hidden_act`."""
        layers = config.decoder_num_hidden_layers
        lowest = LOWEST.get(config.encoder_hidden_act)
        return Structure(
            encoder=tuple(
                _encoder_block(f"model.encoder.layers.{i}", lowest) for i in range(config.encoder_num_hidden_layers)
            ),
            decoder=tuple(_decoder_block(f"model.decoder.layers.{i}") for i in range(layers)),
            cross=SharedInput(
                tuple(f"model.decoder.layers.{i}.encoder_attn.{name}_proj" for i in range(layers) for name in "kv"),
                "cross_attention",
                "model.encoder.layer_norm",
            ),
            encoder_norm="model.encoder.layer_norm",
            decoder_norm="model.decoder.norm",
            table=TABLE,
            head=HEAD,
        )

    def attention(self, config: Mapping[str, Any], half: Half) -> AttentionShape:
        """Reads the half's numbers of layers and heads, the heads' size and what of it is rotated."""
        heads = int(config[f"{half}_num_attention_heads"])
        head_dim = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        return AttentionShape(
            layers=int(config[f"{half}_num_hidden_layers"]),
            heads=heads,
            head_dim=head_dim,
            output="o_proj",
            rotary=int(head_dim * float(config.get("partial_rotary_factor") or 1.0)),
            theta=float(config.get("rope_theta") or 10000.0),
            samples_per_frame=SAMPLES_PER_FRAME,
        )

    def frames(self, samples: int, config: Any) -> int:
        """All of them: nothing is padded. 0 for a clip too short for the convolutions (less than about 0.06 s)."""
        length = samples
        for kernel, stride in CONVOLUTIONS:
            length = max(0, (length - kernel) // stride + 1)
        return length

    def prompt(self, generation: Any, language: str | None, task: str | None) -> tuple[int, ...]:
        """The start token alone."""
        if generation.decoder_start_token_id is None:
            raise UserError("generation_config.json", "decoder_start_token_id", "is missing; give the start token's id")
        return (int(generation.decoder_start_token_id),)

    def length_cap(self, samples: int, spelled: bool = False) -> int:
        """6.5 tokens a second, 13 where letters are `spelled` by bytes, and 2 more."""
        rate = SPELLED_TOKENS_PER_SECOND if spelled else TOKENS_PER_SECOND
        return int(samples * rate / 16_000) + SPARE_TOKENS


def is_spelled(text: str, tokens: int) -> bool:
    """Whether a text of so many tokens is in a script that the vocabulary spells by bytes.

    A token of the vocabulary's own languages has some four letters, a byte is a third of one. Bytes that make no letter
    give no text at all, so that a loop of them is not spelling.
    """
    return tokens <= BYTES_PER_LETTER * len(text) and len(text) < tokens


def alignment(layers: int, heads: int) -> Alignment:
    """The heads that follow the words."""
    return ALIGNMENTS.get((layers, heads)) or Alignment.of_last_half(layers, heads)


def _encoder_block(path: str, lowest: float | None) -> Block:
    inputs, output = attention(f"{path}.self_attn", "o_proj")
    return Block(
        path,
        (
            SharedInput(inputs, "encoder", f"{path}.input_layernorm"),
            SharedInput((output,), "encoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            SharedInput((f"{path}.mlp.fc1",), "encoder", f"{path}.post_attention_layernorm"),
            SharedInput((f"{path}.mlp.fc2",), "encoder", lowest=lowest),
        ),
    )


def _decoder_block(path: str) -> Block:
    inputs, output = attention(f"{path}.self_attn", "o_proj")
    cross_query, cross_output = attention(f"{path}.encoder_attn", "o_proj", "q")
    return Block(
        path,
        (
            SharedInput(inputs, "decoder", f"{path}.input_layernorm"),
            SharedInput((output,), "decoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            SharedInput(cross_query, "decoder", f"{path}.post_attention_layernorm"),
            SharedInput(
                (cross_output,), "decoder", source=f"{path}.encoder_attn.v_proj", closes=f"{path}.encoder_attn"
            ),
            SharedInput((f"{path}.mlp.fc1",), "decoder", f"{path}.final_layernorm"),
            # fc1 gives the values first and behind them the gate, which passes through an activation.
            SharedInput((f"{path}.mlp.fc2",), "decoder", source=f"{path}.mlp.fc1"),
        ),
    )
