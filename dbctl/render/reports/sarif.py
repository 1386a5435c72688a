"""SARIF 2.1.0: one run with at most as many results as GitHub accepts, the most severe first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from dbctl import __version__
from dbctl.model import join_hint
from dbctl.render.reports.report import Entry, Location, Report

#: Results that GitHub accepts in a run; it rejects files with more.
MAX_RESULTS = 25_000
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
DOCUMENTATION = "https://github.com/dbctl/dbctl/blob/main/docs"
#: The beginning of what SARIF reads as a link, as in Markdown.
_LINK = re.compile(r"\[(?=[^\]]*\]\()")
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_SEVERITIES = ("error", "warning", "info")


def count_omitted(report: Report) -> int:
    """Return the number of findings that the document omits."""
    return max(0, len(report.entries) - MAX_RESULTS)


def format_report(report: Report) -> Iterator[str]:
    """Yield the parts of the document."""
    entries = sorted(report.entries, key=lambda entry: _SEVERITIES.index(entry.severity))[:MAX_RESULTS]
    rules = {entry.code: entry for entry in reversed(entries)}
    indexes = {code: index for index, code in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "dbctl",
                "version": __version__,
                "informationUri": f"{DOCUMENTATION}/README.md",
                "rules": [_describe_rule(report, entry) for entry in rules.values()],
            }
        },
        # GitHub stores the results of each category separately.
        "automationDetails": {"id": f"dbctl/{report.command.replace(' ', '-')}/"},
        "invocations": [_describe_run(report)],
        "columnKind": "unicodeCodePoints",
        "results": [],
    }
    before, separator, after = json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}).rpartition(
        '"results": ['
    )
    yield before + separator
    for index, entry in enumerate(entries):
        yield (",\n" if index else "\n") + json.dumps(_create_result(entry, indexes[entry.code]))
    yield after + "\n"


def _describe_rule(report: Report, entry: Entry) -> dict[str, object]:
    """Return the rule of a finding; GitHub requires each of the descriptions."""
    page = "reference/lint.md" if report.command == "migrate lint" else "reference/findings.md"
    words = entry.code.split("-")
    description = {"text": f"dbctl {report.command}: {' '.join(words)}"}
    return {
        "id": entry.code,
        "name": "".join(word.capitalize() for word in words),
        "shortDescription": description,
        "fullDescription": description,
        "help": {"text": entry.hint or description["text"]},
        "helpUri": f"{DOCUMENTATION}/{page}",
    }


def _describe_run(report: Report) -> dict[str, object]:
    notifications: Sequence[dict[str, object]] = ()
    if report.failure:
        text = join_hint(report.failure.message, report.failure.hint)
        notifications = [_notify("error", report.failure.code, text)]
    elif omitted := count_omitted(report):
        text = f"{omitted} of {len(report.entries)} findings are omitted; -o json contains all."
        notifications = [_notify("warning", "findings-omitted", text)]
    return {
        "executionSuccessful": report.failure is None,
        "exitCode": report.status,
        "toolExecutionNotifications": notifications,
    }


def _notify(level: str, code: str, text: str) -> dict[str, object]:
    return {"level": level, "descriptor": {"id": code}, "message": {"text": text}}


def _create_result(entry: Entry, rule_index: int) -> dict[str, object]:
    message = _LINK.sub(r"\\[", entry.message)
    text = f"{message}\n{entry.hint}" if entry.hint else message
    location: dict[str, object] = {}
    if entry.location:
        location["physicalLocation"] = _describe_file(entry.location)
    if entry.target:
        name = entry.target.rpartition("/")[2]
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": entry.target}]
    return {
        "ruleId": entry.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[entry.severity],
        "message": {"text": text},
        "locations": [location] if location else [],
        "partialFingerprints": {"dbctl/v1": entry.fingerprint},
    }


def _describe_file(location: Location) -> dict[str, object]:
    return {
        "artifactLocation": {"uri": quote(os.fsencode(location.path)), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": location.line},
    }
