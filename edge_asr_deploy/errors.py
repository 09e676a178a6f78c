"""The one exception for what a user can mend, the one for what was given up, and the one warning."""

from __future__ import annotations

from edge_asr_deploy.printing import one_line


class UserError(Exception):
    """Bad input or a bad environment. The command line prints it as one line and exits with code 2.

    >>> str(UserError("--bits", 9, "choose 2 to 8, or 32 for the float bundle"))
    '--bits: 9: choose 2 to 8, or 32 for the float bundle'
    """

    def __init__(self, thing: str, value: object, remedy: str) -> None:
        self.thing, self.value, self.remedy = thing, value, remedy
        super().__init__(one_line(f"{thing}: {value}: {remedy}".replace("\n", " ")))


class Stopped(Exception):
    """A transcription that was given up, because whoever asked for it said so (`Transcriber.transcribe(stop=...)`)."""


class Note(UserWarning):
    """What a user should know about a result that is good. The command line prints it as one line on stderr."""
