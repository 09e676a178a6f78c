"""The options of a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import (
    ACCURACY_LEVEL,
    AUDIO_CONTEXT,
    DEFAULT_AUDIO_CONTEXT,
    TARGET,
    VAD,
    parse_audio_context,
    parse_switch,
)

PORT = 8000
HIGHEST_PORT = 65_535
# The environment's name for `--api-key`, which other users of the machine could read from the list of processes.
API_KEY = "EDGE_ASR_API_KEY"


@dataclass(frozen=True)
class ServeOptions:
    """What to serve, where, and within which limits. UserError for options that contradict each other.

    Without `openai` and `wyoming`, OpenAI's endpoint is served on `port`; else what is named.
    """

    host: Annotated[str, Option("Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1"
    port: Annotated[
        int | None,
        Option(f"Port of the page, or of the endpoint served alone ({PORT}); 0 takes a free one.", least=0, most=65535),
    ] = None
    openai: Annotated[
        int | None, Option("Serve OpenAI's paths on this port.", metavar="PORT", least=0, most=HIGHEST_PORT)
    ] = None
    wyoming: Annotated[
        str | None,
        Option("Serve Wyoming (Home Assistant) on this port, or at tcp://HOST:PORT or unix://PATH.", metavar="PORT"),
    ] = None
    zeroconf: Annotated[
        str | None, Option("Announce Wyoming in the local network under this name.", metavar="NAME")
    ] = None
    api_key: Annotated[
        str | None, Option(f"Key that HTTP clients must send. [{API_KEY}]", name="--api-key", metavar="KEY")
    ] = None
    language: Annotated[str | None, Option("Language of requests that name none. Default: as `transcribe`.")] = None
    prompt: Annotated[str | None, Option("Prompt of requests that bring none: names and spellings.")] = None
    hotwords: Annotated[str | None, Option("Words to expect, separated by commas, where a request names none.")] = None
    waiting: Annotated[int, Option("Requests that may wait for the model; more are refused.", least=0, most=1000)] = 16
    largest: Annotated[int, Option("Largest upload in MB.", least=1, most=2000)] = 100
    longest: Annotated[float, Option("Longest recording in seconds.", least=1, most=6 * 3600)] = 3600
    target: Annotated[str | None, TARGET] = None
    threads: Annotated[int | None, Option("Threads within an operator. Default: the target's.", least=1)] = None
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = DEFAULT_AUDIO_CONTEXT
    vad: Annotated[str, VAD] = "on"

    def __post_init__(self) -> None:
        parse_audio_context(self.audio_context)
        parse_switch("--vad", self.vad)
        if self.port is not None and (self.openai is not None or self.wyoming is not None):
            remedy = "it is for one service alone; name each port: --openai PORT --wyoming PORT"
            raise UserError("--port", self.port, remedy)
        if self.zeroconf is not None and self.wyoming is None:
            raise UserError("--zeroconf", self.zeroconf, "announces Wyoming; add --wyoming PORT")
        if self.api_key == "":
            raise UserError("--api-key", "(empty)", "give a key, or leave it out")
