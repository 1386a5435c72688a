"""The rows that keys and foreign keys of a table refuse: lines of a file, and a row to write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

from dbctl import signals
from dbctl.engines.contract.database import AllOf, Condition, Not, Reference, Where
from dbctl.errors.connection import ConstraintError, PrivilegeMissingError
from dbctl.model import Row, split_batches
from dbctl.services.app.validation import normalise_value, truncate
from dbctl.services.data.table import DataTable

#: Lines whose keys are compared with the stored ones in one query for each constraint.
BATCH_LINES = 300

Key: TypeAlias = tuple[str, ...]
#: The number of a line, and its values.
NumberedRow: TypeAlias = tuple[int, Sequence[object]]


class KeyCheck(ABC):
    """The comparison of some columns of a file with columns of a stored table."""

    def __init__(self, table: DataTable, columns: Sequence[str], own: Sequence[str]) -> None:
        self._table, self._own = table, own
        self._indexes = [columns.index(name) for name in own]

    @abstractmethod
    def find(self, batch: Sequence[NumberedRow]) -> Iterator[tuple[int, str]]:
        """Yield the refused lines of a batch, each with the reason."""

    def _read_keys(self, batch: Sequence[NumberedRow]) -> Iterator[tuple[int, Sequence[object]]]:
        """Yield each line with its values of the columns, unless one is NULL."""
        for number, row in batch:
            values = [row[index] for index in self._indexes]
            if None not in values:
                yield number, values

    def _find_stored(
        self, name: str, columns: Sequence[str], keys: Sequence[tuple[int, Sequence[object]]]
    ) -> set[Key]:
        """Return the stored keys among those of lines, and possibly further ones with the same first value."""
        first = [values[0] for _, values in keys]
        rows = self._table.db.select(name, columns, [Condition(columns[0], "in", first)]) if first else []
        return {normalise_key(row) for row in rows}

    def _describe(self, values: Sequence[object]) -> str:
        shown = (
            f"{name} {truncate(str(self._table.mask_value(name, value)))}"
            for name, value in zip(self._own, values, strict=True)
        )
        return ", ".join(shown)


class _UniqueKey(KeyCheck):
    def __init__(self, table: DataTable, columns: Sequence[str], own: Sequence[str]) -> None:
        super().__init__(table, columns, own)
        self._lines = dict[Key, int]()

    def find(self, batch: Sequence[NumberedRow]) -> Iterator[tuple[int, str]]:
        keys = list(self._read_keys(batch))
        stored = self._find_stored(self._table.name, self._own, keys)
        for number, values in keys:
            key = normalise_key(values)
            if key in stored:
                yield number, f"{self._describe(values)} exists in {self._table.name}"
            elif key in self._lines:
                yield number, f"{self._describe(values)} is also in line {self._lines[key]}"
            self._lines.setdefault(key, number)


class _ForeignKey(KeyCheck):
    def __init__(
        self,
        table: DataTable,
        columns: Sequence[str],
        reference: Reference,
        parent: str,
        added: Collection[Key],
    ) -> None:
        super().__init__(table, columns, reference.columns)
        self._parent, self._to, self._added = parent, reference.to, added

    def find(self, batch: Sequence[NumberedRow]) -> Iterator[tuple[int, str]]:
        keys = list(self._read_keys(batch))
        stored = self._find_stored(self._parent, self._to, keys)
        for number, values in keys:
            key = normalise_key(values)
            if key not in stored and key not in self._added:
                yield number, f"{self._describe(values)} refers to a missing row of {self._parent}"


def list_keys(table: DataTable, columns: Sequence[str]) -> Iterator[KeyCheck]:
    """Yield a check for the primary key and each unique index of columns without a condition, if the file has the columns."""
    for key in _list_unique(table):
        if set(key) <= set(columns):
            yield _UniqueKey(table, columns, key)


def _list_unique(table: DataTable) -> Iterator[Key]:
    """Yield the columns of the primary key and of each unique index without a condition."""
    keys = [tuple(table.key)]
    keys += [
        tuple(name.strip('"`') for name in index.columns)
        for index in table.db.storage.list_indexes(sized=False) or ()
        if index.table == table.name and index.unique and not index.where
    ]
    yield from filter(None, dict.fromkeys(keys))


def list_references(
    table: DataTable, columns: Sequence[str], read_added: Callable[[str, Sequence[str]], Collection[Key]]
) -> Iterator[KeyCheck]:
    """Yield a check for each foreign key to another table whose columns the file has; ``read_added`` returns the keys that the file adds."""
    for parent in table.db.tables():
        for reference in table.db.references(parent):
            if reference.table == table.name != parent and set(reference.columns) <= set(columns):
                added = read_added(parent, reference.to)
                yield _ForeignKey(table, columns, reference, parent, added)


def check_unique(table: DataTable, before: Row, values: Row, own: Sequence[Where] = ()) -> None:
    """Refuse new ``values`` of a row if another row has them in a unique key.

    ``before`` has the stored values, and ``own`` the conditions of the row; both are empty for a new one.

    Raises:
        ConstraintError: another row has the key.
    """
    row, others = {**before, **values}, [Not(AllOf(own))] if own else []
    for key in _list_unique(table):
        if _is_changed(key, row, values):
            where = [Condition(name, "=", row[name]) for name in key]
            if table.db.count(table.name, [*where, *others]):
                raise _create_error(table, row, key, f"exists in {table.name}")


def check_unique_rows(table: DataTable, where: Sequence[Where], values: Row) -> None:
    """Refuse the same new ``values`` of all rows that match ``where`` if several rows would have one unique key.

    Raises:
        ConstraintError: they would, or another row has the key.
    """
    for key in _list_unique(table):
        same = {name: values[name] for name in key if name in values}
        # an expression, a prefix or another collation is no column
        if not same or None in same.values() or not set(key) <= table.columns.keys():
            continue
        rest = [name for name in key if name not in values]
        having: list[Where] = [
            *(Condition(name, "=", value) for name, value in same.items()),
            Not(AllOf(where)),
        ]
        seen = set[Key]()
        for rows in split_batches(table.db.select(table.name, [*rest, *same], where), BATCH_LINES):
            near = [Condition(rest[0], "in", [row[0] for row in rows])] if rest else []
            others = table.db.select(table.name, [*rest, *same], [*having, *near])
            seen.update(normalise_key(row[: len(rest)]) for row in others if None not in row)
            for row in rows:
                if None in row[: len(rest)]:
                    continue
                if (own := normalise_key(row[: len(rest)])) in seen:
                    changed = {**dict(zip(rest, row, strict=False)), **same}
                    raise _create_error(table, changed, key, f"would be in several rows of {table.name}")
                seen.add(own)


def check_references(table: DataTable, before: Row, values: Row) -> None:
    """Refuse new ``values`` of a row that refer to a missing row; ``before`` as for ``check_unique``.

    Raises:
        ConstraintError: no row has the key.
    """
    row = {**before, **values}
    for parent in table.db.tables():
        for reference in table.db.references(parent):
            if reference.table != table.name or not _is_changed(reference.columns, row, values):
                continue
            pairs = [
                (name, row[column]) for name, column in zip(reference.to, reference.columns, strict=True)
            ]
            if parent == table.name and all(row.get(name, value) == value for name, value in pairs):
                continue  # to itself
            # The database compares foreign keys with the rights of the owner: also with rows that a policy hides from this role.
            with suppress(PrivilegeMissingError), table.db.read_all_rows(parent):
                if not table.db.count(parent, [Condition(name, "=", value) for name, value in pairs]):
                    raise _create_error(table, row, reference.columns, f"refers to a missing row of {parent}")


def _is_changed(key: Sequence[str], row: Row, values: Row) -> bool:
    """Return whether the columns of a key have a new value, of which no part is NULL or unknown."""
    return not values.keys().isdisjoint(key) and all(row.get(name) is not None for name in key)


def _create_error(table: DataTable, row: Row, key: Sequence[str], problem: str) -> ConstraintError:
    values = ", ".join(f"{name} {truncate(str(table.mask_value(name, row[name])))}" for name in key)
    return ConstraintError(target=table.db.target, reason=f"{values} {problem}")


def normalise_key(values: Sequence[object]) -> Key:
    """Return values in the form in which keys are compared."""
    return tuple(map(normalise_value, values))


def find_refused(checks: Sequence[KeyCheck], rows: Iterable[NumberedRow], limit: int) -> dict[int, str]:
    """Return the reasons by number of line, at most ``limit``."""
    refused = dict[int, str]()
    for batch in split_batches(rows, BATCH_LINES):
        signals.raise_if_interrupted()
        for check in checks:
            for number, reason in check.find(batch):
                refused.setdefault(number, reason)
        if len(refused) >= limit:
            break
    return dict(sorted(refused.items())[:limit])
