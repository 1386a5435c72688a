"""The sections of the page, each omitted or stating that there is nothing to show; and its charts as SVG without scripts, in the colors of the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dbctl.extensions.reports.elements import (
    MISSING,
    Column,
    Html,
    Node,
    create_table,
    element,
    join,
    show_duration,
    show_number,
    show_size,
    show_time,
)
from dbctl.extensions.reports.result import (
    Activity,
    OperationsReport,
    ReportedDatabase,
    ReportedFigure,
    ReportedMigration,
    ReportedRun,
)
from dbctl.model import format_count
from dbctl.services.backup.status import DatabaseBackups
from dbctl.services.fleet.status import ReportedApp, ReportedFinding
from dbctl.services.history import DatabaseGrowth, TableGrowth

#: Units of the coordinates; the style sheet sets the size.
_LINE_WIDTH, _LINE_HEIGHT = 300.0, 64.0
_BAR_WIDTH, _BAR_HEIGHT = 960.0, 130.0
_MARGIN = 4.0


def draw_line(points: Sequence[tuple[datetime, int]], *, key: str, title: str, description: str) -> Html:
    """Return a line through at least two points over time, with the area below it.

    Args:
        points: times, increasing, and values.
        key: makes the ids of the page unique.
        title: what it shows.
        description: its figures, for readers that do not see it.
    """
    values = [value for _, value in points]
    least, largest = min(values), max(values)
    begin, period = points[0][0], max((points[-1][0] - points[0][0]).total_seconds(), 1.0)
    height = _LINE_HEIGHT - 2 * _MARGIN
    coordinates = [
        (
            _MARGIN + (_LINE_WIDTH - 2 * _MARGIN) * (at - begin).total_seconds() / period,
            _LINE_HEIGHT / 2
            if least == largest
            else _MARGIN + height * (1 - (value - least) / (largest - least)),
        )
        for at, value in points
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in coordinates)
    (first_x, _), (last_x, last_y) = coordinates[0], coordinates[-1]
    area = f"{path}L{last_x:.1f} {_LINE_HEIGHT:.0f}L{first_x:.1f} {_LINE_HEIGHT:.0f}Z"
    return _create_svg(
        element("path", d=area, class_="area"),
        element("path", d=path, class_="curve"),
        element("circle", cx=f"{last_x:.1f}", cy=f"{last_y:.1f}", r=3, class_="dot"),
        size=(_LINE_WIDTH, _LINE_HEIGHT),
        key=key,
        title=title,
        description=description,
    )


def draw_bars(activity: Sequence[Activity], interval: timedelta, *, key: str) -> Html:
    """Return one bar per period, with failed runs at its base."""
    largest = max((period.succeeded + period.failed for period in activity), default=0) or 1
    step = _BAR_WIDTH / max(len(activity), 1)
    width, bars = max(step - 3, 1.0), list[Html]()
    unit = (_BAR_HEIGHT - 2) / largest
    for index, period in enumerate(activity):
        x, failed, total = index * step, period.failed * unit, (period.failed + period.succeeded) * unit
        text = f"{period.begin:%Y-%m-%d}: {period.succeeded} succeeded, {period.failed} failed"
        bars.append(
            element(
                "g",
                element("title", text),
                _draw_bar(x, width, _BAR_HEIGHT - failed, failed, "failed"),
                _draw_bar(x, width, _BAR_HEIGHT - total, total - failed, "succeeded"),
            )
        )
    succeeded, failures = (sum(getattr(p, name) for p in activity) for name in ("succeeded", "failed"))
    return _create_svg(
        element("line", x1=0, x2=_BAR_WIDTH, y1=_BAR_HEIGHT, y2=_BAR_HEIGHT, class_="axis"),
        *bars,
        size=(_BAR_WIDTH, _BAR_HEIGHT),
        key=key,
        title=f"Runs per {'day' if interval.days == 1 else f'{interval.days} days'}",
        description=f"{succeeded} runs succeeded, {failures} failed; at most {largest} in one period",
        stretch=True,
    )


def _draw_bar(x: float, width: float, y: float, height: float, kind: str) -> Html | None:
    if not height:
        return None
    return element(
        "rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_=kind
    )


def _create_svg(
    *children: Html, size: tuple[float, float], key: str, title: str, description: str, stretch: bool = False
) -> Html:
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-text"),
        *children,
        viewBox=f"0 0 {size[0]:.0f} {size[1]:.0f}",
        role="img",
        aria_labelledby=f"{key}-title {key}-text",
        preserveAspectRatio="none" if stretch else None,
        class_="bars" if stretch else "line",
    )


#: The words for a state, with the style of its badge.
_HEALTH = {"error": "Error", "due": "Action due", "ok": "OK"}
_SEVERITY = {"error": "Error", "warning": "Warning", "info": "Note"}
_STYLES = {"error": "error", "due": "warning", "warning": "warning", "ok": "ok", "info": "info"}
#: Why there is no prediction, in words.
_FORECASTS = {
    "unknown": "Free space unknown",
    "too-few-samples": "Too few samples for a prediction",
    "not-filling": "Disk is not filling up",
    "no-trend": "No clear trend of the free space",
    "distant": "Disk full in more than 5 years",
}


def list_sections(report: OperationsReport) -> Sequence[tuple[str, str, Html]]:
    """Return the id, the title and the content of each section."""
    return [
        ("applications", "Applications", _show_applications(report)),
        ("findings", "Findings", _show_findings(report)),
        ("growth", "Growth", _show_growth(report)),
        ("activity", "Activity", _show_activity(report)),
        ("backups", "Backups", _show_backups(report)),
        ("migrations", "Migrations", _show_migrations(report)),
        ("changes", "Recent changes", _show_changes(report)),
    ]


def _show_applications(report: OperationsReport) -> Html:
    board = _create_board("All applications, those that need attention first", report, report.apps)
    if not report.instances:
        return board
    caption = "Instances of fleets that need attention, worst first"
    return join(board, _create_board(caption, report, report.instances))


def _create_board(caption: str, report: OperationsReport, apps: Sequence[ReportedApp]) -> Html:
    columns: list[Column[ReportedApp]] = [
        Column("Application", lambda app: app.app),
        Column("State", _show_health),
        Column("Databases", lambda app: show_number(app.databases), "number"),
        Column("Size", lambda app: show_size(app.bytes), "number"),
        Column("Growth per day", lambda app: show_size(app.bytes_per_day, signed=True), "number"),
        Column("Users", lambda app: show_number(app.users), "number"),
        Column("Backup", lambda app: show_time(app.backup_at, created_at=report.created_at)),
        Column("Pending migrations", lambda app: show_number(app.pending), "number"),
        Column("Findings", lambda app: show_number(app.errors + app.warnings), "number"),
        Column("Failed runs", lambda app: show_number(app.failed_runs), "number"),
    ]
    return create_table(caption, columns, apps)


def _show_health(app: ReportedApp) -> Html:
    """Return the state; of a fleet with the number of its instances that need attention."""
    badge, instances = _badge(app.health, _HEALTH), app.instances
    if instances is None:
        return badge
    attention = f"{instances.error + instances.due:,} of {format_count(instances.total, 'instance')}"
    return join(badge, " ", element("span", attention, class_="muted"))


def _show_findings(report: OperationsReport) -> Html:
    if not report.findings:
        return _show_remark("No problems were found.")
    return element("ul", *map(_show_finding, report.findings), class_="findings")


def _show_finding(finding: ReportedFinding) -> Html:
    remedy = element("p", "Remedy: ", element("code", finding.remedy)) if finding.remedy else None
    others = finding.describe_others()
    return element(
        "li",
        _badge(finding.severity, _SEVERITY),
        element(
            "div",
            element(
                "p", element("strong", finding.target), " ", element("span", finding.code, class_="code")
            ),
            element("p", finding.message),
            element("p", others, class_="muted") if others else None,
            remedy,
        ),
    )


def _show_growth(report: OperationsReport) -> Html:
    databases = [database for database in report.databases if database.growth]
    if not databases:
        return _show_remark(
            "No sizes were recorded in this period. Each backup, and dbctl status --record, records them."
        )
    cards = (_show_card(database, f"size-{index}") for index, database in enumerate(databases))
    parts: list[Node] = [element("div", *cards, class_="cards")]
    if report.tables:
        tables: list[Column[TableGrowth]] = [
            Column("Table", lambda table: table.table),
            Column("Database", lambda table: table.target),
            Column("Rows", lambda table: show_number(table.rows), "number"),
            Column("Change", lambda table: show_number(table.rows_change, signed=True), "number"),
            Column("Per day", lambda table: show_number(table.rows_per_day, signed=True), "number"),
        ]
        parts.append(create_table("Tables that grow fastest", tables, report.tables))
    if report.growing:
        instances: list[Column[DatabaseGrowth]] = [
            Column("Instance", lambda growth: growth.target),
            Column("Size", lambda growth: show_size(growth.bytes), "number"),
            Column("Per day", lambda growth: show_size(growth.bytes_per_day, signed=True), "number"),
        ]
        parts.append(create_table("Instances that grow fastest", instances, report.growing))
    if report.figures:
        figures: list[Column[ReportedFigure]] = [
            Column("Figure", lambda figure: figure.name),
            Column("Database", lambda figure: figure.target),
            Column("Value", lambda figure: show_number(figure.value), "number"),
            Column("Change", lambda figure: show_number(figure.change, signed=True), "number"),
        ]
        parts.append(create_table("Figures of the applications", figures, report.figures))
    return join(*parts)


def _show_card(database: ReportedDatabase, key: str) -> Html:
    growth = database.growth
    if growth is None:
        return Html()
    points = [(point.at, point.bytes) for point in database.points if point.bytes is not None]
    chart: Node = None
    if len(points) > 1:
        first, last = points[0], points[-1]
        description = f"{first[1]:,} bytes on {first[0]:%Y-%m-%d}, {last[1]:,} bytes on {last[0]:%Y-%m-%d}"
        chart = join(
            draw_line(points, key=key, title=f"Size of {database.target}", description=description),
            element(
                "p",
                element("span", f"{first[0]:%Y-%m-%d}: ", show_size(first[1])),
                element("span", f"{last[0]:%Y-%m-%d}"),
                class_="axis",
            ),
        )
    per_day: Node = "Growth per day unknown"
    if growth.bytes_per_day is not None:
        per_day = join(show_size(growth.bytes_per_day, signed=True), " per day")
    days = growth.days_until_full
    forecast: Node = _FORECASTS.get(growth.forecast, "")
    if days is not None:
        forecast = element(
            "strong", "Disk full in ", show_number(round(days)), f" {'day' if round(days) == 1 else 'days'}"
        )
    last_point = database.points[-1] if database.points else None
    counts: list[Node] = []
    if last_point and last_point.rows is not None:
        counts += [show_number(last_point.rows), " rows"]
    if last_point and last_point.users is not None:
        counts += [", ", show_number(last_point.users), " users"]
    return element(
        "article",
        element("h3", database.target),
        element("p", show_size(growth.bytes), class_="figure"),
        chart,
        element("p", per_day),
        element("p", *counts) if counts else None,
        element("p", forecast, class_="muted"),
    )


def _show_activity(report: OperationsReport) -> Html:
    if not report.totals.runs:
        return _show_remark("The journal has no runs in this period.")
    unit = "day" if report.activity_interval == timedelta(days=1) else f"{report.activity_interval.days} days"
    largest = max(period.succeeded + period.failed for period in report.activity)
    legend = element(
        "p",
        element("span", "succeeded", class_="key succeeded"),
        element("span", "failed", class_="key failed"),
        f"runs per {unit}, at most {largest:,}; {report.activity[0].begin:%Y-%m-%d} to {report.created_at:%Y-%m-%d}",
        class_="legend",
    )
    bars = draw_bars(report.activity, report.activity_interval, key="activity-chart")
    if not report.failures:
        return join(bars, legend, _show_remark("No run failed."))
    columns = _list_run_columns("Started", report)
    columns += [
        Column("Command", lambda run: run.command),
        Column("Result", lambda run: _create_badge(run.result, "error")),
        Column("Reason", lambda run: run.message or run.error or MISSING, "wide"),
    ]
    table = create_table("Failed and interrupted runs, newest first", columns, report.failures)
    return join(bars, legend, table)


def _list_run_columns(time: str, report: OperationsReport) -> list[Column[ReportedRun]]:
    return [
        Column("Run", lambda run: element("data", str(run.id), value=run.id)),
        Column(time, lambda run: show_time(run.started_at, created_at=report.created_at)),
        Column("Application", lambda run: run.app or MISSING),
    ]


def _show_backups(report: OperationsReport) -> Html:
    if not report.backups:
        return _show_remark("No backups are configured.")
    at = report.created_at
    columns: list[Column[DatabaseBackups]] = [
        Column("Database", lambda backup: f"{backup.app}/{backup.database}"),
        Column("Newest", lambda backup: show_time(backup.created_at, created_at=at)),
        Column("Size", lambda backup: show_size(backup.bytes), "number"),
        Column("Backups", lambda backup: show_number(backup.backups), "number"),
        Column("Verified", lambda backup: show_time(backup.verified_at, created_at=at)),
        Column("Drilled", lambda backup: show_time(backup.drilled_at, created_at=at)),
        Column("Drill took", lambda backup: show_duration(backup.drill_duration), "number"),
        Column("State", _show_due, "wide"),
    ]
    return create_table("The newest backup of each database", columns, report.backups)


def _show_due(backup: DatabaseBackups) -> Html:
    if not backup.due:
        return _badge("ok", _HEALTH)
    return element("span", "Due: ", "; ".join(backup.due.values()), class_="due")


def _show_migrations(report: OperationsReport) -> Html:
    if not report.migrations:
        return _show_remark("No migration is pending, and none was applied in this period.")
    columns: list[Column[ReportedMigration]] = [
        Column("Migration", lambda migration: migration.name),
        Column("Database", lambda migration: f"{migration.app}/{migration.database}"),
        Column(
            "State",
            lambda migration: _create_badge(
                migration.state, "ok" if migration.state == "applied" else "warning"
            ),
        ),
        Column("Applied", lambda migration: show_time(migration.applied_at, created_at=report.created_at)),
    ]
    if any(migration.instances for migration in report.migrations):
        columns.append(
            Column("Instances", lambda migration: show_number(migration.instances or None), "number")
        )
    caption = "Migrations that are not applied, and those applied in this period"
    return create_table(caption, columns, report.migrations)


def _show_changes(report: OperationsReport) -> Html:
    if not report.changes:
        return _show_remark("dbctl changed nothing in this period.")
    columns = _list_run_columns("When", report)
    columns += [
        Column("Command", lambda run: element("code", f"{run.command} {run.arguments}".strip()), "wide"),
        Column("By", lambda run: run.user),
        Column("Result", lambda run: _create_badge(run.result, "error" if run.is_failure else "ok")),
    ]
    return create_table("Changes by dbctl, newest first", columns, report.changes)


def _badge(state: str, words: dict[str, str]) -> Html:
    return _create_badge(words[state], _STYLES[state])


def _create_badge(text: str, style: str) -> Html:
    return element("span", text, class_=f"badge {style}")


def _show_remark(text: str) -> Html:
    return element("p", text, class_="empty")


def describe_period(report: OperationsReport) -> str:
    """Return the period, for the heading of the page."""
    days = max(round((report.created_at - report.since) / timedelta(days=1)), 1)
    return f"{report.since:%Y-%m-%d} to {report.created_at:%Y-%m-%d %H:%M} UTC, {format_count(days, 'day')}"
