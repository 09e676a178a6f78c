"""The small files of a Transformers Whisper, with the same contents as in OpenAI's models on the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.vocabulary import NO_TIMESTAMPS
from edge_asr_deploy.checkpoints.checkpoint import write_json
from edge_asr_deploy.errors import UserError

# From this size on a vocabulary holds the tokens of all languages (CTranslate2 decides by the same rule).
SMALLEST_MULTILINGUAL = 51_865
# The end of text has this id in English-only Whispers alone: their text vocabulary is GPT-2's, one token shorter.
ENGLISH_ONLY_END = 50_256
# A space alone, in both vocabularies.
BLANK = 220
END, START, PREVIOUS = "<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>"
TRANSLATE, TRANSCRIBE = "<|translate|>", "<|transcribe|>"


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a Whisper."""

    width: int
    mels: int
    feed_forward: int
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    source_positions: int
    target_positions: int
    scale_embedding: bool

    @property
    def is_multilingual(self) -> bool:
        """True when the model knows languages and tasks."""
        return self.vocabulary >= SMALLEST_MULTILINGUAL


def read_tokens(path: Path) -> dict[str, int]:
    """Ids of the added tokens of a Whisper `tokenizer.json`. UserError when it is broken or is not Whisper's."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        tokens = {token["content"]: int(token["id"]) for token in document["added_tokens"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError("--model", path, "is no tokenizer; copy it again from the Whisper it belongs to") from None
    for name in (END, START, PREVIOUS, TRANSLATE, TRANSCRIBE, NO_TIMESTAMPS):
        if name not in tokens:
            raise UserError("--model", path, f"has no {name}, so it is not Whisper's; copy the Whisper's own")
    return tokens


def never_written(tokens: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """OpenAI's lists of what greedy decoding may not take: ever, and as the first token."""
    from transformers.models.whisper import configuration_whisper

    is_english = tokens[END] == ENGLISH_ONLY_END
    always = configuration_whisper.NON_SPEECH_TOKENS if is_english else configuration_whisper.NON_SPEECH_TOKENS_MULTI
    # Transformers' lists lack these two, which the Hub's files have.
    return sorted({*always, tokens[TRANSLATE], tokens[TRANSCRIBE]}), [BLANK, tokens[END]]


def write_whisper_files(
    folder: Path, dimensions: Dimensions, tokens: Mapping[str, int], ct2_config: Mapping[str, Any], tokenizer: Path
) -> None:
    """Write configuration, generation, preprocessor and tokenizer files beside the weights.

    `ct2_config` is CTranslate2's `config.json`: suppressed ids, alignment heads and language ids come from there.
    """
    write_json(folder / "config.json", _config(dimensions, tokens))
    write_json(folder / "generation_config.json", _generation(dimensions, tokens, ct2_config))
    write_json(folder / "preprocessor_config.json", _preprocessor(dimensions))
    if tokenizer.parent != folder:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", _tokenizer_config(json.loads(tokenizer.read_text(encoding="utf-8"))))


def _ids(dimensions: Dimensions, tokens: Mapping[str, int]) -> dict[str, int]:
    return {
        # As on the Hub: 50257 in both kinds of model, which is the start in one and the end in the other. It is unused.
        "bos_token_id": tokens[END if dimensions.is_multilingual else START],
        "eos_token_id": tokens[END],
        "pad_token_id": tokens[END],
        "decoder_start_token_id": tokens[START],
    }


def _config(dimensions: Dimensions, tokens: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": dimensions.width,
        "encoder_layers": dimensions.encoder_layers,
        "decoder_layers": dimensions.decoder_layers,
        "num_hidden_layers": dimensions.encoder_layers,
        "encoder_attention_heads": dimensions.encoder_heads,
        "decoder_attention_heads": dimensions.decoder_heads,
        "encoder_ffn_dim": dimensions.feed_forward,
        "decoder_ffn_dim": dimensions.feed_forward,
        "is_encoder_decoder": True,
        "num_mel_bins": dimensions.mels,
        "max_source_positions": dimensions.source_positions,
        "max_target_positions": dimensions.target_positions,
        "scale_embedding": dimensions.scale_embedding,
        "vocab_size": dimensions.vocabulary,
        "tie_word_embeddings": True,
        "use_cache": True,
        "torch_dtype": "float32",
        **_ids(dimensions, tokens),
    }


def _generation(dimensions: Dimensions, tokens: Mapping[str, int], ct2_config: Mapping[str, Any]) -> dict[str, Any]:
    """As on the Hub without `forced_decoder_ids`, which is deprecated: `generate` builds the same prompt without it."""
    generation: dict[str, Any] = {
        **_ids(dimensions, tokens),
        "max_length": dimensions.target_positions,
        "suppress_tokens": ct2_config["suppress_ids"],
        "begin_suppress_tokens": ct2_config["suppress_ids_begin"],
        "is_multilingual": dimensions.is_multilingual,
        "no_timestamps_token_id": tokens[NO_TIMESTAMPS],
        "prev_sot_token_id": tokens[PREVIOUS],
        "max_initial_timestamp_index": 50 if dimensions.is_multilingual else 1,
        "return_timestamps": False,
    }
    if heads := ct2_config.get("alignment_heads"):
        generation["alignment_heads"] = heads
    if dimensions.is_multilingual:
        first, last = tokens[START] + 1, tokens[TRANSLATE] - 1
        languages = set(ct2_config.get("lang_ids") or range(first, last + 1))
        generation["lang_to_id"] = {name: number for name, number in tokens.items() if number in languages}
        generation["task_to_id"] = {"transcribe": tokens[TRANSCRIBE], "translate": tokens[TRANSLATE]}
        generation["task"] = "transcribe"
    return generation


def _preprocessor(dimensions: Dimensions) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": dimensions.mels,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "sampling_rate": 16_000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _tokenizer_config(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    added = tokenizer["added_tokens"]
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "add_prefix_space": False,
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "errors": "replace",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [t["content"] for t in added if t["special"] and t["content"] not in ("", END)],
        "added_tokens_decoder": {str(token["id"]): {field: token[field] for field in fields} for token in added},
    }
