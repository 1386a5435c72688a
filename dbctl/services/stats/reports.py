"""Reports: named queries of the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Readable, require_supported
from dbctl.engines.sql.catalog import NO_LIMIT
from dbctl.errors.base import Remedy
from dbctl.errors.usage import ReportMissingError, SchemaMismatchError, UsageError
from dbctl.model import Page, PageRequest, Row, Struct, format_count, time_before
from dbctl.profiles.codecs import TIMES, decode_text, encode_typed_time, read_time
from dbctl.profiles.model.profile import Profile, RelativeTime, Report
from dbctl.services.app.app import App
from dbctl.services.app.live_table import select_variant
from dbctl.services.app.results import paginate, paginate_rows
from dbctl.services.app.secrets import mask_results
from dbctl.services.app.validation import parse_time
from dbctl.services.search.request import Step
from dbctl.units import parse_duration


class ReportSummary(Struct, frozen=True, kw_only=True):
    """One report of an app."""

    name: str
    title: str
    database: str
    parameters: Mapping[str, object]  #: with their defaults
    columns: Sequence[str]


class ReportPlan(Struct, frozen=True, kw_only=True):
    """The query of a report, and its plan."""

    sql: str
    parameters: Mapping[str, object]
    plan: Sequence[Step]
    full_scans: Sequence[str]  #: tables whose rows are all read


def list_reports(app: App, page_request: PageRequest) -> Page[ReportSummary]:
    items = [
        ReportSummary(
            name=report.name,
            title=report.title,
            database=app.resolve_database(report),
            parameters={
                parameter: default.ago if isinstance(default, RelativeTime) else default
                for parameter, default in report.parameters.items()
            },
            columns=report.columns,
        )
        for report in app.require_section(app.profile.report, "reports")
    ]
    return paginate(items, ReportSummary, page_request)


def select_report(app: App, name: str) -> Report:
    """Return a report by name.

    Raises:
        ReportMissingError: no report has that name.
    """
    reports = app.require_section(app.profile.report, "reports")
    for report in reports:
        if report.name == name:
            return report
    names = [report.name for report in reports]
    raise ReportMissingError(app=app.name, name=name, names=", ".join(names), candidates=names)


def run(app: App, name: str, values: Mapping[str, str], page_request: PageRequest) -> Page[Row]:
    """Return one page of a report's rows.

    Raises:
        UsageError: the report has no column of the requested order, or a parameter is wrong or missing.
    """
    report, db, sql, parameters = _prepare(app, name, values, page_request)
    rows = db.query(sql, parameters)
    if rows and len(rows[0]) != len(report.columns):
        returned = format_count(len(rows[0]), "column")
        raise UsageError(
            detail=f"the report {name} returns {returned}, and the profile names {len(report.columns)}",
            hint=Remedy("Correct the profile. Check it with: `apps check`"),
        )
    items = _read_items(report, mask_results(app, app.resolve_database(report), db, sql, rows))
    if page_request.sort:  # all rows; equal ones keep the order of the report
        return paginate_rows(items, report.columns, page_request)

    def count_all() -> int:
        unlimited = {**parameters, "limit": NO_LIMIT, "offset": 0}
        return int(str(db.query(f"select count(*) from ({sql}) q", unlimited)[0][0]))

    return Page(
        items=items,
        total=page_request.find_total(len(rows), count_all),
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=report.columns,
    )


def _read_items(report: Report, rows: Sequence[Sequence[object]]) -> list[Row]:
    return [
        {
            name: read_time(value) if name in report.times else value
            for name, value in zip(report.columns, map(decode_text, row), strict=True)
        }
        for row in rows
    ]


def explain(app: App, name: str, values: Mapping[str, str], page_request: PageRequest) -> ReportPlan:
    """Return the plan of ``run`` without executing it.

    Raises:
        NotSupportedError: the engine cannot explain queries.
    """
    _, db, sql, parameters = _prepare(app, name, values, page_request)
    explainer = require_supported(db, db.explainer, "--explain", "Its engine cannot explain queries.")
    plan = explainer.explain_query(sql, parameters)
    return ReportPlan(
        sql=sql,
        parameters=parameters,
        plan=[Step(step=step) for step in plan.plan],
        full_scans=plan.full_scans,
    )


def _prepare(
    app: App, name: str, values: Mapping[str, str], page_request: PageRequest
) -> tuple[Report, Readable, str, Mapping[str, object]]:
    report = select_report(app, name)
    unknown = [parameter for parameter in values if parameter not in report.parameters]
    if unknown:
        parameter_names = ", ".join(report.parameters) or "none"
        detail = f"{name} has no parameter {unknown[0]!r}; it has: {parameter_names}"
        raise UsageError(detail=detail, name=unknown[0], candidates=report.parameters)
    missing = [
        parameter
        for parameter, default in report.parameters.items()
        if default == "" and parameter not in values
    ]
    if missing:
        raise UsageError(
            detail=f"{name} requires {' '.join(f'--set {parameter}=…' for parameter in missing)}"
        )
    parameters = read_defaults(report, app.profile)
    for parameter, text in values.items():
        parameters[parameter] = _parse_value(parameter, text, report.parameters[parameter], app.profile)
    parameters |= {
        "limit": NO_LIMIT if page_request.limit is None or page_request.sort else page_request.limit,
        "offset": 0 if page_request.sort else page_request.offset,
    }
    db = app.reader(app.resolve_database(report))
    variant = select_variant(report.variant, db.tables())
    if variant is None:
        requirements = " or ".join(", ".join(alternative.needs) for alternative in report.variant)
        raise SchemaMismatchError(target=db.target, missing=requirements, purpose=f"the report {name}")
    return report, db, variant.sql.strip(), parameters


def read_defaults(report: Report, profile: Profile) -> dict[str, object]:
    """Return the default parameters of a report, encoded for its SQL."""
    return {
        name: _encode_age(default.ago, profile) if isinstance(default, RelativeTime) else default
        for name, default in report.parameters.items()
    }


def _encode_age(span: str, profile: Profile) -> object:
    """Return the time before a duration, in the form of the app."""
    return TIMES[profile.time](time_before(parse_duration(span)))


def _parse_value(name: str, text: str, default: object, profile: Profile) -> object:
    """Parse a parameter as the type of its default; a time may also be a duration before now."""
    if isinstance(default, RelativeTime):
        try:
            return _encode_age(text, profile)
        except ValueError:
            return encode_typed_time(profile.time, parse_time(name, text), text)
    if isinstance(default, str):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text)
    except ValueError:
        raise UsageError(detail=f"--set {name}={text}: a number is required") from None
