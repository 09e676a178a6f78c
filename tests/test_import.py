"""What imports what: arrows between rooms go down only, and what runs on a board imports without the exporter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_asr_deploy.sources import ROOT, imports_of

# From the top floor down (docs/design/architecture.md): a room imports rooms below it only.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("serve",),
    ("api",),
    ("experiments",),
    ("boards",),
    ("publishing",),
    ("pack",),
    ("subtitles",),
    ("pipeline",),
    ("layouts",),
    ("selection",),
    ("proof",),
    ("stages",),
    ("graph",),
    ("ptq",),
    ("harness",),
    ("recipe",),
    ("corpora",),
    ("runtime",),
    ("checkpoints",),
    ("bundle",),
    ("families",),
    ("quantized",),
    ("export_options",),
    ("options",),
    ("sources",),
    ("cache",),
    ("progress",),
    ("sealing",),
    ("files",),
    ("errors",),
    ("printing",),
)
# Inside a room, from the top down.
INNER = {
    "serve": (
        *("service", "discovery", "sockets", "openai.app", "openai.guard", "openai.wishes", "openai.answers"),
        *(
            "openai.form",
            "openai.patience",
            "voice.server",
            "voice.session",
            "voice.answer",
            "voice.info",
            "voice.events",
            "voice.utterance",
        ),
        *("shared", "listening", "hearing", "metrics", "places", "faults", "options"),
    ),
    "experiments": ("mixed", "analysis", "sweep", "options"),
    "layouts": (
        *("layouts", "proof", "page_server", "page", "transformers_js", "sherpa_onnx", "sherpa", "page_runtime"),
        *("without_masks", "word_times", "web_form", "exact_head", "layout"),
    ),
    "harness": ("reporting", "doctor", "benchmark", "gate", "inspection", "evaluation", "machine", "layout"),
    "graph": ("deployment", "build", "records", "storing.sizes", "rewriting", "storing", "onnx_tools"),
    "runtime": (
        *("transcriber", "live", "attempts", "engine", "times", "decoding", "transcript", "voice", "startup", "audio"),
        *("options", "targets", "session", "exact", "cpu", "products", "memory"),
    ),
    "ptq": (
        "quantize",
        "driver",
        "learning.blockwise",
        "learning.distilling",
        "learning.scaled",
        "correction",
        "activations",
        "rounding",
        "folding",
        "calibration",
        "methods",
        "grid",
    ),
}
EXPORTERS = ("torch", "transformers", "optimum", "datasets")
TORCH_FREE = (
    "quantized",
    "families",
    "recipe",
    "runtime",
    "harness",
    "bundle",
    "boards",
    "pack",
    "errors",
    "files",
)
TORCH_FREE += (
    "subtitles",
    "progress",
    "cache",
    "sources",
    "corpora.manifest",
    "corpora.utterance",
    "corpora.normalize",
    "corpora.leaderboard",
)
TORCH_FREE += ("corpora.defaults", "corpora.open_asr", "corpora.common_voice", "corpora.streamed", "cli.transcribe")
# Rewrites graphs, so it needs the exporter's onnx_ir, and still no torch.
GRAPH_TOOLS = ("layouts",)
# Needs its extra, and still no torch.
SERVICES, SERVING = ("serve",), ("starlette", "uvicorn", "python_multipart", "wyoming", "zeroconf")
TRACER = "graph.onnx_tools.trace"

# What the pinned list of boards leaves out, and what boards run.
ABSENT = (
    *("onnx", "ml_dtypes", "google.protobuf", "huggingface_hub", "hf_xet", "fsspec", "filelock", "tqdm", "requests"),
    *("urllib3", "charset_normalizer", "idna", "certifi", "text_to_num", "indic_numtowords", "pycparser"),
    *("flatbuffers", "packaging", "click"),
)
ON_BOARDS = (
    "cli",
    *("runtime.transcriber", "runtime.audio.reading"),
    *("harness.evaluation.evaluate", "harness.layout", "harness.reporting.tables", "harness.evaluation.worker"),
    *("harness.benchmark.bench", "harness.benchmark.report"),
    *("harness.doctor.doctor", "harness.doctor.report", "harness.doctor.probe"),
)
IMPORT_SECONDS = 0.5


def modules() -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))
    names = (".".join(path.parts).removesuffix("__init__").rstrip(".") for path in paths)
    return sorted(name for name in names if name)


MODULES = modules()


def is_below(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def floor(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if any(is_below(name, room) for room in rooms))


def test_every_module_has_a_floor() -> None:
    assert all(any(is_below(name, room) for rooms in FLOORS for room in rooms) for name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_arrows_go_down(name: str) -> None:
    for imported in imports_of(ROOT, name):
        assert floor(imported) >= floor(name), f"{name} imports {imported}, which stands above it"


@pytest.mark.parametrize("room", INNER)
def test_arrows_inside_a_room_go_down(room: str) -> None:
    def level(name: str) -> int | None:
        return next((i for i, part in enumerate(INNER[room]) if is_below(name, f"{room}.{part}")), None)

    for name in MODULES:
        for imported in imports_of(ROOT, name) if is_below(name, room) else ():
            upper, lower = level(name), level(imported)
            if upper is not None and lower is not None:
                assert lower >= upper, f"{name} imports {imported}, which stands above it"


def test_there_is_no_circle() -> None:
    found: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in found:
            for imported in imports_of(ROOT, name):
                if not is_below(name, imported):  # A package takes in its own modules.
                    visit(imported, (*path, name))
            found.add(name)

    for name in MODULES:
        visit(name, ())


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_it_imports_without_the_exporters_packages() -> None:
    # None in sys.modules makes any import of that name an ImportError.
    blocked = f"import sys; sys.modules.update(dict.fromkeys({EXPORTERS}))"
    rooms = TORCH_FREE + (GRAPH_TOOLS if find_spec("onnx_ir") else ())
    rooms += SERVICES if all(map(find_spec, SERVING)) else ("serve.options",)
    free = [name for name in MODULES if any(is_below(name, room) for room in rooms)]
    ran = run("; ".join([blocked, *(f"import edge_asr_deploy.{name}" for name in free)]))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_blocked_package_would_be_noticed(name: str) -> None:
    ran = run(f"import sys; sys.modules[{name!r}] = None; import {name}.anything")
    assert "ModuleNotFoundError" in ran.stderr or "ImportError" in ran.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if is_below(name, "graph") and name != TRACER])
def test_graphs_are_written_without_torch(name: str) -> None:
    tree = ast.parse((ROOT / Path(*name.split("."))).with_suffix(".py").read_text() if not is_package(name) else "")
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [one for one in names if one.split(".")[0] in EXPORTERS or is_below(one, "edge_asr_deploy.ptq")]


def is_package(name: str) -> bool:
    return ROOT.joinpath(*name.split(".")).is_dir()


def test_the_runtime_brings_in_no_more_than_it_needs() -> None:
    ran = run("import sys, edge_asr_deploy.runtime.transcriber; print(*sys.modules)")
    assert not {"onnx", "jiwer", "typer", "rich", "scipy", *EXPORTERS} & set(ran.stdout.split())


def test_the_command_line_itself_needs_no_pydantic() -> None:
    """`transcribe` reads no manifest where it has a cache; typer 0.29 imports pydantic for every command."""
    command = "from edge_asr_deploy.cli import app; app(['transcribe', '--help'], standalone_mode=False)"
    ran = run(f"import sys; {command}; print('modules', *sys.modules)")
    help_text, modules = ran.stdout.split("modules", 1)
    assert "Usage" in help_text and "typer" in modules.split()
    assert "pydantic" not in modules.split()


def test_boards_do_without_what_their_list_leaves_out() -> None:
    pinned = re.findall(r"^typer==(\S+)", (ROOT / "pack" / "requirements.txt").read_text(), re.MULTILINE)
    if pinned != [metadata.version("typer")]:
        pytest.skip("other versions than the pinned ones need other packages")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))"
    ran = run("; ".join([blocked, *(f"import edge_asr_deploy.{name}" for name in ON_BOARDS)]))
    assert ran.returncode == 0, ran.stderr


def test_the_runtime_imports_within_half_a_second() -> None:
    """Processor time, so that a busy machine changes little; without what Python itself takes to start."""
    measure = "import time; begin = time.process_time(); import edge_asr_deploy.runtime.transcriber"
    times = [float(run(f"{measure}; print(time.process_time() - begin)").stdout) for _ in range(3)]
    assert min(times) < IMPORT_SECONDS, times


def test_modules_are_short() -> None:
    long = {name: lines for name in MODULES if not is_package(name) and (lines := _lines(name)) > 300}
    assert not long


def _lines(name: str) -> int:
    return len(ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text().splitlines())


def test_folders_are_small() -> None:
    """At most 15 modules side by side. `cli` is one thing: a file for each command."""
    folders = [path.parent for path in ROOT.rglob("__init__.py")]
    many = {folder.name: count for folder in folders if (count := len(list(folder.glob("[!_]*.py")))) > 15}
    assert set(many) == {"cli"}
