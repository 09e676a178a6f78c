"""The result of an evaluation: the pydantic models behind `edge-deploy evaluate --json`.

Rates are fractions, times are seconds unless the name says ms, sizes are bytes. A "ratio" is the bundle's value divided
by the baseline's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.corpora.normalize import Rate
from edge_asr_deploy.harness.machine.environment import Environment

Interval = tuple[float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WordErrors(_Model):
    """The pooled error rate of a set of utterances, with its 95 % bootstrap interval."""

    wer: float = Field(description="errors / words; what is counted as a word says `Accuracy.rate`")
    interval: Interval
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int


class Row(_Model):
    """One utterance: both texts before normalization, and the errors between them after normalization."""

    id: str
    source: str
    seconds: float
    reference: str
    hypothesis: str
    substitutions: int
    deletions: int
    insertions: int
    words: int
    tokens: int
    windows: int
    runaway: bool = Field(description="the text repeats itself without end, or did so until the repetitions were cut")
    empty: bool
    hit_length_cap: bool
    fallbacks: int = Field(0, description="windows transcribed again with their full context")

    @property
    def errors(self) -> int:
        """Word errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions


class Leaderboard(_Model):
    """A second count of the same texts, as the Open ASR leaderboard counts: see `evaluation.leaderboard`."""

    name: str = Field(description="of the normalizer")
    version: str = Field(description="of the rules and of the packages that apply them")
    pooled: WordErrors | None = Field(description="null where no reference has a word left")
    by_corpus: dict[str, WordErrors]
    mean_of_corpora: float | None


class Accuracy(_Model):
    """Errors over all utterances and by corpus, and counts of outputs that failed as a whole."""

    rate: Rate = Field("WER", description="CER: every `wer` and `words` here and in the comparison counts characters")
    pooled: WordErrors
    by_corpus: dict[str, WordErrors]
    mean_of_corpora: float | None = Field(
        None, description="unweighted mean of their WERs, as the Open ASR leaderboard averages; null for one corpus"
    )
    runaway: int
    empty: int
    hit_length_cap: int
    fallbacks: int = Field(0, description="windows transcribed again with their full context")
    leaderboard: Leaderboard | None = Field(None, description="the same texts counted as the Open ASR leaderboard does")
    rows: list[Row]


class Unreadable(_Model):
    """A clip that is not judged, because its audio cannot be read."""

    id: str
    source: str
    reason: str


class Percentiles(_Model):
    """Median and tail of a time."""

    p50: float
    p90: float
    p99: float


class Clip(_Model):
    """One timed transcription."""

    id: str
    round: int
    seconds: float = Field(description="of audio")
    total: float = Field(description="processing time, seconds")
    tokens: int


class Speed(_Model):
    """Times of one bundle in fresh processes that hold nothing else. Clips of bundle and baseline ran in turn."""

    load_seconds: float = Field(description="median over the rounds; the files are in the page cache")
    rtf: float = Field(description="real-time factor: processing time / audio time, over all timed clips")
    tokens_per_second: float | None = Field(description="decoder steps after the first, over the time they took")
    first_token_ms: Percentiles = Field(description="the decoder's first call: prompt and cross-attention K/V")
    per_token_ms: Percentiles | None = Field(description="the decoder's later steps; null when there were none")
    encoder_ms: Percentiles = Field(description="per clip")
    features_ms: Percentiles = Field(description="per clip")
    peak_rss: int = Field(description="bytes, highest over the rounds, of the whole process")
    rounds: int
    clips: list[Clip]


class Size(_Model):
    """Bytes on disk."""

    encoder: int
    decoder: int
    onnx: int = Field(description="all *.onnx and their data files")
    other: int = Field(description="configuration, tokenizer, manifest")

    @property
    def total(self) -> int:
        """Everything in the folder."""
        return self.onnx + self.other


class Measured(_Model):
    """All measurements of one bundle."""

    name: str
    hash: str
    recipe: str
    model: str
    model_sha256: str
    size: Size
    accuracy: Accuracy
    speed: Speed | None


class SpeedRatios(_Model):
    """Speed and memory, bundle / baseline, from one run. A ratio below 1 is better, except for tokens per second."""

    load: float
    rtf: float
    tokens_per_second: float | None
    first_token: float = Field(description="of the medians")
    encoder: float = Field(description="of the medians")
    peak_rss: float


class Difference(_Model):
    """The error rate of a bundle minus its baseline's."""

    wer_difference: float
    interval: Interval = Field(description="95 %, paired bootstrap")


class Comparison(_Model):
    """A bundle compared with its baseline on the same utterances; the speeds are from the same run."""

    wer_difference: float
    interval: Interval = Field(description="95 %, paired bootstrap")
    no_worse_share: float = Field(description="share of utterances with no more word errors than the baseline")
    same_text_share: float = Field(description="share of utterances whose text equals the baseline's")
    size_ratio: float = Field(description="of all *.onnx and their data files")
    speed: SpeedRatios | None
    leaderboard: Difference | None = Field(None, description="of the second score, see `Accuracy.leaderboard`")


class Settings(_Model):
    """The options that the evaluation ran with."""

    target: str = Field("generic", description="whose graphs of the bundle ran")
    threads: int
    accuracy_level: int = Field(description="of onnxruntime's MatMulNBits")
    accuracy_level_note: str
    audio_context: str = Field("full window", description="of the bundle; a baseline is given full windows")
    language: str
    seed: int


class NormalizerName(_Model):
    """The normalizer that was applied to all texts before errors were counted."""

    name: str
    version: str


class Result(_Model):
    """The whole measurement, as written to JSON."""

    schema_version: Literal[1] = 1
    created: str
    command: str | None = Field(None, description="the command line that made it")
    speech: str = Field(description="which speech was used")
    corpora: dict[str, int] = Field(description="utterances by corpus")
    dropped: int = Field(description="utterances without a reference, or with one that normalizes to nothing")
    unreadable: list[Unreadable] = Field([], description="clips left out with --skip-unreadable")
    normalizer: NormalizerName
    settings: Settings
    environment: Environment
    bundle: Measured
    baseline: Measured | None
    comparison: Comparison | None
    notes: list[str]

    @property
    def rate(self) -> Rate:
        """WER or CER: what every rate of this result is."""
        return self.bundle.accuracy.rate

    @property
    def judged_on(self) -> tuple[object, ...]:
        """Equal for results whose rates may be compared: of the same utterances, counted alike."""
        rows = self.bundle.accuracy.rows
        return (self.rate, self.normalizer.name, tuple((row.source, row.id, row.reference) for row in rows))
