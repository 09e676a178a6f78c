"""Whisper: log-mel of a 30 s window, a prompt of language and task, suppressed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import whisper
from edge_asr_deploy.families.languages import language_code
from edge_asr_deploy.families.structure import Alignment
from edge_asr_deploy.runtime.audio.features import HOP, LogMel
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.configuration import MOST_TOKENS, Settings, in_order, read_generation, read_json
from edge_asr_deploy.runtime.decoding.family import Rules
from edge_asr_deploy.runtime.decoding.prompting import Prompting
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps

# As a language: let the model detect it, also where its settings name one.
DETECT = "auto"
# large-v3 has 128.
MOST_MELS = 1024


class Whisper:
    """A Whisper of any size, English-only or multilingual. It decodes like Transformers' greedy `generate`."""

    def __init__(self, bundle: Path) -> None:
        generation, preprocessor = read_generation(bundle), read_json(bundle / "preprocessor_config.json")
        features = Settings(preprocessor, bundle / "preprocessor_config.json")
        self.window_seconds = features.count("chunk_length", whisper.WINDOW_SECONDS, whisper.WINDOW_SECONDS)
        self._log_mel = LogMel(features.count("feature_size", whisper.MEL_BINS, MOST_MELS), self.window_seconds)
        self.start = generation.token("decoder_start_token_id")
        self._no_timestamps = generation.optional_token("no_timestamps_token_id")
        self._languages = generation.named_tokens("lang_to_id")
        # What a fine-tune was made for: Transformers speaks it unasked, and so does this.
        self._own_language, self._own_task = generation.text("language"), generation.text("task")
        self._tasks = generation.named_tokens("task_to_id")
        limits = ("max_length", "max_target_positions")
        self._positions = min(generation.count(key, whisper.POSITIONS, MOST_TOKENS) for key in limits)
        self.rules = Rules(
            end=generation.tokens("eos_token_id", required=True),
            never=in_order(generation.tokens("suppress_tokens"), generation.vocabulary),
            never_first=in_order(generation.tokens("begin_suppress_tokens"), generation.vocabulary),
        )
        self.frame_seconds = 1 / whisper.FRAMES_PER_SECOND
        self.timestamps: Timestamps | None = None
        self.no_speech: int | None = None
        before: int | None = None
        if self._no_timestamps is not None:
            # The tokens stand in this order: what was said before, no speech, no times, times.
            self.timestamps = Timestamps(self._no_timestamps + 1, min(self.rules.end), self._no_timestamps)
            self.no_speech, before = self._no_timestamps - 1, self._no_timestamps - 2
            before = generation.optional_token("prev_sot_token_id") or before
        self.prompting = Prompting(bundle, before, self._positions // 2 - 1)
        self.alignment = _alignment(generation, bool(self._languages))

    def prompt(self, language: str | None, task: str | None, times: bool = False) -> tuple[int | None, ...]:
        """`<|startoftranscript|> <|language|> <|task|> <|notimestamps|>`. English-only models lack the middle two."""
        if times and self._no_timestamps is None:
            raise UserError("--timestamps", "segment", "this model has no tokens for times; use word")
        end = () if times or self._no_timestamps is None else (self._no_timestamps,)
        if not self._languages:
            refuse_choice(language, task)
            return (self.start, *end)
        return (self.start, self._language(language), self._task(task or self._own_task), *end)

    def languages(self) -> dict[int, str]:
        """Every language token of a multilingual model."""
        return {token: name.strip("<|>") for name, token in self._languages.items()}

    def inputs(self, samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        """`input_features`: float32 (1, mel bins, 100 * seconds), the beginning of the full window's features."""
        features = self._log_mel(samples)
        return {"input_features": features if seconds is None else features[:, :, : seconds * SAMPLE_RATE // HOP]}

    def join(self, hidden: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """`encoder_hidden_states`. All rows have the same number of frames."""
        return {"encoder_hidden_states": np.concatenate(hidden)}

    def longest(self, samples: int, prompt: int, said: tuple[str, int] | None = None) -> int:
        """The number of free positions in the decoder."""
        return self._positions - prompt

    def _language(self, language: str | None) -> int | None:
        if language is None and self._own_language is not None:
            # None, to be detected, where the model lacks the language that its settings name.
            return self._languages.get(f"<|{language_code(self._own_language)}|>")
        if language is None or language.lower() == DETECT:
            return None
        token = self._languages.get(f"<|{language_code(language)}|>")
        if token is None:
            names = ", ".join(self.languages().values())
            raise UserError("--language", language, f"this model does not know the language; choose one of {names}")
        return token

    def _task(self, task: str | None) -> int:
        task = task or "transcribe"
        if task not in self._tasks:
            raise UserError(
                "--task", task, f"this model does not have the task; choose one of {', '.join(self._tasks)}"
            )
        return self._tasks[task]


def _alignment(generation: Settings, is_multilingual: bool) -> Alignment:
    layers, heads = (generation.count(f"decoder_{name}", 1, MOST_TOKENS) for name in ("layers", "attention_heads"))
    named = generation.heads("alignment_heads", layers, heads)
    return whisper.alignment(layers, heads, is_multilingual, named)


def refuse_choice(language: str | None, task: str | None) -> None:
    """Refuse any language or task but transcribing English, for models without language and task tokens."""
    if language is not None and language_code(language) not in ("en", DETECT):
        raise UserError("--language", language, "this model was made for one language; leave --language out")
    if task not in (None, "transcribe"):
        raise UserError("--task", task, "this model can only transcribe; use a multilingual Whisper")
