"""The smallest size whose word error rate rises no more than asked: candidates exported, run on onnxruntime, judged."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.analysis.measurements import Measurements
from edge_asr_deploy.experiments.mixed.document import as_yaml
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.files import write_atomically
from edge_asr_deploy.harness.evaluation.evaluate import evaluate
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.speech import load_speech
from edge_asr_deploy.pipeline import TooCoarse, export
from edge_asr_deploy.progress import shown
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.runtime.transcriber import Transcriber

# Word error rate only, and no cache of transcripts: every candidate transcribes once.
OPTIONS = EvaluateOptions(speed=False, cache=False)


@dataclass(frozen=True)
class Score:
    """A candidate on onnxruntime: bytes of its `*.onnx` files, and its rise in WER, absolute percentage points.

    `rise` is None where the export refused it as too coarse to speak.
    """

    size: int
    rise: float | None


class Scorer:
    """Exports recipes into `folder` and compares them with the float bundle there; scores are stored.

    With `data` (manifests with references) the rise is the difference of word error rates. Without, it is the word
    error rate against the float bundle's own text on `clips` of the calibration speech that calibrate nothing: every
    change counts, so it is no less than the real rise.
    """

    def __init__(
        self, request: ExportOptions, recipe: Recipe, data: Sequence[Path], clips: int, folder: Path, console: Console
    ) -> None:
        self.request, self.folder, self.console = request, folder, console
        self.has_references = bool(data)
        self.float = folder / "float"
        if data:
            self.utterances, self.speech = load_speech(data)
        else:
            self.utterances = held_out(recipe, clips)
            self.speech = f"{len(self.utterances)} held-out calibration clips, against the float bundle's own text"

    def prepare(self) -> None:
        """Export the float bundle and, without references, let it transcribe the speech."""
        if not (self.float / "manifest.json").exists():
            model, calibration = self.request.model, self.request.calibration
            export(ExportOptions(model=model, bits=32, output=self.float, calibration=calibration), self.console)
        manifest = verify(self.float)
        if not self.has_references:
            # Whatever is in a clip, what the float bundle writes for it is its reference.
            transcriber = Transcriber.open(self.float, verify=False, vad=False)
            texts = Measurements(self.folder, "float texts", bundle_hash(manifest))
            self.utterances = [
                replace(u, text=texts.measured(u.fingerprint(), lambda u=u: transcriber.transcribe(u.samples()).text))  # type: ignore[misc]
                for u in self.utterances
            ]

    def score(self, recipe: Recipe) -> Score:
        """Export and measure one candidate, unless that was done before."""
        text = as_yaml(recipe)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        key = [bundle_hash(read_manifest(self.float)), self.speech, *(u.id for u in self.utterances)]
        size, rise = Measurements(self.folder, "judged", *key).measured(name, lambda: self._measure(recipe, text, name))
        return Score(size, rise)

    def _measure(self, recipe: Recipe, text: str, name: str) -> tuple[int, float | None]:
        path, bundle = self.folder / f"{name}.yaml", self.folder / name
        write_atomically(path, text)
        request = replace(self.request, recipe=path, bits=None, settings=(), output=bundle, overwrite=True)
        try:
            export(request, self.console)
            with shown(self.console) as progress:
                baseline = self.float if self.has_references else None
                result = evaluate(bundle, baseline, self.utterances, self.speech, OPTIONS, progress)
        except TooCoarse:
            return 0, None
        finally:
            shutil.rmtree(bundle, ignore_errors=True)
        rise = result.comparison.wer_difference if result.comparison else result.bundle.accuracy.pooled.wer
        return result.bundle.size.onnx, 100 * rise


def smallest_within(number: int, rise: Callable[[int], float | None], limit: float) -> int | None:
    """Bisection over candidates 0 .. number - 1, sorted by size: the first whose rise is within `limit`, or None.

    Rises are taken to fall with size; None is one without end.
    """
    low, high, best = 0, number - 1, None
    while low <= high:
        middle = (low + high) // 2
        measured = rise(middle)
        if measured is not None and measured <= limit:
            best, high = middle, middle - 1
        else:
            low = middle + 1
    return best


def held_out(recipe: Recipe, clips: int) -> list[Utterance]:
    """`clips` of the calibration speech that the recipe's own draw leaves out. UserError when it leaves none."""
    wanted = recipe.calibration
    drawn, _ = calibration_corpus(wanted.corpus, wanted.number, wanted.seed, wanted.seconds)
    used = {utterance.fingerprint() for utterance in drawn}
    more, _ = calibration_corpus(wanted.corpus, wanted.number + 4 * clips, wanted.seed + 1, wanted.seconds)
    left = [utterance for utterance in more if utterance.fingerprint() not in used]
    if not left:
        remedy = "all of it calibrates; give --data MANIFEST to judge on, or a smaller calibration.number"
        raise UserError("calibration speech", f"{len(drawn)} clips", remedy)
    return left[:clips]
