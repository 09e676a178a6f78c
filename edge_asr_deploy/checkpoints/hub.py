"""Checkpoints from the Hugging Face Hub: only the needed files, in the Hub's own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError

_SMALL = ["*.json", "merges.txt", "vocabulary.txt"]
# In the order of preference; the first that the repository has is downloaded.
_WEIGHTS = (
    ["model.safetensors", "model-*-of-*.safetensors"],
    ["pytorch_model.bin", "pytorch_model-*-of-*.bin"],
    ["model.bin"],
)


def cached(repository: str) -> Path | None:
    """The snapshot of a repository in the local Hub cache, perhaps without some files; None when there is none."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        return None
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def download(repository: str, alternative: str) -> Path:
    """The snapshot of a repository, downloaded as far as it is not in the local Hub cache.

    UserError when there is no such repository, or when the Hub cannot be reached and the cache does not have it;
    `alternative` then says what to do without the Hub.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        remedy = 'pip install "edge-asr-deploy[export]"'
        raise UserError("--model", repository, f"the Hub needs huggingface_hub; {remedy}") from None
    for patterns in _WEIGHTS:
        folder = _attempt(snapshot_download, repository, [*_SMALL, *patterns], alternative)
        if _has_weights(folder):
            return folder
    supported = "model.safetensors, pytorch_model.bin, and CTranslate2's model.bin are known"
    raise UserError(
        "--model", repository, f"has no weights on the Hub, or they are not in the local cache ({supported})"
    )


def _attempt(snapshot_download: Any, repository: str, patterns: list[str], alternative: str) -> Path:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except GatedRepoError:
        reason, remedy = "is gated on the Hub", "accept its terms on huggingface.co and run `hf auth login`"
    except (RepositoryNotFoundError, HFValidationError):
        reason, remedy = "is not a model on the Hub", "check the spelling, or run `hf auth login` if it is private"
    except LocalEntryNotFoundError:
        reason, remedy = "the Hub cannot be reached, and the local cache does not have it", alternative
    except (HfHubHTTPError, OSError) as error:
        reason, remedy = f"the Hub did not deliver it ({error})", f"try again, or {alternative}"
    raise UserError("--model", repository, f"{reason}; {remedy}")


def _has_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for patterns in _WEIGHTS for pattern in patterns)
