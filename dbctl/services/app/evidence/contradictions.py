"""Compare a profile with the data of a live database, before a write and in ``apps check``.

A contradiction is a statement of the profile that no sampled row confirms and at least one refutes: what dbctl would write by
it, the app could not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeAlias

from dbctl.engines.contract import Readable, Table
from dbctl.errors import ProfileContradictionError
from dbctl.files import toml
from dbctl.model import Struct
from dbctl.profiles import BOOLEANS, KeyCodec, loader
from dbctl.profiles.model import ColumnNames, Ledger, Settings, Users
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.app.evidence import values
from dbctl.services.app.live_table import LiveTable, find_column

#: Sampled rows at each end of a table, and of a ledger; the time limit of a sample.
SAMPLE_ROWS, LEDGER_ROWS, SAMPLE_LIMIT = 50, 1000, timedelta(seconds=1)
MOST_SHOWN = 3  #: values in a message
#: The parts of a profile that commands write by, and for the first word of a command the parts that it uses.
Part: TypeAlias = Literal["users", "roles", "settings", "audit", "ledger"]
PARTS: Sequence[Part] = ("users", "roles", "settings", "audit", "ledger")
USED_PARTS: dict[str, Sequence[Part]] = {
    "users": ("users", "audit"),
    "roles": ("roles", "audit"),
    "settings": ("settings", "audit"),
    "migrate": ("ledger",),
}
#: The fields in which commands write the current time.
WRITTEN_TIMES = ("created_at", "updated_at", "at")
#: The forms of times that the app reads alike: texts with any separators and fractions.
_TEXT_FORMS = frozenset({"iso-ms", "sqlite-time", "other"})


class Contradiction(Struct, frozen=True, kw_only=True):
    """A key of the profile that the data contradicts."""

    key: Sequence[str | int]
    code: str  #: of the finding
    reason: str
    remedy: str


class _Column(Struct, frozen=True):
    """A column that dbctl writes, and its key in the profile."""

    key: Sequence[str | int]
    table: str
    name: ColumnNames


def refuse_contradictions(app: App, database: str, db: Readable, purpose: str) -> None:
    """Refuse a command that would write by a key of the profile that the data contradicts.

    Raises:
        ProfileContradictionError: the first contradiction, with its line and key.
    """
    parts = USED_PARTS.get(purpose.partition(" ")[0], ())
    for contradiction in find_contradictions(app, database, db, parts):
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
    app: App, database: str, db: Readable, parts: Sequence[Part] = PARTS
) -> Iterator[Contradiction]:
    """Yield what the data of a database contradicts; only bounded samples are read."""
    users = app.profile.users
    users_database = (users.database if users else "") or app.main()
    if "users" in parts and users and users_database == database:
        yield from _check_keys(db, ("users", "id"), users.table, users.id.column, users.id.codec)
        yield from _check_booleans(app, db)
    if "roles" in parts and app.profile.roles and users_database == database:
        roles = app.profile.roles
        yield from _check_keys(db, ("roles",), roles.table, roles.key, roles.codec)
    columns = [
        column
        for part in parts
        for column in _list_times(app, database, part, in_users_database=users_database == database)
    ]
    for column in columns:
        yield from _check_time(app, db, column)
    for part in parts:
        yield from _check_required(app, db, part)
    if "ledger" in parts:
        yield from _check_ledger(app, database, db)


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


def _list_times(app: App, database: str, part: Part, *, in_users_database: bool) -> Iterator[_Column]:
    """Yield the columns in which commands write the current time."""
    profile = app.profile
    fields: list[tuple[Sequence[str | int], str, Mapping[str, ColumnNames]]] = []
    if part == "users" and profile.users and in_users_database:
        fields.append((("users",), profile.users.table, profile.users.fields))
        yield from _list_end_times(profile.users)
    if part == "roles" and profile.roles and in_users_database:
        fields.append((("roles",), profile.roles.table, profile.roles.fields))
    if part == "audit" and profile.audit:
        fields.append((("audit",), profile.audit.table, profile.audit.fields))
    if part == "settings":
        fields += [
            (("settings", index), settings.table, settings.fields)
            for index, settings in enumerate(profile.settings)
            if (settings.database or app.main()) == database
        ]
    for key, table, columns in fields:
        for field in WRITTEN_TIMES:
            if field in columns:
                yield _Column((*key, "fields", field), table, columns[field])


def _list_end_times(users: Users) -> Iterator[_Column]:
    for index, section in enumerate(users.signed_in):
        for column, constant in section.on_end.items():
            if constant == ":now":
                yield _Column(("users", "signed_in", index, "on_end", column), section.table, column)


def _check_time(app: App, db: Readable, written: _Column) -> Iterator[Contradiction]:
    table = db.tables().get(written.table.removesuffix("?"))
    name = find_column(table, written.name)
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


def _check_booleans(app: App, db: Readable) -> Iterator[Contradiction]:
    """Yield the field ``active`` if no value is a boolean of the profile: all users would seem inactive."""
    users = app.profile.users
    table = db.tables().get(users.table) if users else None
    name = find_column(table, users.fields.get("active")) if users and not users.active else None
    if table is None or name is None or table.columns[name].native == "boolean":
        return
    stored = {str(value).lower() for value in _sample(db, table, name) if not isinstance(value, bool | bytes)}
    pairs = {codec: {str(value) for value in pair} for codec, pair in BOOLEANS.items()}
    if not stored or stored & pairs[app.profile.boolean]:
        return
    other = next((codec for codec, pair in pairs.items() if stored <= pair), "")
    yield Contradiction(
        key=("boolean",) if other else ("users", "fields", "active"),
        code="boolean-format",
        reason=f"{table.name}.{name} would get booleans as {app.profile.boolean}, but has other values{_show(sorted(stored))}",
        remedy=f'Write boolean = "{other}".'
        if other
        else "Map the field active to a column of booleans, or to none.",
    )


# Required columns -----------------------------------------------------------------------------------------------------


def _check_required(app: App, db: Readable, part: Part) -> Iterator[Contradiction]:
    """Yield the NOT NULL columns without a default in the rows that dbctl adds, if the profile has no value for them."""
    profile = app.profile
    if part == "audit" and profile.audit:
        yield from _find_uncovered(
            db, ("audit", "fields"), profile.audit.table, [*profile.audit.fields.values()]
        )
    permissions = profile.roles.permissions if part == "roles" and profile.roles else None
    if permissions:
        link = permissions.link
        columns = [link.role, link.permission]
        yield from _find_uncovered(db, ("roles", "permissions", "link"), link.table, columns)


def find_uncovered_rows(app: App, database: str, db: Readable) -> Iterator[Contradiction]:
    """Yield the required columns of roles and settings: without a value, commands change rows, but add none."""
    users, roles = app.profile.users, app.profile.roles
    if roles and ((users.database if users else "") or app.main()) == database:
        yield from _find_uncovered(db, ("roles", "fields"), roles.table, [roles.key, *roles.fields.values()])
    for index, settings in enumerate(app.profile.settings):
        if (settings.database or app.main()) == database and _adds_rows(settings, db):
            columns = _list_setting_columns(settings)
            yield from _find_uncovered(db, ("settings", index, "fields"), settings.table, columns)


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
    db: Readable, key: Sequence[str | int], table_name: str, columns: Sequence[ColumnNames]
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
    """Return values of the first and the last rows; none of a table that is not read in time."""
    rows = db.sample(table.name, [column], rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT) or []
    return [value for (value,) in rows if value is not None]


def _show(stored: Sequence[object]) -> str:
    shown = [ascii(value) for value in dict.fromkeys(map(str, stored)) if len(value) <= 40][:MOST_SHOWN]  # noqa: PLR2004 - a key
    return f", such as {', '.join(shown)}" if shown else ""
