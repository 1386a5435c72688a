"""Whether what an app keeps in several places, or in several databases, agrees: what no foreign key can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dbctl.engines.base import Condition, Readable
from dbctl.engines.sql import ident, is_storable
from dbctl.errors import DatabaseUnsetError, DbctlError
from dbctl.model import Finding, Findings, counted
from dbctl.profiles.model import CrossLink, Recount
from dbctl.profiles.rebuild_model import Rebuild
from dbctl.profiles.suspicion_model import Flaw
from dbctl.services import suspicions
from dbctl.services.apps import App
from dbctl.services.integrity import Checked, failure, status_of
from dbctl.services.live import find_column, may_lack
from dbctl.services.rebuild import figures_of
from dbctl.services.user_table import database_of

#: Values that are looked up at a time; memory does not grow with the tables.
BATCH = 5_000
EXAMPLES = 5


def cross(app: App) -> Checked:
    """Look for rows whose other half is missing, and for figures that a recount does not give, and rows that should not be.

    Raises:
        AbilityMissingError: the profile tells of neither.
    """
    wanted: list[CrossLink | Recount | Rebuild | Flaw] = [
        *app.profile.link,
        *app.profile.recount,
        *app.profile.flaw,
        *app.profile.rebuild,
    ]
    app.ability(wanted, "cross checks")
    findings, failures = list[Finding](), list[DbctlError]()
    checked = 0
    for told in wanted:
        name = database_of(app) if isinstance(told, Rebuild) else told.database or app.main()
        databases = {name, told.to} if isinstance(told, CrossLink) else {name}
        if app.only and databases != {app.only}:
            continue
        if app.database(name).optional and name not in app.configured.databases:
            continue  # what is not there names nothing
        try:
            found = _found(app, name, told)
        except DatabaseUnsetError as error:
            message = f"{told.name}: {error}"
            findings.append(
                Finding(
                    target=app.target(name),
                    severity="info",
                    code="not-checked",
                    message=message,
                    hint=error.hint,
                )
            )
            continue
        except DbctlError as error:
            failures.append(error)
            findings.append(failure(str(error.facts.get("target", app.target(name))), error))
            continue
        if found is not None:
            checked += len(told.figures) if isinstance(told, Rebuild) else 1
            findings += found
    # A database that cannot be read is told once, however much was to be looked for in it.
    findings = list(dict.fromkeys(findings))
    return Checked(
        findings=Findings(checked=checked, findings=findings), status=status_of(findings, failures)
    )


def _found(app: App, name: str, told: CrossLink | Recount | Rebuild | Flaw) -> list[Finding] | None:
    """Return what is found; None where the deployment has nothing to look at."""
    if isinstance(told, CrossLink):
        return _link(app, name, told)
    if isinstance(told, Flaw):
        seen = suspicions.flawed(app, app.reader(name), told)
        return [_flaw(app, name, told, seen.message)] if seen else []
    if isinstance(told, Recount):
        return _recount(app, name, told)
    figures = figures_of(app, app.reader(name), told)
    if figures is None:
        return None
    each = [
        Recount(
            name=f"{told.name}, {figure}",
            sql=figures.disagreeing(figure),
            severity=told.severity,
            hint=told.hint,
        )
        for figure in told.figures
    ]
    return [finding for one in each for finding in _recount(app, name, one) or ()]


def _flaw(app: App, name: str, told: Flaw, message: str) -> Finding:
    return Finding(
        target=app.target(name), severity=told.severity, code="flaw", message=message, hint=told.hint
    )


def _link(app: App, name: str, told: CrossLink) -> list[Finding] | None:
    here = app.reader(name)
    live = here.tables().get(told.table)
    column = find_column(live, told.column)
    if (told.optional and live is None) or (live and column is None and may_lack(told.column)):
        return None
    told = replace(told, column=column or told.column)
    there = app.reader(told.to)
    here.select(told.table, [told.column], limit=1)  # refuses what the live schema lacks
    places = [place.rpartition(".")[::2] for place in told.among]
    first, *further = places
    places = [first, *(place for place in further if place[0] in there.tables())]
    values = missing = rows = 0
    examples: list[object] = []
    for batch in _batches(here, told):
        values += len(batch)
        lost = [value for value in batch if not _stand(value)]
        left = [value for value in batch if _stand(value)]
        for table, column in places:
            known = set()
            if left:
                known = {row[0] for row in there.select(table, [column], [Condition(column, "in", left)])}
            left = [value for value in left if value not in known]
        lost += left
        missing += len(lost)
        rows += sum(batch[value] for value in lost)
        examples += lost[: EXAMPLES - len(examples)]
    if not missing:
        return []
    verb = "is" if missing == 1 else "are"
    message = (
        f"{told.name}: {missing} of {counted(values, 'value')} of {told.table}.{told.column} {verb} not in {told.to}"
        f" ({counted(rows, 'row')}): {_listed(examples, missing)}"
    )
    return [
        Finding(
            target=app.target(name),
            severity=told.severity,
            code="not-in-other",
            message=message,
            hint=told.hint,
        )
    ]


def _batches(db: Readable, told: CrossLink) -> Iterator[dict[object, int]]:
    """Yield the values of the column, each with the number of its rows, a batch at a time."""
    table, column = ident(told.table), ident(told.column)
    where, given = f"{column} is not null", dict[str, object]()
    while True:
        sql = f"select {column}, count(*) from {table} where {where} group by {column} order by {column} limit {BATCH}"  # noqa: S608 - names are quoted
        batch = {value: int(str(number)) for value, number in db.query(sql, given)}
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        last = list(batch)[-1]
        where = f"{column} > :last" if _stand(last) else f"{column} > cast(:last as text)"
        given = {"last": last if _stand(last) else str(last).encode("utf-8", "surrogateescape")}


def _stand(value: object) -> bool:
    """Whether another database could hold the value at all; text that is no valid UTF-8 cannot stand for itself."""
    return not isinstance(value, str) or is_storable(value)


def _recount(app: App, name: str, told: Recount) -> list[Finding] | None:
    db = app.reader(name)
    if any(table not in db.tables() for table in told.needs):
        return None
    sql = f"select q.*, count(*) over () from ({told.sql}) q limit {EXAMPLES}"  # noqa: S608 - the profile's own
    rows = db.query(sql)
    if not rows:
        return []
    total = int(str(rows[0][-1]))
    examples = [f"{', '.join(map(str, key))}: {kept} kept, {real} counted" for *key, kept, real, _ in rows]
    message = f"{told.name}: {total} disagree{'s' if total == 1 else ''} with a recount ({_listed(examples, total, '; ')})"
    return [
        Finding(
            target=app.target(name), severity=told.severity, code="recount", message=message, hint=told.hint
        )
    ]


def _listed(examples: Sequence[object], total: int, between: str = ", ") -> str:
    """Return a few of many, with bytes that are no text spelled out."""
    readable = (
        str(one).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for one in examples
    )
    return between.join(readable) + (" …" if total > len(examples) else "")
