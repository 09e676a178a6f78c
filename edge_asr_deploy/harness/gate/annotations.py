"""The gate's report as annotations of a GitHub Actions run (workflow commands on the standard output)."""

from __future__ import annotations

from collections.abc import Iterator

from edge_asr_deploy.harness.gate.checks import Report


def github_annotations(report: Report) -> Iterator[str]:
    """An error for what fails the gate, a warning for what is allowed not to be measured, a notice for slack."""
    for bundle in report.bundles:
        for check in bundle.checks:
            title = f"{bundle.bundle}: {check.name}"
            if check.verdict != "passed":
                said = f"{check.verdict}: measured {check.measured or 'nothing'}, limit {check.limit or 'none'}"
                yield _command("error" if report.blocks(check) else "warning", title, f"{said}. {check.note}")
            if check.slack:
                yield _command("notice", title, f"measured {check.measured}, limit {check.limit}: {check.slack}")


def _command(level: str, title: str, message: str) -> str:
    """`::level title=...::message`, escaped as the runner's own toolkit does."""
    return f"::{level} title={_escape(title).replace(':', '%3A').replace(',', '%2C')}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
