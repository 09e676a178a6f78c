"""Which heads of a bundle's cross-attention follow the words: `python -m benchmarks.alignment_heads BUNDLE`.

Every head alone aligns the clips of `words_timing`, whose words have times; the best one is joined by others while that
lowers the error. Heads are chosen on every second clip, and the error is shown on the others. What it prints goes into
`families/`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.word_times import MANIFEST, Clip, Timed, clips, differences
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import Heads
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.recording import Recorded, Wanted
from edge_asr_deploy.runtime.engine import Engine, Job
from edge_asr_deploy.runtime.times.alignment import token_frames
from edge_asr_deploy.runtime.times.words import timed_words
from edge_asr_deploy.runtime.transcriber import Transcriber

MOST = 8
# Of so many heads, the best alone, others are taken.
CANDIDATES = 12


@dataclass(frozen=True)
class Decoded:
    """A clip with the tokens that were decoded and the attention of all heads."""

    clip: Clip
    tokens: tuple[int, ...]
    recorded: Recorded
    prompt: int


def decoded(engine: Engine, folder: Path) -> list[Decoded]:
    """Every clip once, with everything written down."""
    wanted = Wanted(tuple(sorted(engine.decoder.layers_with_queries)))
    found = []
    for clip in clips(folder):
        [window], _ = engine.windows([clip.samples], Job(engine.family.prompt("en", None), None, wanted=wanted))
        assert window.decoded.recorded is not None
        found.append(Decoded(clip, window.decoded.tokens, window.decoded.recorded, window.prompt))
    return found


def errors(engine: Engine, heard: Sequence[Decoded], heads: Heads) -> NDArray[np.float64]:
    """Differences of starts and ends of all words that were heard right, in seconds: (words, 2)."""
    found = []
    for one in heard:
        frames = max(1, round(len(one.clip.samples) / SAMPLE_RATE / engine.family.frame_seconds))
        starts = token_frames(one.recorded, heads, frames, one.prompt)
        seconds = np.append(starts, frames)[: len(one.tokens) + 1] * engine.family.frame_seconds
        words = timed_words(engine.text.pieces(one.tokens), seconds, None)
        found.append(differences(one.clip.words, [Timed(word.start, word.end, word.text) for word in words]))
    return np.concatenate(found)


def spread(differences_: NDArray[np.float64]) -> float:
    """The mean absolute error less a constant delay."""
    return float(np.abs(differences_ - np.median(differences_)).mean())


def chosen(engine: Engine, heard: Sequence[Decoded], layers: int, heads: int) -> Heads:
    """The best head, and others while they lower the error."""
    every = [((layer, head),) for layer in range(layers) for head in range(heads)]
    ranked = sorted(every, key=lambda one: spread(errors(engine, heard, one)))
    best: Heads = ranked[0]
    least = spread(errors(engine, heard, best))
    candidates = [one[0] for one in ranked[1:CANDIDATES]]
    while len(best) < MOST and candidates:
        scored = [(spread(errors(engine, heard, (*best, one))), one) for one in candidates]
        error, one = min(scored)
        if error >= least:
            break
        best, least = (*best, one), error
        candidates.remove(one)
    return tuple(sorted(best))


def main() -> None:
    """Print heads and errors for the bundle named on the command line."""
    bundle, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else MANIFEST
    engine = Transcriber.open(bundle, threads=1, audio_context="full").engine
    if not engine.decoder.layers_with_queries:
        raise UserError("bundle", bundle, "was exported before word times; export it again")
    heard = decoded(engine, folder)
    layers, [keys, *_] = len(engine.decoder.layers_with_queries), [*heard[0].recorded.keys.values()]
    heads = chosen(engine, heard[::2], layers, len(keys))
    for name, one in (("used now", engine.family.alignment.heads), ("chosen", heads)):
        off = errors(engine, heard[1::2], one)
        late, rest = np.median(off), 1000 * spread(off)
        print(f"{name}: {one}: {1000 * late:+.0f} ms late, {rest:.0f} ms mean absolute error without that")


if __name__ == "__main__":
    main()
