"""Prints a benchmark as tables, each narrow enough for 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from edge_asr_deploy.harness.benchmark.live import LiveBenchmark
from edge_asr_deploy.harness.benchmark.result import Benchmark, GraphProfile, Run, Soak, Times
from edge_asr_deploy.harness.evaluation.result import Percentiles
from edge_asr_deploy.harness.layout import FittedTable

MB = 1_000_000
MOST = 12


def bench_tables(benchmark: Benchmark) -> Iterator[FittedTable]:
    """Times by length for every number of threads; then the soak and the profile, if there are any."""
    for run in benchmark.runs:
        yield _lengths(benchmark, run)
        yield _whole(benchmark, run)
    if len(benchmark.runs) > 1:
        yield _threads(benchmark)
    if benchmark.soak:
        yield _soak(benchmark.soak)
    for profile in benchmark.profile:
        yield _profile(profile)


def live_table(measured: LiveBenchmark) -> FittedTable:
    """What a speaker notices."""
    table = FittedTable(
        title=f"{measured.name}, {measured.threads} thread(s): {measured.recordings} recordings, "
        f"{measured.seconds:.0f} s, played in real time",
        caption=f"{measured.environment.cpu}, onnxruntime {measured.environment.onnxruntime}; p50 / p90 / p99",
    )
    table.head("")
    table.head("measured", right=True)
    table.row("end of speech to final text, ms", _percentiles(measured.final_ms, 0))
    table.row("of which computing, ms", _percentiles(measured.work_ms, 0))
    if measured.first_partial_ms:
        table.row("begin of speech to first text, ms", _percentiles(measured.first_partial_ms, 0))
    table.row("words of partial texts that changed", f"{measured.revised_words:.1%}")
    table.row("processor, share of one core", f"{measured.cpu:.0%}")
    table.row("longest wait for the processor, ms", f"{measured.behind_ms:.0f}")
    table.row(f"{measured.rate}, live / whole files", f"{measured.wer:.2%} / {measured.wer_whole:.2%}")
    table.row("memory, first / last recording, MB", f"{measured.rss_first / MB:.1f} / {measured.rss_last / MB:.1f}")
    return table


def _lengths(benchmark: Benchmark, run: Run) -> FittedTable:
    environment = benchmark.environment
    table = FittedTable(
        title=f"{benchmark.bundle.name}, {run.threads} thread(s): milliseconds, p50",
        caption=f"{environment.cpu}, onnxruntime {environment.onnxruntime}, {benchmark.options.rounds} rounds; p90 and "
        "p99 are in the JSON",
    )
    for heading in ("audio", "encoder", "first", "per token", "in all", "p99", "RTF"):
        table.head(heading, right=heading != "audio")
    if run.baseline:
        table.head("ratio", right=True)
    for row in run.bundle.by_length:
        cells = [row.encoder_ms.p50, row.first_token_ms.p50]
        step = f"{row.per_token_ms.p50:.2f}" if row.per_token_ms else "-"
        ratio = []
        if run.baseline:
            ratio = [f"{run.comparison.total[row.name].value:.2f}" if run.comparison else "-"]
        ends = (f"{row.total_ms.p50:.1f}", f"{row.total_ms.p99:.1f}", f"{row.rtf:.4f}")
        table.row(row.name, *(f"{cell:.1f}" for cell in cells), step, *ends, *ratio)
    return table


def _whole(benchmark: Benchmark, run: Run) -> FittedTable:
    """All lengths together, beside the baseline."""
    named = [(benchmark.bundle.name, run.bundle)]
    if benchmark.baseline and run.baseline:
        named.insert(0, (benchmark.baseline.name, run.baseline))
    table = FittedTable(title="p50 / p90 / p99 over all lengths")
    table.head("")
    for name, _ in named:
        table.head(name, right=True)
    ratios = run.comparison.all_lengths if run.comparison else None
    if run.baseline:
        table.head("ratio", right=True)
    rows = [_figures(times) for _, times in named]
    against: list[float | None] = [None] * len(rows[0])
    if ratios:
        against = [ratios.load, ratios.encoder, ratios.first_token, None, ratios.tokens_per_second]
        against += [ratios.rtf, ratios.peak_rss]
    for index, (label, _) in enumerate(rows[0]):
        ratio = "-" if against[index] is None else f"{against[index]:.2f}"
        table.row(label, *(figures[index][1] for figures in rows), *([ratio] if run.baseline else []))
    return table


def _figures(times: Times) -> list[tuple[str, str]]:
    speed = times.all_lengths
    return [
        ("load, ms", _percentiles(times.load_ms, 0)),
        ("encoder, ms", _percentiles(speed.encoder_ms, 1)),
        ("first token, ms", _percentiles(speed.first_token_ms, 1)),
        ("per token, ms", _percentiles(speed.per_token_ms, 2) if speed.per_token_ms else "-"),
        ("tokens per second", f"{speed.tokens_per_second:.0f}" if speed.tokens_per_second else "-"),
        ("real-time factor", f"{speed.rtf:.4f}"),
        ("peak memory, MB", f"{speed.peak_rss / MB:.0f}"),
    ]


def _percentiles(times: Percentiles, digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in (times.p50, times.p90, times.p99))


def _threads(benchmark: Benchmark) -> FittedTable:
    table = FittedTable(title="threads")
    for heading in ("threads", "RTF", "encoder ms", "first ms", "tokens/s", "peak MB", "disturbed"):
        table.head(heading, right=True)
    for run in benchmark.runs:
        speed = run.bundle.all_lengths
        decoded = f"{speed.tokens_per_second:.0f}" if speed.tokens_per_second else "-"
        times = (f"{speed.rtf:.4f}", f"{speed.encoder_ms.p50:.1f}", f"{speed.first_token_ms.p50:.1f}", decoded)
        table.row(str(run.threads), *times, f"{speed.peak_rss / MB:.0f}", "yes" if run.disturbances else "no")
    return table


def _soak(soak: Soak) -> FittedTable:
    table = FittedTable(title=f"soak: {soak.seconds:.0f} s, {soak.threads} thread(s), {soak.passes} passes")
    table.head("")
    for heading in ("first", "last"):
        table.head(heading, right=True)
    table.row("memory, MB", f"{soak.rss_first / MB:.1f}", f"{soak.rss_last / MB:.1f}")
    table.row("real-time factor", f"{soak.rtf_first:.4f}", f"{soak.rtf_last:.4f}")
    slope = "too short" if soak.rss_per_minute is None else f"{soak.rss_per_minute / MB:+.3f}"
    table.row("memory slope, MB per minute", "", slope)
    table.row("peak memory, MB", "", f"{soak.peak_rss / MB:.1f}")
    first, last = soak.board[0].temperature, soak.board[-1].temperature
    if first is not None and last is not None:
        table.row("temperature, °C", f"{first:.0f}", f"{last:.0f}")
    return table


def _profile(profile: GraphProfile) -> FittedTable:
    part = {"encoder": "encoder", "step": "one decoder step"}[profile.part]
    table = FittedTable(title=f"{part}: {profile.ms:.2f} ms under the profiler, mean of {profile.runs}")
    for heading in ("operator", "nodes", "ms", "share", "slowest node"):
        table.head(heading, right=heading not in ("operator", "slowest node"))
    slowest = {node.kind: node.name for node in reversed(profile.nodes)}
    for operator in profile.operators[:MOST]:
        cells = (str(operator.nodes), f"{operator.ms:.3f}", f"{operator.share:.1%}")
        table.row(operator.kind, *cells, slowest.get(operator.kind, ""))
    rest = profile.operators[MOST:]
    if rest:
        share = sum(operator.share for operator in rest)
        ms = sum(operator.ms for operator in rest)
        table.row("others", str(sum(operator.nodes for operator in rest)), f"{ms:.3f}", f"{share:.1%}", "")
    table.row("outside operators", "", f"{profile.outside * profile.ms:.3f}", f"{profile.outside:.1%}", "")
    return table
