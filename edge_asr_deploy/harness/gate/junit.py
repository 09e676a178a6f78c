"""Writes the gate's report as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree

from edge_asr_deploy.harness.gate.report import BundleReport, Check, Report
from edge_asr_deploy.printing import one_line


def junit_xml(report: Report) -> str:
    """One suite per bundle, one case per check. A check that may stay unmeasured counts as skipped, not as failed."""
    root = ElementTree.Element("testsuites", name="edge-deploy check")
    for bundle in report.bundles:
        suite = ElementTree.SubElement(root, "testsuite", name=_text(bundle.bundle), tests=str(len(bundle.checks)))
        outcomes = [_case(suite, bundle, check, report) for check in bundle.checks]
        suite.set("failures", str(outcomes.count("failure")))
        suite.set("skipped", str(outcomes.count("skipped")))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, bundle: BundleReport, check: Check, report: Report) -> str:
    case = ElementTree.SubElement(suite, "testcase", classname=_text(bundle.bundle), name=_text(check.name))
    outcome = "passed"
    if check.verdict != "passed":
        outcome = "failure" if report.blocks(check) else "skipped"
        message = f"{check.verdict}: measured {check.measured or 'nothing'}, limit {check.limit or 'none'}"
        ElementTree.SubElement(case, outcome, message=_text(message)).text = _text(check.note)
    details = f"measured {check.measured}, limit {check.limit}. {check.note} {check.slack} {check.warning}"
    ElementTree.SubElement(case, "system-out").text = _text(details.strip())
    return outcome


def _text(text: str) -> str:
    """What XML can hold: no control characters, no surrogates, none of the two that are no characters."""
    return one_line(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
