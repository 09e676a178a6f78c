"""Writes the bundle's README.md: a model card from its manifest and from results of `edge-deploy evaluate`."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edge_asr_deploy.bundle.manifest import Layer, Manifest, bundle_hash, earlier_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.bundle.writer import replace_card
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.reporting.summary import markdown, read_results
from edge_asr_deploy.printing import markdown_code, markdown_text, one_line

MB = 1_000_000


def update_card(bundle: Path, paths: Sequence[Path]) -> None:
    """Rewrite a bundle's card with the results in these files, and its hash in the manifest.

    The bundle keeps its `bundle_hash`, which does not cover the card. UserError for a damaged bundle, a file that is
    not a result, and a result of another bundle.
    """
    manifest = verify(bundle)
    results = results_of(bundle, manifest, paths)
    try:
        replace_card(bundle, manifest, model_card(manifest, bundle, results))
    except OSError as error:
        raise UserError("bundle", bundle, f"cannot be written ({error.strerror}); copy it to another place") from None


def results_of(bundle: Path, manifest: Manifest, paths: Sequence[Path]) -> list[Result]:
    """Read results. UserError for a file that is not a result, and for one of another bundle."""
    results = read_results(paths)
    for path, result in zip(paths, results, strict=True):
        if result.bundle.hash not in (bundle_hash(manifest), earlier_hash(manifest)):
            remedy = f"belongs to another bundle ({result.bundle.name}) or an earlier export; evaluate {bundle} again"
            raise UserError("result", path, remedy)
    return results


def model_card(manifest: Manifest, folder: Path, results: Sequence[Result] = ()) -> str:
    """The card in Markdown: what the bundle is, how it was made, its measurements, and how to run it.

    `folder` holds the graphs, whose sizes are shown. `results` are measurements of this bundle.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if ".onnx" in path.name}
    recipe = markdown_code(str(manifest.recipe["name"]))
    lines = [
        f"# {markdown_text(manifest.name)}",
        "",
        f"{markdown_text(manifest.model.name)} for onnxruntime, quantized by edge-deploy (recipe {recipe}).",
        f"Weights from {markdown_text(manifest.model.origin)} (sha256 {markdown_code(manifest.model.sha256)}).",
    ]
    if manifest.model.grid_note:
        lines.append(f"Note: {markdown_text(manifest.model.grid_note)}")
    lines += ["", "| part | matrices | bits | method | MB |", "|---|---|---|---|---|", *_parts(manifest.layers), ""]
    lines += [f"* {markdown_code(name)}: {size / MB:.2f} MB" for name, size in sizes.items()]
    if set(manifest.targets) != {"generic"}:
        lines += [
            "",
            f"For {markdown_text(', '.join(manifest.targets))}: the CPU decides which graphs run, or `--target`.",
        ]
    if manifest.calibration:
        lines += ["", f"Calibration: {markdown_text(manifest.calibration.description)}"]
    spoken = manifest.metrics.get("spoken")
    if spoken:
        lines += ["", "Heard when it was exported:", "", *_texts(spoken)]
    if results:
        lines += ["", "## Measured", "", *_measured(results)]
    lines += [
        "",
        "## Run",
        "",
        "```",
        "pip install edge-asr-deploy",
        f"edge-deploy transcribe {shlex.quote(one_line(manifest.name))} audio.wav",
        "```",
        "",
        "or, unchanged, `optimum.onnxruntime.ORTModelForSpeechSeq2Seq.from_pretrained(folder)`.",
        "Error rate, size and speed beside the float baseline: `edge-deploy evaluate`; into this card: "
        "`edge-deploy card`.",
        "",
    ]
    return "\n".join(lines)


def _measured(results: Sequence[Result]) -> list[str]:
    lines = [markdown(results)]
    for result in results:
        here, settings = result.environment, result.settings
        lines += [
            "",
            markdown_text(
                f"{result.speech} {result.created[:10]}, {here.cpu} ({here.machine}), {settings.threads} thread(s), "
                f"onnxruntime {here.onnxruntime}, {result.normalizer.name} {result.normalizer.version}."
            ),
            *_second_score(result),
            "",
            f"| corpus | utterances | {result.rate} % | 95 % interval | float {result.rate} % |",
            "|---|---|---|---|---|",
        ]
        floats = result.baseline.accuracy.by_corpus if result.baseline else {}
        for corpus, errors in result.bundle.accuracy.by_corpus.items():
            low, high = (f"{100 * bound:.2f}" for bound in errors.interval)
            float_wer = f"{100 * floats[corpus].wer:.2f}" if corpus in floats else ""
            wer = f"{100 * errors.wer:.2f} | {low} to {high} | {float_wer}"
            lines.append(f"| {markdown_text(corpus)} | {errors.utterances} | {wer} |")
    return lines


def _second_score(result: Result) -> list[str]:
    """A sentence about the second score, where there is one."""
    score = result.bundle.accuracy.leaderboard
    if score is None or score.pooled is None:
        return []
    other = result.baseline.accuracy.leaderboard if result.baseline else None
    beside = f", float {100 * other.pooled.wer:.2f} %" if other and other.pooled else ""
    wer = f"WER {100 * score.pooled.wer:.2f} %{beside}"
    return ["", markdown_text(f"Counted as the Open ASR leaderboard does: {wer}; {score.name} ({score.version}).")]


def _texts(spoken: Mapping[str, str]) -> Iterator[str]:
    return (f"* {markdown_code(name)}: {markdown_text(text)}" for name, text in spoken.items())


def _parts(layers: list[Layer]) -> list[str]:
    components: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        components[layer.component].append(layer)
    rows = []
    for component, members in components.items():
        bits = ", ".join(str(width) for width in sorted({layer.bits for layer in members}))
        methods = ", ".join(sorted({layer.method for layer in members}))
        megabytes = sum(layer.bytes for layer in members) / MB
        part, methods = markdown_text(component), markdown_text(methods)
        rows.append(f"| {part} | {len(members)} | {bits} | {methods} | {megabytes:.2f} |")
    return rows
