"""What nobody is shown who does not ask for secrets: hashes, tokens and keys, by the profile."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from dbctl.engines.base import Readable
from dbctl.profiles.model import Name, Settings
from dbctl.services.apps import App
from dbctl.services.live import find_column

#: What stands in the place of a secret.
MASK = "***"


def hidden(app: App, database: str, db: Readable) -> dict[str, list[str]]:
    """Return the columns of one database that hold secrets, by table.

    Those of views, which may be made of any table, are told by their names alone.
    """
    tables, found = db.tables(), dict[str, list[str]]()
    for table, name in _named(app, database):
        column = find_column(tables.get(table), name)
        if column and column not in found.get(table, ()):
            found.setdefault(table, []).append(column)
    known = {column for columns in found.values() for column in columns}
    for view in (table for table in tables.values() if table.view):
        columns = [name for name in view.columns if name in known]
        if columns:
            found[view.name] = columns
    return found


def _named(app: App, database: str) -> Iterator[tuple[str, Name]]:
    for place in app.database(database).secret:
        table, _, column = place.rpartition(".")
        yield table, column
    users = app.profile.users
    if users and (users.database or app.main()) == database:
        if users.password:
            yield users.table, users.password.column
        for told in users.signed_in:
            yield told.table.removesuffix("?"), told.token
    for settings in app.profile.settings:
        if settings.secret and (settings.database or app.main()) == database:
            yield settings.table, settings.fields["value"]


def is_secret(told: Settings, key: str) -> bool:
    """Whether a setting is one."""
    return any(fnmatchcase(key, pattern) for pattern in told.secret)
