"""Write rows exactly as a plan states, or refuse: triggers, rules and types can skip a row, revert it or change others; and number new rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias, cast
from uuid import UUID

from dbctl.engines.contract.database import Condition, Not, Order, ShiftedTime, Where, Writable
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import is_storable
from dbctl.engines.sql.query_builder import KEYS_PER_QUERY, match_rows
from dbctl.errors.connection import ConstraintError, PrivilegeMissingError
from dbctl.model import format_count, split_batches
from dbctl.services.app.change import require_row_count

if TYPE_CHECKING:
    from dbctl.services.app.live_table import LiveTable

#: Rows of one statement that are compared: triggers act on all rows alike, and their values must fit in memory.
MAX_COMPARED = 10_000
#: The values of the primary key of a row.
Key: TypeAlias = tuple[object, ...]


def write_rows(
    db: Writable,
    table: str,
    where: Sequence[Where],
    values: Mapping[str, object] | None = None,
    *,
    stamps: Mapping[str, object] = {},
) -> int:
    """Change the rows that meet conditions, or delete them without ``values``; return their number.

    Raises:
        ConstraintError: as ``update_exactly`` and ``delete_exactly``.
    """
    if count := db.count(table, where):
        if values:
            update_exactly(db, table, values, where, count, stamps=stamps)
        else:
            delete_exactly(db, table, where, count)
    return count


def update_exactly(
    db: Writable,
    table: str,
    values: Mapping[str, object],
    where: Sequence[Where],
    expected: int,
    *,
    stamps: Mapping[str, object] = {},
) -> None:
    """Change the rows that meet conditions, which are ``expected`` rows; ``stamps`` are times that the database may replace.

    Raises:
        ConstraintError: as ``require_row_count``, or rows do not exist afterwards, or have a former value.
    """
    columns = [name for name, value in values.items() if not isinstance(value, ShiftedTime)]
    before = KeyedRows(db, table, columns, where)
    require_row_count(db.update(table, {**values, **stamps}, where), expected, db)
    before.require_changed(dict.fromkeys(before.rows, values))


def delete_exactly(db: Writable, table: str, where: Sequence[Where], expected: int) -> None:
    """Delete the rows that meet conditions, which are ``expected`` rows.

    Raises:
        ConstraintError: as ``require_row_count``, or rows exist afterwards.
        NotSupportedError: as ``Readable.require_transactional``.
    """
    # The savepoint of the audit log would fail without this reason.
    db.require_transactional(table)
    deleted = db.delete(table, where)
    # The transaction does not see rows that other sessions add.
    remaining = db.count(table, where)
    # Of a tree, a foreign key may delete some rows with others, and not every database counts these.
    if deleted < expected and any(key.on_delete == "CASCADE" for key in db.references(table)):
        deleted = expected - remaining
    require_row_count(deleted, expected, db)
    if remaining:
        reason = f"{format_count(remaining, 'row')} of {table} would exist afterwards; a trigger may cause it"
        raise ConstraintError(target=db.target, reason=reason)


def require_added(db: Writable, table: str, key: Mapping[str, object]) -> None:
    """Refuse a new row that no row with its key is, unless a policy may hide it.

    Raises:
        ConstraintError: a trigger has deleted it, or changed its key.
    """
    where = [Condition(name, "=", value) for name, value in key.items()]
    if not key or not all(map(_is_exact, key.values())) or db.count(table, where):
        return
    with suppress(PrivilegeMissingError), db.transaction(), db.read_all_rows(table):
        if not db.count(table, where):
            values = ", ".join(f"{name} {value}" for name, value in key.items())
            reason = f"the new row of {table} ({values}) would not exist; a trigger may delete it, or change its key"
            raise ConstraintError(target=db.target, reason=reason)


def insert_exactly(db: Writable, table: str, expected: int, insert: Callable[[], int]) -> None:
    """Insert ``expected`` rows by a function that returns their number.

    Raises:
        ConstraintError: as ``require_row_count``, or triggers delete the rows.
        NotSupportedError: as ``Readable.require_transactional``.
    """
    # A savepoint, in which the schema is read, would fail without this reason.
    db.require_transactional(table)
    schema = db.schema_reader.schema() if db.schema_reader else None
    has_triggers = schema is not None and any(code.table == table for code in schema.codes)
    before = db.count(table) if has_triggers else 0
    require_row_count(insert(), expected, db)
    if has_triggers and (added := db.count(table) - before) < expected:
        with suppress(PrivilegeMissingError), db.transaction(), db.read_all_rows(table):
            db.count(table)  # unless a policy may hide them
            require_row_count(added, expected, db)


class KeyedRows:
    """The rows that a statement is about to change, by their keys: triggers can revert it, or change other rows with it."""

    def __init__(self, db: Writable, table: str, columns: Sequence[str], where: Sequence[Where]) -> None:
        """Read the rows; none without a key that finds each again, or without the right to read them.

        Raises:
            NotSupportedError: as ``Readable.require_transactional``.
        """
        # The savepoint would fail without this reason.
        db.require_transactional(table)
        self._db, self._table, self._columns = db, table, columns
        self._key = db.tables()[table].primary_key
        self.rows = dict[Key, Sequence[object]]()
        if self._key and set(self._key).isdisjoint(columns):
            # the savepoint lets the transaction continue
            with suppress(PrivilegeMissingError), db.transaction() if db.has_privileges else nullcontext():
                self.rows = self._read(where)

    def _read(self, where: Sequence[Where]) -> dict[Key, Sequence[object]]:
        size = len(self._key)
        rows = self._db.select(self._table, [*self._key, *self._columns], where, limit=MAX_COMPARED)
        # arrays would be no keys of the result either
        if not all(_is_exact(value) for row in rows for value in row[:size]):
            return {}
        return {row[:size]: row[size:] for row in rows}

    def _read_again(self) -> dict[Key, Sequence[object]]:
        after = dict[Key, Sequence[object]]()
        for keys in split_batches(list(self.rows), KEYS_PER_QUERY):
            after |= self._read([match_rows(self._key, keys)])
        return after

    def require_changed(self, values: Mapping[Key, Mapping[str, object]]) -> None:
        """Refuse rows that do not exist, or have the former value of a column instead of the new one in ``values``."""
        after = self._read_again()
        if missing := len(self.rows.keys() - after.keys()):
            raise self._refuse(f"{format_count(missing, 'row')} of {self._table} would not exist afterwards")
        for index, name in enumerate(self._columns):
            count = sum(
                codec.identify(row[index]) == codec.identify(after[key][index])
                and self._differs(key, name, row[index], values[key][name])
                for key, row in self.rows.items()
                if name in values.get(key, ())
            )
            # a database without privileges hides no trigger
            if count and (self._db.has_privileges or self._has_triggers()):
                rows = format_count(count, "row")
                raise self._refuse(f"{rows} of {self._table} would retain the value of {name}")

    def _has_triggers(self) -> bool:
        reader = self._db.schema_reader
        return reader is None or any(code.table for code in reader.schema().codes)

    def _differs(self, key: Key, name: str, stored: object, value: object) -> bool:
        where = [match_rows(self._key, [key]), Not(Condition(name, "identical", value))]
        return str(stored) != str(value) and bool(self._db.count(self._table, where))

    def _refuse(self, problem: str) -> ConstraintError:
        return ConstraintError(target=self._db.target, reason=f"{problem}; a trigger may cause it")


def _is_exact(value: object) -> bool:
    """Return whether a condition finds the row with a part of its key; the text of a server for a float, for example, is rounded."""
    return isinstance(value, int | Decimal | UUID) or (isinstance(value, str) and is_storable(value))


def count_up(
    live: LiveTable, constants: Mapping[str, object], row: Mapping[str, object]
) -> dict[str, object]:
    """Return columns and the next numbers for the counters (``:next(role_id)``) among constants of a profile.

    ``row`` has the stored values of the new row, among them those of the columns that counters name.
    """
    from dbctl.profiles.templates import COUNTER

    numbers = dict[str, object]()
    for name, constant in constants.items():
        counter = COUNTER.fullmatch(constant) if isinstance(constant, str) else None
        column = live.optional_column(name) if counter else None
        if counter is None or column is None:
            continue
        group = live.optional_column(counter[1])
        where = [Condition(group, "=", row.get(group))] if group else []
        order = [Order([column], descending=True)]
        largest = live.db.select(live.name, [column], where, order_by=order, limit=1)
        numbers[column] = cast("int", largest[0][0] or 0) + 1 if largest else 1
    return numbers
