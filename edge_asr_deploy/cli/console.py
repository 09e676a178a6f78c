"""The consoles of all commands: names of bundles, files and boards show, but do not act, on a terminal.

Rich passes escape sequences in texts on to the terminal, and removes only five other control characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from edge_asr_deploy.printing import escape_controls


class Harmless:
    """Shows what it holds, with the control characters of its texts escaped. Rich's own colours stay."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            if segment.control:
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(map(escape_controls, lines)), segment.style)


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [Harmless(one) for one in renderables]


def console(**options: Any) -> Console:
    """A console for results; `stderr=True` for messages. Other options are rich's."""
    made = Console(highlight=not options.get("stderr", False), **options)
    made.push_render_hook(_Hook())
    return made
