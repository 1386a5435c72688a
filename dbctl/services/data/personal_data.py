"""All rows that belong to one user, in every database of the app: the export for a request of personal data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import AnyOf, Condition, InSubquery, Query, Readable, Table, Where
from dbctl.engines.sql import codec
from dbctl.model import ChangeResult, Effect, Row, Struct, now, split_batches
from dbctl.profiles.model.base import ColumnNames
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.secrets import find_secret_columns, is_secret_setting
from dbctl.services.app.user_table import User, UserSelector, UserTable, open_users, users_database
from dbctl.services.deletion.cross_database import BATCH, read_link_values
from dbctl.services.users.ownership import follow_steps
from dbctl.services.users.sign_in_state import match_logins

#: Name and version of the file format.
FILE_FORMAT = "dbctl.user-data/1"
#: The conditions of rows, by table; a row belongs to the user if it meets any of them.
Conditions = dict[str, list[Where]]


class UserData(Struct, frozen=True, kw_only=True):
    """The content of the file."""

    schema: str
    app: str
    exported_at: datetime
    user: User
    databases: Mapping[str, Mapping[str, Sequence[Row]]]  #: rows by database and table
    left_out: Sequence[str]  #: ``database/table.column`` of secrets


class UserDataExported(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users export-data``."""

    is_timed = True

    login: str
    file: str
    rows: Mapping[str, int]  #: by ``database/table``
    left_out: Sequence[str]  #: ``database/table.column`` of secrets

    @property
    def effect(self) -> Effect | None:
        counts = {"rows": sum(self.rows.values())}
        return Effect("exported", "the data of user", [self.login], place=f"to {self.file}", counts=counts)

    @classmethod
    def from_data(cls, data: UserData, file: str) -> UserDataExported:
        """Return the result for ``data`` in ``file``."""
        rows = {
            f"{name}/{table}": len(table_rows)
            for name, tables in data.databases.items()
            for table, table_rows in tables.items()
        }
        return cls(login=data.user.login, file=file, rows=rows, left_out=data.left_out)


def collect_user_data(app: App, selector: UserSelector, *, secrets: bool = False) -> UserData:
    """Return every row that belongs to a user.

    These are the row of the user, rows whose foreign keys or profile sections refer to the user, dependent rows that refer to no
    other user, and rows of other databases that the profile links to them.

    Raises:
        UsageError: no user, or several users, are selected.
        UserMissingError: the user does not exist.
        UnreachableError: a database that may hold rows of the user cannot be read.
    """
    users = open_users(app)
    user = users.find_single_user(selector)
    with ExitStack() as blocks:
        return _collect_user_data(app, users, user, blocks, secrets=secrets)


def _collect_user_data(
    app: App, users: UserTable, user: User, blocks: ExitStack, *, secrets: bool
) -> UserData:
    main_database = users_database(app)
    user_rows = _user_rows(users, user)
    conditions = {main_database: user_rows}
    if not app.only:
        conditions |= _linked_conditions(app, main_database, users.db, user_rows)
    databases: dict[str, dict[str, Sequence[Row]]] = {}
    left_out: list[str] = []
    for name, tables in conditions.items():
        db = app.reader(name)
        if db.server:
            db.server.require_all_tables()
        blocks.enter_context(db.read_all_rows())
        secret = {} if secrets else find_secret_columns(app, name, db)
        for table, where in tables.items():
            settings = [] if secrets else list(_find_settings(app, name, db.tables()[table]))
            values = {value for _, _, value in settings}
            omitted = [column for column in secret.get(table, ()) if column not in values]
            rows = _read(db, table, where, omitted)
            if rows:
                databases.setdefault(name, {})[table] = [_mask_settings(settings, row) for row in rows]
                left_out += [f"{name}/{table}.{column}" for column in omitted]
    return UserData(
        schema=FILE_FORMAT, app=app.name, exported_at=now(), user=user, databases=databases, left_out=left_out
    )


