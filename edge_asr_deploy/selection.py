"""The checkpoint and the recipe that export options name."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from edge_asr_deploy.checkpoints import Checkpoint, resolve
from edge_asr_deploy.checkpoints.resolution import DEFAULT_MODEL
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.files import for_bits, load_document, override, stored_for
from edge_asr_deploy.runtime.targets import named

# Of these the tracer's graph, the rounding or the kernels depend on.
PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnx-ir", "onnxruntime", "numpy", "tokenizers")


def chosen(options: ExportOptions) -> tuple[Checkpoint, Recipe]:
    """The checkpoint and the whole recipe that the options name; UserError for what does not exist or fit together."""
    check_versions()
    document = _document(options)
    checkpoint = resolve(options.model or document.get("model") or DEFAULT_MODEL)
    return checkpoint, _recipe(options, document, checkpoint)


def check_versions() -> None:
    """The exporter runs on one tested set; say so at once where it is missing, instead of failing inside it."""
    remedy = 'install the tested set: pip install "edge-asr-deploy[export]"'
    for package in PACKAGES:
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError("export needs", package, f"is not installed; {remedy}") from None
        if package == "transformers" and int(found.split(".")[0]) >= 5:
            raise UserError("transformers", found, f"Optimum's exporter needs a version below 4.58; {remedy}")


def _document(options: ExportOptions) -> dict[str, Any]:
    """The recipe file as written; empty where `--bits` chooses, which needs to know the family first."""
    if options.recipe is not None and options.bits is not None:
        raise UserError("--recipe", options.recipe, "give either --recipe or --bits, not both")
    return load_document(options.recipe) if options.recipe else {}


def _recipe(options: ExportOptions, document: dict[str, Any], checkpoint: Checkpoint) -> Recipe:
    if options.recipe is None:
        document = for_bits(checkpoint.family, 4 if options.bits is None else options.bits)
        if options.target is not None:
            document = stored_for(document, [named(name.strip()) for name in options.target.split(",")])
    elif options.target is not None:
        document = {**document, "target": options.target}
    changes = {"corpus": options.calibration, "number": options.number, "seed": options.seed}
    given = [f"calibration.{key}={value}" for key, value in changes.items() if value is not None]
    origin = options.recipe.name if options.recipe else f"--bits {options.bits or 4}"
    recipe = parse(override(document, [*options.settings, *given]), origin)
    if recipe.family != checkpoint.family:
        raise UserError(
            f"recipe {origin}", recipe.family, f"is for another family; {checkpoint.name} is {checkpoint.family}"
        )
    return recipe
