"""From utterances to the model's inputs: encoder features, and the float model's own transcript for the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Family
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.conditions import harder
from edge_asr_deploy.ptq.calibration.stream import answering
from edge_asr_deploy.ptq.calibration.transcripts import TokenCache
from edge_asr_deploy.recipe.components import Calibration

# Clips decoded at once where the family allows it: a decoder step costs nearly the same for 8 as for 1.
BATCH = 8
# Fewer where the keys and values of their cross-attention would take more bytes; Whisper medium's take 295 MB a clip.
BATCH_BYTES = 600_000_000


@dataclass(frozen=True)
class Sample:
    """One calibration clip as the model sees it.

    `inputs`: log-mel features (1, mels, frames) for Whisper, audio (1, samples) for Moonshine. `frames`: how many of
    the encoder's output frames are real. `tokens` (1, positions), int64: what the decoder reads, prompt and transcript;
    the end token is only ever predicted, so it is not among them.
    """

    inputs: Tensor
    frames: int
    tokens: Tensor


def prepare(
    model: Any,
    family: Family,
    folder: Path,
    utterances: Sequence[Utterance],
    calibration: Calibration,
    language: str | None = None,
    task: str | None = None,
    progress: Progress = silent,
    token_cache: TokenCache | None = None,
) -> list[Sample]:
    """Calibration samples, teacher-forced with the greedy transcript of `model`, which must still be the float one.

    `folder` is the checkpoint's Transformers folder: it holds the feature extractor. `calibration` says how long a clip
    may be and how many stand in hard conditions. `language` is that of all clips; without one each has the language
    that its corpus tells, else the one of `prompts`.
    `token_cache` stores transcripts between calls. UserError for a clip too short to reach the encoder.
    """
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    longest = None if calibration.seconds is None else int(calibration.seconds * SAMPLE_RATE)
    readers = [partial(_cut, utterance, longest) for utterance in utterances]
    samples: list[Sample] = []
    size = together(model, family)
    for start in range(0, len(utterances), size):
        batch = utterances[start : start + size]
        audio = {
            utterance.id: harder(readers, start + index, calibration.noisy, calibration.seed)
            for index, utterance in enumerate(batch)
        }
        languages = [language or utterance.language for utterance in batch]
        samples += encode(model, family, extractor, audio, languages, task, token_cache)
        progress(batch[-1].id, len(samples), len(utterances))
    if token_cache is not None:
        token_cache.save()
    return samples


def together(model: Any, family: Family) -> int:
    """How many clips are decoded at once."""
    if not family.fixed_window:
        return 1
    shape = family.attention(model.config.to_dict(), "decoder")
    bytes_of_clip = shape.layers * 2 * model.config.max_source_positions * shape.heads * shape.head_dim * 4
    return max(1, min(BATCH, BATCH_BYTES // int(bytes_of_clip)))


def _cut(utterance: Utterance, longest: int | None) -> NDArray[np.float32]:
    return utterance.samples()[:longest]


def encode(
    model: Any,
    family: Family,
    extractor: Any,
    clips: dict[str, NDArray[np.float32]],
    languages: Sequence[str | None] = (),
    task: str | None = None,
    token_cache: TokenCache | None = None,
    most: int | None = None,
) -> list[Sample]:
    """Samples of a batch of clips (name -> samples at 16 kHz), which must be one clip unless the window is fixed.

    `languages`: of each clip, None where it is not known. `most`: so many tokens of text at most, where the family has
    no limit of its own.
    """
    languages = languages or [None] * len(clips)
    frames = []
    for name, audio in clips.items():
        frames.append(family.frames(len(audio), model.config))
        if frames[-1] == 0:
            raise UserError("calibration clip", name, f"{len(audio) / SAMPLE_RATE:.3f} s is too short; leave it out")
    features = extractor(list(clips.values()), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    inputs: Tensor = features[extractor.model_input_names[0]].float()
    heard = list(zip(clips.values(), languages, strict=True))
    remembered = [token_cache.get(*clip) if token_cache else None for clip in heard]
    tokens = [torch.tensor([row]) for row in remembered if row is not None]
    if len(tokens) < len(clips):
        cap = most if family.fixed_window else family.length_cap(len(next(iter(clips.values()))))
        # Encoded once, for the language and for the text.
        hidden = _hidden(model, inputs) if family.fixed_window else None
        tokens = transcribe(model, inputs, prompts(model, family, inputs, languages, task, hidden), cap, hidden)
        for (audio, language), row in zip(heard, tokens, strict=True):
            if token_cache is not None:
                token_cache.put(audio, row[0].tolist(), language)
    return [Sample(inputs[i : i + 1], frames[i], tokens[i]) for i in range(len(clips))]


def _hidden(model: Any, inputs: Tensor) -> Tensor:
    """The encoder's outputs (batch, frames, channels)."""
    with torch.no_grad():
        hidden: Tensor = model.get_encoder()(inputs).last_hidden_state
    return hidden


