"""The page of the report that is attached to a summary."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from dbctl.config.sections import Selection
from dbctl.report_page.page import create_page
from dbctl.services.events.runs import JournalLocation
from dbctl.services.report.collect import collect_report


def create_summary_page(
    selections: Sequence[Selection],
    location: JournalLocation,
    *,
    timeout: float,
    since: timedelta,
    jobs: int | None,
) -> bytes:
    """Return the page about apps and fleets; the arguments are those of ``collect_report``, and it raises the same errors."""
    report = collect_report(selections, location, timeout=timeout, since=since, jobs=jobs)
    return create_page(report).encode()
