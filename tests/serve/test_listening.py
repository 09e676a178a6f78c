"""Utterances heard while they come: pieces that stay, the rest at the end, a busy model, a client that goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.live.events import Event, Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Segment, Transcript
from edge_asr_deploy.serve.faults import Fault
from edge_asr_deploy.serve.hearing import Hearing, Rank, Wish
from edge_asr_deploy.serve.listening import Listening
from edge_asr_deploy.serve.metrics import Metrics
from edge_asr_deploy.serve.places import Budget, Places
from tests.support.fakes import transcript

SECOND = 16_000
PLAIN = Wish()


def final(text: str) -> Final:
    return Final(Segment(0.0, 1.0, text, (), 0.0, None, 1.0, 0.0))


class FakeStream:
    """Tells something for each second that was pushed, in turn, and the last at the end."""

    def __init__(self, script: Sequence[Sequence[Event]], language: str | None = "de") -> None:
        self.script, self.language, self.is_ready = list(script), language, False
        self.heard, self.pushes = 0, 0

    def push(self, samples: NDArray[np.float32]) -> list[Event]:
        before = self.heard // SECOND
        self.heard += len(samples)
        self.pushes += 1
        return [event for events in self.script[before : self.heard // SECOND] for event in events]

    def finish(self) -> list[Event]:
        return list(self.script[-1])


class Fake:
    """Opens one stream, or refuses; transcribes by itself."""

    def __init__(self, stream: FakeStream) -> None:
        self.made, self.asked, self.hurry = stream, list[dict[str, Any]](), cast(Callable[[], bool], None)
        self.raises: Exception | None = None

    def stream(self, *, hurry: Callable[[], bool], only_stable: bool, **keywords: Any) -> FakeStream:
        assert only_stable
        if self.raises is not None:
            raise self.raises
        if len(keywords.get("hotwords", ())) > 2:
            raise UserError("--hotwords", 3, "too many")
        self.asked.append(keywords)
        self.hurry = hurry
        return self.made

    def transcribe(self, samples: NDArray[np.float32], **keywords: Any) -> Transcript:
        return replace(transcript(f"whole {len(samples)}", 1.0), language="en")


class Case:
    """A model's thread, an utterance and what it told."""

    def __init__(self, hearing: Hearing, fake: Fake) -> None:
        self.hearing, self.fake, self.told = hearing, fake, list[tuple[str, str | None]]()

    def listening(self, wish: Wish = PLAIN) -> Listening:
        return Listening(self.hearing, wish, lambda text, language: self.told.append((text, language)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


STABLE = [
    [SpeechStarted(0.1)],
    [Partial("turn of", "")],
    [Partial("turn on the", "turn on")],
    [final("Turned on the light."), SpeechStarted(3.0)],
    [Partial("and then", "and")],
    [final("and the heating.")],
]


@pytest.fixture
def case() -> Iterator[Case]:
    fake = Fake(FakeStream(STABLE))
    hearing = Hearing(cast(Transcriber, fake), Metrics(Places(1), Budget(1)))
    yield Case(hearing, fake)
    hearing.close()


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(int(seconds * SECOND), np.float32)


def test_what_is_stable_is_told_once_and_the_rest_at_the_end(case: Case) -> None:
    case.fake.made.script[3] = [final("turn on the light."), SpeechStarted(3.0)]

    async def run() -> str | None:
        listening = case.listening()
        for number in range(1, 6):
            listening.add(silence(1))
            await case.until(lambda number=number: case.fake.made.heard == number * SECOND)  # type: ignore[misc]
        await listening.finish(silence(5))
        return listening.language

    assert asyncio.run(run()) == "de"
    texts, languages = zip(*case.told, strict=True)
    assert texts == ("turn on", " the light.", " and", " the heating.") and set(languages) == {"de"}
    assert "seconds_total 5.000000" in case.hearing.metrics.text()


def test_nothing_is_taken_back(case: Case) -> None:
    """A final text that denies what was told, which a stream never gives, is not told."""

    async def run() -> None:
        listening = case.listening()
        for number in range(1, 6):
            listening.add(silence(1))
            await case.until(lambda number=number: case.fake.made.heard == number * SECOND)  # type: ignore[misc]
        await listening.finish(silence(5))

    asyncio.run(run())
    assert [text for text, _ in case.told] == ["turn on"]


def test_an_utterance_without_text_is_heard_as_a_whole(case: Case) -> None:
    async def run() -> str | None:
        listening = case.listening()
        listening.add(silence(2.5))
        await case.until(lambda: case.fake.made.heard > 0)
        await listening.finish(silence(2.6))
        return listening.language

    assert asyncio.run(run()) == "en" and case.told == [("whole 41600", "en")]


def test_what_was_decoded_within_a_pause_is_the_answer(case: Case) -> None:
    case.fake.made.script = [[], [final("lights on")]]
    case.fake.made.is_ready = True

    async def run() -> None:
        listening = case.listening()
        listening.add(silence(0.5))
        await case.until(lambda: case.fake.made.heard > 0)
        await listening.finish(silence(0.6))

    asyncio.run(run())
    assert case.told == [("lights on", "de")] and case.fake.made.heard == 0.6 * SECOND


def test_a_busy_model_hears_all_that_came_at_once_and_hurries(case: Case) -> None:
    go = threading.Event()

    async def run() -> None:
        case.hearing.submit(lambda _: go.wait(20), Rank.WAITED_FOR)
        listening = case.listening()
        for _ in range(100):
            listening.add(silence(0.01))
        await asyncio.sleep(0.05)
        assert case.fake.made.pushes == 0
        go.set()
        await case.until(lambda: case.fake.made.heard == SECOND)
        assert case.fake.made.pushes == 1 and not case.fake.hurry()
        blocked = threading.Event()
        one = case.hearing.submit(lambda _: blocked.wait(20), Rank.SPOKEN)
        other = case.hearing.submit(lambda _: None, Rank.WAITED_FOR)
        assert case.fake.hurry(), "somebody waits for a text"
        blocked.set()
        await asyncio.wrap_future(one)
        await asyncio.wrap_future(other)
        assert not case.fake.hurry()
        finishing = asyncio.ensure_future(listening.finish(silence(1)))
        await asyncio.sleep(0)
        assert case.fake.hurry(), "the speaker waits"
        await finishing

    asyncio.run(run())


def test_who_waits_comes_before_who_speaks(case: Case) -> None:
    go, order = threading.Event(), list[str]()

    async def run() -> None:
        case.hearing.submit(lambda _: go.wait(20), Rank.SPOKEN)
        spoken = case.hearing.submit(lambda _: order.append("spoken"), Rank.SPOKEN)
        waited = case.hearing.submit(lambda _: order.append("waited for"), Rank.WAITED_FOR)
        go.set()
        await asyncio.wrap_future(spoken)
        await asyncio.wrap_future(waited)

    asyncio.run(run())
    assert order == ["waited for", "spoken"]


def test_a_wish_reaches_the_stream_and_what_it_lacks_is_said_at_the_end(case: Case) -> None:
    async def run() -> None:
        listening = case.listening(Wish(language="en", prompt="a letter", hints=("a", "b", "c", "d")))
        listening.add(silence(1))
        await case.until(lambda: case.fake.made.heard == SECOND)
        listening.close()
        case.fake.raises = UserError("--language", "fr", "does not know it")
        other = case.listening(Wish(language="fr"))
        other.add(silence(1))
        await asyncio.sleep(0.05)
        other.add(silence(1))
        with pytest.raises(Fault, match="language: fr: does not know it"):
            await other.finish(silence(2))

    asyncio.run(run())
    assert case.fake.asked == [{"language": "en", "prompt": "a letter", "hotwords": ("a", "b")}]


def test_nothing_is_told_to_who_has_gone(case: Case) -> None:
    async def run() -> None:
        listening = case.listening()
        listening.add(silence(3))
        listening.close()
        listening.add(silence(3))
        other = case.listening()
        finishing = asyncio.ensure_future(other.finish(silence(1)))
        await asyncio.sleep(0)
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert case.told == []
