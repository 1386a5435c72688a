"""Compare a profile with a live database: every check of ``apps check`` that opens a database, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeAlias

from dbctl.engines.contract import Readable
from dbctl.errors import PrivilegeMissingError, SchemaMismatchError
from dbctl.model import Severity, Struct
from dbctl.profiles import list_schema_references
from dbctl.profiles.model import ColumnNames, Profile, Settings, Users
from dbctl.services.app import App, find_column
from dbctl.services.app.evidence import (
    UNREADABLE,
    Contradiction,
    create_unreadable,
    find_contradictions,
    find_uncovered_rows,
)
from dbctl.services.checks import live_rows
from dbctl.services.checks.profile import Problem, list_referenced
from dbctl.services.search import QueryCompiler


def find_unknown_variants(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield the sections whose table exists, but without the columns of any variant."""
    users_database = (profile.users.database if profile.users else "") or main
    sections: list[tuple[Problem, str, str, list[list[str]]]] = [
        (
            (("cleanup", index, "variant"), rule.name),
            rule.database or main,
            rule.table,
            [list(variant.needs) for variant in rule.variant],
        )
        for index, rule in enumerate(profile.cleanup)
    ]
    sections += [
        (
            (("sessions", index, "variant"), sessions.name),
            users_database,
            sessions.table,
            [list(variant.open) for variant in sessions.variant],
        )
        for index, sessions in enumerate(profile.sessions)
    ]
    tables = live.tables()
    for (key, name), section_database, table, variants in sections:
        live_table = tables.get(table.removesuffix("?"))
        if section_database != database or live_table is None or not variants:
            continue
        if not any(all(find_column(live_table, column) for column in needs) for needs in variants):
            columns = ", or ".join(", ".join(needs) for needs in variants)
            yield key, f"no variant of {name} fits {live_table.name}: {columns}"


_READ_LIMIT = timedelta(seconds=1)


