"""Check that a live database accepts the SQL of a profile: statements are prepared, but not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract import (
    Explainer,
    Readable,
    SchemaReader,
    SchemaTable,
    strip_collation,
)
from dbctl.engines.sql import require_column_count, select_all_from
from dbctl.errors import PrivilegeMissingError, QueryFailedError, SchemaMismatchError, ValueInvalidError
from dbctl.model import Struct
from dbctl.profiles.model import Profile, Report
from dbctl.services.app import App
from dbctl.services.app.evidence import Contradiction, create_unreadable
from dbctl.services.deletion import create_query
from dbctl.services.profiles.consistency import Problem
from dbctl.services.sessions import create_recount
from dbctl.services.stats import read_defaults, select_variant


class Statement(Struct, frozen=True, kw_only=True):
    """One statement of a profile, with parameters."""

    key: Sequence[str | int]  #: its key in the profile
    sql: str
    parameters: Mapping[str, object] = {}


def find_failing_statements(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield the statements that the database rejects, with the reason, and those whose tables the role may not read."""
    explainer = live.part(Explainer)
    if explainer is None:
        return
    for statement in _statements(app, database, live):
        try:
            explainer.explain_query(statement.sql, statement.parameters)
        except PrivilegeMissingError as error:
            yield create_unreadable(statement.key, error)
        except (QueryFailedError, ValueInvalidError) as error:
            yield Contradiction(
                key=statement.key,
                code="sql-fails",
                reason=str(error.context["reason"]),
                remedy="The statement was only prepared, not run.",
            )


def _statements(app: App, database: str, live: Readable) -> Iterator[Statement]:
    main, profile = app.main(), app.profile
    for index, report in enumerate(profile.report):
        variant = select_variant(report, live) if (report.database or main) == database else None
        if variant:
            parameters = {**read_defaults(report, profile), "limit": 1, "offset": 0}
            sql = require_column_count(variant.sql, len(report.columns))
            key = ("report", index, "variant", report.variant.index(variant), "sql")
            yield Statement(key=key, sql=sql, parameters=parameters)
    for index, recount in enumerate(profile.recount):
        if (recount.database or main) == database and all(table in live.tables() for table in recount.needs):
            yield Statement(key=("recount", index, "sql"), sql=select_all_from(recount.sql))
    yield from _invariant_statements(app, database, live)
    for index, rule in enumerate(profile.cleanup):
        for after_index, after in enumerate(rule.after):
            if (rule.database or main) == database and after.into in live.tables():
                sql = require_column_count(after.select, len(after.key) + len(after.merge))
                key = ("cleanup", index, "after", after_index, "select")
                yield Statement(key=key, sql=sql, parameters={"picked": [1], "now": ""})
    if _users_database(profile, main) == database:
        yield from _rebuild_statements(app, live)


def _invariant_statements(app: App, database: str, live: Readable) -> Iterator[Statement]:
    for index, invariant in enumerate(app.profile.invariant):
        query = create_query(app, invariant, live) if app.resolve_database(invariant) == database else None
        if query:
            yield Statement(
                key=("invariant", index), sql=select_all_from(query.sql), parameters=query.parameters
            )


def _rebuild_statements(app: App, live: Readable) -> Iterator[Statement]:
    for index, section in enumerate(app.profile.rebuild):
        try:
            statistics = create_recount(app, live, section)
        except SchemaMismatchError:  # reported by ``find_missing``
            continue
        if statistics:
            yield Statement(key=("rebuild", index, "select"), sql=statistics.summary_sql())


def _users_database(profile: Profile, main: str) -> str:
    return (profile.users.database if profile.users else "") or main


def find_unusable_reports(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the reports of which the database has no variant."""
    for index, report in enumerate(app.profile.report):
        is_required = app.resolve_database(report) == database and not report.optional
        if is_required and select_variant(report, live) is None:
            yield (
                ("report", index, "variant"),
                f"no variant of the report {report.name} fits: {_join_needs(report)}",
            )


def _join_needs(report: Report) -> str:
    return ", or ".join(", ".join(variant.needs) for variant in report.variant)


def find_keys_without_index(app: App, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the keys without a unique index, which merging into existing rows requires."""
    schema_reader = live.part(SchemaReader)
    if schema_reader is None:
        return
    main, profile = app.main(), app.profile
    keys: list[tuple[Sequence[str | int], str, Sequence[str]]] = [
        (("cleanup", index, "after", after_index, "key"), after.into, after.key)
        for index, rule in enumerate(profile.cleanup)
        if (rule.database or main) == database
        for after_index, after in enumerate(rule.after)
    ]
    if _users_database(profile, main) == database:
        keys += [
            (("rebuild", index, "key"), entry.table, entry.key) for index, entry in enumerate(profile.rebuild)
        ]
    tables = {entry.name: entry for entry in schema_reader.schema().tables} if keys else {}
    for section_key, table_name, key in keys:
        table = tables.get(table_name.removesuffix("?"))
        if table and not _has_unique_index(table, key):
            yield section_key, f"no unique index of {table.name} covers {', '.join(key)}"


def _has_unique_index(table: SchemaTable, key: Sequence[str]) -> bool:
    unique_keys = [entry.columns for entry in table.indexes if entry.unique and not entry.where]
    expected = {column.lower() for column in key}
    return any(
        {strip_collation(column).lower() for column in columns} == expected
        for columns in [table.key, *unique_keys]
    )
