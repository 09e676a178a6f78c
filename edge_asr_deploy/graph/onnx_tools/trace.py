"""The float graph, traced by Optimum, with the present values of the model's weights.

Matrices stay out of it: the tracer would hold several copies of all of them, beside the model itself, and so would
everything that reads its files. A ConstantOfShape of a certain value stands for each, which `editing.load` replaces by
the matrix, read from the model where and when it is needed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import TABLE
from edge_asr_deploy.graph.onnx_tools.editing import FIRST_MARK

# torch's TorchScript exporter ends at opset 20; `editing.load` raises it afterwards.
TRACED_OPSET = 20
# Reads a matrix as the graph holds it: [in, out] of a Linear, [rows, channels] of the tokens' table.
Matrix = Callable[[], NDArray[np.float32]]
ENCODER, DECODER, DECODER_WITH_PAST = "encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"


def trace(model: Any, folder: Path) -> list[Matrix]:
    """Write Optimum's encoder, decoder and decoder-with-past files of a Transformers model into `folder`.

    Returns the matrices that stand outside the files, in the order of their marks. UserError when the installed
    versions do not fit together.
    """
    try:
        from optimum.exporters.onnx import onnx_export_from_model
    except ImportError as error:
        remedy = 'install the tested set: pip install "edge-asr-deploy[export]"'
        raise UserError("export", f"Optimum's exporter does not import ({error})", remedy) from error
    with quiet(), _without_matrices(model) as matrices:
        onnx_export_from_model(
            model,
            folder,
            opset=TRACED_OPSET,
            task="automatic-speech-recognition-with-past",
            do_validation=False,
            no_post_process=True,
            preprocessors=[],
        )
    return matrices


@contextlib.contextmanager
def _without_matrices(model: Any) -> Iterator[list[Matrix]]:
    """Within it Linear layers and the tokens' table compute nothing; placeholders with marks are traced for them."""
    import torch
    from torch import Tensor, nn

    class Product(torch.autograd.Function):
        """A Linear as the tracer writes it: a product, its bias added from the left."""

        @staticmethod
        def forward(_: Any, read: Tensor, bias: Tensor | None, mark: int, shape: tuple[int, int]) -> Tensor:
            # One number that stands everywhere: the tracer keeps all that it sees until it is done.
            return read.new_zeros(1).expand(*read.shape[:-1], shape[1])

        @staticmethod
        def symbolic(g: Any, read: Any, bias: Any, mark: int, shape: tuple[int, int]) -> Any:
            product = g.op("MatMul", read, _placeholder(g, mark, shape))
            return product if bias is None else g.op("Add", bias, product)

    class Lookup(torch.autograd.Function):
        """The table of tokens."""

        @staticmethod
        def forward(_: Any, read: Tensor, mark: int, shape: tuple[int, int]) -> Tensor:
            return torch.zeros(1).expand(*read.shape, shape[1])

        @staticmethod
        def symbolic(g: Any, read: Any, mark: int, shape: tuple[int, int]) -> Any:
            return g.op("Gather", _placeholder(g, mark, shape), read)

    def _placeholder(g: Any, mark: int, shape: tuple[int, int]) -> Any:
        size = g.op("Constant", value_t=torch.tensor(shape))
        return g.op("ConstantOfShape", size, value_t=torch.tensor([float(mark)]))

    def product(read: Tensor, module: nn.Linear, mark: int) -> Any:
        shape = module.in_features, module.out_features
        return Product.apply(read, module.bias, mark, shape)  # type: ignore[no-untyped-call]

    def lookup(read: Tensor, module: nn.Embedding, mark: int) -> Any:
        shape = module.num_embeddings, module.embedding_dim
        return Lookup.apply(read, mark, shape)  # type: ignore[no-untyped-call]

    matrices: list[Matrix] = []
    replaced: list[Any] = []
    table = model.get_submodule(TABLE)
    modules: list[Any] = list(model.modules())
    for module in modules:
        mark = FIRST_MARK + len(matrices)
        if isinstance(module, nn.Linear):
            vars(module)["forward"] = partial(product, module=module, mark=mark)
            matrices.append(partial(_transposed, module))
        elif module is table:
            vars(module)["forward"] = partial(lookup, module=module, mark=mark)
            matrices.append(partial(_values, module))
        else:
            continue
        replaced.append(module)
    try:
        yield matrices
    finally:
        for module in replaced:
            del module.forward


def _values(module: Any) -> NDArray[np.float32]:
    values: NDArray[np.float32] = module.weight.detach().numpy()
    return values


def _transposed(module: Any) -> NDArray[np.float32]:
    return _values(module).T


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
