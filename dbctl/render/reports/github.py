"""Workflow commands of GitHub Actions, which annotate files and show messages in the summary of a run."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.render.reports.report import Entry, Report
from dbctl.render.text import escape

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def format_report(report: Report) -> Iterator[str]:
    """Yield one line for each finding."""
    for entry in [*report.entries, *([report.failure] if report.failure else [])]:
        properties = {"title": f"dbctl {report.command}: {entry.code}"}
        if entry.location:
            properties = {
                "file": escape(entry.location.path),
                "line": str(entry.location.line),
                **properties,
            }
        words = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
        yield f"::{_COMMANDS[entry.severity]} {words}::{_escape_message(_describe(entry))}\n"


def _describe(entry: Entry) -> str:
    message = f"{entry.target}: {entry.message}" if entry.target else entry.message
    return f"{message}\n{entry.hint}" if entry.hint else message


def _escape_message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_message(text).replace(":", "%3A").replace(",", "%2C")
