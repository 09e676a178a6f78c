"""A text that repeats itself without end is told from speech that repeats a word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.runtime.decoding.loops import SIGN, begins_loop, is_runaway, without_loop

DICKENS = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the season of "
    "darkness, it was the spring of hope, it was the winter of despair."
)


@pytest.mark.parametrize(
    "text",
    [
        "no " * 12,
        "A good start. " + "And so on, " * 6,
        "thank you for watching " * 5 + "and goodbye",
        "ha" * 60,
        "!" * 200,
        "ありがとう" * 30,
        "спасибо " * 20,
        "He said that he would come to the house again and " * 5,
        DICKENS + " Then" + " the same the other way" * 8,
    ],
)
def test_loops_are_runaway(text: str) -> None:
    assert is_runaway(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no!",
        "Call two two two, one one one one, zero zero zero zero.",
        "very very very very very good",
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "Press one for sales. Press two for support. Press three for billing. Press four to hear this again.",
        DICKENS,
        " ".join(f"{number} is followed by {number + 1}, and that is how counting goes on." for number in range(3)),
        "Сегодня хорошая погода, и мы пошли гулять в парк, где встретили старых друзей и поговорили о жизни.",
    ],
)
def test_speech_is_not(text: str) -> None:
    assert not is_runaway(text)


@pytest.mark.real
def test_no_real_reference_is_and_neither_is_all_of_them_in_one() -> None:
    root = os.environ.get("EDGE_ASR_DATA")
    if not root:
        pytest.skip("EDGE_ASR_DATA is not set: no real texts")
    rows = [json.loads(line) for path in Path(root).glob("*.jsonl") for line in path.read_text().splitlines()]
    texts = [row["text"] for row in rows if row.get("text")]
    assert not [text for text in texts if is_runaway(text)]
    assert not is_runaway(" ".join(texts))


@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_of_a_loop_at_the_end_one_phrase_is_left(length: int) -> None:
    spoken, phrase = [900, 901, 902, 5], [*range(length)]
    loop = (phrase * 100)[: 200 + length // 2]
    assert without_loop(spoken + loop)[: 4 + length] == spoken + phrase
    assert len(without_loop(spoken + loop)) < 4 + 2 * length


@pytest.mark.parametrize(
    "tokens",
    [[], [1] * 39, [1, 2, 3, 4] * 9, [*range(30)] * 4, [7] * 100 + [*range(50)], [*range(448)]],
)
def test_what_is_no_loop_stays(tokens: list[int]) -> None:
    assert without_loop(tokens) == tokens


@given(
    st.lists(st.integers(0, 50), max_size=20),
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.integers(0, 30),
)
def test_a_loop_is_noticed_within_a_dozen_tokens(before: list[int], phrase: list[int], more: int) -> None:
    """Of its second round: the first may be what was said."""
    rounds = [phrase[place % len(phrase)] for place in range(len(phrase) + SIGN + more)]
    assert begins_loop(before + rounds)


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=100), st.integers(0, SIGN - 1))
def test_speech_that_repeats_fewer_tokens_is_no_loop(tokens: list[int], repeated: int) -> None:
    again = tokens[-repeated:] if repeated else []
    assert not begins_loop(tokens + again)
