"""A checkpoint to a rival's form with the rival's own tools: `python -m benchmarks.convert FORM CHECKPOINT TARGET`.

Run where the rivals are installed. FORM: ct2-float16, ct2-int8, ggml-q8_0 (q5_1, q4_0), optimum-fp32, optimum-int8.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path


def ctranslate2(checkpoint: Path, kind: str, target: Path) -> None:
    """CTranslate2's converter."""
    from ctranslate2.converters import TransformersConverter

    copied = [name for name in ("tokenizer.json", "preprocessor_config.json") if (checkpoint / name).exists()]
    TransformersConverter(str(checkpoint), copy_files=copied).convert(str(target), quantization=kind)


def ggml(checkpoint: Path, kind: str, target: Path) -> None:
    """whisper.cpp's file."""
    from benchmarks.ggml import write

    target.mkdir()
    write(checkpoint, kind, target / "model.bin")


def optimum(checkpoint: Path, kind: str, target: Path) -> None:
    """Optimum's export; `int8` is its dynamic quantization for this processor."""
    import platform

    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    exported = target if kind == "fp32" else target.with_suffix(".float")
    main_export(str(checkpoint), exported, task="automatic-speech-recognition-with-past")
    if kind == "fp32":
        return
    is_arm = platform.machine() in ("aarch64", "arm64")
    choose = AutoQuantizationConfig.arm64 if is_arm else AutoQuantizationConfig.avx512_vnni
    for name in ("encoder_model.onnx", "decoder_model_merged.onnx"):
        quantizer = ORTQuantizer.from_pretrained(exported, file_name=name)
        quantizer.quantize(
            save_dir=target, quantization_config=choose(is_static=False, per_channel=False), file_suffix=""
        )
    for path in exported.iterdir():
        if path.suffix in (".json", ".txt") and not (target / path.name).exists():
            shutil.copy(path, target)
    shutil.rmtree(exported)


FORMS: dict[str, Callable[[Path, str, Path], None]] = {"ct2": ctranslate2, "ggml": ggml, "optimum": optimum}


def main() -> None:
    """Convert to a folder beside TARGET, then rename it."""
    form, checkpoint, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    family, _, kind = form.partition("-")
    partial = target.with_name(f".{target.name}-partial")
    for left in (partial, partial.with_suffix(".float")):
        shutil.rmtree(left, ignore_errors=True)
    FORMS[family](checkpoint, kind, partial)
    partial.rename(target)


if __name__ == "__main__":
    main()
