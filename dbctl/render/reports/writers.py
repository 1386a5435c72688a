"""Write a report in the requested format; one module for each format."""

from __future__ import annotations

from dbctl.render import streams
from dbctl.render.reports import github, gitlab, junit, sarif
from dbctl.render.reports.report import Report
from dbctl.render.streams import Format

_FORMATS = {
    Format.GITHUB: github.format_report,
    Format.GITLAB: gitlab.format_report,
    Format.JUNIT: junit.format_report,
    Format.SARIF: sarif.format_report,
}


def write_report(report: Report, output: Format) -> None:
    """Write a report to standard output, and to standard error what the format cannot contain.

    Raises:
        OutputFailedError: standard output cannot be written.
    """
    for part in _FORMATS[output](report):
        streams.write(part, utf8=True)
    if output is Format.SARIF and (omitted := sarif.count_omitted(report)):
        total, limit = len(report.entries), sarif.MAX_RESULTS
        streams.remark(
            f"dbctl: {omitted} of {total} findings are omitted: GitHub accepts {limit}; -o json contains all"
        )
