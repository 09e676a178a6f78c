"""The float graph, traced by Optimum, with the present values of the model's weights."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError

# torch's TorchScript exporter ends at opset 20; `editing.load` raises it afterwards.
TRACED_OPSET = 20
ENCODER, DECODER, DECODER_WITH_PAST = "encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"


def trace(model: Any, folder: Path) -> None:
    """Write Optimum's encoder, decoder and decoder-with-past files of a Transformers model into `folder`.

    UserError when the installed versions do not fit together.
    """
    try:
        from optimum.exporters.onnx import onnx_export_from_model
    except ImportError as error:
        remedy = 'install the tested set: pip install "edge-asr-deploy[export]"'
        raise UserError("export", f"Optimum's exporter does not import ({error})", remedy) from error
    with quiet():
        onnx_export_from_model(
            model,
            folder,
            opset=TRACED_OPSET,
            task="automatic-speech-recognition-with-past",
            do_validation=False,
            no_post_process=True,
            preprocessors=[],
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the tracer's warnings (about shapes it fixes, and that Optimum expects) from the user's screen."""
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "torch.onnx", "torch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
