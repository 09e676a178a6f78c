"""Which speech a bundle is judged on."""

from __future__ import annotations

from edge_asr_deploy.harness.evaluation.speech import select
from tests.support.fakes import speech


def test_a_limit_holds_for_each_corpus_and_keeps_the_order() -> None:
    utterances = speech({f"a{n}": "x" for n in range(9)}, "a") + speech({"b0": "x", "b1": "x"}, "b")
    chosen = [utterance.id for utterance in select(utterances, 3, seed=1)]
    assert [name[0] for name in chosen] == ["a", "a", "a", "b", "b"]
    assert chosen == sorted(chosen)
    assert chosen == [utterance.id for utterance in select(utterances, 3, seed=1)]
    assert any(chosen != [utterance.id for utterance in select(utterances, 3, seed=s)] for s in range(2, 6))


def test_no_limit_keeps_all() -> None:
    utterances = speech({"a": "x", "b": "y"})
    assert select(utterances, None) == utterances
