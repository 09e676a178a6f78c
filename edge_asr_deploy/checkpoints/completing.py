"""Checkpoints as people save them: what a folder lacks or says in an older way is written beside links to the rest.

A folder that has everything is used as it is. Otherwise a folder in the cache gets the missing files:

* `tokenizer.json`, built by Transformers from `vocab.json` and `merges.txt`;
* `preprocessor_config.json` from Transformers 5's `processor_config.json`;
* Whisper's `generation_config.json`: the ids of languages, tasks and `<|notimestamps|>` from the tokenizer, and the
  language and task from `forced_decoder_ids`, where older files say them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.vocabulary import NO_TIMESTAMPS
from edge_asr_deploy.checkpoints.checkpoint import Family, hash_files, write_json
from edge_asr_deploy.checkpoints.conversion import converted
from edge_asr_deploy.checkpoints.folder import preprocessor, read_json
from edge_asr_deploy.checkpoints.whisper_files import (
    END,
    ENGLISH_ONLY_END,
    PREVIOUS,
    START,
    TRANSCRIBE,
    TRANSLATE,
    never_written,
    read_tokens,
)
from edge_asr_deploy.errors import UserError

TOKENIZER, GENERATION, PREPROCESSOR = "tokenizer.json", "generation_config.json", "preprocessor_config.json"
LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")


def complete(name: str, family: Family, folder: Path, sha256: str) -> Path:
    """The folder itself, or a folder in the cache with what it lacks. `sha256` is of its weights.

    UserError when a part can be neither found nor made.
    """
    is_slow = not (folder / TOKENIZER).is_file()
    tokens = {} if is_slow else _tokens(folder / TOKENIZER)
    generation = None if is_slow or family != "whisper" else completed_generation(folder, tokens)
    if not is_slow and generation is None and (folder / PREPROCESSOR).is_file():
        return folder
    small = [path for path in folder.iterdir() if path.suffix in (".json", ".txt") and path.is_file()]
    key = hash_files([*small]) + sha256 + str(folder.resolve())

    def fill(partial: Path) -> None:
        found = tokens
        if is_slow:
            _build_tokenizer(folder, partial)
            found = read_tokens(partial / TOKENIZER)
        settings = completed_generation(folder, found) if family == "whisper" else None
        if settings is not None:
            write_json(partial / GENERATION, settings)
        if not (folder / PREPROCESSOR).is_file():
            write_json(partial / PREPROCESSOR, preprocessor(folder))
        for path in folder.iterdir():
            if path.is_file() and not (partial / path.name).exists():
                (partial / path.name).symlink_to(path.resolve())

    return converted(name, _digest(key), fill)


def completed_generation(folder: Path, tokens: Mapping[str, int]) -> dict[str, Any] | None:
    """Whisper's generation settings with what is missing; None when nothing is, or the tokenizer is not Whisper's."""
    config = read_json(folder / "config.json")
    stored = read_json(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    if not {START, END, NO_TIMESTAMPS, TRANSCRIBE, TRANSLATE} <= tokens.keys():
        return None
    settings = {key: value for key, value in stored.items() if value is not None}
    is_multilingual = settings.get("is_multilingual", "lang_to_id" in settings or tokens[END] != ENGLISH_ONLY_END)
    defaults: dict[str, Any] = {
        "decoder_start_token_id": config.get("decoder_start_token_id", tokens[START]),
        "eos_token_id": config.get("eos_token_id", tokens[END]),
        "pad_token_id": config.get("pad_token_id", tokens[END]),
        "bos_token_id": config.get("bos_token_id", tokens[END]),
        "max_length": config.get("max_target_positions", 448),
        "no_timestamps_token_id": tokens[NO_TIMESTAMPS],
        "is_multilingual": is_multilingual,
        "return_timestamps": False,
        **_suppressed(config, tokens, bool(stored)),
    }
    if PREVIOUS in tokens:
        defaults["prev_sot_token_id"] = tokens[PREVIOUS]
    if is_multilingual:
        defaults["lang_to_id"] = {token: number for token, number in tokens.items() if LANGUAGE.fullmatch(token)}
        defaults["task_to_id"] = {"transcribe": tokens[TRANSCRIBE], "translate": tokens[TRANSLATE]}
    completed = {**defaults, **settings}
    completed.update(_forced(completed, config))
    needed = (
        "no_timestamps_token_id",
        "decoder_start_token_id",
        "eos_token_id",
        *(("lang_to_id", "task_to_id", "is_multilingual") if is_multilingual else ()),
    )
    is_whole = all(key in settings for key in needed) and completed.get("language") == settings.get("language")
    return None if is_whole else completed


def _forced(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Language and task that `forced_decoder_ids` names, which holds where neither is said (Transformers' rule)."""
    if settings.get("language") is not None or settings.get("task") is not None or "lang_to_id" not in settings:
        return {}
    forced = settings.get("forced_decoder_ids") or config.get("forced_decoder_ids") or []
    try:
        ids = {number for _, number in forced}
        languages = {number: token for token, number in settings["lang_to_id"].items()}
        tasks = {number: task for task, number in settings.get("task_to_id", {}).items()}
    except (TypeError, ValueError, AttributeError):
        # Not what Transformers writes; what is wrong with it is said where the settings are read.
        return {}
    found = {"language": languages, "task": tasks}
    return {key: names[number] for key, names in found.items() for number in ids if number in names}


def _suppressed(config: Mapping[str, Any], tokens: Mapping[str, int], has_file: bool) -> dict[str, Any]:
    """What greedy decoding may not take: from `config.json`, else OpenAI's lists where there are no settings at all."""
    keys = ("suppress_tokens", "begin_suppress_tokens")
    found = {key: config[key] for key in keys if config.get(key) is not None}
    if has_file or "suppress_tokens" in found:
        return found
    always, at_the_begin = never_written(tokens)
    return {"suppress_tokens": always, "begin_suppress_tokens": at_the_begin, **found}


def _tokens(path: Path) -> dict[str, int]:
    """Ids of the added tokens of a tokenizer; of any kind, so nothing is demanded of them."""
    added = read_json(path).get("added_tokens")
    try:
        return {token["content"]: int(token["id"]) for token in added or []}
    except (KeyError, TypeError, ValueError):
        raise UserError("--model", path, "is no tokenizer; copy it from the model this one was trained from") from None


def _build_tokenizer(folder: Path, partial: Path) -> None:
    from transformers import AutoTokenizer

    remedy = "copy tokenizer.json from the model this one was trained from"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
        tokenizer.save_pretrained(partial)
    except Exception as error:  # tokenizers and Transformers raise whatever they like
        reason = str(error).partition("\n")[0]
        raise UserError(
            "--model", folder, f"no tokenizer.json can be made of its files ({reason}); {remedy}"
        ) from error
    if not (partial / TOKENIZER).is_file():
        raise UserError("--model", folder, f"no tokenizer.json can be made of its files; {remedy}")


def _digest(key: str) -> str:
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()