def _encoded(model: Any, hidden: Tensor | None) -> AbstractContextManager[None]:
    """Within it the encoder puts out `hidden`, if that is given, instead of computing."""
    from transformers.modeling_outputs import BaseModelOutput

    return nullcontext() if hidden is None else answering(model.get_encoder(), BaseModelOutput(hidden))


def prompts(
    model: Any,
    family: Family,
    inputs: Tensor,
    languages: Sequence[str | None],
    task: str | None,
    hidden: Tensor | None = None,
) -> list[tuple[int, ...]]:
    """What the decoder reads before each clip's text (`families.Family.prompt`); `hidden`: the encoder's outputs, where
    they are known.

    Where a clip's language is not known and the generation settings of a multilingual model name none, it is the one
    that the model hears: text forced into another language is no text that the model would meet.
    """
    generation = model.generation_config
    chosen = [family.prompt(generation, language, task) for language in languages]
    ids = set((getattr(generation, "lang_to_id", None) or {}).values())
    unknown = [index for index, language in enumerate(languages) if language is None]
    if not ids or not unknown or getattr(generation, "language", None):
        return chosen
    with torch.no_grad(), _encoded(model, None if hidden is None else hidden[unknown]):
        heard = model.detect_language(input_features=inputs[unknown], generation_config=generation).tolist()
    for index, spoken in zip(unknown, heard, strict=True):
        chosen[index] = tuple(spoken if token in ids else token for token in chosen[index])
    return chosen


def transcribe(
    model: Any, inputs: Tensor, starts: Sequence[tuple[int, ...]], cap: int | None, hidden: Tensor | None = None
) -> list[Tensor]:
    """Greedy decoding by Transformers with its suppression rules; each (1, positions): prompt and text, no end.

    `starts`: what each clip's text begins with, all of one length. `cap`: at most so many tokens of text. `hidden`: the
    encoder's outputs, where they are known.
    """
    start = torch.tensor(starts)
    options: dict[str, Any] = {} if cap is None else {"max_new_tokens": cap}
    with _quiet(), torch.no_grad(), _encoded(model, hidden):
        # With the prompt given, Whisper's `generate` does not derive another one.
        rows: Tensor = model.generate(inputs, decoder_input_ids=start, do_sample=False, num_beams=1, **options)
    ends = model.generation_config.eos_token_id
    end = set(ends if isinstance(ends, list) else [ends])
    tokens = []
    for row, prompt in zip(rows.tolist(), starts, strict=True):
        # Whisper's `generate` returns the text only; other models' `generate` returns the prompt as well.
        text = row[len(prompt) :] if tuple(row[: len(prompt)]) == prompt else row
        length = next((i for i, token in enumerate(text) if token in end), len(text))
        tokens.append(torch.tensor([[*prompt, *text[:length]]]))
    return tokens


@contextmanager
def _quiet() -> Iterator[None]:
    """Generate warns about the attention mask and pad token of every call; one clip at a time needs neither."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
