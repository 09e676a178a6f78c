"""The bundle's README.md: a model card made from its manifest."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from edge_asr_deploy.bundle import Layer, Manifest

MB = 1_000_000


def model_card(manifest: Manifest, folder: Path) -> str:
    """Markdown: what this is, how it was made, how to run it. `folder` holds the graphs, whose sizes are shown."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if ".onnx" in path.name}
    lines = [
        f"# {manifest.name}",
        "",
        f"{manifest.model.name} for onnxruntime, quantized by edge-deploy (recipe `{manifest.recipe['name']}`).",
        f"Weights from {manifest.model.origin} (sha256 `{manifest.model.sha256}`).",
    ]
    if manifest.model.grid_note:
        lines.append(f"Note: {manifest.model.grid_note}")
    lines += ["", "| part | matrices | bits | method | MB |", "|---|---|---|---|---|", *_parts(manifest.layers), ""]
    lines += [f"* `{name}`: {size / MB:.2f} MB" for name, size in sizes.items()]
    if set(manifest.targets) != {"generic"}:
        lines += ["", f"For {', '.join(manifest.targets)}: the CPU decides which graphs run, or `--target`."]
    if manifest.calibration:
        lines += ["", f"Calibration: {manifest.calibration.description}"]
    if spoken := manifest.metrics.get("spoken"):
        lines += ["", "Heard when it was exported:", "", *(f"* `{name}`: {text}" for name, text in spoken.items())]
    lines += [
        "",
        "## Run",
        "",
        "```",
        "pip install edge-asr-deploy",
        f"edge-deploy transcribe {manifest.name} audio.wav",
        "```",
        "",
        "or, unchanged, `optimum.onnxruntime.ORTModelForSpeechSeq2Seq.from_pretrained(folder)`.",
        "Word error rate, size and speed beside the float baseline: `edge-deploy evaluate`.",
        "",
    ]
    return "\n".join(lines)


def _parts(layers: list[Layer]) -> list[str]:
    members: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        members[layer.component].append(layer)
    rows = []
    for component, some in members.items():
        bits = ", ".join(str(b) for b in sorted({layer.bits for layer in some}))
        methods = ", ".join(sorted({layer.method for layer in some}))
        rows.append(f"| {component} | {len(some)} | {bits} | {methods} | {sum(x.bytes for x in some) / MB:.2f} |")
    return rows
