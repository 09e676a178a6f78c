"""Whisper: a log-mel spectrogram of always 30 s, LayerNorms and most projections with bias, no bias on keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.languages import language_code
from edge_asr_deploy.families.structure import (
    HEAD,
    LOWEST,
    TABLE,
    Alignment,
    AttentionShape,
    Block,
    Half,
    Heads,
    SharedInput,
    StemPart,
    Structure,
    attention,
)

# 10 ms hop of the spectrogram at 16 kHz, halved by the second convolution.
SAMPLES_PER_FRAME = 320
FRAMES_PER_SECOND = 50
# The clip is padded to this; the decoder has so many positions.
WINDOW_SECONDS, POSITIONS = 30, 448
MEL_BINS = 80
# An encoder input shorter than the window ends with this much of the window's last positions. Whisper stores something
# about the whole clip there; without them the decoder does not notice where the speech ends.
TAIL_SECONDS = 2
# An encoder whose last positions were learned says in its graph's metadata, in seconds, how much silence they make of
# the clip's end, and how much of it they are themselves.
MARGIN_ENTRY, TAIL_ENTRY = "window_margin", "window_tail"
# Cross-attention heads that follow the words, as OpenAI published them with its models (`_ALIGNMENT_HEADS` in
# `whisper/__init__.py`), by layers and heads of the decoder, and whether it is multilingual.
PUBLISHED: dict[tuple[int, int, bool], Heads] = {
    (4, 6, False): ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)),
    (4, 6, True): ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)),
    (6, 8, False): ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7)),
    (6, 8, True): ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)),
    (12, 12, False): (
        *((6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10), (10, 0)),
        *((10, 1), (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4)),
    ),
    (12, 12, True): ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)),
}
# Heads that tell times better than the published ones, where `python -m benchmarks.alignment_heads` found some.
BETTER = {
    (4, 6, False): Alignment(((2, 3), (2, 4), (3, 2)), late=-0.08),
    (6, 8, True): Alignment(((3, 1), (3, 3), (4, 1), (5, 4))),
}


@dataclass(frozen=True)
class Whisper:
    """`WhisperForConditionalGeneration`, every size, English and multilingual."""

    name: str = "whisper"
    fixed_window: bool = True
    attention_blocks: int = 12
    stem: tuple[StemPart, ...] = (
        StemPart("model.encoder.conv1"),
        StemPart("model.encoder.conv2", reads="gelu"),
        StemPart("model.encoder.embed_positions", "positions"),
        StemPart("model.decoder.embed_positions", "positions"),
    )

    def structure(self, config: Any) -> Structure:
        """The module paths; reads `encoder_layers`, `decoder_layers` and `activation_function`."""
        lowest = LOWEST.get(config.activation_function)
        return Structure(
            encoder=tuple(_encoder_block(f"model.encoder.layers.{i}", lowest) for i in range(config.encoder_layers)),
            decoder=tuple(_decoder_block(f"model.decoder.layers.{i}", lowest) for i in range(config.decoder_layers)),
            cross=SharedInput(
                tuple(
                    f"model.decoder.layers.{i}.encoder_attn.{name}_proj"
                    for i in range(config.decoder_layers)
                    for name in "kv"
                ),
                "cross_attention",
                "model.encoder.layer_norm",
            ),
            encoder_norm="model.encoder.layer_norm",
            decoder_norm="model.decoder.layer_norm",
            table=TABLE,
            head=HEAD,
        )

    def attention(self, config: Mapping[str, Any], half: Half) -> AttentionShape:
        """Reads `d_model` and the half's numbers of layers and heads."""
        heads = int(config[f"{half}_attention_heads"])
        return AttentionShape(int(config[f"{half}_layers"]), heads, int(config["d_model"]) // heads, "out_proj")

    def frames(self, samples: int, config: Any) -> int:
        """One frame for every 320 samples begun, at most the encoder's 1500."""
        return min(math.ceil(samples / SAMPLES_PER_FRAME), int(config.max_source_positions))

    def prompt(self, generation: Any, language: str | None, task: str | None) -> tuple[int, ...]:
        """<|startoftranscript|>, for multilingual models language and task, <|notimestamps|>.

        Without a language or task those that a fine-tune left in its generation settings count, else English.
        """
        start, end = int(generation.decoder_start_token_id), int(generation.no_timestamps_token_id)
        if not getattr(generation, "is_multilingual", False):
            return start, end
        languages: dict[str, int] = generation.lang_to_id
        language = language or getattr(generation, "language", None) or "en"
        task = task or getattr(generation, "task", None) or "transcribe"
        token = languages.get(f"<|{language_code(language)}|>")
        if token is None:
            raise UserError("language", language, "this model knows " + ", ".join(k[2:-2] for k in languages))
        tasks: dict[str, int] = getattr(generation, "task_to_id", None) or {}
        if task not in tasks:
            raise UserError("task", task, f"this model knows {', '.join(tasks) or 'none'}")
        return start, token, int(tasks[task]), end

    def length_cap(self, samples: int) -> int | None:
        """None: only the 448 positions of the decoder limit a transcript."""
        return None


def alignment(layers: int, heads: int, is_multilingual: bool, named: Heads = ()) -> Alignment:
    """The heads that follow the words: those that a checkpoint names, or better ones where it names the published."""
    size = (layers, heads, is_multilingual)
    published = PUBLISHED.get(size, ())
    if named and set(named) != set(published):
        return Alignment(named)
    return BETTER.get(size) or (Alignment(published) if published else Alignment.of_last_half(layers, heads))


def _encoder_block(path: str, lowest: float | None) -> Block:
    inputs, output = attention(f"{path}.self_attn", "out_proj")
    return Block(
        path,
        (
            SharedInput(inputs, "encoder", f"{path}.self_attn_layer_norm"),
            SharedInput((output,), "encoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            SharedInput((f"{path}.fc1",), "encoder", f"{path}.final_layer_norm"),
            SharedInput((f"{path}.fc2",), "encoder", lowest=lowest),
        ),
    )


def _decoder_block(path: str, lowest: float | None) -> Block:
    inputs, output = attention(f"{path}.self_attn", "out_proj")
    cross_query, cross_output = attention(f"{path}.encoder_attn", "out_proj", "q")
    return Block(
        path,
        (
            SharedInput(inputs, "decoder", f"{path}.self_attn_layer_norm"),
            SharedInput((output,), "decoder", source=f"{path}.self_attn.v_proj", closes=f"{path}.self_attn"),
            SharedInput(cross_query, "decoder", f"{path}.encoder_attn_layer_norm"),
            SharedInput(
                (cross_output,), "decoder", source=f"{path}.encoder_attn.v_proj", closes=f"{path}.encoder_attn"
            ),
            SharedInput((f"{path}.fc1",), "decoder", f"{path}.final_layer_norm"),
            SharedInput((f"{path}.fc2",), "decoder", lowest=lowest),
        ),
    )