def _user_rows(users: UserTable, user: User) -> Conditions:
    """Return the conditions of the user's rows in the database of users."""
    db, profile = users.db, users.app.profile
    tables = db.tables()
    is_user = Condition(users.id, "=", user.id)
    conditions: Conditions = {users.live.name: [is_user]}
    system = {section.table for section in profile.settings if section.scope == "system"}
    for key in db.references(users.live.name):
        if key.table not in system | {users.live.name}:
            owned = InSubquery(key.columns, users.live.name, key.to, [is_user])
            conditions.setdefault(key.table, []).append(owned)
    for place, name in list_user_columns(users.app):
        table = place.removesuffix("?")
        if column := find_column(tables.get(table), name):
            conditions.setdefault(table, []).append(Condition(column, "=", user.id))
    lockout = users.section.lockout
    if lockout and lockout.table in tables:
        live = LiveTable(profile, db, lockout.table, "failed sign-ins")
        conditions.setdefault(lockout.table, []).append(match_logins(live.column(lockout.login), [user]))
    direct_tables = set(conditions)
    for path in users.section.owned:
        steps = parse_row_path(path)
        table = steps[0].table
        is_direct = len(steps) == 1 and not steps[0].text
        if not is_direct and table not in direct_tables and all(step.table in tables for step in steps):
            conditions.setdefault(table, []).append(follow_steps(db, steps, [user.id]))
    for table in direct_tables - {users.live.name}:
        _add_cascades(db, table, [AnyOf(conditions[table])], direct_tables, conditions)
    return conditions


def _add_cascades(
    db: Readable, table: str, where: Sequence[Where], direct: set[str], conditions: Conditions
) -> None:
    """Add rows that foreign keys delete with rows of a table, unless their table refers to users itself."""
    for key in db.references(table):
        if key.on_delete == "CASCADE" and key.table not in direct | {table}:
            within = InSubquery(key.columns, table, key.to, where)
            if within not in conditions.setdefault(key.table, []):
                conditions[key.table].append(within)
                _add_cascades(db, key.table, [within], direct, conditions)


def list_user_columns(app: App) -> Iterator[tuple[str, ColumnNames]]:
    """Yield tables, which deployments may lack, and their columns that refer to a user, by the sections of the profile."""
    profile = app.profile
    section = app.require_section(profile.users, "users")
    for place in section.owned:
        step, *later_steps = parse_row_path(place)
        if not (later_steps or step.text):
            yield step.table, step.column
    for sections in (section.create, section.signed_in, profile.sessions):
        yield from ((item.table, item.user) for item in sections if item.user)
    joined = (item.owner or item for item in section.joined.values() if not item.through)
    yield from ((item.table, item.user) for item in joined)
    yield from ((transfer.table, transfer.column) for transfer in section.transfer)
    if section.statistics:
        yield section.statistics.table, section.statistics.user
    for setting in profile.settings:
        if setting.scope == "user" and setting.user and app.resolve_database(setting) == users_database(app):
            yield setting.table, setting.user
    if profile.audit and "user" in profile.audit.fields:
        yield profile.audit.table, profile.audit.fields["user"]


def _linked_conditions(app: App, home: str, db: Readable, user_rows: Conditions) -> dict[str, Conditions]:
    """Return the conditions of rows in other databases that refer to the user's rows."""
    conditions: dict[str, Conditions] = {}
    for link in app.profile.link:
        database = app.resolve_database(link)
        if link.to != home or database == home or database not in app.configured.databases:
            continue
        live = app.reader(database).tables().get(link.table)
        column = find_column(live, link.column)
        if column is None:
            continue
        keys = read_link_values(link, db, user_rows)
        for batch in split_batches(keys, BATCH):
            condition = Condition(column, "in", batch)
            conditions.setdefault(database, {}).setdefault(link.table, []).append(condition)
    return conditions


def _read(db: Readable, table: str, where: Sequence[Where], omitted: Sequence[str]) -> list[Row]:
    columns = [name for name in db.tables()[table].columns if name not in omitted]
    rows = db.codec.read(Query(table, columns, [AnyOf(where)]))
    return [dict(zip(columns, map(codec.to_json, row), strict=True)) for row in rows]


def _find_settings(app: App, database: str, live: Table) -> Iterator[tuple[Settings, str, str]]:
    """Yield the sections whose settings are rows of a table, with the columns of the key and of the value, which is secret only by the key."""
    for section in app.profile.settings:
        is_section = section.table == live.name and app.resolve_database(section) == database
        key = find_column(live, section.key) if isinstance(section.key, str) else None
        value = find_column(live, section.fields.get("value"))
        if is_section and key and value:
            yield section, key, value


def _mask_settings(settings: Sequence[tuple[Settings, str, str]], row: Row) -> Row:
    """Return a row of settings, with a masked value if its key is a secret."""
    for section, key, value in settings:
        if is_secret_setting(section, str(row[key])):
            return {**row, value: MASK}
    return row
