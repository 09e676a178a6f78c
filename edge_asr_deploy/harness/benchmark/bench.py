"""How fast a bundle is on this machine, by length of the audio and number of threads, alone or beside a baseline."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console

from edge_asr_deploy.bundle.manifest import Manifest, bundle_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.files import require_folder, write_output
from edge_asr_deploy.harness.benchmark import result
from edge_asr_deploy.harness.benchmark.fixed_lengths import RULE, stretches
from edge_asr_deploy.harness.benchmark.options import BenchOptions
from edge_asr_deploy.harness.benchmark.profiling import profile
from edge_asr_deploy.harness.benchmark.result import Benchmark, Comparison, LengthTimes, Options, Ratio, Run, Times
from edge_asr_deploy.harness.benchmark.soak import soak
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder, language_options
from edge_asr_deploy.harness.evaluation.measure import Subject, Timed, milliseconds, speed_of, time_in_turn
from edge_asr_deploy.harness.evaluation.score import speed_ratios
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import load_speech
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.harness.machine.state import BoardState, board_state, disturbances
from edge_asr_deploy.progress import Counter, Progress, shown
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.session import SessionSettings

# Load of other programs, in cores, above which a user should know of it.
BUSY = 0.5
Look = Callable[[], BoardState]


def run(bundle: Path, options: BenchOptions, console: Console | None = None, command: str | None = None) -> Benchmark:
    """What `edge-deploy bench` does: find baseline and speech, measure, say so on a console, write the output.

    UserError for a damaged bundle, and for speech or an output that cannot be used.
    """
    require_folder("--output", options.output)
    folder, wanted = baseline_folder(bundle, options.baseline), options.recorded
    utterances, _ = load_speech(options.data)
    audio = stretches(utterances, options.lengths)
    with shown(console) as progress:
        measured = bench(bundle, folder, audio, wanted, progress)
    measured = measured.model_copy(update={"command": command})
    if console:
        for note in measured.notes:
            console.print(f"Note: {note}.")
    if options.output is not None:
        write_output("--output", options.output, measured.model_dump_json(indent=1) + "\n")
    return measured


def bench(
    bundle: Path,
    baseline: Path | None,
    audio: Sequence[tuple[Utterance, result.Stretch]],
    options: Options,
    progress: Progress,
    look: Look = board_state,
) -> Benchmark:
    """Time a bundle, and a baseline in turn with it where one is given; `look` reads the board's state.

    UserError when a bundle is damaged or its process dies.
    """
    folders = [bundle] if baseline is None else [bundle, baseline]
    manifests = [verify(folder) for folder in folders]
    wanted = [(options.target, options.audio_context), (None, None)][: len(folders)]
    subjects = [
        Subject(folder, language_options(folder, options.language), *what)
        for folder, what in zip(folders, wanted, strict=True)
    ]
    clips = [utterance for utterance, _ in audio]
    here, cpu = environment(), cpu_features()
    notes = _notes(manifests, look())
    runs = []
    for threads in options.threads:
        settings = SessionSettings(threads=threads, accuracy_level=options.accuracy_level)
        stage = f"timing, {threads} thread{'s' if threads > 1 else ''}"
        advance = Counter(progress, stage, len(clips) * len(subjects) * options.rounds)
        runs.append(_run(subjects, clips, settings, options.rounds, look, advance))
    first = SessionSettings(threads=options.threads[0], accuracy_level=options.accuracy_level)
    soaked = None
    if options.soak:
        soaked = soak(subjects[0], clips, first, options.soak, look, progress)
    named = [_subject(folder, manifest) for folder, manifest in zip(folders, manifests, strict=True)]
    return Benchmark(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=named[0],
        baseline=named[1] if baseline else None,
        options=options,
        environment=here,
        target=cpu.target,
        cpu_flags=sorted(cpu.flags),
        rule=RULE,
        audio=[stretch for _, stretch in audio],
        runs=runs,
        soak=soaked,
        profile=profile(bundle, first, options.target) if options.profile else [],
        notes=notes,
    )


def _run(
    subjects: Sequence[Subject],
    clips: Sequence[Utterance],
    settings: SessionSettings,
    rounds: int,
    look: Look,
    advance: Counter,
) -> Run:
    board = [look()]

    def clip_done() -> None:
        advance()
        if advance.done % (len(clips) * len(subjects)) == 0:
            board.append(look())

    timed = time_in_turn(subjects, clips, settings, rounds, len(clips), clip_done)
    disturbed = disturbances(board)
    times = [_times(one, clips) for one in timed]
    is_compared = len(times) > 1 and not disturbed
    return Run(
        threads=settings.threads,
        bundle=times[0],
        baseline=times[1] if len(times) > 1 else None,
        comparison=_compare(timed, times, clips) if is_compared else None,
        board=board,
        disturbances=disturbed,
    )


def _times(timed: Timed, clips: Sequence[Utterance]) -> Times:
    return Times(
        load_ms=milliseconds(timed.loads),
        all_lengths=speed_of(timed),
        by_length=[_length_times(timed, clip.id) for clip in clips],
    )


def _length_times(timed: Timed, name: str) -> LengthTimes:
    heard = [(clip, answer.transcript.timings) for clip, answer in timed.answers if clip.id == name]
    seconds = heard[0][0].seconds
    steps = [step for _, timings in heard for step in timings.per_token]
    totals = [timings.total for _, timings in heard]
    return LengthTimes(
        name=name,
        seconds=seconds,
        tokens=round(median(clip.tokens for clip, _ in heard)),
        rtf=median(totals) / seconds,
        total_ms=milliseconds(totals),
        features_ms=milliseconds([timings.features for _, timings in heard]),
        encoder_ms=milliseconds([timings.encoder for _, timings in heard]),
        first_token_ms=milliseconds([timings.first_token for _, timings in heard]),
        per_token_ms=milliseconds(steps) if steps else None,
    )


def _compare(timed: Sequence[Timed], times: Sequence[Times], clips: Sequence[Utterance]) -> Comparison:
    """Ratios of neighbours in time: round by round, clip by clip."""
    ratios: dict[str, list[float]] = {clip.id: [] for clip in clips}
    for (clip, _), (other, _) in zip(timed[0].answers, timed[1].answers, strict=True):
        ratios[clip.id].append(clip.total / other.total)
    return Comparison(
        all_lengths=speed_ratios(times[0].all_lengths, times[1].all_lengths),
        total={name: Ratio(value=median(some), low=min(some), high=max(some)) for name, some in ratios.items()},
    )


def _subject(folder: Path, manifest: Manifest) -> result.Subject:
    return result.Subject(
        name=manifest.name,
        hash=bundle_hash(manifest),
        recipe=str(manifest.recipe.get("name", "")),
        model=manifest.model.name,
        model_sha256=manifest.model.sha256,
        versions=manifest.versions,
        size=size_of(folder),
    )


def _notes(manifests: Sequence[Manifest], state: BoardState) -> list[str]:
    notes = []
    if len({manifest.model.sha256 for manifest in manifests}) > 1:
        notes.append("the baseline was made from other weights than the bundle")
    if state.governor not in (None, "performance"):
        notes.append(
            f"the governor is {state.governor}: clocks change with the load; `performance` gives steadier times"
        )
    if state.flags_since_boot:
        past = ", ".join(state.flags_since_boot)
        notes.append(f"since boot the board had: {past}; whether it comes again is only seen after a restart")
    if (load := os.getloadavg()[0]) > BUSY:
        notes.append(f"other programs kept {load:.1f} cores busy in the last minute")
    return notes
