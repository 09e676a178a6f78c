"""Which tests are marked `fast`: together they touch every room of the package and take less than a minute.

The choice is made here and not in the test files, so that it can be read and measured as a whole. A path is relative
to `tests`; `path::test` is one test of a file, `path::test[whisper]` one case of it. Tests of real checkpoints and of
emulated processors are never fast.
"""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
FAST = (
    "analysis/test_statistics.py",
    "benchmarks/test_goals.py",
    "benchmarks/test_run.py",
    "boards/test_ssh.py::test_addresses",
    "boards/test_ssh.py::test_what_is_no_address_never_reaches_ssh",
    "checkpoints/test_cache.py",
    "checkpoints/test_ctranslate2.py",
    "checkpoints/test_folder.py",
    "checkpoints/test_moonshine.py",
    "checkpoints/test_resolve.py",
    "checkpoints/test_wheels.py",
    "cli/test_bench.py",
    "cli/test_doctor.py",
    "cli/test_evaluate.py",
    # The whole pipeline once, on a small random model.
    "cli/test_export.py::test_an_export_writes_a_whole_bundle",
    "cli/test_inspect.py",
    "cli/test_summary.py",
    "cli/test_transcribe.py",
    "corpora/test_defaults.py",
    "corpora/test_hub.py",
    "corpora/test_manifest.py",
    "corpora/test_normalize.py",
    "corpora/test_overlap.py",
    "corpora/test_utterance.py",
    "families/test_structure.py",
    "graph/test_frames.py",
    "graph/test_outliers.py",
    "graph/test_packing.py",
    # Exported graphs beside the model that they were made from: `proof`.
    "graph/test_rotation.py::test_a_rotated_model_is_exported[whisper]",
    "graph/test_weights.py",
    "harness/test_baseline.py",
    "harness/test_bench.py",
    "harness/test_board_state.py",
    "harness/test_bootstrap.py",
    "harness/test_charts.py",
    "harness/test_checks.py",
    "harness/test_cost.py",
    "harness/test_differences.py",
    "harness/test_doctor.py",
    "harness/test_durations.py",
    "harness/test_evaluate.py",
    "harness/test_facts.py",
    "harness/test_fixed_lengths.py",
    "harness/test_inspect.py",
    "harness/test_measure.py",
    "harness/test_soak.py",
    "harness/test_speech.py",
    "harness/test_transcripts.py",
    "harness/test_wer.py",
    "layouts/test_layouts.py",
    "layouts/test_page_runtime.py",
    "layouts/test_page_server.py",
    "layouts/test_web_form.py",
    "mixed/test_knapsack.py",
    "mixed/test_myqasr.py",
    "pack/test_archive.py",
    "pack/test_wheel.py",
    "ptq/test_activations.py",
    "ptq/test_calibration.py",
    "ptq/test_folding.py::test_a_fold_changes_the_layers_but_not_the_model[1-moonshine-model.encoder.layers.1.mlp.fc1]",
    "ptq/test_grid.py",
    "ptq/test_qep.py",
    "ptq/test_scaling.py",
    "ptq/test_transcripts.py",
    "ptq/test_two_level.py",
    "runtime/test_audio.py",
    "runtime/test_context.py",
    "runtime/test_cpu.py",
    "runtime/test_exact.py",
    "runtime/test_families.py",
    "runtime/test_features.py",
    "runtime/test_loops.py",
    "runtime/test_session.py",
    "runtime/test_targets.py",
    "runtime/test_text.py",
    "runtime/test_windows.py",
    "serve/test_hearing.py",
    "serve/test_options.py",
    "sweep/test_grid.py",
    "sweep/test_weights.py::test_codes_folds_and_stem_come_back_exactly[moonshine]",
    "test_bundle.py",
    "test_card.py",
    "test_ci.py",
    "test_dockerfile.py",
    "test_files.py",
    "test_import.py",
    "test_layout.py",
    "test_recipe_activations.py",
    "test_recipe_targets.py",
)
FILES = frozenset(name.partition("::")[0] for name in FAST)


def relative(path: Path) -> str:
    """The path of a test file as `FAST` has it."""
    return path.relative_to(TESTS).as_posix()


def is_fast(path: Path, name: str) -> bool:
    """True for a test that is chosen: by its file, by its name, or by its name with parameters."""
    file, function = relative(path), name.partition("[")[0]
    return not {file, f"{file}::{function}", f"{file}::{name}"}.isdisjoint(FAST)
