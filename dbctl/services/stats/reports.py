"""Questions that the profile asks under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Capability, Explains, Readable
from dbctl.engines.sql import EVERY_ROW
from dbctl.errors import NotSupportedError, ReportMissingError, SchemaLacksError, UsageError
from dbctl.model import Page, Row, Value, Window, before, read_span
from dbctl.profiles import TIMES, read_time
from dbctl.profiles.model import Ago, Profile, Report, ReportShape
from dbctl.services.app import App, has, page_of, read_moment
from dbctl.services.search import Step


class ReportListed(Value, frozen=True, kw_only=True):
    """One report of an app."""

    name: str
    title: str
    database: str
    parameters: Mapping[str, object]  #: with the values that they have unless told otherwise
    columns: Sequence[str]


class Explained(Value, frozen=True, kw_only=True):
    """How a report would be answered."""

    sql: str
    parameters: Mapping[str, object]
    plan: Sequence[Step]
    full_scans: Sequence[str]  #: tables that are read whole


def listed(app: App, window: Window) -> Page[ReportListed]:
    """Return the reports of the app."""
    items = [
        ReportListed(
            name=one.name,
            title=one.title,
            database=one.database or app.main(),
            parameters={
                word: like.ago if isinstance(like, Ago) else like for word, like in one.parameters.items()
            },
            columns=one.columns,
        )
        for one in app.ability(app.profile.report, "reports")
    ]
    return page_of(items, ReportListed, window)


def named(app: App, name: str) -> Report:
    """Return one report of the app.

    Raises:
        ReportMissingError: it has others.
    """
    known = app.ability(app.profile.report, "reports")
    for one in known:
        if one.name == name:
            return one
    raise ReportMissingError(app=app.name, name=name, names=", ".join(one.name for one in known))


def fitting(report: Report, db: Readable) -> ReportShape | None:
    """Return the shape by which a database is asked; None where it has the tables and columns of none."""
    return next((one for one in report.shape if has(db, one.needs)), None)


def run(app: App, name: str, given: Mapping[str, str], window: Window) -> Page[Row]:
    """Return one page of a report's rows."""
    report, db, sql, told = _asked(app, name, given, window)
    rows = db.query(sql, told)
    last = (rows or not window.offset) and (window.limit is None or len(rows) < window.limit)
    total = window.offset + len(rows)
    if not last:
        whole = f"select count(*) from ({sql}) q"  # noqa: S608 - the profile's own
        total = int(str(db.query(whole, {**told, "limit": EVERY_ROW, "offset": 0})[0][0]))
    items = [
        {
            name: read_time(value) if name in report.times else value
            for name, value in zip(report.columns, row, strict=True)
        }
        for row in rows
    ]
    return Page(items=items, total=total, limit=window.limit, offset=window.offset, names=report.columns)


def explain(app: App, name: str, given: Mapping[str, str], window: Window) -> Explained:
    """Return how ``run`` would be answered, without answering it.

    Raises:
        NotSupportedError: the engine cannot tell.
    """
    _, db, sql, told = _asked(app, name, given, window)
    if Capability.EXPLAIN not in db.capabilities or not isinstance(db, Explains):
        raise NotSupportedError(
            what="--explain", by=db.target, instead="Its engine does not tell how it reads."
        )
    found = db.explain_query(sql, told)
    return Explained(
        sql=sql, parameters=told, plan=[Step(step=step) for step in found.plan], full_scans=found.full_scans
    )


def _asked(
    app: App, name: str, given: Mapping[str, str], window: Window
) -> tuple[Report, Readable, str, Mapping[str, object]]:
    report = named(app, name)
    if window.sort:
        raise UsageError(detail="a report has its own order")
    strange = [word for word in given if word not in report.parameters]
    if strange:
        known = ", ".join(report.parameters) or "none"
        raise UsageError(detail=f"{name} has no parameter {strange[0]!r}; it has: {known}")
    unsaid = [word for word, usual in report.parameters.items() if usual == "" and word not in given]
    if unsaid:
        raise UsageError(detail=f"{name} wants {' '.join(f'--set {word}=…' for word in unsaid)}")
    told = defaults(report, app.profile)
    for word, text in given.items():
        told[word] = _read(word, text, report.parameters[word], app.profile)
    told |= {"limit": EVERY_ROW if window.limit is None else window.limit, "offset": window.offset}
    db = app.reader(report.database or app.main())
    shape = fitting(report, db)
    if shape is None:
        what = " or ".join(", ".join(one.needs) for one in report.shape)
        raise SchemaLacksError(target=db.target, what=what, purpose=f"the report {name}")
    return report, db, shape.sql.strip(), told


def defaults(report: Report, profile: Profile) -> dict[str, object]:
    """Return the parameters of a report as its SQL takes them, with the values that they have unless told otherwise."""
    return {
        word: _ago(like.ago, profile) if isinstance(like, Ago) else like
        for word, like in report.parameters.items()
    }


def _ago(span: str, profile: Profile) -> object:
    """Return the moment so long ago, as the app writes one."""
    return TIMES[profile.time](before(read_span(span)))


def _read(word: str, text: str, like: object, profile: Profile) -> object:
    """Read a parameter as what its own value is: a moment also as how long ago it was."""
    if isinstance(like, Ago):
        try:
            return _ago(text, profile)
        except ValueError:
            return TIMES[profile.time](read_moment(word, text))
    if isinstance(like, str):
        return text
    try:
        return float(text) if isinstance(like, float) else int(text)
    except ValueError:
        raise UsageError(detail=f"--set {word}={text}: it is a number") from None
