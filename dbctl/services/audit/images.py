"""The rows that a transaction changes: before its statements, and again before the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Query,
    Reference,
    Table,
    Where,
    Writable,
    require_part,
)
from dbctl.engines.contract.streaming import ValueCodec
from dbctl.engines.sql import codec
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.services.events.changes.records import RowImage, TableChange
from dbctl.services.events.changes.secrets import compute_digest

if TYPE_CHECKING:
    from dbctl.config.model import AuditConfig
    from dbctl.services.audit.recorder import OperationRecorder

Values: TypeAlias = dict[str, object]
#: The columns of a row that are secret, by table and row.
FindSecrets: TypeAlias = Callable[[str, Mapping[str, object]], Collection[str]]
#: Keys per query: SQLite limits the depth of conditions.
KEYS_PER_QUERY = 200
_CASCADES = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
VALUES_OFF = "values are off"
NO_KEY, UNREADABLE = "the table has no primary key", "the database role may not read or lock the rows"


class RowImages:
    """The rows of one open transaction."""

    def __init__(
        self,
        writer: Writable,
        database: str,
        recorder: OperationRecorder,
        find_secrets: FindSecrets,
        *,
        has_images: bool,
    ) -> None:
        """Read nothing yet; for the arguments, see ``RecordedWriter``."""
        self._writer, self._database, self._recorder = writer, database, recorder
        self._find_secrets, self._has_images = find_secrets, has_images
        self.limit = recorder.settings.max_rows  #: of a table, up to which rows are recorded
        self._before: dict[str, dict[tuple[object, ...], Values | None]] = {}
        self._read = require_part(writer, ValueCodec, "recording changes", "Its engine has no rows.").read
        self.counts: dict[str, int] = {}  #: written rows by table
        self.reasons: dict[str, str] = {}  #: why rows of a table are only counted

    def add(self, table: str, rows: int) -> int:
        """Count written rows, and return their number."""
        self.counts[table] = self.counts.get(table, 0) + rows
        return rows

    def begin_change(self, table: str) -> Sequence[str]:
        """Return the key of a table; empty: its rows are only counted."""
        self.add(table, 0)
        if not self._has_images:
            return ()
        if table not in self._writer.tables() or not (key := self.list_key(table)):
            self.reasons[table] = NO_KEY
        return () if table in self.reasons else key

    def list_key(self, table: str) -> list[str]:
        """Return the columns of the primary key."""
        columns = self._writer.tables()[table].columns.values()
        return [column.name for column in columns if column.is_primary_key]

    def read_before(self, table: str, where: Sequence[Where]) -> None:
        """Read rows before they change, unless this transaction has already changed them."""
        with self._note_privileges(table):
            self._read_before(table, where)

    def read_cascade(self, table: str, where: Sequence[Where]) -> None:
        """Read the rows of a deletion, and those that foreign keys delete or change with them."""
        deleted = defaultdict[str, set[tuple[object, ...]]](set)
        pending: list[tuple[str, Sequence[Where]]] = [(table, where)]
        while pending:
            name, conditions = pending.pop()
            if not (key := self.begin_change(name)):
                continue
            with self._note_privileges(name):
                keys = [
                    values for values in self._read_before(name, conditions) if values not in deleted[name]
                ]
                # Rows below rows of the same table, and of a cycle, are found by their keys: conditions would nest too deeply.
                parents = [conditions] if not deleted[name] else list(_match_chunks(key, keys))
                deleted[name].update(keys)
                for reference in self._writer.references(name) if keys else ():
                    for parent in parents:
                        pending += self._read_referring(reference, name, parent)

    def _read_referring(
        self, reference: Reference, table: str, parents: Sequence[Where]
    ) -> Iterator[tuple[str, Sequence[Where]]]:
        """Read the rows that lose their reference to ``parents``; yield the condition of rows that are deleted."""
        name, where = reference.table, [InSubquery(reference.columns, table, reference.to, parents)]
        if reference.on_delete not in _CASCADES or not self.add(name, self._writer.count(name, where)):
            return
        if reference.on_delete == "CASCADE":
            yield name, where
        elif self.begin_change(name):
            self.read_before(name, where)

    def _read_before(self, table: str, where: Sequence[Where]) -> Sequence[tuple[object, ...]]:
        """Read rows, and return their keys; none if the table has more changed rows than are recorded."""
        key, columns = self.list_key(table), list(self._writer.tables()[table].columns)
        known = self._before.setdefault(table, {})
        selected = self._read(Query(table, columns, where, limit=self.limit + 1, for_update=True))
        rows = [dict(zip(columns, row, strict=True)) for row in selected]
        if not self._has_room(table, len(rows)):
            return ()
        for row in rows:
            known.setdefault(_key_of(row, key), row)
        return [_key_of(row, key) for row in rows]

    def add_inserted(self, table: str, key: Sequence[str], keys: Sequence[Sequence[object]]) -> None:
        """Add inserted rows, by their keys as the database returns them."""
        known = self._before.setdefault(table, {})
        if self._has_room(table, len(keys)):
            with self._note_privileges(table):
                for row in self._select_keys(table, key, key, [tuple(values) for values in keys]):
                    known.setdefault(_key_of(row, key), None)

    def _has_room(self, table: str, rows: int) -> bool:
        if rows + len(self._before.get(table, ())) > self.limit:
            self.reasons[table] = describe_limit(self.limit)
        return table not in self.reasons

    @contextmanager
    def _note_privileges(self, table: str) -> Iterator[None]:
        """Only count the rows of a table that may be written but not read; the savepoint lets the transaction continue."""
        try:
            with self._writer.transaction():
                yield
        except PrivilegeMissingError:
            self.reasons[table] = UNREADABLE

    def _select_keys(
        self, table: str, columns: Sequence[str], key: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> Iterator[Values]:
        for where in _match_chunks(key, keys):
            for row in self._read(Query(table, columns, where)):
                yield dict(zip(columns, row, strict=True))

    def list_changes(self) -> Iterator[TableChange]:
        """Yield the changes of each table, or only their number if the settings or the table exclude the values."""
        has_values = self._recorder.settings.values
        for table, count in self.counts.items():
            images = [] if table in self.reasons else list(self._create_images(table))
            reason = self.reasons.get(table, "" if has_values else VALUES_OFF)
            rows = count if table in self.reasons else len(images)
            if rows:
                yield TableChange(
                    database=self._database,
                    table=table,
                    rows=rows,
                    images=None if reason else images,
                    reason=reason,
                    exact=not reason,
                )

    def _create_images(self, table: str) -> Iterator[RowImage]:
        """Yield the net changes of the rows of a table."""
        known, key = self._before.get(table, {}), self.list_key(table)
        columns = list(self._writer.tables()[table].columns)
        after = {_key_of(row, key): row for row in self._select_keys(table, columns, key, list(known))}
        for values, row in known.items():
            new = after.get(values)
            changed = [
                name
                for name in columns
                if row is None or new is None or codec.identify(row[name]) != codec.identify(new[name])
            ]
            if not changed or row is new:
                continue
            encoded_key = self._encode(table, dict(zip(key, values, strict=True)), row or new or {})
            yield RowImage(
                key=encoded_key,
                before=None
                if row is None
                else self._encode(table, {name: row[name] for name in changed}, row),
                after=None
                if new is None
                else self._encode(table, {name: new[name] for name in changed}, new),
            )

    def _encode(self, table: str, values: Values, row: Values) -> dict[str, Any]:
        secrets = self._find_secrets(table, row)
        return {
            name: compute_digest(self._recorder.read_key(), value)
            if name in secrets and value is not None
            else codec.to_json(value)
            for name, value in values.items()
        }


def describe_unrecorded(table: Table, rows: int, settings: AuditConfig) -> str:
    """Return why a change of rows of a table will only be counted; empty: its rows will be recorded, as far as is known."""
    if not any(column.is_primary_key for column in table.columns.values()):
        return NO_KEY
    if rows > settings.max_rows:
        return describe_limit(settings.max_rows)
    return "" if settings.values else VALUES_OFF


def describe_limit(limit: int) -> str:
    """Return why the rows of a large change are only counted."""
    return f"more than {limit:,} rows"


def match_keys(key: Sequence[str], keys: Sequence[tuple[object, ...]]) -> list[Where]:
    """Return the conditions of the rows with these keys."""
    if len(key) == 1:
        return [Condition(key[0], "in", [values[0] for values in keys])]
    rows = (
        AllOf([Condition(column, "=", value) for column, value in zip(key, values, strict=True)])
        for values in keys
    )
    return [AnyOf(list(rows))]


def _match_chunks(key: Sequence[str], keys: Sequence[tuple[object, ...]]) -> Iterator[list[Where]]:
    for start in range(0, len(keys), KEYS_PER_QUERY):
        yield match_keys(key, keys[start : start + KEYS_PER_QUERY])


def _key_of(row: Mapping[str, object], key: Sequence[str]) -> tuple[object, ...]:
    return tuple(row[column] for column in key)
