"""Check that the role may read the tables that a profile names: the other checks omit those that it may not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from dbctl.engines.contract import Readable
from dbctl.errors import PrivilegeMissingError
from dbctl.profiles import list_schema_references
from dbctl.services.app import App, find_column
from dbctl.services.app.evidence import Contradiction, create_unreadable

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
