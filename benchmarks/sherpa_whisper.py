"""sherpa-onnx with our Whisper beside sherpa-onnx with its own int8 files of the same checkpoint.

    edge-deploy export --bits 5 --layout sherpa-onnx
    edge-deploy export --bits 32 --layout sherpa-onnx
    cd exported; python -m benchmarks.sherpa_whisper whisper-tiny.en-w5-sherpa-onnx whisper-tiny.en-float-sherpa-onnx

Its own files are made as its `scripts/whisper/export-onnx.py` makes them: onnxruntime's dynamic quantization of every
MatMul of the float graphs in its layout, whose encoder takes the engine's padding as it is. Their decoder is our float
one, which is faster than what that script writes. The two are timed in turn, one in each process, so that a ratio is
one of neighbours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import onnx_ir as ir
import typer

from benchmarks.clips import Clip, shares
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.harness.evaluation.wer import count, pooled

WORKER = Path(__file__).with_name("sherpa_worker.py")
GRAPHS = ("encoder.onnx", "decoder.onnx")
OURS, THEIRS = "ours", "its own int8"
# The engine hears no more.
LONGEST = 29.5
SHORT = 5.0


@dataclass(frozen=True)
class Run:
    """One process: by clip the text, wall time and processor time in seconds; and the time to load."""

    load: float
    heard: list[dict[str, Any]]


def own_int8(source: Path, target: Path) -> Path:
    """The engine's own int8 files of a float layout, made once."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not target.is_dir():
        partial = target.with_name(f".{target.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in GRAPHS:
            plain(source / name, partial / f"float-{name}")
            quantize_dynamic(
                partial / f"float-{name}", partial / name, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
            )
            (partial / f"float-{name}").unlink()
        shutil.copyfile(source / "tokens.txt", partial / "tokens.txt")
        partial.rename(target)
    return target


def plain(source: Path, target: Path) -> None:
    """The graph without what our encoder makes of the engine's padding: all of it counts, in the places behind."""
    model = ir.load(source)
    graph = model.graph
    nodes = {str(node.name): node for node in graph}
    for name, node in nodes.items():
        if name.startswith("/sherpa/Pad"):
            node.outputs[0].replace_all_uses_with(graph.inputs[0])
        if name.startswith("/positions/Concat"):
            [rows] = [one for one in nodes.values() if node.inputs[0] in one.outputs]
            table, start, _, axis = rows.inputs
            builder = Builder("/plain")
            frames = nodes["/positions/Shape_0"].outputs[0]
            node.outputs[0].replace_all_uses_with(builder.op("Slice", table, start, frames, axis))
            builder.add_to(graph)
    save(model, target)


def hear(python: Path, folder: Path, clips: list[Clip], threads: int) -> Run:
    """Hear the clips in a process of its own."""
    job = {"folder": str(folder.resolve()), "clips": [clip.path for clip in clips], "options": {"num_threads": threads}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        done = subprocess.run([python, WORKER, file.name], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return Run(answer["load"], answer["heard"])


def main(
    arranged: Annotated[Path, typer.Argument(help="Our bundle in the layout sherpa-onnx.")],
    floating: Annotated[Path, typer.Argument(help="The float bundle in the layout sherpa-onnx.")],
    python: Annotated[Path, typer.Option(help="The interpreter where sherpa-onnx is.")] = Path(
        ".venv-peers/bin/python"
    ),
    work: Annotated[Path, typer.Option(help="Folder that keeps clips and its own files.")] = Path("exported/peers"),
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 2,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    every: Annotated[int, typer.Option(min=1, help="Take every so many clips of the evaluation speech.")] = 1,
) -> None:
    """Time both, count bytes and words, and print a table in Markdown."""
    folders = {OURS: arranged, THEIRS: own_int8(floating, work / f"{floating.name}-own-int8")}
    spoken = sorted((clip for share in shares(work / "clips") for clip in share), key=lambda clip: clip.id)
    clips = [clip for clip in spoken if clip.seconds < LONGEST][::every]
    runs: dict[str, list[Run]] = {OURS: [], THEIRS: []}
    for number in range(rounds):
        for name in (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS):
            runs[name].append(hear(python, folders[name], clips, threads))
    load = os.getloadavg()
    print(
        f"{len(clips)} clips, {sum(clip.seconds for clip in clips):.0f} s; {threads} threads, {rounds} rounds in turn;"
    )
    print(f"load of the machine at the end {load[0]:.1f} (1 min), {load[2]:.1f} (15 min).\n")
    print("| | MB | WER | load s | all clips s | processor s | clips under 5 s |\n|---|---|---|---|---|---|---|")
    normal = normalizer("whisper-english")
    for name, folder in folders.items():
        texts = zip(clips, runs[name][0].heard, strict=True)
        words = pooled(count(normal(clip.text or ""), normal(heard["text"])) for clip, heard in texts)
        size = sum((folder / graph).stat().st_size for graph in GRAPHS) / 1e6
        times = [_total(runs[name], clips, kind, longest) for kind, longest in COLUMNS]
        loads = median(run.load for run in runs[name])
        print(
            f"| {name} | {size:.1f} | {words.wer:.2%} | {loads:.2f} | " + " | ".join(f"{t:.1f}" for t in times) + " |"
        )
    ratios = [_ratio(runs, clips, kind, longest) for kind, longest in COLUMNS]
    sizes = [sum((folder / graph).stat().st_size for graph in GRAPHS) for folder in folders.values()]
    print(f"| ratio | {sizes[0] / sizes[1]:.3f} | | | " + " | ".join(f"**{ratio:.3f}**" for ratio in ratios) + " |")


COLUMNS = (("wall", LONGEST), ("cpu", LONGEST), ("wall", SHORT))


def _sum(run: Run, clips: list[Clip], kind: str, longest: float) -> float:
    return sum(float(heard[kind]) for clip, heard in zip(clips, run.heard, strict=True) if clip.seconds < longest)


def _total(runs: list[Run], clips: list[Clip], kind: str, longest: float) -> float:
    return median(_sum(run, clips, kind, longest) for run in runs)


def _ratio(runs: dict[str, list[Run]], clips: list[Clip], kind: str, longest: float) -> float:
    """The median over rounds of the ratio of neighbours."""
    pairs = zip(runs[OURS], runs[THEIRS], strict=True)
    return median(_sum(a, clips, kind, longest) / _sum(b, clips, kind, longest) for a, b in pairs)


if __name__ == "__main__":
    typer.run(main)
