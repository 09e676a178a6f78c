"""The layout of @huggingface/transformers (transformers.js), for Node and browsers; a folder to upload as it is.

The JSON files lie in the folder itself and the graphs in `onnx/`, where a suffix of the file name says the `dtype` that
a program asks for. A float bundle is `fp32`. A quantized one is `q8`, which is that engine's own default in browsers,
in the form that runs well there (web_form.py). Node's onnxruntime has low-bit kernels, so a second decoder is for it:
`q4`, or `int8` above 4 bits. Whoever runs the model downloads one decoder only, since `config.json` names the dtype
for each device (`transformers.js_config`): a program need not name any.

Integer products have unsigned operands. They are exact on every processor; signed ones would lose words without a
sound on x86 without VNNI, and a folder for everybody cannot know where it runs. In WebAssembly both take the same time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from edge_asr_deploy.bundle.manifest import Graphs, Manifest, read_manifest
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.layouts.web_form import to_web_form
from edge_asr_deploy.layouts.without_masks import without_decoder_mask, without_encoder_mask
from edge_asr_deploy.layouts.word_times import add_cross_attentions
from edge_asr_deploy.runtime.decoding.whisper import DETECT
from edge_asr_deploy.runtime.exact import INTEGER_PRODUCTS, with_unsigned_operands
from edge_asr_deploy.runtime.transcriber import Transcriber

ENCODER, DECODER = "encoder_model", "decoder_model_merged"
# What transformers.js calls a dtype, and the suffix that it looks for.
SUFFIXES = {"fp32": "", "q8": "_quantized", "q4": "_q4", "int8": "_int8"}
FLOAT, WEB = "fp32", "q8"
FLOAT_BITS = 16
# Frames over which attention weights are smoothed before words are aligned: Transformers' default.
MEDIAN = 7
USAGE = """```js
import { pipeline } from "@huggingface/transformers";

const recognizer = await pipeline("automatic-speech-recognition", "FOLDER");
```

Say no `dtype`: `config.json` names the right one for each device.
"""


def arrange(bundle: Path, folder: Path) -> None:
    """Write the layout of a bundle's first target into the empty folder `folder`."""
    write_for_browsers(bundle, folder)
    dtype = node_dtype(read_manifest(bundle))
    if dtype == FLOAT:
        return
    _save(_decoder(bundle), folder, DECODER, dtype)
    both = {ENCODER: WEB, DECODER: dtype}
    _configure(folder, device_config={"cpu": {"dtype": both}})


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip: the graphs that browsers get, called as those of a bundle."""
    manifest = read_manifest(bundle)
    suffix = SUFFIXES[FLOAT if node_dtype(manifest) == FLOAT else WEB]
    graphs = Graphs(encoder=f"onnx/{ENCODER}{suffix}.onnx", decoder=f"onnx/{DECODER}{suffix}.onnx")
    settings: dict[str, Any] = {"audio_context": "full", "verify": False, "vad": False}
    transcriber = Transcriber.open(folder, family=manifest.family, graphs=graphs, **settings)
    return Heard(transcriber.transcribe(samples, language=DETECT).tokens)


def usage(family: str) -> str:
    """How the engine opens the folder."""
    return USAGE


def write_for_browsers(bundle: Path, folder: Path) -> None:
    """The layout without the second decoder, which only Node takes."""
    manifest = read_manifest(bundle)
    for name in SIDE_FILES:
        if (bundle / name).is_file():
            shutil.copyfile(bundle / name, folder / name)
    (folder / "onnx").mkdir()
    dtype = FLOAT if node_dtype(manifest) == FLOAT else WEB
    apart = False
    for name, model in ((ENCODER, _encoder(bundle)), (DECODER, _decoder(bundle))):
        to_web_form(model)
        apart = _save(model, folder, name, dtype) or apart
    _configure(folder, dtype=dtype, **({"use_external_data_format": True} if apart else {}))


def node_dtype(manifest: Manifest) -> str:
    """The dtype of the decoder that Node runs: the width of most weights is the bundle's."""
    weights = dict.fromkeys((layer.bits for layer in manifest.layers if layer.bits < FLOAT_BITS), 0)
    if not weights:
        return FLOAT
    for layer in manifest.layers:
        if layer.bits in weights and layer.component == "decoder":
            weights[layer.bits] += layer.shape[0]
    return "q4" if max(weights, key=lambda bits: weights[bits]) <= 4 else "int8"


def _graphs(manifest: Manifest) -> Any:
    return next(iter(manifest.targets.values()))


def _load(bundle: Path, name: str) -> ir.Model:
    """A graph with its weights in it (bundles for several targets keep them in data files), and unsigned operands."""
    path = bundle / name
    is_integer = any(operator in path.read_bytes() for operator in INTEGER_PRODUCTS)
    model: ir.Model = (
        ir.from_proto(onnx.ModelProto.FromString(with_unsigned_operands(path))) if is_integer else ir.load(path)
    )
    ir.external_data.set_base_dir(model.graph, bundle)
    return ir.external_data.load_to_model(model)


def _encoder(bundle: Path) -> ir.Model:
    model = _load(bundle, _graphs(read_manifest(bundle)).encoder)
    without_encoder_mask(model)
    return model


def _decoder(bundle: Path) -> ir.Model:
    """The decoder, which also gives the attention weights where words can be aligned by them."""
    model = _load(bundle, _graphs(read_manifest(bundle)).decoder)
    without_decoder_mask(model)
    settings = bundle / "generation_config.json"
    if settings.is_file() and json.loads(settings.read_text(encoding="utf-8")).get("alignment_heads"):
        add_cross_attentions(model)
    return model


def _save(model: ir.Model, folder: Path, name: str, dtype: str) -> bool:
    """Write a graph under the name that transformers.js looks for; True where weights lie in a file beside it."""
    path = folder / "onnx" / f"{name}{SUFFIXES[dtype]}.onnx"
    passes.RemoveUnusedNodesPass()(model)
    # The pass leaves what nothing reads any more in the branches of an If.
    for graph in model.graphs():
        for unused in [key for key, value in graph.initializers.items() if not value.uses()]:
            del graph.initializers[unused]
    save(model, path)
    return path.with_name(f"{path.name}_data").is_file()


def _configure(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") == "whisper":
        config.setdefault("median_filter_width", MEDIAN)
    config["transformers.js_config"] = {**config.get("transformers.js_config", {}), **settings}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


LAYOUT = Layout(arrange, hear, usage)