def find_unreadable_tables(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield the tables of the profile of which the role may not read every column that the profile names."""
    columns, keys = dict[str, dict[str, None]](), dict[str, Sequence[str | int]]()
    for reference in list_schema_references(app.profile, app.main()):
        table = live.tables().get(reference.table)
        if reference.database != database or table is None:
            continue
        keys.setdefault(table.name, reference.key)
        names = columns.setdefault(table.name, {})
        if column := find_column(table, reference.column):
            names[column] = None
    for name, names in columns.items():
        try:
            live.sample(name, [*names] or [*live.tables()[name].columns][:1], rows=1, timeout=_READ_LIMIT)
        except PrivilegeMissingError as error:
            yield create_unreadable(keys[name], error)


def find_missing(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield every table and column that the profile names for ``database`` and that the live database lacks.

    Args:
        profile: the profile.
        database: the name of the database.
        live: the open database.
        main: the default database of sections.
    """
    tables = live.tables()
    for reference in list_schema_references(profile, main):
        if reference.database != database:
            continue
        if reference.column is None and reference.table not in tables and not reference.is_optional:
            yield reference.key, f"no table {reference.table}"
        elif (
            reference.column
            and reference.table in tables
            and not reference.is_optional
            and not find_column(tables[reference.table], reference.column)
        ):
            column = reference.column if isinstance(reference.column, str) else " or ".join(reference.column)
            yield reference.key, f"no column {reference.table}.{column}"
    for index, settings in enumerate(profile.settings):
        if (settings.database or main) == database and settings.table in tables and settings.variant:
            for missing in _missing_settings_columns(settings, live):
                yield ("settings", index, "variant"), missing


def find_unusable_search_keys(profile: Profile, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the search keys without columns in the live database, unless the profile explains it with ``missing``."""
    for index, search in enumerate(profile.search):
        if search.database != database:
            continue
        try:
            compiler = QueryCompiler(profile, search, live)
        except SchemaMismatchError:  # reported by ``find_missing``
            continue
        for key_index, key in enumerate(search.key):
            if not (key.missing or key.excluded_by or compiler.find_location(key)):
                yield (
                    ("search", index, "key", key_index),
                    f"the database has no columns for the key {key.names[0]}",
                )


def find_uncovered_columns(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield the required columns of the rows of a new user for which the profile has no value."""
    users = profile.users
    if (
        users is None
        or users.only_app_creates
        or (users.database or main) != database
        or users.table not in live.tables()
    ):
        return
    table = live.tables()[users.table]
    names: list[ColumnNames] = [users.id.column, *users.new, *users.fields.values()]
    names += users.password.columns if users.password else ()
    if users.role:
        names += [users.role.column, *(column for rank in users.role.ranks for column in rank.columns)]
    covered = {find_column(table, name) for name in names}
    for column in table.columns.values():
        if column.required and column.name not in covered:
            yield (
                ("users", "fields"),
                f"{users.table}.{column.name} requires a value, but the profile has none",
            )
    yield from find_uncovered_companions(users, live)


def _missing_settings_columns(settings: Settings, live: Readable) -> Iterator[str]:
    """Yield the missing key columns of the variant whose type column exists, or that no variant matches."""
    table = live.tables()[settings.table]
    for variant in settings.variant:
        if find_column(table, variant.type):
            columns = [variant.key] if isinstance(variant.key, str) else variant.key
            yield from (
                f"no column {settings.table}.{column}" for column in columns if not find_column(table, column)
            )
            return
    yield f"{settings.table} has no column {' or '.join(variant.type for variant in settings.variant)} with the type of a setting"


def find_uncovered_companions(users: Users, live: Readable) -> Iterator[Problem]:
    """Yield the required columns of companion tables for which the profile has no value."""
    for index, row in enumerate(users.create):
        table = live.tables().get(row.table.removesuffix("?"))
        if table is None:
            continue
        generated = list_referenced(users, table.name)
        for position, entry in enumerate(row.rows or [{}]):
            names = [row.user, *row.values, *entry, *generated]
            covered = {find_column(table, name) for name in names if name}
            place: Sequence[str | int] = ("rows", position) if row.rows else ()
            for column in table.columns.values():
                if column.required and column.name not in covered:
                    key = ("users", "create", index, *place)
                    yield key, f"{table.name}.{column.name} requires a value, but the profile has none"


# All checks ----------------------------------------------------------------------------------------------------


_Check: TypeAlias = Callable[[App, str, Readable], Iterator[Contradiction]]


class _Rule(Struct, frozen=True):
    """A check all of whose problems have the same code, severity and remedy."""

    code: str
    severity: Severity
    find: Callable[[App, str, Readable], Iterator[Problem]]
    remedy: str

    def check(self, app: App, database: str, live: Readable) -> Iterator[Contradiction]:
        for key, reason in self.find(app, database, live):
            yield Contradiction(
                key=key, code=self.code, reason=reason, remedy=self.remedy, severity=self.severity
            )


_RULES = (
    _Rule(
        "schema-mismatch",
        "error",
        lambda app, database, live: find_missing(app.profile, database, live, app.main()),
        "Migrations may be pending (dbctl migrate status). Mark optional names with a trailing ?",
    ),
    _Rule(
        "column-uncovered",
        "error",
        lambda app, database, live: find_uncovered_columns(app.profile, database, live, app.main()),
        "Add it to [users.fields] or, with a value, to [users.new] or [[users.create]].",
    ),
    _Rule(
        "search-key-idle",
        "warning",
        lambda app, database, live: find_unusable_search_keys(app.profile, database, live),
        "Explain with `missing` why a deployment may lack it.",
    ),
    _Rule(
        "key-not-unique",
        "error",
        live_rows.find_keys_without_index,
        "Without one, existing rows cannot be distinguished from new rows.",
    ),
    _Rule(
        "variant-unknown",
        "error",
        lambda app, database, live: find_unknown_variants(app.profile, database, live, app.main()),
        "Add a variant with the columns of this deployment.",
    ),
    _Rule(
        "stored-form",
        "error",
        live_rows.find_wrong_forms,
        "Declare the form that the app writes: dbctl neither reads nor writes values in other forms.",
    ),
    _Rule(
        "role-form",
        "error",
        live_rows.find_role_problems,
        "Correct it: dbctl refuses to change roles, and to delete or deactivate users, until it matches.",
    ),
    _Rule(
        "report-idle",
        "warning",
        live_rows.find_unusable_reports,
        "A deployment without these cannot run it.",
    ),
)


def find_open_decisions(app: App, database: str, _live: Readable) -> Iterator[Contradiction]:
    """Yield what the profile leaves open, with the main database."""
    if database != app.main():
        return
    for topic, decisions in app.profile.undecided.items():
        for index, decision in enumerate(decisions):
            yield Contradiction(
                key=("undecided", topic, index),
                code="decision-open",
                reason=f"undecided: {decision}",
                remedy=f"Decide it in the profile, then delete the entry {topic} from [undecided].",
                severity="info",
            )
    users = app.profile.users
    if users and users.admin == "":
        yield Contradiction(
            key=("users",),
            code="admin-undecided",
            reason="the profile does not say which users are admins: dbctl deletes, deactivates and demotes none",
            remedy="Name the role in users.admin, or write admin = false if the app has no admins among its users.",
            severity="warning",
        )


_CHECKS: tuple[_Check, ...] = (
    find_unreadable_tables,
    find_open_decisions,
    *(rule.check for rule in _RULES),
    live_rows.find_failing_statements,
    live_rows.find_format_problems,
    live_rows.find_unlisted_rows,
    find_contradictions,
    find_uncovered_rows,
)


def find_problems(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield what does not match; a check omits tables that the role may not read, and each of them is reported once."""
    denials = set[str]()
    for check in _CHECKS:
        try:
            for problem in check(app, database, live):
                if problem.code != UNREADABLE:
                    yield problem
                elif problem.reason not in denials:
                    denials.add(problem.reason)
                    yield problem
        except PrivilegeMissingError:
            if not denials:  # otherwise ``find_unreadable_tables`` has reported the table
                raise
