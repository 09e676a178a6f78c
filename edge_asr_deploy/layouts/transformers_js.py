"""The layout of @huggingface/transformers (transformers.js), for Node and browsers; a folder to upload as it is.

Its JSON files lie in the folder itself and its graphs in `onnx/`, where a suffix of the file name says the `dtype`. So
a bundle answers to one dtype: 4 bits and fewer to `q4`, more bits to `q8`, float to `fp32`. Files without a suffix
beside them would double the bytes. Instead `config.json` names the dtype (`transformers.js_config`), which that
engine reads where the program gives none; so a program may say nothing, or the dtype itself.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Manifest, read_manifest
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.layouts.web_form import to_web_form
from edge_asr_deploy.layouts.word_times import add_cross_attentions

# What transformers.js calls a dtype, and the suffix it looks for.
SUFFIXES = {"fp32": "", "q4": "_q4", "q8": "_quantized"}
HEADS = "alignment_heads"
# Frames over which attention weights are smoothed before words are aligned.
MEDIAN = 7


def arrange(bundle: Path, folder: Path) -> None:
    """Write the layout of a bundle's first target into the empty folder `folder`."""
    manifest = read_manifest(bundle)
    dtype = dtype_of(manifest)
    graphs = next(iter(manifest.targets.values()))
    for name in SIDE_FILES:
        if (bundle / name).is_file():
            shutil.copyfile(bundle / name, folder / name)
    (folder / "onnx").mkdir()
    # Bundles for several targets keep their weights in data files; these come into the graphs.
    encoder = ir.external_data.load_to_model(ir.load(bundle / graphs.encoder))
    decoder = ir.external_data.load_to_model(ir.load(bundle / graphs.decoder))
    if _has_alignment(folder):
        add_cross_attentions(decoder)
    data = False
    for name, model in (("encoder_model", encoder), ("decoder_model_merged", decoder)):
        to_web_form(model)
        path = folder / "onnx" / f"{name}{SUFFIXES[dtype]}.onnx"
        save(model, path)
        data = data or path.with_name(f"{path.name}_data").is_file()
    _name_dtype(folder / "config.json", dtype, data)


def dtype_of(manifest: Manifest) -> str:
    """The `dtype` that a program passes to transformers.js for this bundle."""
    widths = {layer.bits for layer in manifest.layers if layer.bits < 16}
    if not widths:
        return "fp32"
    # The decoder's matrices give the bundle its name; the tied table and the stem often have a bit more.
    decoder = {layer.bits for layer in manifest.layers if layer.bits < 16 and ".layers." in layer.name}
    return "q4" if max(decoder or widths) <= 4 else "q8"


def _has_alignment(folder: Path) -> bool:
    path = folder / "generation_config.json"
    return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get(HEADS))


def _name_dtype(path: Path, dtype: str, external_data: bool) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") == "whisper":
        # Transformers' default, which transformers.js would warn about.
        config.setdefault("median_filter_width", MEDIAN)
    config["transformers.js_config"] = {"dtype": dtype, **({"use_external_data_format": True} if external_data else {})}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
