"""Compare a profile with the data of a live database, before a write and in ``apps check``.

A contradiction is a statement of the profile that no sampled row confirms and at least one refutes: what dbctl would write by
it, the app could not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract import Readable, Table
from dbctl.errors import PrivilegeMissingError, ProfileContradictionError
from dbctl.files import toml
from dbctl.model import Severity, Struct
from dbctl.profiles import BOOLEANS, BooleanCodec, KeyCodec, loader
from dbctl.profiles.model import ColumnNames, Ledger, Settings, Users
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.app.evidence import values
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.spec import FACTS, Fact

#: Sampled rows at each end of a table, and of a ledger; the time limit of a sample.
SAMPLE_ROWS, LEDGER_ROWS, SAMPLE_LIMIT = 50, 1000, timedelta(seconds=1)
UNREADABLE = "table-unreadable"  #: the code of a table that the role may not read
MOST_SHOWN = 3  #: values in a message
_BOOLEAN_KEY = ("boolean",)  #: another codec, which dbctl reads, but would not write
_NUMBERS = {"0", "1"}  #: how some databases return ``true`` and ``false``
#: The forms of times that the app reads alike: texts with any separators and fractions.
_TEXT_FORMS = frozenset({"iso-ms", "sqlite-time", "other"})


class Contradiction(Struct, frozen=True, kw_only=True):
    """A key of the profile that the live database contradicts, or with which it cannot be compared."""

    key: Sequence[str | int]
    code: str  #: of the finding
    reason: str
    remedy: str
    severity: Severity = "error"


class _Column(Struct, frozen=True):
    """A column that dbctl writes, and its key in the profile."""

    key: tuple[str | int, ...]
    table: str
    names: ColumnNames


def refuse_contradictions(app: App, database: str, db: Readable, facts: Sequence[Fact]) -> None:
    """Refuse a command that would write by a fact of the profile that the data contradicts.

    A table that the role may not read contradicts nothing: a command that depends on its rows reads them itself.

    Raises:
        ProfileContradictionError: the first contradiction, with its line and key.
    """
    for contradiction in find_contradictions(app, database, db, facts):
        if contradiction.severity != "error":
            continue
        path = loader.path_of(app.configured.profile)
        key = app.locate_key(contradiction.key)
        problem = toml.create_problem(toml.read_text(path), key, contradiction.reason)
        raise ProfileContradictionError(
            target=db.target,
            reason=contradiction.reason,
            file=path,
            line=problem.line,
            key=problem.key,
            remedy=contradiction.remedy,
        )


def find_contradictions(
    app: App, database: str, db: Readable, facts: Sequence[Fact] = FACTS
) -> Iterator[Contradiction]:
    """Yield what the data of a database contradicts, and the tables that the role may not read; samples are bounded."""
    for check in _list_checks(app, database, db, facts):
        try:
            yield from check
        except PrivilegeMissingError as error:
            yield create_unreadable(("databases", database), error)


def _list_checks(
    app: App, database: str, db: Readable, facts: Sequence[Fact]
) -> Iterator[Iterator[Contradiction]]:
    users = app.profile.users
    is_users_database = app.resolve_database(users) == database
    if is_users_database:
        yield from _list_user_checks(app, db, facts)
        yield from _list_role_checks(app, db, facts)
    columns = {
        column.key: column
        for fact in facts
        for column in _list_times(app, database, fact, is_users=is_users_database)
    }
    for column in columns.values():
        yield _check_time(app, db, column)
    if "audit" in facts and app.profile.audit:
        audit = app.profile.audit
        yield _find_uncovered(db, ("audit", "fields"), audit.table, [*audit.fields.values()])
    if "ledger" in facts:
        yield _check_ledger(app, database, db)


def _list_user_checks(app: App, db: Readable, facts: Sequence[Fact]) -> Iterator[Iterator[Contradiction]]:
    users = app.profile.users
    if users and "user-key" in facts:
        yield _check_keys(db, ("users", "id"), users.table, users.id.column, users.id.codec)
    if users and "active" in facts and not users.active:
        yield _check_booleans(users, app.profile.boolean, db)
    if users and "active-known" in facts:
        yield _check_known_states(users, app.profile.boolean, db, has_checked="active" in facts)


def _list_role_checks(app: App, db: Readable, facts: Sequence[Fact]) -> Iterator[Iterator[Contradiction]]:
    roles = app.profile.roles
    if roles and "role-key" in facts:
        yield _check_keys(db, ("roles",), roles.table, roles.key, roles.codec)
    if roles and roles.permissions and "permission-link" in facts:
        link = roles.permissions.link
        columns: list[ColumnNames] = [link.role, link.permission]
        yield _find_uncovered(db, ("roles", "permissions", "link"), link.table, columns)


def create_unreadable(key: Sequence[str | int], error: PrivilegeMissingError) -> Contradiction:
    """Return the finding about rows that were not compared with the profile; ``error`` names their table."""
    return Contradiction(
        key=key,
        code=UNREADABLE,
        reason=str(error.context["reason"]),
        remedy=f"The table was not checked. {error.hint}",
        severity="warning",
    )


# Keys -----------------------------------------------------------------------------------------------------------------


def _check_keys(
    db: Readable, key: Sequence[str | int], table_name: str, column_name: str, codec: KeyCodec
) -> Iterator[Contradiction]:
    table = db.tables().get(table_name)
    column = table.columns.get(column_name) if table else None
    if table is None or column is None or codec == "given":
        return
    stored = _sample(db, table, column.name)
    actual, evidence = values.guess_key_codec(column, stored)
    is_created = codec == "autoincrement" and not (
        column.required or (column.nullable and not values.is_whole(column))
    )
    if is_created or actual == codec or (not stored and codec != "autoincrement"):
        return
    yield Contradiction(
        key=(*key, "codec"),
        code="key-format",
        reason=f"keys of {table_name} are not {codec}: {evidence}{_show(stored)}",
        remedy=f'Write codec = "{actual}".',
    )


# Times and booleans ---------------------------------------------------------------------------------------------------


#: The times of which a fact consists: the field of the profile, and the fields in it that commands write.
_WRITTEN_TIMES: Mapping[Fact, tuple[str, Sequence[str]]] = {
    "user-created": ("users", ("created_at", "updated_at")),
    "user-updated": ("users", ("updated_at",)),
    "role-created": ("roles", ("created_at", "updated_at")),
    "role-updated": ("roles", ("updated_at",)),
    "setting-times": ("settings", ("created_at", "updated_at")),
    "audit": ("audit", ("at",)),
}


def _list_times(app: App, database: str, fact: Fact, *, is_users: bool) -> Iterator[_Column]:
    """Yield the columns of a fact in which commands write the current time."""
    profile = app.profile
    if fact == "sign-out" and profile.users and is_users:
        yield from _list_end_times(profile.users)
    name, written = _WRITTEN_TIMES.get(fact, ("", ()))
    sections: list[tuple[tuple[str | int, ...], str, Mapping[str, ColumnNames]]] = []
    if name == "users" and profile.users and is_users:
        sections.append((("users",), profile.users.table, profile.users.fields))
    if name == "roles" and profile.roles and is_users:
        sections.append((("roles",), profile.roles.table, profile.roles.fields))
    if name == "audit" and profile.audit:
        sections.append((("audit",), profile.audit.table, profile.audit.fields))
    if name == "settings":
        sections += [
            (("settings", index), settings.table, settings.fields)
            for index, settings in enumerate(profile.settings)
            if app.resolve_database(settings) == database
        ]
    for key, table, columns in sections:
        for field in written:
            if field in columns:
                yield _Column((*key, "fields", field), table, columns[field])


def _list_end_times(users: Users) -> Iterator[_Column]:
    for index, section in enumerate(users.signed_in):
        for column, constant in section.on_end.items():
            if constant == ":now":
                yield _Column(("users", "signed_in", index, "on_end", column), section.table, column)


def _check_time(app: App, db: Readable, written: _Column) -> Iterator[Contradiction]:
    table = db.tables().get(written.table.removesuffix("?"))
    name = find_column(table, written.names)
    if table is None or name is None or table.columns[name].native == "time":
        return
    form = LiveTable(app.profile, db, table.name, "times").time_form(name)
    stored = _sample(db, table, name)
    forms = Counter(
        "text" if known in _TEXT_FORMS else known
        for value in stored
        if (known := values.read_time_form(value))
    )
    expected = "text" if form in _TEXT_FORMS else form
    is_wrong_type = expected == "text" and values.is_whole(table.columns[name]) and not stored
    if expected in forms or not (forms or is_wrong_type):
        return
    actual = forms.most_common(1)[0][0] if forms else "epoch-s"
    yield Contradiction(
        key=written.key,
        code="time-format",
        reason=f"{table.name}.{name} would get times as {form}, but {_describe_times(forms, table, name)}",
        remedy=f'Correct time of the profile: time = "{"sqlite-time" if actual == "text" else actual}".',
    )


def _describe_times(forms: Counter[str], table: Table, name: str) -> str:
    if not forms:
        return f"its type is {table.columns[name].type}"
    return "stored are " + ", ".join(f"{count} of {form}" for form, count in forms.most_common())


def _check_booleans(users: Users, codec: BooleanCodec, db: Readable) -> Iterator[Contradiction]:
    """Yield the field ``active`` if no value is a boolean of the profile: all users would seem inactive."""
    table = db.tables().get(users.table)
    name = find_column(table, users.fields.get("active"))
    if table is None or name is None or table.columns[name].native == "boolean":
        return
    stored = {str(value).lower() for value in _sample(db, table, name) if not isinstance(value, bool | bytes)}
    pairs = {name: {str(value) for value in pair} for name, pair in BOOLEANS.items()}
    if not stored or stored & pairs[codec]:
        return
    other = next((other for other, pair in pairs.items() if stored <= pair), "")
    yield Contradiction(
        key=_BOOLEAN_KEY if other else ("users", "fields", "active"),
        code="boolean-format",
        reason=f"{table.name}.{name} would get booleans as {codec}, but has other values{_show(sorted(stored))}",
        remedy=f'Write boolean = "{other}".'
        if other
        else "Map the field active to a column of booleans, or to none.",
    )


def _check_known_states(
    users: Users, codec: BooleanCodec, db: Readable, *, has_checked: bool
) -> Iterator[Contradiction]:
    """Yield the field ``active`` if no value is that of an active or an inactive user: the last admin would not be known."""
    active = users.active
    if active is None:
        contradictions = () if has_checked else _check_booleans(users, codec, db)
        yield from (entry for entry in contradictions if entry.key != _BOOLEAN_KEY)
        return
    table = db.tables().get(users.table)
    name = find_column(table, users.fields.get("active"))
    known = {str(value).lower() for value in [*active.values, active.inactive] if value is not None}
    if table is None or name is None or any(text.startswith(":") for text in known):
        return
    stored = {str(value).lower() for value in _sample(db, table, name)}
    if stored and not stored & (known | (_NUMBERS if known & {"true", "false"} else set())):
        yield Contradiction(
            key=("users", "active"),
            code="boolean-format",
            reason=f"no value of {table.name}.{name} is that of an active user{_show(sorted(stored))}",
            remedy="Correct values and inactive.",
        )


# Required columns -----------------------------------------------------------------------------------------------------


def find_uncovered_rows(app: App, database: str, db: Readable) -> Iterator[Contradiction]:
    """Yield the required columns of roles and settings: without a value, commands change rows, but add none."""
    users, roles = app.profile.users, app.profile.roles
    if roles and app.resolve_database(users) == database:
        columns = [roles.key, *roles.fields.values()]
        yield from _find_uncovered(db, ("roles", "fields"), roles.table, columns, "warning")
    for index, settings in enumerate(app.profile.settings):
        if app.resolve_database(settings) == database and _adds_rows(settings, db):
            columns = _list_setting_columns(settings)
            yield from _find_uncovered(db, ("settings", index, "fields"), settings.table, columns, "warning")


def _adds_rows(settings: Settings, db: Readable) -> bool:
    """Return whether commands may add a row of settings; not without the columns of a variant, which other checks report."""
    if settings.row or settings.object:
        return False
    table = db.tables().get(settings.table.removesuffix("?"))
    if settings.variant and not any(find_column(table, variant.type) for variant in settings.variant):
        return False
    return settings.scope == "user" or settings.open or any(variant.standard for variant in settings.variant)


def _list_setting_columns(settings: Settings) -> list[ColumnNames]:
    columns: list[ColumnNames] = [settings.user, *settings.fields.values()]
    for key in [settings.key, *(variant.key for variant in settings.variant)]:
        columns += [key] if isinstance(key, str) else key or []
    return columns + [variant.type for variant in settings.variant]


def _find_uncovered(
    db: Readable,
    key: Sequence[str | int],
    table_name: str,
    columns: Sequence[ColumnNames],
    severity: Severity = "error",
) -> Iterator[Contradiction]:
    table = db.tables().get(table_name.removesuffix("?"))
    if table is None:
        return
    covered = {find_column(table, name) for name in columns}
    for column in table.columns.values():
        if column.required and column.name not in covered:
            yield Contradiction(
                key=key,
                code="column-uncovered",
                reason=f"{table.name}.{column.name} requires a value, but the profile has none",
                remedy="Map the column: without a value, dbctl adds no rows to the table.",
                severity=severity,
            )


# Ledger ---------------------------------------------------------------------------------------------------------------


def _check_ledger(app: App, database: str, db: Readable) -> Iterator[Contradiction]:
    """Yield a ledger whose rows the profile cannot distinguish: several rows would be one migration."""
    section = app.database(database).migrations
    if section is None:
        return
    if section.ledger == ledger_detection.AUTO:
        ledger: Ledger = ledger_detection.detect_ledgers(
            db, app.url(database).engine, section.format, own=section.foreign
        )[0]
    else:
        ledger = ledger_detection.resolve_ledger(app.profile, section.ledger, section.format)
    table = db.tables().get(ledger.table)
    identity = find_column(table, ledger.version) or find_column(table, ledger.name)
    if table is None or identity is None:
        return
    ignored = find_column(table, ledger.rolled_back_at)
    columns = [identity, *([ignored] if ignored else [])]
    sample = db.sample(table.name, columns, rows=LEDGER_ROWS, timeout=SAMPLE_LIMIT) or []
    counts = Counter(str(row[0]) for row in sample if len(row) == 1 or row[1] is None)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        yield Contradiction(
            key=("databases", database, "migrations", "ledger"),
            code="ledger-merged",
            reason=f"{sum(counts.values())} rows of {table.name} would be {len(counts)} migrations{_show(repeated)}",
            remedy='A migration needs a column, or a name, that no other row has; a foreign ledger is detected with ledger = "auto".',
        )


# Samples --------------------------------------------------------------------------------------------------------------


def _sample(db: Readable, table: Table, column: str) -> list[object]:
    rows = db.sample(table.name, [column], rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT) or []
    return [value for (value,) in rows if value is not None]


def _show(stored: Sequence[object]) -> str:
    shown = [ascii(value) for value in dict.fromkeys(map(str, stored)) if len(value) <= 40][:MOST_SHOWN]  # noqa: PLR2004 - a key
    return f", such as {', '.join(shown)}" if shown else ""
