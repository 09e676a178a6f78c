"""Prints the gate's report as annotations of a GitHub Actions run (workflow commands on standard output)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_asr_deploy.harness.gate.report import Report
from edge_asr_deploy.printing import one_line


@contextmanager
def commands_stopped(say: Callable[[str], None]) -> Iterator[None]:
    """Let the runner take nothing that is printed meanwhile for a command (GitHub: "Stopping workflow commands").

    A bundle's path may hold `::` and spaces, and a table breaks it into lines; the runner trims lines before it looks.
    """
    token = secrets.token_hex(16)
    say(f"::stop-commands::{token}")
    try:
        yield
    finally:
        say(f"::{token}::")


def github_annotations(report: Report) -> Iterator[str]:
    """An error for each check that fails the gate, a warning for what is unmeasured or unseen, a notice for slack."""
    for bundle in report.bundles:
        for check in bundle.checks:
            title = f"{bundle.bundle}: {check.name}"
            if check.verdict != "passed":
                message = f"{check.verdict}: measured {check.measured or 'nothing'}, limit {check.limit or 'none'}"
                yield _command("error" if report.blocks(check) else "warning", title, f"{message}. {check.note}")
            if check.warning:
                yield _command("warning", title, check.warning)
            if check.slack:
                yield _command("notice", title, f"measured {check.measured}, limit {check.limit}: {check.slack}")


def _command(level: str, title: str, message: str) -> str:
    """`::level title=...::message`, escaped in the way of GitHub's own toolkit."""
    return f"::{level} title={_escape(title).replace(':', '%3A').replace(',', '%2C')}::{_escape(message)}"


def _escape(text: str) -> str:
    text = "\n".join(map(one_line, text.splitlines()))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
