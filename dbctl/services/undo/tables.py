"""The rows of one table that undo restores: compare them with the log, and write them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    InSubquery,
    Not,
    Query,
    Readable,
    Reference,
    Where,
    Writable,
)
from dbctl.engines.sql import codec
from dbctl.engines.sql.query_builder import KEYS_PER_QUERY, match_rows
from dbctl.model import format_count, split_batches
from dbctl.services.app.change import require_row_count
from dbctl.services.app.secrets import has_values
from dbctl.services.deletion.cascade import AffectedRows, find_changed_rows, refuse_outside_rows
from dbctl.services.events.changes.records import (
    RowImage,
    compute_digest,
    decode_old_value,
    describe_value,
    describe_values,
    is_restorable,
    is_secret,
)
from dbctl.services.users.sign_in_state import SignInRows

Values: TypeAlias = Mapping[str, object]
#: What only equal keys have in common.
Identity: TypeAlias = tuple[tuple[str, object], ...]
#: Rows that a plan lists for each table; further ones are counted.
MAX_STEPS = 50


class Restoration(NamedTuple):
    """One row to restore. ``values`` is None for a row that the operation inserted."""

    key: tuple[object, ...]
    values: Values | None
    inserts: bool  #: whether the operation deleted the row
    image: RowImage
    omitted: Sequence[str]  #: columns whose values are not in the log

    def has_secret(self, name: str) -> bool:
        """Return whether the row had a secret in a column before the operation."""
        return is_secret((self.image.before or {}).get(name))


class TableUndo:
    def __init__(
        self,
        db: Readable,
        table: str,
        images: Sequence[RowImage],
        *,
        read_key: Callable[[], bytes],
        sign_ins: Sequence[SignInRows],
        sign_in_columns: Collection[str],
        times: Collection[str],
        exact: bool,
    ) -> None:
        """Read the rows, locked inside a transaction.

        Args:
            db: the database.
            table: a table of it.
            images: the rows in the log.
            read_key: returns the key of the digests of secrets.
            sign_ins: sign-ins and second factors: they are not restored, or, if deleted, with the defaults of their columns.
            sign_in_columns: columns that are not restored, because they end sign-ins.
            times: columns with the time of a change, which are restored only with another column.
            exact: whether the log has exact values; those of older versions are the values of ``select``.
        """
        self._db, self.table, self._images, self._read_key = db, table, images, read_key
        self._columns, self._exact, self._codec = db.tables()[table].columns, exact, db.codec
        self._decode = codec.from_json if exact else decode_old_value
        self.key = db.tables()[table].primary_key
        self._sign_ins, self._sign_in_columns, self._times = sign_ins, sign_in_columns, times
        readable = [image for image in images if all(map(is_restorable, image.key.values()))]
        keys = [tuple(self._decode(image.key[name]) for name in self.key) for image in readable]
        self._current = self._read_current(keys)
        self.rows = [row for row in map(self._create, readable, keys) if row]

    def _read_current(self, keys: Sequence[tuple[object, ...]]) -> dict[Identity, Values]:
        columns, rows = list(self._columns), dict[Identity, Values]()
        read = self._codec.read if self._exact else self._db.read_rows
        for where in self._where(keys):
            for row in read(Query(self.table, columns, where, for_update=True)):
                values = dict(zip(columns, row, strict=True))
                rows[codec.identify_all(values[name] for name in self.key)] = values
        return rows

    def _where(self, keys: Sequence[tuple[object, ...]]) -> Iterator[Sequence[Where]]:
        return map(self._match, split_batches(keys, KEYS_PER_QUERY))

    def _match(self, keys: Sequence[tuple[object, ...]]) -> Sequence[Where]:
        stored = (self._to_stored(dict(zip(self.key, key, strict=True))) for key in keys)
        return [match_rows(self.key, [tuple(values.values()) for values in stored])]

    def _to_stored(self, values: Values) -> dict[str, object]:
        """Return decoded values as the database accepts them."""
        if not self._exact:
            return dict(values)
        return {
            name: None if value is None else self._codec.json_parser(self.table, name)(value)
            for name, value in values.items()
        }

    def list_conflicts(self) -> list[str]:
        """Return the rows that have changed since the operation."""
        return [text for row in self.rows if (text := self._find_conflict(row.image, row.key))]

    def _find_conflict(self, image: RowImage, key: tuple[object, ...]) -> str:
        """Return the difference between the row and the state that the operation left; empty: none."""
        current = self._current.get(codec.identify_all(key))
        place = f"{self.table} {describe_values(image.key)}"
        if current is None or image.after is None:
            if (current is None) == (image.after is None):
                return ""
            return f"{place} does not exist" if current is None else f"{place} exists"
        is_equal = all(
            # the database computes the others, also from another expression than at that time
            self._columns[name].is_generated or self._is_equal(current[name], value)
            for name, value in image.after.items()
        )
        return "" if is_equal else f"{place} has other values"

    def _is_equal(self, value: object, encoded: Any) -> bool:
        if is_secret(encoded):
            return bool(compute_digest(self._read_key(), value) == encoded)
        return is_restorable(encoded) and codec.identify(value) == codec.identify(self._decode(encoded))

    def _create(self, image: RowImage, key: tuple[object, ...]) -> Restoration | None:
        """Return the change that restores a row; None: the row is not restored."""
        if image.before is None:
            return Restoration(key, None, inserts=False, image=image, omitted=())
        row = {**self._current.get(codec.identify_all(key), {}), **image.before}
        sign_ins = [rows for rows in self._sign_ins if has_values(row, rows.only)]
        if not all(rows.columns for rows in sign_ins):
            return None
        factors = {name for rows in sign_ins for name in rows.columns}
        encoded = {**image.key, **image.before} if image.after is None else image.before
        encoded = {name: value for name, value in encoded.items() if not self._columns[name].is_generated}
        if image.after is None:
            defaulted = {name for name in factors if not self._columns[name].required}
            encoded = {name: value for name, value in encoded.items() if name not in defaulted}
        ended = {*self._sign_in_columns, *factors}
        restored = {
            name: self._decode(value)
            for name, value in encoded.items()
            if is_restorable(value) and (image.after is None or name not in ended)
        }
        if image.after is not None:
            restored = {
                name: value for name, value in restored.items() if not is_secret(image.after.get(name))
            }
        if not restored.keys() - ({} if image.after is None else self._times):
            return None
        omitted = [name for name in encoded if name not in restored]
        return Restoration(key, restored, inserts=image.after is None, image=image, omitted=omitted)

    # Plan ----------------------------------------------------------------------------------------------------

    @property
    def not_restored(self) -> int:
        """The number of rows of the operation of which nothing is restored."""
        return len(self._images) - len(self.rows)

    def list_omissions(self, others: Collection[str]) -> Iterator[str]:
        """Yield what is not restored, except ``others``, and ended sessions in columns of rows that remained."""
        ended = {*others, *self._sign_in_columns}
        names = {
            name
            for row in self.rows
            for name in row.omitted
            if name not in (others if row.inserts else ended)
        }
        if names:
            yield f"{', '.join(name for name in self._columns if name in names)} of {self.table}"
        if self.not_restored:
            yield f"{format_count(self.not_restored, 'row')} of {self.table}"

    def list_omitted_columns(self) -> list[str]:
        """Return the columns of new rows that the log lacks, and that may not be NULL."""
        names = {name for row in self.rows if row.inserts for name in row.omitted}
        return [name for name in self._columns if name in names and not self._columns[name].nullable]

    def list_missing_columns(self) -> list[str]:
        """Return those of them without a default."""
        return [name for name in self.list_omitted_columns() if self._columns[name].required]

    def list_lost_secrets(self) -> list[str]:
        """Return the columns of new rows that had a secret, which the log lacks."""
        names = {name for row in self.rows if row.inserts for name in row.omitted if row.has_secret(name)}
        return [name for name in self._columns if name in names]

    def drop_incomplete(self, names: Collection[str]) -> Sequence[str]:
        """Do not restore deleted rows of which the log lacks one of these columns; return the columns that they lack."""
        lacking = [
            (row, {name for name in row.omitted if name in names} if row.inserts else set[str]())
            for row in self.rows
        ]
        self.rows = [row for row, lacks in lacking if not lacks]
        return [name for name in self._columns if any(name in lacks for _, lacks in lacking)]

    def list_nullable(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns that may be NULL, and are not part of the key."""
        columns = (self._columns[name] for name in names)
        return [column.name for column in columns if column.nullable and not column.is_primary_key]

    def list_lost(self, names: Sequence[str]) -> list[Sequence[Any]]:
        """Return the recorded values of columns of deleted rows that are not restored."""
        restored = {id(row.image) for row in self.rows}
        return [
            [{**image.key, **image.before}.get(name) for name in names]
            for image in self._images
            if image.after is None and image.before is not None and id(image) not in restored
        ]

    def drop_orphans(self, reference: Reference, lost: Sequence[Sequence[Any]]) -> bool:
        """Restore no references to ``lost`` rows; return whether there were any.

        A row that was deleted is restored without the reference if it could exist without it.
        """
        has_digests = any(is_secret(value) for values in lost for value in values)
        missing = {self._identify_recorded(values, has_digests=has_digests) for values in lost}
        nullable, rows = set(self.list_nullable(reference.columns)), list[Restoration]()
        for row in self.rows if missing else ():
            values = row.values or {}
            names = [name for name in reference.columns if values.get(name) is not None]
            recorded = {**row.image.key, **(row.image.before or {})}
            if len(names) < len(reference.columns) or (
                self._identify_recorded([recorded[name] for name in names], has_digests=has_digests)
                not in missing
            ):
                rows.append(row)
                continue
            dropped = nullable if row.inserts else set(names)
            if row.inserts and (reference.on_delete == "CASCADE" or not dropped):
                continue
            remaining = {name: value for name, value in values.items() if name not in dropped}
            if remaining.keys() - ({} if row.inserts else self._times):
                rows.append(row._replace(values=remaining, omitted=[*row.omitted, *sorted(dropped)]))
        if not missing or rows == self.rows:
            return False
        self.rows = rows
        return True

    def _identify_recorded(self, values: Sequence[Any], *, has_digests: bool) -> str:
        """Return what equal recorded values have in common, also if only one of them is a digest."""
        if has_digests:
            values = [
                compute_digest(self._read_key(), self._decode(value)) if is_restorable(value) else value
                for value in values
            ]
        return codec.encode_json(list(values))

    def list_steps(self) -> Iterator[str]:
        for row in self.rows[:MAX_STEPS]:
            yield self._describe(row)
        if len(self.rows) > MAX_STEPS:
            yield f"restore {format_count(len(self.rows) - MAX_STEPS, 'further row')} of {self.table}"
        if self.not_restored:
            rows = format_count(self.not_restored, "row")
            yield f"do not restore {rows} of {self.table}: ended sessions, secrets, or rows that need them"

    def _describe(self, row: Restoration) -> str:
        place = f"{self.table} {describe_values(row.image.key)}"
        omitted = f"; {', '.join(row.omitted)} not restored" if row.omitted else ""
        if row.values is None:
            return f"delete the row {place}"
        if row.inserts:
            return f"insert the deleted row {place}{omitted}"
        before, after = row.image.before or {}, row.image.after or {}
        changes = (
            f"{name} from {describe_value(after.get(name))} to {describe_value(before[name])}"
            for name in row.values
        )
        return f"change {place}: {', '.join(changes)}{omitted}"

    def list_changes(self) -> Iterator[tuple[Values, Values]]:
        """Yield the rows before and after, as the database accepts them; an empty row does not exist."""
        for row in self.rows:
            before = self._to_stored(self._current.get(codec.identify_all(row.key), {}))
            yield before, {} if row.values is None else {**before, **self._to_stored(row.values)}

    def where_deleted(self) -> Iterator[Sequence[Where]]:
        """Yield the conditions of the rows to delete."""
        return self._where([row.key for row in self.rows if row.values is None])

    def where_released(self, columns: Sequence[str]) -> Iterator[Sequence[Where]]:
        """Yield the conditions of the rows that are deleted, or get other values in ``columns``."""
        return self._where(
            [row.key for row in self.rows if row.values is None or not row.values.keys().isdisjoint(columns)]
        )

    def count_referring(self, deleted: Mapping[str, TableUndo]) -> Iterator[tuple[str, int]]:
        """Yield the rows that refer to rows to delete, and are neither deleted nor get another reference themselves.

        Raises:
            ConstraintError: foreign keys would delete or change rows of other tables.
        """
        deleted_rows = list(self.where_deleted())
        for where in deleted_rows:
            refuse_outside_rows(self._db, self.table, where)
        for reference in self._db.references(self.table) if deleted_rows else ():
            other = deleted.get(reference.table)
            exceptions = (
                [Not(AllOf(where)) for where in other.where_released(reference.columns)] if other else []
            )
            with self._db.read_all_rows(
                reference.table
            ):  # a foreign key also deletes rows that a policy hides
                rows = sum(
                    self._db.count(
                        reference.table,
                        [InSubquery(reference.columns, self.table, reference.to, where), *exceptions],
                    )
                    for where in deleted_rows
                )
            if rows:
                yield reference.table, rows

    def find_following(self, tables: Mapping[str, TableUndo]) -> Iterator[AffectedRows]:
        """Yield further rows, not those of ``tables``, that foreign keys change when columns of rows are restored."""
        rows = [row for row in self.rows if row.values is not None and not row.inserts]
        named = {name: AnyOf([AllOf(where) for where in table.where_all()]) for name, table in tables.items()}
        for columns, group in groupby(sorted(rows, key=_list_columns), key=_list_columns):
            where = AnyOf([AllOf(where) for where in self._where([row.key for row in group])])
            yield from find_changed_rows(self._db, self.table, columns, [where], named=named)

    def where_all(self) -> Iterator[Sequence[Where]]:
        """Yield the conditions of all rows."""
        return self._where([row.key for row in self.rows])

    # Apply ---------------------------------------------------------------------------------------------------

    def delete_rows(self, db: Writable) -> None:
        """Delete the rows that the operation inserted; a foreign key may delete some with others."""
        expected = sum(row.values is None for row in self.rows)
        for where in self.where_deleted():
            db.delete(self.table, where)
        remaining = sum(db.count(self.table, where) for where in self.where_deleted())
        require_row_count(expected - remaining, expected, db)

    def insert_rows(
        self, db: Writable, rows: Sequence[Restoration], add: Callable[[], Values], postponed: Collection[str]
    ) -> None:
        """Insert rows that the operation deleted, in their order; ``add`` returns the values of a row that the log lacks.

        The columns ``postponed`` are NULL until ``update_columns``.
        """
        complete = (
            {
                **add(),
                **self._to_stored(
                    {name: None if name in postponed else value for name, value in (row.values or {}).items()}
                ),
            }
            for row in rows
        )
        for columns, group in groupby(complete, key=list):
            db.insert_many(self.table, columns, [list(values.values()) for values in group])

    def update_columns(self, db: Writable, row: Restoration, names: Collection[str]) -> None:
        values = {name: value for name, value in (row.values or {}).items() if name in names}
        if values:
            matched = db.update(self.table, self._to_stored(values), self._match([row.key]))
            require_row_count(matched, 1, db)

    def update_rows(self, db: Writable) -> None:
        """Restore the changed columns."""
        for row in self.rows:
            if row.values is not None and not row.inserts:
                self.update_columns(db, row, row.values.keys())

    def settle(self, db: Writable) -> list[str]:
        """Write the values again that triggers changed; return the columns that still differ.

        Raises:
            ConstraintError: a trigger deletes a restored row, or changes its key.
        """
        rows = [row.key for row in self.rows if row.values is not None]
        remaining = sum(db.count(self.table, where) for where in self._where(rows))
        require_row_count(remaining, len(rows), db)
        for _ in range(2):
            differing = list(self._find_differences())
            for row, names in differing:
                if values := {name: (row.values or {})[name] for name in names if name in (row.values or {})}:
                    db.update(self.table, self._to_stored(values), self._match([row.key]))
        return list(dict.fromkeys(name for _, names in self._find_differences() for name in names))

    def _find_differences(self) -> Iterator[tuple[Restoration, Sequence[str]]]:
        """Yield the restored rows with the columns that differ, also those that became generated since."""
        current = self._read_current([row.key for row in self.rows])
        for row in self.rows:
            if row.values is None:
                continue
            computed = {
                name: self._decode(value)
                for name, value in (row.image.before or {}).items()
                if self._columns[name].is_generated and is_restorable(value)
            }
            expected = {**computed, **row.values}
            stored = current.get(codec.identify_all(row.key), expected)
            names = [
                name
                for name, value in expected.items()
                if codec.identify(stored[name]) != codec.identify(value)
            ]
            if names:
                yield row, names


def _list_columns(row: Restoration) -> list[str]:
    return sorted(row.values or ())
