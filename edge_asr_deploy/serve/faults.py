"""Why a request is not answered: one sentence, and what kind of fault it is in each protocol."""

from __future__ import annotations

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.printing import one_line

# Letters of a sentence that clients get. A message may quote what a client sent.
LONGEST = 500


class Fault(Exception):
    """A refused request: the HTTP status, OpenAI's kind and code of the error, the field at fault, and a sentence."""

    status = 400
    kind = "invalid_request_error"
    code: str | None = None

    def __init__(self, sentence: str, field: str | None = None) -> None:
        self.field = field
        self.sentence = one_line(sentence)[:LONGEST]
        super().__init__(self.sentence)


class Busy(Fault):
    """No place is free."""

    status, kind, code = 429, "rate_limit_error", "busy"


class TooLarge(Fault):
    """A body or an event beyond its limit."""

    status, code = 413, "too_large"


class TooSlow(Fault):
    """A client that keeps the server waiting."""

    status, kind, code = 408, "timeout_error", "too_slow"


class Unknown(Fault):
    """A path or a model that is not here."""

    status, code = 404, "not_found"


class WrongMethod(Fault):
    """A path that is asked in another way."""

    status, code = 405, "method_not_allowed"


class NoKey(Fault):
    """A missing or wrong key."""

    status, kind, code = 401, "authentication_error", "invalid_api_key"


class Gone(Fault):
    """A client that went away before its answer. It never sees this."""

    status, code = 499, "client_gone"


class Stopping(Fault):
    """The server ends."""

    status, kind, code = 503, "server_error", "stopping"


class NoMemory(Fault):
    """The machine's memory is used up."""

    status, kind, code = 503, "server_error", "no_memory"


class Unforeseen(Fault):
    """An error that nobody foresaw."""

    status, kind, code = 500, "server_error", "unforeseen"


def fault_of(error: Exception) -> Fault:
    """The fault behind any error. A `UserError` is the client's: its option is named as a field of the request."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, UserError):
        field = error.thing.removeprefix("--").replace("-", "_")
        return Fault(f"{field}: {error.value}: {error.remedy}", field)
    if isinstance(error, MemoryError):
        return NoMemory("too little memory for this request; send a shorter recording, or try again later")
    return Unforeseen("the server failed on this request; its standard error says how")
