"""Writing graphs to files, their weights inside or in a data file that several graphs share."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.editing import tidy

# A protobuf file is limited to 2 GB: from this size on weights go into a data file beside it.
EXTERNAL_DATA_BYTES = 1_500_000_000
# Shapes and axes stay in the graph, where onnx's shape inference reads them.
SMALLEST = 256
# Alignment of each tensor in a data file, in bytes: enough for the widest loads of any kernel.
ALIGNMENT = 64


class SharedData:
    """A data file that holds each tensor once, however many graphs read it: tensors of equal bytes share their place.

    It must lie in the folder of the graphs: onnxruntime reads no data from elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[bytes, int] = {}

    def take(self, model: ir.Model) -> None:
        """Move the weights of a model and of its branches here."""
        with self.path.open("ab") as file:
            for graph in model.graphs():
                for value in graph.initializers.values():
                    tensor = value.const_value
                    if tensor is None or tensor.nbytes < SMALLEST:
                        continue
                    raw = tensor.tobytes()
                    key = hashlib.sha256(raw).digest()
                    if key not in self._places:
                        file.write(bytes(-file.tell() % ALIGNMENT))
                        self._places[key] = file.tell()
                        file.write(raw)
                    value.const_value = ir.ExternalTensor(
                        self.path.name,
                        self._places[key],
                        len(raw),
                        tensor.dtype,
                        shape=ir.Shape(tensor.shape.numpy()),
                        name=str(value.name),
                        base_dir=self.path.parent,
                    )


def save(model: ir.Model, path: Path, data: SharedData | None = None) -> None:
    """Write a tidied model, its weights into `data` where that is given."""
    tidy(model)
    if data is not None:
        data.take(model)
        ir.save(model, path)
        return
    total = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}_data" if total > EXTERNAL_DATA_BYTES else None)
