"""The model's thread: what it is asked, what becomes of requests that are given up, and of hints that do not fit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from edge_asr_deploy.errors import Stopped, UserError
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve.faults import Fault, NoMemory, Stopping, Unforeseen
from edge_asr_deploy.serve.hearing import Hearing, Wish
from edge_asr_deploy.serve.metrics import Metrics
from edge_asr_deploy.serve.places import Budget, Places
from tests.support.fakes import transcript

SAMPLES = np.zeros(16_000, np.float32)


class Fake:
    """Keeps what it is asked; takes as many words to expect as fit; waits until it may go on."""

    def __init__(self, fit: int = 3) -> None:
        self.asked: list[dict[str, Any]] = []
        self.stopped = 0
        self.fit, self.go, self.raises = fit, threading.Event(), cast(Exception | None, None)
        self.go.set()

    def transcribe(
        self,
        samples: object,
        language: str | None = None,
        task: str | None = None,
        *,
        hotwords: tuple[str, ...] = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> Transcript:
        self.asked.append({"language": language, "task": task, "hotwords": hotwords})
        if len(hotwords) > self.fit:
            raise UserError("--hotwords", len(hotwords), "too many")
        for _ in range(2000):
            if stop():
                self.stopped += 1
                raise Stopped
            if self.go.wait(0.01):
                break
        assert self.go.is_set()
        if self.raises is not None:
            raise self.raises
        return transcript("said", 1.0)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def hearing(fake: Fake) -> Iterator[Hearing]:
    made = Hearing(cast(Transcriber, fake), Metrics(Places(1), Budget(1)))
    yield made
    made.close()


def hear(hearing: Hearing, wish: Wish) -> Transcript:
    return asyncio.run(hearing.hear(lambda: SAMPLES, wish, lambda: None))


def test_only_what_is_wished_is_asked(hearing: Hearing, fake: Fake) -> None:
    assert Wish().keywords() == {}
    assert hear(hearing, Wish(language="de", task="translate")).text == "said"
    assert fake.asked == [{"language": "de", "task": "translate", "hotwords": ()}]


def test_hints_are_left_out_as_far_as_they_do_not_fit(hearing: Hearing, fake: Fake) -> None:
    hear(hearing, Wish(hints=tuple("abcdefgh")))
    assert [len(one["hotwords"]) for one in fake.asked] == [8, 4, 2] and fake.asked[-1]["hotwords"] == ("a", "b")
    fake.asked, fake.fit = [], 0
    assert hear(hearing, Wish(hints=tuple("abc"))).text == "said"
    assert [len(one["hotwords"]) for one in fake.asked] == [3, 1, 0]


def test_words_that_were_asked_for_are_not_left_out(hearing: Hearing, fake: Fake) -> None:
    with pytest.raises(Fault, match="hotwords: 4: too many"):
        hear(hearing, Wish(hotwords=tuple("abcd")))


@pytest.mark.parametrize(("error", "fault"), [(MemoryError(), NoMemory), (KeyError("secret"), Unforeseen)])
def test_a_failure_is_told_and_the_thread_goes_on(
    hearing: Hearing, fake: Fake, error: Exception, fault: type[Fault], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.raises = error
    with pytest.raises(fault):
        hear(hearing, Wish())
    said = capfd.readouterr().err
    assert "secret" not in said and said.count("\n") == (fault is Unforeseen)
    fake.raises = None
    assert hear(hearing, Wish()).text == "said"


def test_a_request_that_is_given_up_is_not_heard_and_frees_its_place(hearing: Hearing, fake: Fake) -> None:
    released: list[str] = []

    async def run() -> None:
        fake.go.clear()
        running = asyncio.ensure_future(hearing.hear(lambda: SAMPLES, Wish(), lambda: released.append("running")))
        waiting = asyncio.ensure_future(hearing.hear(lambda: SAMPLES, Wish(), lambda: released.append("waiting")))
        while not fake.asked:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.sleep(0.05)
        assert released == ["waiting"] and not fake.stopped
        # What runs ends by itself, and holds its place until then.
        running.cancel()
        while len(released) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert len(fake.asked) == fake.stopped == 1
    fake.go.set()
    assert hear(hearing, Wish()).text == "said", "the thread goes on"


def test_nothing_is_taken_after_the_end(hearing: Hearing) -> None:
    released: list[int] = []
    hearing.close()
    with pytest.raises(Stopping):
        asyncio.run(hearing.hear(lambda: SAMPLES, Wish(), lambda: released.append(1)))
    assert released == [1]
