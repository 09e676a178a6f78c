"""Times a bundle on this machine, by length of the audio and number of threads, alone or beside a baseline."""

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
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.benchmark import result
from edge_asr_deploy.harness.benchmark.fixed_lengths import RULE, fixed_lengths
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
from edge_asr_deploy.printing import note_line
from edge_asr_deploy.progress import Counter, Progress, shown
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.options import margin_of
from edge_asr_deploy.runtime.session import SessionSettings

# The load of other programs, in cores, above which the result carries a note about it.
BUSY = 0.5
Look = Callable[[], BoardState]


def run(bundle: Path, options: BenchOptions, console: Console | None = None, command: str | None = None) -> Benchmark:
    """Do what `edge-deploy bench` does: find baseline and speech, measure, print notes, write the output file.

    UserError for a damaged bundle, for unusable speech and for an output that cannot be written.
    """
    require_writable("--output", options.output)
    folder, wanted = baseline_folder(bundle, options.baseline), options.recorded
    utterances, _ = load_speech(options.data)
    audio = fixed_lengths(utterances, options.lengths)
    with shown(console) as progress:
        measured = bench(bundle, folder, audio, wanted, progress)
    measured = measured.model_copy(update={"command": command})
    if console:
        for note in measured.notes:
            console.print(note_line(note))
    if options.output is not None:
        write_output("--output", options.output, measured.model_dump_json(indent=1) + "\n")
    return measured


def bench(
    bundle: Path,
    baseline: Path | None,
    audio: Sequence[tuple[Utterance, result.FixedLength]],
    options: Options,
    progress: Progress,
    look: Look = board_state,
) -> Benchmark:
    """Time a bundle, in turn with a baseline if one is given. `look` reads the board's state.

    UserError when a bundle is damaged or its process dies.
    """
    folders = [bundle] if baseline is None else [bundle, baseline]
    manifests = [verify(folder) for folder in folders]
    options = options.model_copy(update={"audio_context": margin_of(manifests[0].family, options.audio_context)})
    wanted = [(options.target, options.audio_context), (None, None)][: len(folders)]
    subjects = [
        Subject(folder, language_options(folder, options.language), target, audio_context)
        for folder, (target, audio_context) in zip(folders, wanted, strict=True)
    ]
    clips = [utterance for utterance, _ in audio]
    here, cpu = environment(), cpu_features()
    notes = _notes(manifests, look())
    runs = []
    for threads in options.threads:
        settings = SessionSettings(threads=threads, accuracy_level=options.accuracy_level)
        stage = f"timing, {threads} thread{'s' if threads > 1 else ''}"
        clip_counter = Counter(progress, stage, len(clips) * len(subjects) * options.rounds)
        runs.append(_run(subjects, clips, settings, options.rounds, look, clip_counter))
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
        audio=[fixed_length for _, fixed_length in audio],
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
    clip_counter: Counter,
) -> Run:
    board = [look()]

    def clip_done() -> None:
        clip_counter()
        if clip_counter.done % (len(clips) * len(subjects)) == 0:
            board.append(look())

    timed = time_in_turn(subjects, clips, settings, rounds, len(clips), clip_done)
    disturbed = disturbances(board)
    times = [_times(subject_times, clips) for subject_times in timed]
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
    clips_and_timings = [(clip, answer.transcript.timings) for clip, answer in timed.answers if clip.id == name]
    clips, all_timings = zip(*clips_and_timings, strict=True)
    seconds = clips[0].seconds
    steps = [step for timings in all_timings for step in timings.per_token]
    totals = [timings.total for timings in all_timings]
    return LengthTimes(
        name=name,
        seconds=seconds,
        tokens=round(median(clip.tokens for clip in clips)),
        rtf=median(totals) / seconds,
        total_ms=milliseconds(totals),
        features_ms=milliseconds([timings.features for timings in all_timings]),
        encoder_ms=milliseconds([timings.encoder for timings in all_timings]),
        first_token_ms=milliseconds([timings.first_token for timings in all_timings]),
        per_token_ms=milliseconds(steps) if steps else None,
    )


def _compare(timed: Sequence[Timed], times: Sequence[Times], clips: Sequence[Utterance]) -> Comparison:
    """Ratios of times that were measured right after each other: round by round, clip by clip."""
    ratios: dict[str, list[float]] = {clip.id: [] for clip in clips}
    for (clip, _), (other, _) in zip(timed[0].answers, timed[1].answers, strict=True):
        ratios[clip.id].append(clip.total / other.total)
    return Comparison(
        all_lengths=speed_ratios(times[0].all_lengths, times[1].all_lengths),
        total={
            name: Ratio(value=median(of_rounds), low=min(of_rounds), high=max(of_rounds))
            for name, of_rounds in ratios.items()
        },
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
        notes.append(
            f"since boot the board had: {past}; only after a restart can it be seen whether this happens again"
        )
    load = os.getloadavg()[0]
    if load > BUSY:
        notes.append(f"other programs kept {load:.1f} cores busy in the last minute")
    return notes
