"""What every model here has in common: blocks of Linear layers behind an encoder and a decoder, and one tied table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

Half = Literal["encoder", "decoder"]
# Pairs of layer and head.
Heads = tuple[tuple[int, int], ...]
# The parts of every model that a recipe decides on separately.
COMPONENTS = ("encoder", "cross_attention", "decoder", "embedding")
# Module paths that every family shares: the tied table as embedding and as vocabulary head.
TABLE, HEAD = "model.decoder.embed_tokens", "proj_out"
# What comes before the layer's number in the decoder's outputs with the queries of the cross-attention.
QUERIES = "queries."
# The smallest value of an activation function, by Transformers' name of it.
LOWEST = {"gelu": -0.17, "relu": 0.0}


@dataclass(frozen=True)
class StemPart:
    """A tensor in front of the blocks: a convolution over frames or a table of positions, by its module path.

    `reads`: the input of a convolution: a `waveform` (one channel, too little work for integers), the output of `gelu`,
    or other `features`.
    """

    path: str
    kind: Literal["convolution", "positions"] = "convolution"
    reads: Literal["waveform", "gelu", "features"] = "features"


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of the attention in one half of a model."""

    layers: int
    heads: int
    head_dim: int
    output: str
    """Name of the output projection in its module: `out_proj` or `o_proj`."""
    rotary: int = 0
    """Channels of a head that are rotated by position, 0 for none."""
    theta: float = 10000.0
    samples_per_frame: int = 0
    """How many entries of the mask over the encoder's input make one frame; 0 where there is no mask."""


@dataclass(frozen=True)
class Alignment:
    """Cross-attention heads (layer, head) of a decoder that follow the words, and how `late` they do, in seconds.

    `python -m benchmarks.alignment_heads` measures both; negative: they look ahead.
    """

    heads: Heads
    late: float = 0.0

    @classmethod
    def of_last_half(cls, layers: int, heads: int) -> Self:
        """All heads of the last half of the layers: what openai/whisper takes for an unknown model."""
        return cls(tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads)))


@dataclass(frozen=True)
class SharedInput:
    """Linear layers that read the same tensor, so that one set of input statistics serves them all.

    `paths` are module paths from the model's root. `norm` is the LayerNorm whose output they read, where they read one:
    a scale per input channel can be folded into it exactly. `source` is a Linear whose first output channels, one for
    each input channel here, reach these layers linearly: a scale can be folded into that Linear. `closes` is the
    attention module whose output the one layer here computes: once this layer is quantized, that attention need not be
    computed again. `lowest`: the smallest value that the layers can read, where one is known.
    """

    paths: tuple[str, ...]
    component: str
    norm: str | None = None
    source: str | None = None
    closes: str | None = None
    lowest: float | None = None


@dataclass(frozen=True)
class Block:
    """One transformer layer. `inputs` stand in the order in which data reaches them."""

    path: str
    inputs: tuple[SharedInput, ...]

    @property
    def readers(self) -> tuple[SharedInput, ...]:
        """The shared inputs that come from the residual stream, each through the LayerNorm that it names."""
        return tuple(shared for shared in self.inputs if shared.norm is not None)

    @property
    def writers(self) -> tuple[str, ...]:
        """The module paths of the Linears whose output is added to the residual stream: all other layers."""
        return tuple(path for shared in self.inputs if shared.norm is None for path in shared.paths)

    def stream_of(self, shared: SharedInput) -> str | None:
        """The LayerNorm that reads the residual stream to which these layers add; None where they add to none."""
        if shared.norm is not None:
            return None
        before = self.inputs[: self.inputs.index(shared)]
        return next((earlier.norm for earlier in reversed(before) if earlier.norm is not None), None)


@dataclass(frozen=True)
class Structure:
    """The quantizable parts of one checkpoint, all as module paths.

    The key and value projections of every decoder block's cross-attention read the encoder's output. They share one
    input, `cross`, which is in no block's `inputs`. `table` (the token embedding) and `head` (the vocabulary
    projection) are one tensor.
    """

    encoder: tuple[Block, ...]
    decoder: tuple[Block, ...]
    cross: SharedInput
    encoder_norm: str
    decoder_norm: str
    table: str
    head: str

    def shared_inputs(self) -> Iterator[SharedInput]:
        """Every shared input, in the order in which the model computes them: encoder, cross-attention K/V, decoder."""
        for block in self.encoder:
            yield from block.inputs
        yield self.cross
        for block in self.decoder:
            yield from block.inputs

    def components(self) -> dict[str, str]:
        """Module path -> component of every weight matrix that can be quantized; the table last."""
        linears = {path: shared.component for shared in self.shared_inputs() for path in shared.paths}
        return {**linears, self.table: "embedding"}


class Family(Protocol):
    """What is particular to one architecture. Configurations are Transformers', passed as they are."""

    @property
    def name(self) -> str:
        """`whisper` or `moonshine`."""

    @property
    def fixed_window(self) -> bool:
        """True when the encoder's input has one shape whatever the clip's length, so that clips can share a batch."""

    @property
    def stem(self) -> tuple[StemPart, ...]:
        """The tensors in front of the blocks, in data-flow order, the encoder's first."""

    @property
    def attention_blocks(self) -> int:
        """Into how many blocks of queries the encoder's attention is cut where it multiplies integers.

        The scores of one block are a few megabytes for a full window; a short clip's block is still worth its calls.
        """

    def structure(self, config: Any) -> Structure:
        """The module paths of a model with this configuration."""

    def attention(self, config: Mapping[str, Any], half: Half) -> AttentionShape:
        """The attention of the `encoder` or `decoder`, from a configuration as a mapping (`config.to_dict()`)."""

    def frames(self, samples: int, config: Any) -> int:
        """How many of the encoder's output frames hold audio, for that many samples at 16 kHz; the rest is padding."""

    def prompt(self, generation: Any, language: str | None, task: str | None) -> tuple[int, ...]:
        """The token ids that the decoder reads before the text, by Transformers' generation configuration."""

    def length_cap(self, samples: int) -> int | None:
        """The most tokens a clip of that many samples may become, where the family has such a rule."""


def attention(path: str, output: str, names: str = "qkv") -> tuple[tuple[str, ...], str]:
    """The paths of an attention's input projections (`q`, `k`, `v` or some of them) and of its output projection."""
    return tuple(f"{path}.{name}_proj" for name in names), f"{path}.{output}"


def convolutions(family: Family) -> tuple[StemPart, ...]:
    """The convolutions of a family's front end."""
    return tuple(part for part in family.stem if part.kind == "convolution")
