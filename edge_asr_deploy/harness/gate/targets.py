"""Whether every target of a bundle can be run, also those that this CPU would not choose, and is the record's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edge_asr_deploy.bundle.manifest import Manifest
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.gate.baseline import TargetFiles
from edge_asr_deploy.harness.gate.facts import tensors
from edge_asr_deploy.harness.gate.report import Check
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.session import open_session
from edge_asr_deploy.runtime.targets import TARGETS, choose

# What each half of a model must compute, by the names of the Optimum export.
OUTPUTS = {"encoder": "last_hidden_state", "decoder": "logits"}


def target_files(bundle: Path, manifest: Manifest) -> dict[str, TargetFiles]:
    """The files of every target of a verified bundle.

    UserError when one of them is no file of the bundle, is not ONNX, or reads a file that is none of the bundle's.
    """
    return {
        name: TargetFiles(
            encoder=graphs.encoder,
            decoder=graphs.decoder,
            files={
                file: manifest.files[file].sha256
                for graph in (graphs.encoder, graphs.decoder)
                for file in (graph, *_data_files(bundle, graph, manifest, name))
            },
        )
        for name, graphs in manifest.targets.items()
    }


def check_targets(bundle: Path, manifest: Manifest, recorded: Mapping[str, TargetFiles] | None) -> Check:
    """Open every target's graphs, and compare the targets with the record's; None stands for a record without them."""
    try:
        targets = target_files(bundle, manifest)
        for name, files in targets.items():
            _open(bundle, name, files)
    except UserError as error:
        return Check(name="targets", verdict="failed", measured=f"of {len(manifest.targets)}", note=str(error))
    if recorded is None:
        remedy = "the record is of an older version and has no targets: write it anew with --update-baseline"
        return Check(
            name="targets", verdict="passed", measured=f"{len(targets)} open", limit="all open", warning=remedy
        )
    differences = list(_differences(targets, recorded))
    changed = [name for name in targets if name in recorded and targets[name].files != recorded[name].files]
    warning = f"other graphs or weights than the record's: {', '.join(changed)}" if changed and not differences else ""
    return Check(
        name="targets",
        verdict="failed" if differences else "passed",
        measured=", ".join(targets),
        limit=", ".join(recorded),
        note="; ".join(differences),
        warning=warning,
    )


def to_be_heard(bundle: Path, manifest: Manifest, recorded: Mapping[str, TargetFiles] | None) -> list[str]:
    """The targets that this CPU would not choose, and that are not byte for byte those of the record."""
    chosen = choose(manifest.targets, None, cpu_features()).name
    files = target_files(bundle, manifest)
    return [name for name in files if name != chosen and (recorded or {}).get(name) != files[name]]


def _data_files(bundle: Path, graph: str, manifest: Manifest, target: str) -> list[str]:
    _require_own(bundle, graph, manifest, f"is what the target {target} runs")
    try:
        model = onnx.load(bundle / graph, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is another class in each of its implementations
        raise UserError("model file", bundle / graph, f"is not an ONNX model (target {target})") from error
    external = (tensor for _, tensor in tensors(model.graph) if uses_external_data(tensor))
    names = sorted({ExternalDataInfo(tensor).location for tensor in external})
    for name in names:
        _require_own(bundle, name, manifest, f"is what {graph} reads")
    return names


def _require_own(bundle: Path, name: str, manifest: Manifest, role: str) -> None:
    if name not in manifest.files or Path(name).name != name:
        raise UserError("bundle", bundle / name, f"{role}, but no file of this bundle; export it again")


def _open(bundle: Path, name: str, files: TargetFiles) -> None:
    """Open a target's graphs as its device would. UserError when one does not load or computes something else."""
    if name not in TARGETS:
        raise UserError("bundle", name, f"no such target; this version knows {', '.join(TARGETS)}")
    for part, output in OUTPUTS.items():
        path = bundle / getattr(files, part)
        session = open_session(path, TARGETS[name].settings())
        if output not in {value.name for value in session.get_outputs()}:
            raise UserError("model file", path, f"does not give {output}, so it is no {part} (target {name})")


def _differences(measured: Mapping[str, TargetFiles], recorded: Mapping[str, TargetFiles]) -> Iterator[str]:
    for name in sorted(measured.keys() | recorded.keys()):
        if name not in measured:
            yield f"{name} is missing"
        elif name not in recorded:
            yield f"{name} is new"
        else:
            for part in OUTPUTS:
                ours, theirs = getattr(measured[name], part), getattr(recorded[name], part)
                if ours != theirs:
                    yield f"{name} runs {ours}, in the record {theirs}"
