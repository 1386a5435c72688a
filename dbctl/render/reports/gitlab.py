"""Reports of GitLab's Code Quality: an array of issues, each with the path and line that GitLab requires."""

from __future__ import annotations

import json
from collections.abc import Iterator

from dbctl.render.reports.report import Entry, Location, Report
from dbctl.render.text import escape

_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


def format_report(report: Report) -> Iterator[str]:
    """Yield the parts of the array, one line for each issue."""
    entries = [*report.entries, *([report.failure] if report.failure else [])]
    yield "["
    for index, entry in enumerate(entries):
        issue = _create_issue(entry, "blocker" if entry is report.failure else _SEVERITIES[entry.severity])
        yield (",\n" if index else "\n") + json.dumps(issue)
    yield "\n]\n"


def _create_issue(entry: Entry, severity: str) -> dict[str, object]:
    location = entry.location or Location(entry.target.lstrip("/") or "dbctl")
    description = ": ".join(filter(None, [entry.target, entry.message])) or entry.code
    return {
        "description": f"{description} ({entry.hint})" if entry.hint else description,
        "check_name": entry.code,
        "fingerprint": entry.fingerprint,
        "severity": severity,
        "location": {"path": escape(location.path), "lines": {"begin": location.line}},
    }
