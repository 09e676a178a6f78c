"""The float model's activations beside those of the model that is being quantized, one copied block at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from edge_asr_deploy.ptq.calibration.stream import Stream


class Twin:
    """The float model's stream, through copies of the blocks that are taken before rounding."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._path, self._block = "", nn.Module()

    def enter(self, path: str, block: nn.Module, floats: Mapping[str, Tensor]) -> None:
        """Copy the block at `path` of the model. Parameters in `floats`, by their path, replace changed ones."""
        self._path, self._block = path, copy.deepcopy(block)
        for name, values in floats.items():
            if name.startswith(f"{path}."):
                with torch.no_grad():
                    self._block.get_parameter(name.removeprefix(f"{path}.")).copy_(values)

    def inputs(self, path: str) -> Iterator[Tensor]:
        """The float model's input of the layer at that path, for each utterance."""
        return self.stream.inputs(self._block, self._module(path))

    def ahead(self, path: str, inputs: Iterable[Tensor]) -> list[Tensor]:
        """The float model's inputs of the layer at that path less the given ones, for each utterance."""
        return [theirs - values for values, theirs in zip(inputs, self.inputs(path), strict=True)]

    def replay(self, attention: str, output: str, inputs: Sequence[Tensor]) -> None:
        """As `Stream.replay`, from the inputs of the attention's output projection; both by their module path."""
        linear = self._module(output)
        self.stream.replay(self._module(attention), [linear(values) for values in inputs])

    def leave(self) -> None:
        """Send the float model's stream through the copied block."""
        self.stream.pass_through(self._block)

    def _module(self, path: str) -> nn.Module:
        return self._block.get_submodule(path.removeprefix(f"{self._path}."))
