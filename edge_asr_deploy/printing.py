"""Names and sentences as people read them: on one line, on any terminal, whatever bytes a name has."""

from __future__ import annotations

import re

# A line break or an escape sequence in a file's name would look like output of ours.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def decodable(name: str) -> str:
    r"""A name in which bytes that are not UTF-8 are written as `\xNN`, so that every program can read the result.

    Python keeps such bytes of names as lone surrogates (PEP 383), which neither UTF-8 nor strict JSON can hold.

    >>> decodable("caf\udce9.wav")
    'caf\\xe9.wav'
    """
    encoded = name.encode("utf-8", "surrogateescape" if _is_name(name) else "backslashreplace")
    return encoded.decode("utf-8", "backslashreplace")


def one_line(name: str) -> str:
    r"""The same without line breaks and other control characters.

    >>> one_line("a\nb.wav")
    'a\\nb.wav'
    """
    return escape_controls(decodable(name))


def escape_controls(text: str) -> str:
    r"""A text in which control characters are written as `\x1b`: a terminal shows them, and does not obey them."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def markdown_text(text: str) -> str:
    r"""A name in a table or a sentence of Markdown: on one line, no cell of its own, no HTML, no link.

    >>> markdown_text("a|<b>")
    'a\\|&lt;b&gt;'
    """
    escaped = one_line(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[|`\[\]]", lambda match: "\\" + match[0], escaped)


def markdown_code(text: str) -> str:
    r"""A name as code in Markdown.

    >>> markdown_code("a`b")
    '`` a`b ``'
    """
    shown = one_line(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    return f"`{shown}`" if not longest else f"{'`' * (longest + 1)} {shown} {'`' * (longest + 1)}"


def note_line(note: str) -> str:
    """A note as people read it: one sentence with one full stop."""
    return f"Note: {note.removesuffix('.')}."


def _is_name(text: str) -> bool:
    """Whether all surrogates stand for bytes, as in names that the system gave."""
    return not re.search(r"[\ud800-\udc7f\udd00-\udfff]", text)
