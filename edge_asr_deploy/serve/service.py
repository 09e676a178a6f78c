"""Opens a bundle and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.options import opening, parse_switch
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.serve.discovery import announced, announced_address
from edge_asr_deploy.serve.hearing import Hearing
from edge_asr_deploy.serve.metrics import Metrics
from edge_asr_deploy.serve.openai.app import openai_app
from edge_asr_deploy.serve.openai.patience import Connection
from edge_asr_deploy.serve.options import API_KEY, PORT, ServeOptions
from edge_asr_deploy.serve.places import Budget, Places
from edge_asr_deploy.serve.shared import Shared
from edge_asr_deploy.serve.sockets import is_local, listen, listen_at, wyoming_address
from edge_asr_deploy.serve.voice.server import VoiceServer

# Seconds that requests may take to end after the first signal.
GRACE = 60.0
MEGABYTE = 10**6
# Bytes beyond two of the largest uploads: their forms.
SLACK = 4 << 20
# Seconds that a client may leave a connection unused between requests.
KEEP_ALIVE = 15


class _Http(uvicorn.Server):
    """uvicorn without its own signals: one signal stops both protocols."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        """Capture none."""
        yield

    def stop(self) -> None:
        """Take no new request; those that have begun are answered."""
        self.should_exit = True


def serve(bundle: Path, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve a bundle until SIGINT or SIGTERM; requests that have begun are answered. `say` prints addresses.

    UserError for a damaged bundle, a language that it lacks, and addresses that cannot be used. When requests take
    longer than a minute to end, they are given up, and the process ends with code 1.
    """
    for name in ("uvicorn", "python_multipart", "asyncio"):
        # What they report is answered to the client; here it would quote requests.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    key = options.api_key or os.environ.get(API_KEY) or None
    with ExitStack() as stack:
        # Bound first: an address that cannot be used is said before the model is loaded.
        ports = _listen(options, stack)
        transcriber = Transcriber.open(bundle, **opening(options))
        hotwords = tuple(word for word in (options.hotwords or "").split(",") if word.strip())
        # Refused here and not with every request: a language that the model lacks, a prompt that does not fit.
        transcriber.transcribe(
            np.zeros(SAMPLE_RATE, np.float32), options.language, prompt=options.prompt, hotwords=hotwords
        )
        transcriber.warm_up()
        if ports.http and key is None and not is_local(options.host):
            said = f"whoever reaches {options.host} may use this server; --api-key or {API_KEY} sets a key"
            warnings.warn(Note(said), stacklevel=2)
        places, budget = Places(options.waiting), Budget(2 * options.largest * MEGABYTE + SLACK)
        metrics = Metrics(places, budget)
        shared = Shared(
            hearing=Hearing(transcriber, metrics),
            metrics=metrics,
            places=places,
            budget=budget,
            model=bundle.resolve().name,
            languages=transcriber.languages,
            created=int(bundle.stat().st_mtime),
            language=options.language,
            prompt=options.prompt,
            hotwords=hotwords,
            largest=options.largest * MEGABYTE,
            longest=options.longest,
            api_key=key,
            is_live=parse_switch("--vad", options.vad),
        )
        left = asyncio.run(_served(shared, ports, say))
    if left:
        print(f"edge-deploy: {left} requests were given up after {GRACE:.0f} s", file=sys.stderr, flush=True)
        # The model's thread cannot be stopped, and Python would wait for it, or crash in it.
        os._exit(1)


@dataclass(frozen=True)
class _Ports:
    """The listening sockets, where they are in words, and what is announced: a name, an address and a port."""

    http: socket.socket | None = None
    wyoming: socket.socket | None = None
    said: tuple[str, ...] = ()
    announced: tuple[str, str, int] | None = None


def _listen(options: ServeOptions, stack: ExitStack) -> _Ports:
    """Listen on every address that the options name. They are closed with the stack."""
    http = wyoming = announcement = None
    said = []
    if options.openai is not None or options.wyoming is None:
        option, port = ("--port", options.port) if options.openai is None else ("--openai", options.openai)
        http = stack.enter_context(listen(option, options.host, PORT if port is None else port))
        said.append(f"OpenAI: http://{_place(options.host, http)}/v1")
    if options.wyoming is not None:
        address = wyoming_address(options.wyoming, options.host)
        if address.path:
            wyoming = stack.enter_context(listen_at(address.path))
            stack.callback(Path(address.path).unlink, missing_ok=True)
            said.append(f"Wyoming: unix://{address.path}")
        else:
            wyoming = stack.enter_context(listen("--wyoming", address.host, address.port))
            said.append(f"Wyoming: tcp://{_place(address.host, wyoming)}")
        if options.zeroconf is not None:
            if address.path:
                raise UserError("--zeroconf", options.zeroconf, "a unix:// socket cannot be announced; give a port")
            place = announced_address(options.zeroconf, address.host)
            announcement = (options.zeroconf, place, wyoming.getsockname()[1])
    return _Ports(http, wyoming, tuple(said), announcement)


def _place(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _served(shared: Shared, ports: _Ports, say: Callable[[str], None]) -> int:
    """Serve until a signal. The number of requests that were not done in time."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        tasks: set[asyncio.Task[None]] = set()
        stops: list[Callable[[], None]] = []
        if ports.http is not None:
            config = uvicorn.Config(
                openai_app(shared),
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
            )
            http = _Http(config)
            tasks.add(asyncio.create_task(http.serve(sockets=[ports.http])))
            stops.append(http.stop)
        if ports.wyoming is not None:
            voice = VoiceServer(shared, ports.wyoming)
            tasks.add(asyncio.create_task(voice.serve()))
            stops.append(voice.stop)
        if ports.announced is not None:
            await stack.enter_async_context(announced(*ports.announced))
        for line in ports.said:
            say(f"{line} (Ctrl-C ends it)")
        ending = asyncio.create_task(stopping.wait())
        await asyncio.wait({ending, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            # A second signal ends the process at once.
            loop.remove_signal_handler(number)
        for stop in stops:
            stop()
        done, late = await asyncio.wait(tasks, timeout=GRACE)
        shared.hearing.close()
        for task in done:
            task.result()
    return shared.places.taken if late else 0
