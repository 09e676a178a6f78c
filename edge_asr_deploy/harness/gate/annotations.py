"""Prints the gate's report as annotations of a GitHub Actions run (workflow commands on standard output)."""

from __future__ import annotations

from collections.abc import Iterator

from edge_asr_deploy.harness.gate.report import Report


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
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
