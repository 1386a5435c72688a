"""Whether a live database can answer the SQL of a profile: each statement is prepared, and none is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract import Capability, Describes, Explains, Readable, SchemaTable, bare
from dbctl.engines.sql import columns_of, counted_columns
from dbctl.errors import QueryFailedError, SchemaLacksError, ValueInvalidError
from dbctl.model import Value
from dbctl.profiles.model import Profile, Report
from dbctl.services.app import App
from dbctl.services.integrity import known_problems
from dbctl.services.profiles.consistency import Complaint
from dbctl.services.sessions import figures_of
from dbctl.services.stats import defaults, fitting


class Statement(Value, frozen=True, kw_only=True):
    """One statement of a profile, as it is asked when it counts."""

    key: Sequence[str | int]  #: where in the profile
    sql: str
    parameters: Mapping[str, object] = {}


def failing(app: App, database: str, live: Readable) -> Iterator[Complaint]:
    """Yield the statements that the database would refuse, with its reason."""
    if Capability.EXPLAIN not in live.capabilities or not isinstance(live, Explains):
        return
    for one in _statements(app, database, live):
        try:
            live.explain_query(one.sql, one.parameters)
        except (QueryFailedError, ValueInvalidError) as error:
            yield one.key, str(error.facts["reason"])


def _statements(app: App, database: str, live: Readable) -> Iterator[Statement]:
    main, profile = app.main(), app.profile
    for at, report in enumerate(profile.report):
        shape = fitting(report, live) if (report.database or main) == database else None
        if shape:
            given = {**defaults(report, profile), "limit": 1, "offset": 0}
            sql = counted_columns(shape.sql, len(report.columns))
            place = ("report", at, "shape", report.shape.index(shape), "sql")
            yield Statement(key=place, sql=sql, parameters=given)
    for at, recount in enumerate(profile.recount):
        if (recount.database or main) == database and all(one in live.tables() for one in recount.needs):
            yield Statement(key=("recount", at, "sql"), sql=columns_of(recount.sql))
    yield from _flaws(app, database, live)
    for at, rule in enumerate(profile.cleanup):
        for number, then in enumerate(rule.then):
            if (rule.database or main) == database and then.into in live.tables():
                sql = counted_columns(then.select, len(then.key) + len(then.merge))
                place = ("cleanup", at, "then", number, "select")
                yield Statement(key=place, sql=sql, parameters={"picked": [1], "now": ""})
    if _of_users(profile, main) == database:
        yield from _rebuilds(app, live)


def _flaws(app: App, database: str, live: Readable) -> Iterator[Statement]:
    for at, flaw in enumerate(app.profile.flaw):
        asked = (
            known_problems.question(app, flaw, live) if (flaw.database or app.main()) == database else None
        )
        if asked:
            yield Statement(key=("flaw", at), sql=columns_of(asked.sql), parameters=asked.parameters)


def _rebuilds(app: App, live: Readable) -> Iterator[Statement]:
    for at, told in enumerate(app.profile.rebuild):
        try:
            figures = figures_of(app, live, told)
        except SchemaLacksError:  # ``profile_check.lacking`` tells of the column
            continue
        if figures:
            yield Statement(key=("rebuild", at, "select"), sql=figures.summary())


def _of_users(profile: Profile, main: str) -> str:
    return (profile.users.database if profile.users else "") or main


def idle(app: App, database: str, live: Readable) -> Iterator[Complaint]:
    """Yield the reports of which no shape fits the database."""
    for at, report in enumerate(app.profile.report):
        here = (report.database or app.main()) == database and not report.optional
        if here and fitting(report, live) is None:
            yield ("report", at, "shape"), f"no shape of the report {report.name} fits: {_needs(report)}"


def _needs(report: Report) -> str:
    return ", or ".join(", ".join(shape.needs) for shape in report.shape)


def unkeyed(app: App, database: str, live: Readable) -> Iterator[Complaint]:
    """Yield the keys that no unique index covers, so that rows cannot be brought into the ones that are there."""
    if Capability.SCHEMA not in live.capabilities or not isinstance(live, Describes):
        return
    main, profile = app.main(), app.profile
    keys: list[tuple[Sequence[str | int], str, Sequence[str]]] = [
        (("cleanup", at, "then", number, "key"), then.into, then.key)
        for at, rule in enumerate(profile.cleanup)
        if (rule.database or main) == database
        for number, then in enumerate(rule.then)
    ]
    if _of_users(profile, main) == database:
        keys += [(("rebuild", at, "key"), one.table, one.key) for at, one in enumerate(profile.rebuild)]
    tables = {one.name: one for one in live.schema().tables} if keys else {}
    for place, name, key in keys:
        table = tables.get(name.removesuffix("?"))
        if table and not _covered(table, key):
            yield place, f"no unique index of {table.name} covers {', '.join(key)}"


def _covered(table: SchemaTable, key: Sequence[str]) -> bool:
    whole = [one.columns for one in table.indexes if one.unique and not one.where]
    wanted = {column.lower() for column in key}
    return any({bare(column).lower() for column in columns} == wanted for columns in [table.key, *whole])
