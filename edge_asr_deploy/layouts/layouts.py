"""Layouts by name, and how the folder of one is written: beside its bundle, proved, hashed, and all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge_asr_deploy.bundle.manifest import CARD, Manifest, bundle_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts import page, sherpa_onnx, transformers_js
from edge_asr_deploy.layouts.layout import Layout
from edge_asr_deploy.layouts.proof import measure_agreement
from edge_asr_deploy.printing import markdown_text
from edge_asr_deploy.progress import Progress, staged

# A bundle itself: what `edge-deploy`, Optimum and others open.
OPTIMUM = "optimum"
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {"sherpa-onnx": sherpa_onnx.LAYOUT, "transformers.js": transformers_js.LAYOUT, "page": page.LAYOUT}
)
PROOF_CLIPS = 2
# Calibration clips are at most so long.
PROOF_SECONDS = 28.0


def named(names: str | None) -> tuple[str, ...]:
    """The layouts of a list with commas, in its order, without a bundle's own. UserError for others."""
    wanted = [name.strip() for name in (names or OPTIMUM).split(",")]
    for name in wanted:
        if name not in (OPTIMUM, *LAYOUTS):
            raise UserError("--layout", name, f"no such layout; choose {', '.join((OPTIMUM, *LAYOUTS))}")
    return tuple(dict.fromkeys(name for name in wanted if name != OPTIMUM))


def beside(bundle: Path, name: str) -> Path:
    """Where the layout of that name goes, unless the user says otherwise."""
    return bundle.with_name(f"{bundle.name}-{name}")


def arrange(bundle: Path, name: str, output: Path | None, overwrite: bool, progress: Progress) -> tuple[Path, Manifest]:
    """Arrange a bundle that was exported earlier; returns the new folder and its manifest.

    UserError for a damaged bundle, and then nothing is left behind.
    """
    folder = output or beside(bundle, name)
    writer = BundleWriter(folder, overwrite)
    progress("verifying the bundle")
    manifest = verify(bundle)
    utterances: list[Utterance] = []
    with suppress(UserError):  # No speech at hand.
        utterances, _ = calibration_corpus("auto", PROOF_CLIPS, 0, PROOF_SECONDS)
    return folder, write(bundle, manifest, name, writer, utterances, progress)


def write(
    bundle: Path,
    manifest: Manifest,
    name: str,
    writer: BundleWriter,
    utterances: Sequence[Utterance],
    progress: Progress,
) -> Manifest:
    """Write a layout of a finished bundle through `writer`, and prove it on `utterances`; returns its manifest."""
    layout, progress = LAYOUTS[name], staged(progress, f"arranging for {name}")
    with writer:
        progress("graphs")
        layout.arrange(bundle, writer.folder)
        metrics: dict[str, Any] = {"made_from": bundle_hash(manifest)}
        if utterances:
            metrics["agreement_with_bundle"] = measure_agreement(bundle, writer.folder, layout, utterances, progress)
        folder = writer.destination.name
        (writer.folder / CARD).write_text(_card(manifest, folder, name, layout), encoding="utf-8")
        changes = {
            "name": folder,
            "layout": name,
            "targets": {},
            "files": {},
            "metrics": metrics,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return writer.commit(manifest.model_copy(update=changes))


def report(folder: Path, manifest: Manifest) -> str:
    """One line: where a layout is, its size, and what its proof found."""
    size = sum(entry.size for entry in manifest.files.values()) / 1e6
    found = manifest.metrics.get("agreement_with_bundle")
    proof = "not proved on real speech, because none was available"
    if found is not None:
        proof = f"agrees with the bundle on {found['agreement']:.1%} of {found['tokens']} tokens"
    return f"{folder}: for {manifest.layout}, {size:.1f} MB; {proof}"


def _card(manifest: Manifest, folder: str, name: str, layout: Layout) -> str:
    lines = [
        f"# {markdown_text(folder)}",
        "",
        f"{markdown_text(manifest.model.name)} for {name}, quantized by edge-deploy"
        f" (recipe {markdown_text(str(manifest.recipe['name']))}).",
        f"Weights from {markdown_text(manifest.model.origin)}.",
        f"Arranged from the bundle {markdown_text(manifest.name)}, whose words it says.",
        "",
        layout.usage(manifest.family).replace("FOLDER", folder),
    ]
    return "\n".join(lines)
