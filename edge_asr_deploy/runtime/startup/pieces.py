"""Unpacks the codes of a graph one matrix at a time, before onnxruntime optimizes it.

Operators that unpack codes are folded when a session is created, and onnxruntime keeps every value in between until all
are folded: for int8 matrices four more bytes a weight. Here each matrix is computed by a session of its own and written
to a file, from which the optimizing session maps it. It is what onnxruntime would fold, by the same kernels.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.runtime.startup.parts import Node, Tensor, head_of, name_of, name_of_tensor, node_of, tensor_of
from edge_asr_deploy.runtime.startup.protobuf import Field, content, fields, header, number

DATA = "weights.data"
# A tensor of so many bytes goes into the data file; what unpacks fewer is left to onnxruntime.
LARGE, WORTHWHILE = 1024, 65536
# Of each tensor in the data file: a page of the system.
ALIGNMENT = 4096
EXTERNAL = 1


def unpack_codes(path: Path, folder: Path, worthwhile: int = WORTHWHILE) -> Path:
    """Write the graph of a model file into `folder`, its codes unpacked, and its weights beside it; returns its path.

    What unpacks fewer bytes than `worthwhile` is left to onnxruntime. Any exception where the file is no model, or its
    codes cannot be unpacked.
    """
    written = folder / path.name
    # Closed with the last view of it.
    with path.open("rb") as file, (folder / DATA).open("wb") as data:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        written.write_bytes(_Unpacking(path.parent, mapped, data, worthwhile).model())
    return written


class _Unpacking:
    """One graph on its way into another file."""

    def __init__(self, folder: Path, mapped: mmap.mmap, data: BinaryIO, worthwhile: int) -> None:
        self.folder, self.mapped, self.data, self.worthwhile = folder, mapped, data, worthwhile
        self.opsets = b""

    def model(self) -> bytes:
        """The new model."""
        parts = list(fields(memoryview(self.mapped)))
        self.opsets = b"".join(bytes(part.raw) for part in parts if part.number in (1, 8))
        return b"".join(content(7, self.graph(part.bytes)) if part.number == 7 else bytes(part.raw) for part in parts)

    def graph(self, raw: memoryview) -> bytes:
        """A graph, or that of a branch."""
        parts = list(fields(raw))
        nodes = [node_of(part.bytes) for part in parts if part.number == 1]
        tensors = {one.name: one for one in (tensor_of(part.bytes) for part in parts if part.number == 5)}
        outputs = [name_of(part.bytes) for part in parts if part.number == 12]
        fed = {name_of(part.bytes) for part in parts if part.number == 11}
        constant = tensors.keys() - fed
        made: dict[str, int] = {}
        for index, node in enumerate(nodes):
            if node.unpacks and all(not name or name in constant or name in made for name in node.inputs):
                made |= dict.fromkeys(node.outputs, index)
        wanted = [*outputs, *(name for node in nodes for name in node.captured)]
        wanted += [name for i, node in enumerate(nodes) if made.get(node.outputs[0]) != i for name in node.inputs]
        finals = [name for name in dict.fromkeys(wanted) if name in made]
        folded: set[int] = set()
        written = b""
        for group in _groups(finals, nodes, made):
            used = [name for i in group.nodes for name in nodes[i].inputs if name in constant]
            if sum(tensors[name].size for name in dict.fromkeys(used)) < self.worthwhile:
                continue
            folded |= group.nodes
            chosen = [nodes[i] for i in sorted(group.nodes)]
            for name, array in self.computed(chosen, [tensors[n] for n in dict.fromkeys(used)], group.finals):
                written += content(5, self.stored(head_of(name, array), array.reshape(-1).view(np.uint8).data))
        read = Counter(outputs)
        for index, node in enumerate(nodes):
            if index not in folded:
                read.update((*node.inputs, *node.captured))
        return b"".join(self.rewritten(parts, nodes, tensors, folded, read)) + written

    def rewritten(
        self,
        parts: Iterable[Field],
        nodes: list[Node],
        tensors: dict[str, Tensor],
        folded: set[int],
        read: Counter[str],
    ) -> Iterator[bytes]:
        """The fields of a graph without what was folded, its large tensors outside."""
        index = -1
        for part in parts:
            if part.number == 1:
                index += 1
                if index not in folded:
                    yield content(1, self.node(part.bytes))
            elif part.number == 5:
                tensor = tensors[name_of_tensor(part.bytes)]
                if read[tensor.name]:
                    yield content(5, self.moved(tensor))
            else:
                yield bytes(part.raw)

    def node(self, raw: memoryview) -> bytes:
        """A node, its branches rewritten."""
        result = b""
        for part in fields(raw):
            inner = list(fields(part.bytes)) if part.number == 5 else []
            if any(one.number == 6 for one in inner):
                attribute = b"".join(
                    content(6, self.graph(one.bytes)) if one.number == 6 else bytes(one.raw) for one in inner
                )
                result += content(5, attribute)
            else:
                result += bytes(part.raw)
        return result

    def moved(self, tensor: Tensor) -> bytes:
        """A tensor whose bytes lie in the data file from now on if they are many, else in the graph."""
        if tensor.data is None and tensor.place is None:
            return bytes(tensor.raw)
        raw = self.bytes_of(tensor)
        return tensor.head + content(9, bytes(raw)) if tensor.size < LARGE else self.stored(tensor.head, raw)

    def bytes_of(self, tensor: Tensor) -> memoryview:
        """Its bytes, from wherever they lie."""
        if tensor.data is not None:
            return tensor.data
        assert tensor.place is not None
        name, offset = tensor.place
        with (self.folder / name).open("rb") as file:
            file.seek(offset)
            return memoryview(file.read(tensor.size))

    def stored(self, head: bytes, raw: memoryview) -> bytes:
        """A tensor of these bytes, written to the data file; the system may drop what was read of the old one."""
        self.data.write(bytes(-self.data.tell() % ALIGNMENT))
        place = {"location": DATA, "offset": str(self.data.tell()), "length": str(len(raw))}
        self.data.write(raw)
        self.mapped.madvise(mmap.MADV_DONTNEED)
        pairs = b"".join(content(13, content(1, key) + content(2, value)) for key, value in place.items())
        return head + pairs + number(14, EXTERNAL)

    def computed(
        self, nodes: Iterable[Node], tensors: Iterable[Tensor], names: list[str]
    ) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """The values of these names, computed by these nodes from these tensors."""
        # Joined once, as a vocabulary's codes are of tens of megabytes.
        parts: list[bytes | memoryview] = [content(2, "pieces"), *(content(1, bytes(node.raw)) for node in nodes)]
        parts += [content(12, content(1, name)) for name in names]
        for tensor in tensors:
            if tensor.place is None:
                parts += [header(5, len(tensor.raw)), tensor.raw]
            else:
                raw = self.bytes_of(tensor)
                before = tensor.head + header(9, len(raw))
                parts += [header(5, len(before) + len(raw)), before, raw]
        model = b"".join([self.opsets, header(7, sum(map(len, parts))), *parts])
        del parts
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        del model
        self.mapped.madvise(mmap.MADV_DONTNEED)
        yield from zip(names, session.run(names, {}), strict=True)


@dataclass
class _Group:
    """Values that are computed together since some nodes make parts of several."""

    finals: list[str]
    nodes: set[int]


def _groups(finals: Iterable[str], nodes: list[Node], made: dict[str, int]) -> list[_Group]:
    groups: list[_Group] = []
    for final in finals:
        needed: set[int] = set()
        waiting = [made[final]]
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                waiting += [made[name] for name in nodes[index].inputs if name in made]
        joined = _Group([final], needed)
        apart = []
        for group in groups:
            if group.nodes & needed:
                joined = _Group([*group.finals, *joined.finals], group.nodes | joined.nodes)
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups
