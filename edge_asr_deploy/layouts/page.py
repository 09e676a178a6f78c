"""The layout `page`: a folder for any web server, in which a browser transcribes files and the microphone.

It is the layout of transformers.js with a page in front and that engine's own files beside it, so that nothing comes
from elsewhere. The model and the WebAssembly lie packed with gzip, which the page undoes itself: static servers seldom
pack such files, and it takes 11 MB off a download of whisper tiny.en.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.families.languages import LANGUAGE_CODES
from edge_asr_deploy.families.moonshine import SPARE_TOKENS, TOKENS_PER_SECOND
from edge_asr_deploy.layouts import transformers_js
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.layouts.page_runtime import WASM, runtime_files, runtime_folder
from edge_asr_deploy.layouts.transformers_js import write_for_browsers

PAGE_FILES = ("index.html", "page.css", "page.js", "worker.js")
# What `files.json` says to the page.
INDEX = "files.json"


def arrange(bundle: Path, folder: Path, runtime: Path | None = None) -> None:
    """Write the page of a bundle into the empty folder `folder`; `runtime` holds the archives of npm.

    UserError where these are missing.
    """
    engine = runtime_files(runtime or runtime_folder())
    for name in PAGE_FILES:
        (folder / name).write_bytes(resources.files(__package__).joinpath("page_files", name).read_bytes())
    (folder / "runtime").mkdir()
    for name, content in engine.items():
        if name != WASM:
            (folder / "runtime" / name).write_bytes(content)
    files = {WASM: _store(folder, f"runtime/{WASM}.gz", engine[WASM])}
    with tempfile.TemporaryDirectory() as temporary:
        arranged = Path(temporary)
        write_for_browsers(bundle, arranged)
        for path in sorted(path for path in arranged.rglob("*") if path.is_file()):
            name = path.relative_to(arranged).as_posix()
            files[name] = _store(folder, f"model/{name}.gz", path.read_bytes())
        languages = _languages(arranged)
    manifest = read_manifest(bundle)
    index = {
        "name": manifest.name,
        "languages": languages,
        "tokens": [TOKENS_PER_SECOND, SPARE_TOKENS] if manifest.family == "moonshine" else None,
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "files": files,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip, by the model that the page unpacks."""
    with tempfile.TemporaryDirectory() as temporary:
        for packed in sorted((folder / "model").rglob("*.gz")):
            path = Path(temporary, packed.relative_to(folder / "model").with_suffix(""))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.decompress(packed.read_bytes()))
        return transformers_js.hear(bundle, Path(temporary), samples)


def usage(family: str) -> str:
    """How the page is shown."""
    return "Put this folder on any web server and open it in a browser, or `edge-deploy serve FOLDER --page`.\n"


def _store(folder: Path, name: str, content: bytes) -> dict[str, str | int]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time of packing in it: the same bundle gives the same bytes.
    path.write_bytes(gzip.compress(content, mtime=0))
    return {"path": name, "bytes": path.stat().st_size}


def _languages(arranged: Path) -> list[tuple[str, str]]:
    """Code and English name of each language that a multilingual Whisper takes; none for other models."""
    path = arranged / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    codes = [token.strip("<|>") for token in settings.get("lang_to_id") or {}]
    names = {code: name.title() for name, code in LANGUAGE_CODES.items()}
    return sorted(((code, names.get(code, code)) for code in codes), key=lambda pair: pair[1])


LAYOUT = Layout(arrange, hear, usage)
