"""Check that a live database accepts the SQL of a profile: statements are prepared, but not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.schema import SchemaTable, strip_collation
from dbctl.engines.sql.catalog import require_column_count, select_all_from
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import ProfileInvalidError, SchemaMismatchError, ValueInvalidError
from dbctl.model import Struct
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import Payload, Users
from dbctl.profiles.payloads import is_payload, parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.evidence.gather import add_samples, read_definitions
from dbctl.services.app.evidence.references import (
    BlockingReference,
    find_blocking_references,
    find_user_references,
    list_compared_columns,
)
from dbctl.services.app.evidence.subjects import Contradiction, Subject, check, create_unreadable, require
from dbctl.services.app.live_table import find_column, select_variant
from dbctl.services.app.user_table import UserTable
from dbctl.services.checks.live_profile import rule
from dbctl.services.checks.user_values import Problem
from dbctl.services.deletion.cascade import create_query
from dbctl.services.sessions.rebuild_statistics import create_recount
from dbctl.services.settings.encodings import decode
from dbctl.services.settings.store import find_key
from dbctl.services.stats.reports import read_defaults
from dbctl.services.users.passwords import Passwords, StoredFormats

FORMAT_REMEDY = (
    "Add each format to users.password.accepts if the app accepts it, or correct users.password.writes."
)
UNKNOWN_REMEDY = (
    "Users with such a value cannot sign in with a password. List intended values in users.password.unusable."
)
_REASONS = {
    "blocked": "a foreign key prevents the deletion of a user with rows in",
    "unhandled": "the deletion of a user leaves rows of",
}


class Statement(Struct, frozen=True, kw_only=True):
    """One statement of a profile, with parameters."""

    key: Sequence[str | int]  #: its key in the profile
    sql: str
    parameters: Mapping[str, object] = {}


@check("sql-fails")
def check_statements(subject: Subject) -> Iterator[Contradiction]:
    """Yield the statements that the database rejects, with the reason, and those whose tables the role may not read."""
    explainer = require(subject.db.explainer)
    for statement in _statements(subject.app, subject.database, subject.db):
        try:
            explainer.explain_query(statement.sql, statement.parameters)
        except PrivilegeMissingError as error:
            yield create_unreadable(statement.key, error)
        except (QueryFailedError, ValueInvalidError) as error:
            yield Contradiction(
                statement.key,
                "sql-fails",
                str(error.context["reason"]),
                "The statement was only prepared, not run.",
            )


def _statements(app: App, database: str, live: Readable) -> Iterator[Statement]:
    main, profile = app.main_database, app.profile
    for index, report in enumerate(profile.report):
        is_here = (report.database or main) == database
        variant = select_variant(report.variant, live.tables()) if is_here else None
        if variant:
            parameters = {**read_defaults(report, profile), "limit": 1, "offset": 0}
            sql = require_column_count(variant.sql, len(report.columns))
            key = ("report", index, "variant", report.variant.index(variant), "sql")
            yield Statement(key=key, sql=sql, parameters=parameters)
    for index, recount in enumerate(profile.recount):
        if (recount.database or main) == database and all(table in live.tables() for table in recount.needs):
            yield Statement(key=("recount", index, "sql"), sql=select_all_from(recount.sql))
    yield from _invariant_statements(app, database, live)
    for index, cleanup in enumerate(profile.cleanup):
        for after_index, after in enumerate(cleanup.after):
            if (cleanup.database or main) == database and after.into in live.tables():
                sql = require_column_count(after.select, len(after.key) + len(after.merge))
                key = ("cleanup", index, "after", after_index, "select")
                yield Statement(key=key, sql=sql, parameters={"picked": [1], "now": ""})
    if app.resolve_database(profile.users) == database:
        yield from _rebuild_statements(app, live)


def _invariant_statements(app: App, database: str, live: Readable) -> Iterator[Statement]:
    for index, invariant in enumerate(app.profile.invariant):
        query = create_query(app, invariant, live) if app.resolve_database(invariant) == database else None
        if query:
            sql, parameters = query
            yield Statement(key=("invariant", index), sql=select_all_from(sql), parameters=parameters)


def _rebuild_statements(app: App, live: Readable) -> Iterator[Statement]:
    for index, section in enumerate(app.profile.rebuild):
        try:
            statistics = create_recount(app, live, section)
        except SchemaMismatchError:  # reported by ``find_missing``
            continue
        if statistics:
            yield Statement(key=("rebuild", index, "select"), sql=statistics.summary_sql())


@rule("report-idle", "warning", "A deployment without these cannot run it.")
def check_reports(subject: Subject) -> Iterator[Problem]:
    """Yield the reports of which the database has no variant."""
    app, database, live = subject.app, subject.database, subject.db
    for index, report in enumerate(app.profile.report):
        is_required = app.resolve_database(report) == database and not report.optional
        if is_required and select_variant(report.variant, live.tables()) is None:
            needs = ", or ".join(", ".join(variant.needs) for variant in report.variant)
            yield ("report", index, "variant"), f"no variant of the report {report.name} fits: {needs}"


@rule("key-not-unique", "error", "Without one, existing rows cannot be distinguished from new rows.")
def check_unique_keys(subject: Subject) -> Iterator[Problem]:
    """Yield the keys without a unique index, which merging into existing rows requires."""
    app, database, live = subject.app, subject.database, subject.db
    if live.schema_reader is None:
        return
    main, profile = app.main_database, app.profile
    keys: list[tuple[Sequence[str | int], str, Sequence[str]]] = [
        (("cleanup", index, "after", after_index, "key"), after.into, after.key)
        for index, rule in enumerate(profile.cleanup)
        if (rule.database or main) == database
        for after_index, after in enumerate(rule.after)
    ]
    if app.resolve_database(profile.users) == database:
        keys += [
            (("rebuild", index, "key"), entry.table, entry.key) for index, entry in enumerate(profile.rebuild)
        ]
    tables = {entry.name: entry for entry in live.schema_reader.schema().tables} if keys else {}
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


@check("owned-rows")
def check_owned_rows(subject: Subject) -> Iterator[Contradiction]:
    """Yield the columns that refer to users if neither a foreign key nor the profile handles them in a deletion.

    Only columns are sampled whose name alone does not decide. Also yield the tables of which that was not permitted.
    """
    app, database, live = subject.app, subject.database, subject.db
    users = app.profile.users
    if (
        users is None
        or users.only_app_deletes
        or app.resolve_database(users) != database
        or users.table not in live.tables()
    ):
        return
    evidence = read_definitions(live, app.url(database).engine)
    table = evidence.tables.get(users.table)
    if table is None or users.id.column not in table.columns:
        return
    listed = set(_list_handled(users))
    compared = {
        name: columns
        for name, names in list_compared_columns(evidence, table, users.id.column).items()
        if (columns := [column for column in names if f"{name}.{column}" not in listed])
    }
    if compared.keys() - {table.name}:
        evidence = add_samples(live, evidence, compared)
    for error in evidence.denials:
        yield create_unreadable(("users",), error)
    yield from _find_uncleared(users, live)
    for reference in find_user_references(evidence, evidence.tables[users.table], users.id.column):
        if reference.deletion != "handled" and reference.path not in listed:
            yield Contradiction(
                ("users", "cascade"),
                "owned-rows",
                f"{_REASONS[reference.deletion]} {reference.path}",
                "List the column in users.cascade or [[users.transfer]].",
                "warning",
            )
    owned = [*users.owned, *(f"{name}.{column}" for name, column in _list_companions(users))]
    known = [path for path in owned if parse_row_path(path)[0].table in evidence.tables]
    for blocking in find_blocking_references(evidence, evidence.tables[users.table], users.id.column, known):
        if f"{blocking.table}.{blocking.column}" not in listed:
            yield Contradiction(
                ("users", "cascade"),
                "owned-rows",
                f"{_REASONS['blocked']} {blocking.place}",
                _suggest(blocking),
                "warning",
            )


def _find_uncleared(users: Users, live: Readable) -> Iterator[Contradiction]:
    for index, path in enumerate(users.clear):
        step = parse_row_path(path)[0]
        column = live.tables()[step.table].columns.get(step.column) if step.table in live.tables() else None
        if column and not column.nullable:
            reason, remedy = f"{step.path} cannot be set to NULL", "List it in users.cascade."
            yield Contradiction(("users", "clear", index), "owned-rows", reason, remedy)


def _suggest(blocking: BlockingReference) -> str:
    if not blocking.path:
        return "A profile cannot express the path: delete these rows before their user."
    clear = "" if blocking.is_required else "users.clear, which sets the column to NULL, or in "
    return f"List it in {clear}users.cascade, which deletes the rows."


def _list_handled(users: Users) -> Iterator[str]:
    """Yield the columns (``table.column``) that the profile handles in a deletion."""
    for path in (*users.owned, *users.clear, *users.retained):
        yield parse_row_path(path)[0].path
    sections = [(transfer.table, transfer.column) for transfer in users.transfer]
    sections += _list_companions(users)
    for name, column in sections:
        yield f"{name.removesuffix('?')}.{column}"


def _list_companions(users: Users) -> list[tuple[str, str]]:
    return [
        (companion.table.removesuffix("?"), companion.user) for companion in users.create if companion.user
    ]


@check("password-format")
def check_passwords(subject: Subject) -> Iterator[Contradiction]:
    """Yield the formats of stored hashes that the profile does not declare, and values in no known format."""
    users = subject.app.profile.users
    require(users and users.password and subject.has_users)
    with suppress(ProfileInvalidError, SchemaMismatchError):  # reported by other checks
        yield from _compare_formats(
            Passwords(subject.app, UserTable(subject.app, subject.db).live).stored_formats
        )


def _compare_formats(stored: StoredFormats) -> Iterator[Contradiction]:
    key = ("users", "password")
    count = f"{stored.unknown} of {stored.row_count} stored values are in no known hash format"
    if stored.is_unknown:
        yield Contradiction(key, "password-format", f"{count}, so dbctl sets no password", FORMAT_REMEDY)
    if stored.undeclared:
        reason = f"stored hashes have formats that it does not declare: {stored.describe_undeclared()}"
        yield Contradiction(key, "password-format", reason, FORMAT_REMEDY)
    if stored.unknown and not stored.is_unknown:
        yield Contradiction(key, "password-unknown", count, UNKNOWN_REMEDY, "info")


@rule(
    "role-form",
    "error",
    "Correct it: dbctl refuses to change roles, and to delete or deactivate users, until it matches.",
)
def check_role_form(subject: Subject) -> Iterator[Problem]:
    """Yield the contradictions between the declared roles, the types of their columns and the stored values."""
    users = subject.app.profile.users
    require(users and users.role and subject.has_users)
    with suppress(SchemaMismatchError):  # reported by other checks
        roles = UserTable(subject.app, subject.db).roles
        for key, reason in roles.find_problems() if roles else ():
            yield ("users", *key), reason


@rule(
    "stored-form",
    "error",
    "Declare the form that the app writes: dbctl neither reads nor writes values in other forms.",
)
def check_stored_forms(subject: Subject) -> Iterator[Problem]:
    """Yield the columns of which no payload, or less than half of the values of settings, have the declared form."""
    profile = subject.app.profile
    if profile.users and subject.has_users:
        for index, table in enumerate(profile.users.signed_in):
            key = ("users", "signed_in", index, "payload")
            yield from _check_payload(key, table.table, table.payload, subject)
        for index, section in enumerate(profile.sessions):
            yield from _check_payload(("sessions", index, "payload"), section.table, section.payload, subject)
    for index, settings in enumerate(profile.settings):
        if subject.app.resolve_database(settings) == subject.database:
            yield from _check_settings(("settings", index, "stored"), settings, subject)


def _check_payload(
    key: Sequence[str | int], table: str, payload: Payload | None, subject: Subject
) -> Iterator[Problem]:
    if payload is None:
        return
    values = [value for (value,) in _sample(subject, table, [payload.column])]
    if values and not any(is_payload(payload.codec, value) for value in values):
        reason = f"none of {len(values)} values of {table.removesuffix('?')}.{payload.column} has the form {payload.codec}"
        yield key, reason


def _check_settings(key: Sequence[str | int], settings: Settings, subject: Subject) -> Iterator[Problem]:
    if settings.stored == "text" or not isinstance(settings.key, str):
        return
    column = settings.fields["value"]
    names = [settings.key, column if isinstance(column, str) else column[0]]
    rows = [
        (name, value)
        for name, value in _sample(subject, settings.table, names)
        if isinstance(value, str) and find_key(settings, str(name)).stored is None
    ]
    wrong = [name for name, value in rows if not _has_form(settings, value)]
    if len(wrong) * 2 > len(rows):
        yield (
            key,
            f"{len(wrong)} of {len(rows)} values of {settings.table} are not {settings.stored}, such as {wrong[0]}",
        )


def _has_form(settings: Settings, value: str) -> bool:
    try:
        decode(settings.stored, value)
    except ValueError:
        return False
    return True


def _sample(subject: Subject, table_name: str, names: Sequence[str]) -> list[tuple[object, ...]]:
    """Return rows without NULL in the last column; none of a table that lacks a column or is not read."""
    table = subject.db.tables().get(table_name.removesuffix("?"))
    columns = [column for name in names if (column := find_column(table, name))]
    if table is None or len(columns) != len(names):
        return []
    with suppress(PrivilegeMissingError):  # reported by ``find_unreadable_tables``
        return subject.sample(table.name, columns)
    return []
