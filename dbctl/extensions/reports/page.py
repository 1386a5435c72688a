"""The whole page: heading, figures, sections, style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import resources

from dbctl.config.sections import Selection
from dbctl.extensions.reports.collect import collect_report
from dbctl.extensions.reports.elements import Html, element, join, show_number, show_size
from dbctl.extensions.reports.result import OperationsReport
from dbctl.extensions.reports.sections import describe_period, list_sections
from dbctl.model import format_count
from dbctl.services.events.runs import JournalLocation

#: The first bytes of each page, by which an earlier one is recognized.
SIGNATURE = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="dbctl report'


def create_page(report: OperationsReport) -> str:
    """Return the report as one HTML page; its policy allows its own style and nothing else."""
    style = (
        resources.files(__package__ or "dbctl.extensions.reports")
        .joinpath("style.css")
        .read_text(encoding="utf-8")
    )
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; base-uri 'none'; form-action 'none'"
    sections = list_sections(report)
    head = join(
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("title", f"Operations report of {report.host}, {report.created_at:%Y-%m-%d}"),
        element("style", Html(style)),
    )
    links = [element("li", element("a", title, href=f"#{key}")) for key, title, _ in sections]
    body = join(
        element("a", "Skip to the content", href="#content", class_="skip"),
        element(
            "header",
            element("p", "dbctl", class_="brand"),
            element("h1", "Operations report"),
            element("p", element("strong", report.host), " · ", describe_period(report)),
            element("nav", element("ul", *links), aria_label="Sections"),
        ),
        element(
            "main",
            element("h2", "Summary", class_="hidden"),
            element("dl", *_list_totals(report), class_="totals"),
            *(
                element("section", element("h2", title, id=key), content, aria_labelledby=key)
                for key, title, content in sections
            ),
            id="content",
        ),
        element("footer", element("p", f"Written by dbctl {report.version}. Times are in UTC.")),
    )
    return f'{SIGNATURE} {report.version}">{head}</head>\n<body>{body}</body></html>\n'


def _list_totals(report: OperationsReport) -> Iterator[Html]:
    totals = report.totals
    entries = [
        ("Applications", show_number(totals.apps), format_count(totals.databases, "database"), ""),
        ("Size", show_size(totals.bytes), _describe_growth(totals.bytes_per_day), ""),
        (
            "Findings",
            show_number(totals.errors + totals.warnings),
            f"{format_count(totals.errors, 'error')}, {format_count(totals.warnings, 'warning')}",
            "error" if totals.errors else "warning" if totals.warnings else "ok",
        ),
        (
            "Failed runs",
            show_number(totals.failed_runs),
            f"of {totals.runs:,}",
            "error" if totals.failed_runs else "ok",
        ),
        (
            "Backups due",
            show_number(totals.due_backups),
            f"of {totals.backups:,}",
            "warning" if totals.due_backups else "ok",
        ),
    ]
    for term, value, detail, style in entries:
        yield element(
            "div",
            element("dt", term),
            element("dd", value, class_=f"figure {style}".strip()),
            element("dd", detail, class_="muted"),
        )


def _describe_growth(bytes_per_day: int | None) -> Html:
    if bytes_per_day is None:
        return join("Growth unknown")
    return join(show_size(bytes_per_day, signed=True), " per day")


def _digest(style: str) -> str:
    import hashlib
    from base64 import b64encode

    return b64encode(hashlib.sha256(style.encode()).digest()).decode()


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
