"""From records to figures: medians, spreads, word error rates, and which configurations count as accurate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.cells import FLOAT, OURS, RIVALS, Cell
from benchmarks.clips import BANDS, LONG
from benchmarks.store import DONE, FAILED, SKIPPED, Record
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled

# A configuration so many times slower than the fastest rival is timed no further: it cannot become the best one.
OUT, OUT_LONG = 2.0, 1.6
# Percentage points of word error rate above float within which a configuration counts as equally accurate.
TOLERANCE = 0.3
_SAME_WORDS = {(one.rival, one.name): one.accuracy_of for some in RIVALS.values() for one in some if one.accuracy_of}


@dataclass(frozen=True)
class Summary:
    """One configuration of one model at one number of threads; times are medians over rounds, in seconds.

    `seconds`: by band the sum over its clips. `rss`: the peak after all clips of at most 30 s, bytes, the median of
    later starts where there are some; `first_rss`: of the first one. `loads`: of every start, the first one first.
    `spread`: of a clip's times, (largest - smallest) / median, median over clips. `parts`: by band what our runtime
    tells of itself, in milliseconds. `long_rate`: WER of the long audio, %.
    """

    model: str
    threads: int
    rival: str
    name: str
    full_window: bool
    seconds: dict[str, float] = field(default_factory=dict)
    rtf: dict[str, float] = field(default_factory=dict)
    loads: tuple[float, ...] = ()
    rss: float | None = None
    first_rss: int | None = None
    bytes: int | None = None
    cores: float | None = None
    spread: float | None = None
    rounds: int = 0
    version: str = ""
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    long_rate: float | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """As tables name it."""
        return f"{self.rival} {self.name}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose word error rate is its own."""
        return self.model, self.rival, _SAME_WORDS.get((self.rival, self.name), self.name)

    @property
    def second_load(self) -> float | None:
        """Seconds to load at later starts, the median; None after a single start."""
        return median(self.loads[1:]) if len(self.loads) > 1 else None


