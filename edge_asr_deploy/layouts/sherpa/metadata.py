"""What sherpa-onnx reads of an encoder's file beside the graph: sizes, and the numbers of special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.languages import language_code
from edge_asr_deploy.families.structure import AttentionShape
from edge_asr_deploy.runtime.decoding.configuration import Settings, read_generation, read_json

# A token that no engine decides on, where a tokenizer has none of that name. openai/whisper had two names.
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"


@dataclass(frozen=True)
class Sizes:
    """A Whisper's sizes: mel bands, the encoder's frames, and the decoder's layers, heads, width and positions."""

    mels: int
    frames: int
    layers: int
    heads: int
    width: int
    positions: int
    vocabulary: int

    @classmethod
    def of(cls, bundle: Path) -> Self:
        """From `config.json`. UserError where one is missing."""
        path = bundle / "config.json"
        config = read_json(path)
        values: list[Any] = [config.get(key) for key in _KEYS]
        for key, value in zip(_KEYS, values, strict=True):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError("bundle", path, f"{key} is {repr(value)[:60]}, not a size; export the bundle again")
        return cls(*values)

    @property
    def attention(self) -> AttentionShape:
        """The shape of the decoder's attention."""
        return AttentionShape(self.layers, self.heads, self.width // self.heads, "out_proj")


_KEYS = (
    *("num_mel_bins", "max_source_positions", "decoder_layers", "decoder_attention_heads", "d_model"),
    *("max_target_positions", "vocab_size"),
)


def alignment_heads(bundle: Path) -> list[tuple[int, int]]:
    """Pairs of layer and head that tell the times of words; empty where a checkpoint names none, or wrong ones."""
    sizes = Sizes.of(bundle)
    return [*read_generation(bundle).heads("alignment_heads", sizes.layers, sizes.heads)]


def of_bundle(bundle: Path, heads: Sequence[tuple[int, int]]) -> dict[str, str]:
    """The entries for a Whisper's bundle; `heads` are those whose attention its decoder hands out.

    UserError where the bundle's settings lack a token without which the engine does not start.
    """
    sizes, generation = Sizes.of(bundle), read_generation(bundle)
    named = _tokens_by_name(bundle / "tokenizer.json")
    start, by_name = generation.token("decoder_start_token_id"), generation.named_tokens("lang_to_id")
    languages = dict(sorted(by_name.items(), key=lambda item: item[1]))
    tasks = generation.named_tokens("task_to_id")
    no_timestamps = _needed(generation, "no_timestamps_token_id")
    transcribe = tasks.get("transcribe", named.get("<|transcribe|>", start))
    entries: dict[str, object] = {
        "model_type": "whisper",
        "n_mels": sizes.mels,
        "n_audio_ctx": sizes.frames,
        "n_text_layer": sizes.layers,
        "n_text_ctx": sizes.positions,
        "n_text_state": sizes.width,
        "n_text_head": sizes.heads,
        "n_vocab": sizes.vocabulary,
        "sot": start,
        "eot": min(generation.tokens("eos_token_id", required=True)),
        "blank_id": named.get(SPACE, 0),
        "transcribe": transcribe,
        "translate": tasks.get("translate", named.get("<|translate|>", start)),
        "no_timestamps": no_timestamps,
        "no_speech": next((named[name] for name in NO_SPEECH if name in named), no_timestamps - 1),
        "is_multilingual": int(bool(languages)),
        "sot_sequence": _listed(_start(generation, start, languages, tasks, transcribe)),
    }
    if languages:
        entries["all_language_tokens"] = _listed(languages.values())
        entries["all_language_codes"] = _listed(name.strip("<|>") for name in languages)
    if heads:
        entries["n_alignment_heads"] = len(heads)
    return {name: str(value) for name, value in entries.items()}


def _start(
    generation: Settings, start: int, languages: Mapping[str, int], tasks: Mapping[str, int], transcribe: int
) -> list[int]:
    """The first tokens; the engine puts in the language and the task that it is told, or detects."""
    if not languages:
        return [start]
    spoken = f"<|{language_code(generation.text('language') or 'en')}|>"
    language = languages.get(spoken, next(iter(languages.values())))
    return [start, language, tasks.get(generation.text("task") or "transcribe", transcribe)]


def _needed(generation: Settings, key: str) -> int:
    token = generation.optional_token(key)
    if token is None:
        raise UserError("bundle", generation.path, f"has no {key}, without which sherpa-onnx does not start")
    return token


def _tokens_by_name(tokenizer: Path) -> dict[str, int]:
    content: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
    added = {one["content"]: one["id"] for one in content.get("added_tokens", ())}
    return {**content["model"]["vocab"], **added}


def _listed(values: Any) -> str:
    return ",".join(map(str, values))
