"""A Transformers folder as a model in PyTorch, every weight of which comes from the folder's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError

# Whisper's encoder positions are sinusoids, which Transformers computes where a file leaves them out. A tied head is
# the embedding; Transformers reports it only where the embedding itself is missing.
COMPUTED = frozenset({"model.encoder.embed_positions.weight"})
# What older Transformers stored though the configuration determines it.
DERIVED = ("rotary_emb.inv_freq",)
# How training frameworks mark the names of what they wrap.
_WRAPPERS = {
    "_orig_mod.": "torch.compile wrote it: save `model._orig_mod`, or take `_orig_mod.` off every name",
    "module.": "DataParallel wrote it: save `model.module`, or take `module.` off every name",
}
_ADAPTER = "an adapter is not merged: `model.merge_and_unload().save_pretrained(FOLDER)` of peft merges it"
# So many names, and letters of another library's message, are shown.
_SHOWN, _LONGEST = 3, 160


def load(folder: Path) -> Any:
    """The float32 model of a Transformers folder.

    UserError for weights that are missing, unexpected, of another shape, or not finite, by their names. Transformers
    alone would fill each gap with random numbers.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSpeechSeq2Seq

    try:
        config = AutoConfig.from_pretrained(folder)
        # A configuration may ask for an implementation that needs a GPU; the weights are the same for all.
        config._attn_implementation = "sdpa"
        model, found = AutoModelForSpeechSeq2Seq.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # Transformers, torch and safetensors raise whatever they like
        reason = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        raise UserError(
            "--model", folder, f"Transformers cannot load it ({reason}); save it again as safetensors"
        ) from (error)
    _check_names(folder, found)
    # Extremes, since `isfinite` of all numbers would make copies of the largest matrix.
    extremes = {name: torch.stack(value.aminmax()) for name, value in model.state_dict().items()}
    broken = [name for name, ends in extremes.items() if not torch.isfinite(ends).all()]
    if broken:
        raise UserError("--model", folder, f"{_listed(broken)}: holds NaN or infinity; take an earlier checkpoint")
    return model


def _check_names(folder: Path, found: dict[str, Any]) -> None:
    """`found`: Transformers' lists of missing, unexpected and mismatched names."""
    missing = sorted(set(found["missing_keys"]) - COMPUTED)
    unexpected = sorted(name for name in found["unexpected_keys"] if not name.endswith(DERIVED))
    mismatched = sorted(found["mismatched_keys"])
    if mismatched:
        remedy = "copy the config.json that was saved with these weights"
        raise UserError(
            "--model", folder, f"has other sizes than its config.json says: {_listed(mismatched)}; {remedy}"
        )
    problems = []
    if missing:
        problems.append(f"{_counted(missing, 'missing')} ({_listed(missing)})")
    if unexpected:
        problems.append(f"{_counted(unexpected, 'no part of the model')} ({_listed(unexpected)})")
    if problems:
        raise UserError("--model", folder, f"{', '.join(problems)}; {_remedy(missing, unexpected)}")


def _remedy(missing: list[str], unexpected: list[str]) -> str:
    if any("lora_" in name or name.startswith("base_model.") or ".base_layer." in name for name in unexpected):
        return _ADAPTER
    for prefix, remedy in _WRAPPERS.items():
        if any(name.startswith(prefix) for name in unexpected):
            return remedy
    if "model.decoder.embed_tokens.weight" in missing and not any(".encoder." in name for name in missing):
        return "the files hold the encoder only: give the whole model"
    return "save or download the whole model again"


def _counted(names: list[str], what: str) -> str:
    return f"1 weight is {what}" if len(names) == 1 else f"{len(names)} weights are {what}"


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