def summaries(records: Iterable[Record], clips: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """One per model, threads and configuration, in order of appearance; `clips` as the store's head has them."""
    groups: dict[tuple[str, int, str, str], list[Record]] = defaultdict(list)
    for record in records:
        cell = record["cell"]
        one = cell["configuration"]
        groups[cell["model"], cell["threads"], one["rival"], one["name"]].append(record)
    return [_summary(group, {clip["id"]: clip for clip in clips}) for group in groups.values()]


def out_of_race(cell: Cell, records: Iterable[Record]) -> str | None:
    """Why a rival need not be timed again: in the first round it took far longer than the fastest rival did.

    Ours always runs. Only rounds after the first and the long audio can be spared.
    """
    one = cell.configuration
    name = one.accuracy_of or one.name
    is_first = cell.part == "clips" and cell.round == 0
    if one.is_ours or is_first or cell.part.startswith("wer:"):
        return None
    totals = {}
    for record in records:
        other = record["cell"]
        same = (other["model"], other["threads"], other["part"], other["round"]) == (
            cell.model,
            cell.threads,
            "clips",
            0,
        )
        if same and record["outcome"] == DONE and other["configuration"]["rival"] != OURS:
            key = other["configuration"]["rival"], other["configuration"]["name"]
            totals[key] = sum(row["wall"] for row in record["clips"])
    mine = totals.get((one.rival, name))
    if mine is None or not totals:
        return None
    factor = mine / min(totals.values())
    limit = OUT_LONG if cell.part == "long" else OUT
    return f"{factor:.1f} times the fastest rival's time in the first round" if factor > limit else None


Key = tuple[str, str, str]


@dataclass(frozen=True)
class Accuracy:
    """Word errors by (model, rival, configuration) and share of the speech (see `clips.shares`)."""

    counts: Mapping[Key, Mapping[str, WordCounts]]

    def rate(self, key: Key) -> float | None:
        """Word error rate in percent over all that the configuration heard."""
        shares = self.counts.get(key)
        return 100 * pooled(shares.values()).wer if shares else None

    def rise(self, key: Key) -> float | None:
        """Points above the float model, over the shares that both heard; None where there is none."""
        own, reference = self.counts.get(key, {}), self.counts.get((key[0], FLOAT.rival, FLOAT.name), {})
        both = own.keys() & reference.keys()
        if not both:
            return None
        return 100 * (pooled(own[one] for one in both).wer - pooled(reference[one] for one in both).wer)


def accuracy(records: Iterable[Record], texts: Mapping[str, str], normalize: Callable[[str], str]) -> Accuracy:
    """The word errors of what was heard; `texts` are the references by clip id."""
    found: dict[Key, dict[str, WordCounts]] = defaultdict(dict)
    for record in records:
        cell = record["cell"]
        if record["outcome"] == DONE:
            pairs = [(normalize(texts[row["id"]]), normalize(row["text"])) for row in record["clips"]]
            key = (cell["model"], cell["configuration"]["rival"], cell["configuration"]["name"])
            found[key][cell["part"]] = pooled(count(reference, heard) for reference, heard in pairs if reference)
    return Accuracy(found)


def _summary(group: Sequence[Record], clips: Mapping[str, Mapping[str, Any]]) -> Summary:
    cell = group[0]["cell"]
    one = cell["configuration"]
    done = [record for record in group if record["outcome"] == DONE]
    about = Summary(cell["model"], cell["threads"], one["rival"], one["name"], one["full_window"])
    values = {name: getattr(about, name) for name in ("model", "threads", "rival", "name", "full_window")}
    failed = next((record for record in group if record["outcome"] in (FAILED, SKIPPED)), None)
    problem = f"{failed['outcome']}: {failed['reason']}" if failed else None
    if not done:
        return Summary(**values, problem=problem)
    walls: dict[str, list[float]] = defaultdict(list)
    # The long part hears a short clip first, to warm up: that is no measurement.
    rows = [
        row
        for record in done
        for row in record["clips"]
        if record["cell"]["part"] != "long" or clips[row["id"]]["band"] == LONG
    ]
    for row in rows:
        walls[row["id"]].append(row["wall"])
    seconds: dict[str, float] = defaultdict(float)
    audio: dict[str, float] = defaultdict(float)
    for name, times in walls.items():
        seconds[clips[name]["band"]] += median(times)
        audio[clips[name]["band"]] += clips[name]["seconds"]
    repeated = [times for times in walls.values() if len(times) > 1]
    starts = sorted(done, key=lambda record: (record["cell"]["part"] != "clips", record["cell"]["round"]))
    peaks = [max(short) for record in starts if (short := _peaks(record, clips))]
    return Summary(
        **values,
        seconds=dict(seconds),
        rtf={band: total / audio[band] for band, total in seconds.items()},
        loads=tuple(record["load_seconds"] for record in starts),
        rss=median(peaks[1:] or peaks) if peaks else None,
        first_rss=peaks[0] if peaks else None,
        bytes=sum(done[0]["files"].values()),
        cores=sum(row["cpu"] for row in rows) / sum(row["wall"] for row in rows) if rows else None,
        spread=median((max(times) - min(times)) / median(times) for times in repeated) if repeated else None,
        rounds=sum(record["cell"]["part"] == "clips" for record in done),
        version=done[0]["version"],
        parts=_parts([row for row in rows if row.get("parts")], clips),
        facts=done[0]["facts"],
        long_rate=_long_rate(rows, clips),
        problem=problem,
    )


def _peaks(record: Record, clips: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Peak memory after each clip of at most 30 s; none of the long part, whose first clip only warms up."""
    is_long = record["cell"]["part"] == "long"
    return [] if is_long else [row["peak_rss"] for row in record["clips"] if clips[row["id"]]["band"] in BANDS]


def _long_rate(rows: Sequence[Record], clips: Mapping[str, Mapping[str, Any]]) -> float | None:
    normalize = normalizer("whisper-english")
    texts = [(clips[row["id"]]["text"], row["text"]) for row in rows if clips[row["id"]]["band"] == LONG]
    if not texts:
        return None
    return 100 * pooled(count(normalize(said), normalize(heard)) for said, heard in texts).wer


def _parts(rows: Sequence[Record], clips: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By band, milliseconds: features, encoder and first token per window, a later token; and tokens per clip."""
    bands: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        bands[clips[row["id"]]["band"]].append(row["parts"])
    found = {}
    for band in [name for name in (*BANDS, *sorted(bands.keys() - BANDS.keys() - {LONG}), LONG) if name in bands]:
        some = bands[band]
        per_window = {
            name: median(1000 * parts[name] / parts["windows"] for parts in some)
            for name in ("features", "encoder", "first_token")
        }
        steps = [1000 * step for parts in some for step in parts["per_token"]]
        rest = median(1000 * (p["total"] - p["features"] - p["encoder"] - p["decoder"]) / p["windows"] for p in some)
        tokens = median(parts["tokens"] for parts in some)
        found[band] = per_window | {"per_token": median(steps) if steps else 0.0, "rest": rest, "tokens": tokens}
    return found
