"""Reads a request's form into memory: nothing is written to disk, and reading stops at the limits."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
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


class _Parts:
    """Fills a form from the parts of a body, as `python_multipart` finds them in chunks."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._field, self._content = "", io.BytesIO()
        self._is_file = False

    def callbacks(self) -> dict[str, Any]:
        """For `MultipartParser`."""
        names = (
            "part_begin",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "part_data",
            "part_end",
        )
        return {f"on_{name}": getattr(self, name) for name in names}

    def part_begin(self) -> None:
        """A part begins."""
        self._headers = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is whole."""
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        """The content of a part begins. Fault for a second file, and for too many fields."""
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = options.get(b"name", b"").decode(errors="replace")
        self._is_file = b"filename" in options
        self._content = io.BytesIO()
        if not self._is_file:
            if sum(map(len, self._form.values.values())) >= MOST_FIELDS:
                raise TooLarge(f"the form has too many fields: more than {MOST_FIELDS}")
        elif self._form.recording is not None or self._field != "file":
            raise Fault(f"the form has another file than one in the field `file`; {SEND_FORM}", "file")
        else:
            self._form.name = options[b"filename"].decode(errors="replace") or "file"

    def part_data(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's content. Fault for a long field."""
        self._content.write(memoryview(data)[start:end])
        if not self._is_file and self._content.tell() > LONGEST_FIELD:
            raise TooLarge(f"{self._field}: a field of more than {LONGEST_FIELD} bytes", self._field)

    def part_end(self) -> None:
        """A part is whole. Fault for a field that is no text."""
        if self._is_file:
            self._form.recording, self._content = self._content, io.BytesIO()
            self._form.recording.seek(0)
            return
        try:
            text = self._content.getvalue().decode()
        except UnicodeDecodeError:
            raise Fault(f"{self._field}: is no UTF-8", self._field) from None
        self._form.values.setdefault(self._field, []).append(text)

    def close(self) -> None:
        """Free what is in memory at once: the parser and its callbacks hold each other until Python looks for that."""
        self._content.close()
        if self._form.recording is not None:
            self._form.recording.close()


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
    parts = _Parts(form)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]
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
        parts.close()
        raise Fault(f"the form is damaged or cut short; {SEND_FORM}") from None
    except BaseException:
        parts.close()
        raise
    if form.recording is None:
        raise Fault(f"the form has no recording, or is cut short; {SEND_FORM}", "file")
    return form
