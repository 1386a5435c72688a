"""Figures that the profile names: the numbers in the first row of each report with ``sampled``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal

from dbctl.errors.base import DbctlError
from dbctl.model import PageRequest
from dbctl.services.app.app import App
from dbctl.services.stats import reports


def read_figures(app: App, database: str) -> Mapping[str, float]:
    """Return the figures of a database by ``report.column``; a report whose tables are missing is omitted."""
    figures = dict[str, float]()
    for report in app.profile.report:
        if not report.sampled or app.resolve_database(report) != database:
            continue
        with suppress(DbctlError):
            for row in reports.run(app, report.name, {}, PageRequest(limit=1)).items:
                for column, value in row.items():
                    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
                        figures[f"{report.name}.{column}"] = value if isinstance(value, int) else float(value)
    return figures
