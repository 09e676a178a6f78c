"""Six languages, float beside quantized: `python -m benchmarks.languages FLOAT BUNDLE... --data FOLDER --store FOLDER`.

The speech is `more/` of `--data` (default: EDGE_ASR_DATA): telephone prompts in Spanish, French, Italian and Russian,
acted dialogue in Dutch and Czech. Each bundle hears each clip with its language detected, and given where it was
detected wrongly (else the two are the same). Clips that one of the bundles was calibrated on are left out for all.
Prints Markdown: word error rates of the first bundle and the rise of the others, by Whisper's basic normalizer with and
without marks on letters; languages detected; errors by kind. `--store` keeps what was heard: another run goes on there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from whisper_normalizer.basic import BasicTextNormalizer

from benchmarks.heard import KINDS, RATE, Errors, Heard, Listener, arguments, by_set, kinds, table, unseen
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import Utterance

SETS = {
    "asterisk_es": "es",
    "asterisk_fr": "fr",
    "asterisk_it": "it",
    "asterisk_ru": "ru",
    "fillets_nl": "nl",
    "fillets_cs": "cs",
}
GIVEN, DETECTED = "given", "detected"


@dataclass(frozen=True)
class Case:
    """A clip of a set, and what one bundle heard, by how the language was told."""

    clips: str
    utterance: Utterance
    heard: dict[str, Heard]


def scorers() -> dict[str, Callable[[str], str]]:
    """Whisper's basic normalizer as it is and without marks on letters; Russian texts mostly write е for ё."""
    rules = {"marks dropped": BasicTextNormalizer(remove_diacritics=True), "marks kept": BasicTextNormalizer()}

    def scorer(rule: Callable[[str], str]) -> Callable[[str], str]:
        return lambda text: " ".join(rule(text.lower().replace("ё", "е")).split())

    return {name: scorer(rule) for name, rule in rules.items()}


def cases(listener: Listener, speech: dict[str, list[Utterance]]) -> list[Case]:
    """What a bundle hears in every clip."""
    found = []
    for name, utterances in speech.items():
        for utterance in utterances:
            samples = utterance.samples()
            detected = listener.hear(samples)
            given = detected if detected.language == SETS[name] else listener.hear(samples, SETS[name])
            found.append(Case(name, utterance, {DETECTED: detected, GIVEN: given}))
    return found


def errors_of(found: Sequence[Case], how: str, scorer: Callable[[str], str]) -> list[Errors]:
    """The errors in every clip."""
    return [Errors.of(scorer(one.utterance.text or ""), scorer(one.heard[how].text), one.heard[how]) for one in found]


def report(everything: dict[str, list[Case]], hours: float) -> str:
    """All tables, of bundles by name; the first is the one that the others are compared with."""
    sets = [one.clips for one in next(iter(everything.values()))]
    parts = []
    for how in (GIVEN, DETECTED):
        for name, scorer in scorers().items():
            scored: dict[str, Sequence[Errors]] = {
                bundle: errors_of(found, how, scorer) for bundle, found in everything.items()
            }
            parts.append(f"Language {how}, {name}:\n\n{by_set(sets, scored)}")
    parts.append(detection(everything))
    scorer = scorers()["marks dropped"]
    for how in (GIVEN, DETECTED):
        rows = [kinds(bundle, errors_of(found, how, scorer), hours) for bundle, found in everything.items()]
        parts.append(f"Errors by kind, language {how}, marks dropped:\n\n{table(KINDS, rows)}")
    return "\n\n".join(parts)


def detection(everything: dict[str, list[Case]]) -> str:
    """How often the language is right, and how often it is what the first bundle detects."""
    first = next(iter(everything.values()))
    named = [one.heard[DETECTED].language for one in first]
    rows = []
    for bundle, found in everything.items():
        languages = [one.heard[DETECTED].language for one in found]
        # A clip in which no speech is found is heard in no language.
        right = sum(language == SETS[one.clips] for language, one in zip(languages, found, strict=True))
        same = sum(language == other for language, other in zip(languages, named, strict=True))
        rows.append([bundle, *(f"{n} of {len(found)} ({n / len(found):.1%})" for n in (right, same))])
    return f"Language detected:\n\n{table(['bundle', 'right', f'as {next(iter(everything))}'], rows)}"


def main() -> None:
    """Print the tables of the bundles named on the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--limit", type=int, help="at most so many clips of each set")
    given = parser.parse_args()
    every = {name: read_manifest(given.data / "more" / f"{name}.jsonl")[: given.limit] for name in given.sets}
    speech = {name: unseen(given.bundles, clips) for name, clips in every.items()}
    hours = sum(len(clip.samples()) for clips in speech.values() for clip in clips) / RATE / 3600
    everything = {}
    for bundle in given.bundles:
        listener = Listener(bundle, given.store)
        everything[listener.name] = cases(listener, speech)
        print(f"{listener.name}: heard", file=sys.stderr, flush=True)
    print(f"{hours * 60:.1f} minutes, {sum(map(len, speech.values()))} clips\n\n{report(everything, hours)}")


if __name__ == "__main__":
    main()
