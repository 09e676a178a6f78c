"""The layout of sherpa-onnx: Whisper as `OfflineRecognizer.from_whisper` takes it, Moonshine as `from_moonshine_v2`.

Every integer product in it has unsigned operands: what the runtime here does when it opens a bundle on a processor
without VNNI (`runtime/exact.py`) cannot be done in another engine, where the signed kernel loses words silently. On
ARM both kernels take the same time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.bundle.vocabulary import TOKENS, token_table
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.layouts.sherpa import driving, metadata, moonshine
from edge_asr_deploy.layouts.sherpa.decoder import never_said, with_stacked_caches
from edge_asr_deploy.layouts.sherpa.driving import DECODER, ENCODER
from edge_asr_deploy.layouts.sherpa.encoder import with_cross_attention
from edge_asr_deploy.layouts.without_masks import without_decoder_mask
from edge_asr_deploy.runtime.decoding.configuration import read_json
from edge_asr_deploy.runtime.decoding.whisper import Whisper
from edge_asr_deploy.runtime.exact import INTEGER_PRODUCTS, with_unsigned_operands
from edge_asr_deploy.runtime.transcriber import DECODER as BUNDLE_DECODER
from edge_asr_deploy.runtime.transcriber import ENCODER as BUNDLE_ENCODER

METHODS = {"whisper": "whisper", "moonshine": "moonshine_v2"}
USAGE = f"""```python
import sherpa_onnx

recognizer = sherpa_onnx.OfflineRecognizer.from_METHOD(
    encoder="FOLDER/{ENCODER}",
    decoder="FOLDER/{DECODER}",
    tokens="FOLDER/{TOKENS}",
)
```
"""


def arrange(bundle: Path, folder: Path) -> None:
    """Write encoder, decoder and table of tokens for the engine."""
    encoder, decoder = (read(bundle / name) for name in (BUNDLE_ENCODER, BUNDLE_DECODER))
    if is_whisper(bundle):
        shape = encoder.graph.inputs[0].shape
        if shape is None or isinstance(shape[-1], int):
            raise UserError("bundle", bundle, "its encoder only takes full windows; export it again")
        sizes, heads = metadata.Sizes.of(bundle), metadata.alignment_heads(bundle)
        rules = Whisper(bundle).rules
        # Two mel frames become one frame of the encoder.
        with_cross_attention(encoder, decoder, sizes.attention, sizes.mels, 2 * sizes.frames)
        with_stacked_caches(decoder, sizes.attention, heads)
        never_said(decoder, rules.never.tolist(), rules.never_first.tolist())
        encoder.metadata_props.update(metadata.of_bundle(bundle, heads))
    else:
        without_decoder_mask(decoder)
    for model, name in ((encoder, ENCODER), (decoder, DECODER)):
        write(model, folder / name)
    (folder / TOKENS).write_text(token_table(bundle / "tokenizer.json"), encoding="utf-8")


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip, the graphs called as the engine calls them."""
    hear_family = driving.hear if is_whisper(bundle) else moonshine.hear
    return hear_family(bundle, folder, samples)


def is_whisper(bundle: Path) -> bool:
    """Whether a bundle holds a Whisper; the other family is Moonshine."""
    return bool(read_json(bundle / "config.json").get("model_type") == "whisper")


def read(path: Path) -> ir.Model:
    """A graph of a bundle with all its weights in memory, also those of a data file."""
    model = ir.load(path)
    ir.external_data.load_to_model(model)
    return model


def write(model: ir.Model, path: Path) -> None:
    """Write a graph whose integer products are exact on every processor."""
    save(model, path)
    if any(operator in path.read_bytes() for operator in INTEGER_PRODUCTS):
        path.write_bytes(with_unsigned_operands(path))
        # The zero points of signed codes are read by nobody now: onnxruntime would warn of each.
        exact = ir.load(path)
        save(exact, path)


def usage(family: str) -> str:
    """How the engine opens the files, in Python."""
    return USAGE.replace("METHOD", METHODS[family])


LAYOUT = Layout(arrange, hear, usage)
