"""The result of a benchmark: the pydantic models behind `edge-deploy bench --json`.

Times are seconds unless the name says ms, sizes are bytes. A "ratio" is the bundle's value divided by the baseline's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.harness.evaluation.result import Percentiles, Size, Speed, SpeedRatios
from edge_asr_deploy.harness.machine.environment import Environment
from edge_asr_deploy.harness.machine.state import BoardState
from edge_asr_deploy.runtime.options import Margin


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Piece(_Model):
    """The first `seconds` of an utterance."""

    source: str
    id: str
    seconds: float


class FixedLength(_Model):
    """A clip of a fixed length and the pieces it was made of. Clips with equal fingerprints have equal samples."""

    name: str
    seconds: float
    fingerprint: str
    pieces: list[Piece]


class LengthTimes(_Model):
    """Times for audio of one length, over the rounds."""

    name: str
    seconds: float = Field(description="of audio")
    tokens: int = Field(description="median; two bundles may write different texts")
    rtf: float = Field(description="real-time factor: median processing time / audio time")
    total_ms: Percentiles = Field(description="end to end: features, encoder, decoder, text")
    features_ms: Percentiles
    encoder_ms: Percentiles
    first_token_ms: Percentiles = Field(description="the decoder's first call of every window")
    per_token_ms: Percentiles | None = Field(description="its later calls; null when there were none")


class Times(_Model):
    """Times of one bundle in fresh processes that hold nothing else."""

    load_ms: Percentiles = Field(description="in a fresh process; the files are in the page cache")
    all_lengths: Speed
    by_length: list[LengthTimes]


class Ratio(_Model):
    """The median of the rounds' ratios, with the lowest and the highest."""

    value: float
    low: float
    high: float


class Comparison(_Model):
    """Bundle / baseline, timed in turn. A ratio below 1 is better, except for tokens per second."""

    all_lengths: SpeedRatios
    total: dict[str, Ratio] = Field(description="end to end, by length")


class Run(_Model):
    """Bundle and baseline at one number of threads."""

    threads: int
    bundle: Times
    baseline: Times | None
    comparison: Comparison | None = Field(description="null without a baseline, and when something disturbed the run")
    board: list[BoardState] = Field(description="before, and after every round")
    disturbances: list[str] = Field(description="why these times cannot be compared; empty when they can")


class Soak(_Model):
    """One process under load for a while. RSS is its resident memory."""

    seconds: float
    threads: int
    passes: int = Field(description="how often all lengths were transcribed; the first warms up")
    rss_first: int = Field(description="after the first pass")
    rss_last: int
    peak_rss: int
    rss_per_minute: float | None = Field(description="slope, bytes; null when there were fewer than three passes")
    rtf_first: float = Field(description="of the second pass, or the only one")
    rtf_last: float
    board: list[BoardState]
    disturbances: list[str]


class OperatorTime(_Model):
    """All nodes of one kind in one run of a graph; `share` is of the whole run."""

    kind: str
    nodes: int
    ms: float
    share: float


class NodeTime(_Model):
    """One node of a graph in one run."""

    name: str
    kind: str
    ms: float
    share: float


class GraphProfile(_Model):
    """Where the time of one run goes, as onnxruntime's profiler sees it, mean over `runs`.

    Profiling itself costs time, most of all for small operators. Use the shares; take times from an unprofiled run.
    """

    part: Literal["encoder", "step"]
    runs: int
    ms: float
    outside: float = Field(description="share that no operator accounts for: the executor, and the profiler itself")
    operators: list[OperatorTime] = Field(description="by time; the operators inside an If count themselves")
    nodes: list[NodeTime] = Field(description="the slowest")


class Subject(_Model):
    """A bundle that was timed. `versions` are those of the packages that exported it."""

    name: str
    hash: str
    recipe: str
    model: str
    model_sha256: str
    versions: dict[str, str]
    size: Size


class Options(_Model):
    """The options that the benchmark ran with."""

    threads: tuple[int, ...] = (2,)
    accuracy_level: int | None = Field(None, description="of onnxruntime's MatMulNBits; null: its default, 4")
    target: str | None = Field(None, description="whose graphs of the bundle were asked for; null: the CPU's")
    audio_context: Margin = Field(
        None,
        description="seconds after the clip that Whisper's encoder is given; auto: the bundle's own; null: its window. "
        "Not the baseline's",
    )
    language: str = "en"
    lengths: tuple[float, ...]
    rounds: int = 5
    soak: float = 0.0
    profile: bool = False


class Benchmark(_Model):
    """The whole benchmark, as written to JSON."""

    schema_version: Literal[1] = 1
    created: str
    command: str | None = None
    bundle: Subject
    baseline: Subject | None
    options: Options
    environment: Environment
    target: str = Field(description="the deployment target that this CPU's features mean")
    cpu_flags: list[str]
    rule: str = Field(description="how the audio was made")
    audio: list[FixedLength]
    runs: list[Run]
    soak: Soak | None
    profile: list[GraphProfile]
    notes: list[str]

    @property
    def disturbances(self) -> list[str]:
        """The disturbances of all runs, without repetitions."""
        return list(dict.fromkeys(disturbance for run in self.runs for disturbance in run.disturbances))
