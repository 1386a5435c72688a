"""Rows of sessions whose user is part of encoded data: no condition selects them, so the rows are read in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl import signals
from dbctl.engines.contract import Condition, KeysetCursor, Where
from dbctl.errors import SchemaMismatchError
from dbctl.profiles import read_payload
from dbctl.profiles.model import Payload
from dbctl.services.app import LiveTable

PAGE_ROWS = 1000


def where_payload(
    live: LiveTable, payload: Payload, ids: Sequence[object], where: Sequence[Where] = ()
) -> Condition:
    """Return the condition of the rows of these users, read now; ``where`` limits the rows that are read.

    Raises:
        SchemaMismatchError: the table has no primary key of one column.
    """
    users = {str(key) for key in ids}
    keys = [key for key, user in read_payload_users(live, payload, where) if user in users]
    return Condition(primary_key(live), "in", keys)


def read_payload_users(
    live: LiveTable, payload: Payload, where: Sequence[Where] = ()
) -> Iterator[tuple[object, str]]:
    """Yield the primary key and the key of the user, as text, of each row whose payload contains a user."""
    key, column = primary_key(live), live.column(payload.column)
    cursor: list[Where] = []
    while rows := live.db.select(live.name, [key, column], [*where, *cursor], limit=PAGE_ROWS):
        signals.raise_if_interrupted()
        for row_key, stored in rows:
            if user := read_payload(payload.codec, payload.key, stored):
                yield row_key, user
        cursor = [KeysetCursor([key], [rows[-1][0]])]


def primary_key(live: LiveTable) -> str:
    """Return the column of the primary key; raises as ``where_payload``."""
    keys = [column.name for column in live.table.columns.values() if column.is_primary_key]
    if len(keys) != 1:
        missing = f"a primary key of {live.name} with one column"
        raise SchemaMismatchError(target=live.db.target, missing=missing, purpose="sessions")
    return keys[0]
