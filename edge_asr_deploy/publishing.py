"""A bundle on the Hugging Face Hub: its files, and a card whose header the Hub and its search read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import CARD, MANIFEST, Manifest, bundle_hash
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.bundle.verification import verify_files
from edge_asr_deploy.bundle.writer import manifest_with
from edge_asr_deploy.checkpoints.resolution import SHORT_NAMES
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.reporting.card import model_card, results_of
from edge_asr_deploy.pack.signing import SIGNATURE

TASK = "automatic-speech-recognition"
# Licences on the Hub of the models that short names mean.
LICENCES = {"openai/whisper-": "apache-2.0", "UsefulSensors/moonshine-": "mit"}
# Libraries by which the Hub knows how a layout is opened.
LIBRARIES = {"transformers.js": "transformers.js", "sherpa-onnx": "sherpa-onnx"}
HUB = "Hugging Face Hub: "
# Files that an earlier upload may have left: an engine would read them by their names.
OURS = ("*.onnx", "*.onnx_data", *SIDE_FILES, SIGNATURE)


@dataclass(frozen=True)
class Published:
    """A commit on the Hub: its address, the files in it, and their bytes."""

    url: str
    files: int
    bytes: int


@dataclass(frozen=True)
class About:
    """What only its maker knows of a bundle: the Hub's id of its licence, the float model's repository, its results.

    `results` are files that `edge-deploy evaluate --output` wrote.
    """

    licence: str | None = None
    base_model: str | None = None
    results: Sequence[Path] = ()


def publish(bundle: Path, repository: str, about: About, private: bool = False) -> Published:
    """Upload an intact bundle to a repository, which is made where there is none, as one commit.

    The folder of a layout goes up in the same way, under the names by which its engine opens the repository. What
    earlier uploads left there of a bundle's files goes; all else stays. The card and its hash are written anew for the
    upload; the folder here is not touched. UserError for a damaged bundle, an unknown licence, results of another
    bundle, and whatever the Hub refuses.
    """
    manifest = verify_files(bundle)
    results = results_of(bundle, manifest, about.results)
    is_own = manifest.layout is None
    text = model_card(manifest, bundle, results) if is_own else (bundle / CARD).read_text(encoding="utf-8")
    card = (card_header(manifest, bundle, about, results) + text).encode()
    contents: dict[str, Path | bytes] = {name: bundle / name for name in manifest.files if name != CARD}
    contents |= {CARD: card, MANIFEST: manifest_with(manifest, card)}
    if (bundle / SIGNATURE).is_file():
        contents[SIGNATURE] = bundle / SIGNATURE
    sizes = [len(one) if isinstance(one, bytes) else one.stat().st_size for one in contents.values()]
    url = _commit(repository, contents, f"{manifest.name}, bundle {bundle_hash(manifest)[:16]}", private)
    return Published(url, len(contents), sum(sizes))


def card_header(manifest: Manifest, bundle: Path, about: About, results: Sequence[Result]) -> str:
    """The YAML between two lines of dashes: licence, float model, tags, and the measured error rates."""
    from huggingface_hub import EvalResult, ModelCardData

    base = about.base_model or base_model_of(manifest)
    data = ModelCardData(
        license=about.licence or licence_of(manifest, base),
        language=_languages(bundle),
        library_name=LIBRARIES.get(manifest.layout or "", "onnx"),
        pipeline_tag=TASK,
        base_model=base,
        tags=["onnx", "onnxruntime", manifest.family, "quantized", "edge-asr-deploy"],
        model_name=manifest.name,
        eval_results=[
            EvalResult(
                task_type=TASK,
                dataset_type=corpus,
                dataset_name=corpus,
                metric_type=result.rate.lower(),
                metric_name=f"{result.rate} (%)",
                metric_value=round(100 * errors.wer, 2),
                metric_config=f"{result.normalizer.name} {result.normalizer.version}, {errors.utterances} utterances",
            )
            for result in results
            for corpus, errors in result.bundle.accuracy.by_corpus.items()
        ]
        or None,
        base_model_relation="quantized" if base else None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def base_model_of(manifest: Manifest) -> str | None:
    """The repository of the float model, where the bundle's origin is one that the Hub has."""
    if manifest.model.origin.startswith(HUB):
        return manifest.model.origin.removeprefix(HUB).partition(" @ ")[0]
    return SHORT_NAMES.get(manifest.model.name)


def licence_of(manifest: Manifest, base: str | None) -> str:
    """The licence of a model that is known here. UserError for all others."""
    for beginning, licence in LICENCES.items():
        if (base or "").startswith(beginning):
            return licence
    name = manifest.model.name
    raise UserError("--licence", name, "its licence is not known here; give the Hub's id of it, for example apache-2.0")


def _languages(bundle: Path) -> str | None:
    """Of a Whisper for English; a multilingual one has too many to name, and Moonshine's files do not say it."""
    path = bundle / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return "en" if settings.get("is_multilingual") is False else None


def _commit(repository: str, contents: Mapping[str, Path | bytes], message: str, private: bool) -> str:
    """Make the repository and the commit. UserError in one line for what the Hub or the network refuses."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from requests.exceptions import RequestException

    api = HfApi()
    added = [CommitOperationAdd(name, content) for name, content in contents.items()]
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        stale = [name for name in api.list_repo_files(repository) if name not in contents and _is_ours(name, contents)]
        deleted: list[Any] = [CommitOperationDelete(name) for name in stale]
        done = api.create_commit(repository, [*added, *deleted], commit_message=message)
    except HFValidationError:
        raise UserError("REPO", repository, "is no name of a repository; give OWNER/NAME") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            remedy = "run `hf auth login` with a token that may write there, or set HF_TOKEN"
            raise UserError("REPO", repository, f"the Hub lets you not write there; {remedy}") from None
        raise UserError("REPO", repository, f"the Hub did not take it ({_reason(error)}); try again") from None
    except (RequestException, OSError) as error:
        raise UserError("REPO", repository, f"the Hub cannot be reached ({_reason(error)}); try again") from None
    return str(done.commit_url)


def _is_ours(name: str, contents: Mapping[str, object]) -> bool:
    """True for a file of an earlier upload of ours: at the top, or in a folder that this upload fills."""
    folder, _, rest = name.rpartition("/")
    is_filled = not folder or any(other.startswith(f"{folder}/") for other in contents)
    return is_filled and any(fnmatch(rest, pattern) for pattern in OURS)


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
