"""Reads a request's form into memory: nothing is written to disk, and reading stops at the limits."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from time import monotonic

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from edge_asr_deploy.serve.faults import Fault, TooLarge, TooSlow
from edge_asr_deploy.serve.openai.patience import PATIENCE, received
from edge_asr_deploy.serve.places import Held

# Bytes per second that a client must send in the mean, once its patience is used up. GSM data is as slow.
SLOWEST = 20_000
# Bytes of a form that are not the recording, of one field, and how many fields there are.
MARGIN, LONGEST_FIELD, MOST_FIELDS = 1 << 20, 1 << 16, 64
SEND_FORM = "send multipart/form-data with the recording in the field `file`"


@dataclass
class Form:
    """A form's fields by name, each with all its values, and its recording."""

    values: dict[str, list[str]] = field(default_factory=dict)
    recording: io.BytesIO | None = None
    name: str = "file"

    def one(self, name: str) -> str | None:
        """A field's value; None if it is not there or empty. Fault if it is there several times."""
        given = self.values.get(name, [])
        if len(given) > 1:
            raise Fault(f"{name}: is there {len(given)} times; give it once", name)
        return given[0] if given and given[0] else None

    def all(self, name: str) -> list[str]:
        """The values of a list, which is written `name[]` or `name`."""
        return [*self.values.get(name, []), *self.values.get(f"{name}[]", [])]

    def add_field(self, given: Field) -> None:
        """Keep a field. Fault beyond the limits."""
        value = given.value or b""
        if len(value) > LONGEST_FIELD or sum(map(len, self.values.values())) >= MOST_FIELDS:
            raise TooLarge(f"the form has too many fields, or a field of more than {LONGEST_FIELD} bytes")
        try:
            name, text = (given.field_name or b"").decode(), value.decode()
        except UnicodeDecodeError:
            raise Fault("a field of the form is no UTF-8") from None
        self.values.setdefault(name, []).append(text)

    def add_file(self, given: File) -> None:
        """Keep the recording. Fault for a second one."""
        if self.recording is not None or given.field_name != b"file":
            raise Fault(f"the form has another file than one in the field `file`; {SEND_FORM}", "file")
        assert isinstance(given.file_object, io.BytesIO)
        self.recording = given.file_object
        self.name = (given.file_name or b"").decode(errors="replace") or "file"


async def read_form(request: Request, largest: int, held: Held) -> Form:
    """A request's form, of which all bytes are `held`. Fault beyond the limits, for a slow client and for garbage."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Fault(f"the request is no form; {SEND_FORM}")
    limit = largest + MARGIN
    too_large = TooLarge(f"the request has more than {largest // 10**6} MB; send FLAC or MP3, or cut the recording")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    form = Form()
    try:
        # A file beyond MAX_MEMORY_FILE_SIZE would go to disk.
        config = {"MAX_MEMORY_FILE_SIZE": math.inf}
        parser = FormParser(
            "multipart/form-data", form.add_field, form.add_file, boundary=options[b"boundary"], config=config
        )
        total, started, is_last = 0, monotonic(), False
        while not is_last:
            left = started + PATIENCE + total / SLOWEST - monotonic()
            message = await received(request, left)
            if message is None:
                raise TooSlow(f"the request came too slowly: {total} bytes in {monotonic() - started:.0f} s")
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body = message.get("body", b"")
            total += len(body)
            if total > limit:
                raise too_large
            held.take(len(body))
            parser.write(body)
            is_last = not message.get("more_body", False)
        parser.finalize()
    except FormParserError:
        raise Fault(f"the form is damaged or cut short; {SEND_FORM}") from None
    if form.recording is None:
        raise Fault(f"the form has no recording, or is cut short; {SEND_FORM}", "file")
    return form
