"""Prints a diagnosis as a table."""

from __future__ import annotations

from rich.text import Text

from edge_asr_deploy.harness.doctor.doctor import Diagnosis
from edge_asr_deploy.harness.layout import FittedTable

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


def diagnosis_table(diagnosis: Diagnosis) -> FittedTable:
    """One row for each finding, with its remedy below it. The caption is the verdict."""
    problems = sum(finding.status == "problem" for finding in diagnosis.findings)
    verdict = (
        "bundles run here" if diagnosis.can_run else f"{problems} problem(s) must be fixed before bundles run here"
    )
    table = FittedTable(title=f"{diagnosis.machine}: target {diagnosis.target}", caption=verdict)
    for heading in ("check", "found", ""):
        table.head(heading)
    for finding in diagnosis.findings:
        table.row(finding.check, Text(finding.found), Text(finding.status, style=STYLES[finding.status]))
        if finding.remedy:
            table.row("", Text(finding.remedy, style="dim"), "")
    return table
