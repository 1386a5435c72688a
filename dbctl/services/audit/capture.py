"""Record the rows that a writer of a database changes: their values before and after, or their number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from dbctl.engines.contract.database import InSubquery, Merge, Query, Reference, Table, Where, Writable
from dbctl.engines.sql import codec
from dbctl.engines.sql.query_builder import KEYS_PER_QUERY, match_rows
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import IN_DOUBT, CommitUnconfirmedError, ConstraintError, PrivilegeMissingError
from dbctl.errors.operations import CommitInDoubtError
from dbctl.errors.usage import KeyNotReturnedError
from dbctl.model import format_count, split_batches
from dbctl.services.events.changes.records import (
    COMMITTED,
    FAILED,
    OPEN,
    RowImage,
    TableChange,
    compute_digest,
    digest_table,
)

if TYPE_CHECKING:
    from dbctl.config.model import AuditConfig
    from dbctl.services.audit.recorder import OperationRecorder


Values: TypeAlias = dict[str, object]
#: The columns of a row that are secret, by table and row.
FindSecrets: TypeAlias = Callable[[str, Mapping[str, object]], Collection[str]]
#: Those of foreign keys that delete or change the referring rows.
FOLLOWING_ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
VALUES_OFF = "values are off"
DROPPED = "the table was dropped"
INHERITED = "they may be rows of tables that inherit from it, and have further columns"
KEYS_CHANGED, GENERATED_KEY = "keys of rows were changed", "the database generated the keys"
NULL_KEY = "rows have NULL in the primary key, which does not identify them"
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
        #: keys by table, which may not be those that are stored
        self._inserted: dict[str, list[tuple[object, ...]]] = {}
        #: keys by table of rows that a deletion and its foreign keys delete; no row was inserted since
        self._deleted = defaultdict[str, set[tuple[object, ...]]](set)
        self._read = writer.codec.read
        self.counts: dict[str, int] = {}  #: written rows by table
        self.reasons: dict[str, str] = {}  #: why rows of a table are only counted
        self.created = set[str]()  #: tables that the transaction created

    def add(self, table: str, rows: int) -> int:
        """Count written rows, and return their number."""
        self.counts[table] = self.counts.get(table, 0) + rows
        return rows

    def begin_change(self, table: str) -> Sequence[str]:
        """Return the key of a table; empty: its rows are only counted."""
        self.add(table, 0)
        if not self._has_images or table in self.created:
            return ()
        live = self._writer.tables().get(table)
        if live is None or not (key := live.primary_key):
            self.reasons[table] = NO_KEY
        return () if table in self.reasons else key

    def read_before(self, table: str, where: Sequence[Where]) -> None:
        """Read rows before they change, unless this transaction has already changed them."""
        with self._note_privileges(table):
            self._read_before(table, where)

    def read_cascade(self, table: str, where: Sequence[Where]) -> None:
        """Read the rows of a deletion, and those that foreign keys delete or change with them."""
        deleted, counted = defaultdict[str, set[tuple[object, ...]]](set), set[str]()
        pending: list[tuple[str, Sequence[Where]]] = [(table, where)]
        while pending:
            name, conditions = pending.pop()
            live = self._writer.tables().get(name)
            if live and live.is_inherited:
                self.reasons[name] = INHERITED
            key = self.begin_change(name)
            with self._note_privileges(name):
                read = self._read_before(name, conditions) if key else ()
                keys = [values for values in read if values not in deleted[name]]
                # Rows below rows of the same table, and of a cycle, are found by their keys: conditions would nest too deeply.
                parents: list[Sequence[Where]] = [conditions]
                if deleted[name] and keys:
                    parents = [[match_rows(key, batch)] for batch in split_batches(keys, KEYS_PER_QUERY)]
                deleted[name].update(keys)
                references = self._writer.references(name) if keys else []
                if live and not keys and name in self.reasons and name not in counted:
                    # rows of the table itself are in the number that the statement returns
                    references = [item for item in self._writer.references(name) if item.table != name]
                    counted.add(name)
                for reference in references:
                    for parent in parents:
                        pending += self._read_referring(reference, name, parent)
        for name, keys_of_rows in deleted.items():
            self._deleted[name] |= keys_of_rows

    def read_update(self, table: str, columns: Collection[str], where: Sequence[Where]) -> None:
        """Read the rows whose ``columns`` get other values, and those that foreign keys change with them."""
        pending, followed = [(table, {*columns}, where)], list[Reference]()
        for name, changed, conditions in pending:  # the list grows during the loop
            if not (key := self.begin_change(name)):
                continue
            self.read_before(name, conditions)
            if not changed.isdisjoint(key):
                self.reasons[name] = KEYS_CHANGED
            for reference in self._writer.references(name):
                follows = reference.on_update in FOLLOWING_ACTIONS and not changed.isdisjoint(reference.to)
                if not follows or reference in followed:
                    continue
                followed.append(reference)
                referring = [InSubquery(reference.columns, name, reference.to, conditions)]
                with self._note_privileges(name):
                    if self.add(reference.table, self._writer.count(reference.table, referring)):
                        pending.append((reference.table, {*reference.columns}, referring))

    def _read_referring(
        self, reference: Reference, table: str, parents: Sequence[Where]
    ) -> Iterator[tuple[str, Sequence[Where]]]:
        """Read the rows that lose their reference to ``parents``; yield the condition of rows that are deleted."""
        name, where = reference.table, [InSubquery(reference.columns, table, reference.to, parents)]
        if reference.on_delete not in FOLLOWING_ACTIONS or not self.add(
            name, self._writer.count(name, where)
        ):
            return
        if reference.on_delete == "CASCADE":
            yield name, where
        elif self.begin_change(name):
            self.read_before(name, where)

    def _read_before(self, table: str, where: Sequence[Where]) -> Sequence[tuple[object, ...]]:
        """Read rows, and return their keys; none if the table has more changed rows than are recorded."""
        live, known = self._writer.tables()[table], self._before.setdefault(table, {})
        key, columns = live.primary_key, list(live.columns)
        for row in self._select_keys(table, key, key, self._inserted.pop(table, [])):
            known.setdefault(_key_of(row, key), None)
        selected = self._read(Query(table, columns, where, limit=self.limit + 1, for_update=True))
        rows = [dict(zip(columns, row, strict=True)) for row in selected]
        if any(None in _key_of(row, key) for row in rows):
            self.reasons[table] = NULL_KEY
        if not self._has_room(table, len(rows)):
            return ()
        for row in rows:
            known.setdefault(_key_of(row, key), row)
        return [_key_of(row, key) for row in rows]

    def add_inserted(self, table: str, keys: Sequence[Sequence[object]]) -> None:
        self._deleted.pop(table, None)  # the keys may not be those that are stored
        if self._has_room(table, len(keys)):
            self._inserted.setdefault(table, []).extend(map(tuple, keys))

    def _has_room(self, table: str, rows: int) -> bool:
        if rows + len(self._before.get(table, ())) + len(self._inserted.get(table, ())) > self.limit:
            self.reasons[table] = describe_limit(self.limit)
        return table not in self.reasons

    @contextmanager
    def _note_privileges(self, table: str) -> Iterator[None]:
        """Only count the rows of a table that may be written but not read; the savepoint lets the transaction continue."""
        try:
            with self._writer.transaction() if self._writer.has_privileges else nullcontext():
                yield
        except PrivilegeMissingError:
            self.reasons[table] = UNREADABLE

    def _select_keys(
        self, table: str, columns: Sequence[str], key: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> Iterator[Values]:
        for batch in split_batches(keys, KEYS_PER_QUERY):
            for row in self._read(Query(table, columns, [match_rows(key, batch)])):
                yield dict(zip(columns, row, strict=True))

    def list_changes(self) -> Iterator[TableChange]:
        """Yield the changes of each table, or only their number if the settings or the table exclude the values.

        Raises:
            ConstraintError: unchanged rows remain that foreign keys should have deleted; the caller must roll back the transaction.
        """
        has_values = self._recorder.settings.values
        for table, count in self.counts.items():
            if table in self.created:
                digest = digest_table(self._writer, table, self._recorder.read_key())
                yield TableChange(database=self._database, table=table, rows=count, created=digest)
                continue
            images = [] if table in self.reasons else list(self._create_images(table))
            reason = self.reasons.get(table, "" if has_values else VALUES_OFF)
            rows = count if table in self.reasons else len(images)
            if rows or self.reasons.get(table) == DROPPED:
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
        live, known = self._writer.tables()[table], self._before.get(table, {})
        key, columns = live.primary_key, list(live.columns)
        inserted, after = self._inserted.get(table, []), dict[tuple[object, ...], Values]()
        with self._note_privileges(table) if inserted else nullcontext():
            after = {_key_of(row, key): row for row in self._select_keys(table, columns, key, inserted)}
            if len(after) < len(inserted):  # such as an interval in another form than that of the server
                self.reasons[table] = "the database has no rows with the keys of the new ones"
            after |= {_key_of(row, key): row for row in self._select_keys(table, columns, key, [*known])}
        unchanged = 0  # rows that should have been deleted
        for values in dict.fromkeys([*known, *after]):
            row, new = known.get(values), after.get(values)
            changed = [
                name
                for name in columns
                if row is None or new is None or codec.identify(row[name]) != codec.identify(new[name])
            ]
            if not changed or row is new:
                unchanged += row is not None and values in self._deleted[table]
                continue
            old_secrets, new_secrets = (
                self._find_secrets(table, image) if image else () for image in (row, new)
            )
            yield RowImage(
                key=self._encode(dict(zip(key, values, strict=True)), old_secrets if row else new_secrets),
                before=None
                if row is None
                else self._encode({name: row[name] for name in changed}, old_secrets),
                after=None
                if new is None
                else self._encode({name: new[name] for name in changed}, new_secrets),
            )
        if unchanged:
            # A trigger of PostgreSQL can skip such a row silently, and MySQL 9 does not follow cycles of keys to their end.
            rows = format_count(unchanged, "row")
            cause = "a trigger may have skipped them, or MySQL 9 at a cycle of keys: delete those first"
            reason = f"{rows} of {table} remained, although foreign keys delete them; {cause}"
            raise ConstraintError(target=self._writer.target, reason=reason)

    def _encode(self, values: Values, secrets: Collection[str]) -> dict[str, Any]:
        return {
            name: compute_digest(self._recorder.read_key(), value)
            if name in secrets and value is not None
            else codec.to_json(value)
            for name, value in values.items()
        }


def describe_unrecorded(table: Table, rows: int, settings: AuditConfig, *, deletes: bool) -> str:
    """Return why a change or deletion of rows of a table will only be counted; empty: they will be recorded, as far as is known."""
    if not table.primary_key:
        return NO_KEY
    if deletes and table.is_inherited:
        return INHERITED
    if rows > settings.max_rows:
        return describe_limit(settings.max_rows)
    return "" if settings.values else VALUES_OFF


def describe_limit(limit: int) -> str:
    """Return why the rows of a large change are only counted."""
    return f"more than {limit:,} rows"


def _key_of(row: Mapping[str, object], key: Sequence[str]) -> tuple[object, ...]:
    return tuple(row[column] for column in key)


@Writable.register
class RecordedWriter:
    """A writer whose rows are recorded; everything else is that of the writer.

    The rows before a transaction are read before the first statement that changes them, with those that foreign keys change. The rows after it
    are read before the commit, so that the log has the net effect, also of triggers on these rows.
    """

    def __init__(
        self,
        writer: Writable,
        database: str,
        recorder: OperationRecorder,
        *,
        has_images: bool,
        siblings: Collection[object],
        find_secrets: FindSecrets,
        skipped: Collection[str] = (),
    ) -> None:
        """Read nothing yet.

        Args:
            writer: the open database.
            database: its name.
            recorder: writes the records.
            has_images: whether rows are recorded; otherwise they are counted.
            siblings: the open writers of the command: the first commit records the changes of all of them.
            find_secrets: returns the secret columns of a row.
            skipped: tables whose new rows are not recorded: the app's own records of actions.
        """
        self._writer, self.database_name, self._recorder = writer, database, recorder
        self._has_images, self._siblings, self._skipped = has_images, siblings, skipped
        self._depth = 0
        self.operation_number: int | None = None
        self._create_images = partial(
            RowImages, writer, database, recorder, find_secrets, has_images=has_images
        )
        self.images = self._create_images()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        is_outermost = self._has_images and not self._depth
        self._depth += 1
        try:
            with self._writer.transaction():
                yield
                if is_outermost and self.operation_number is None:
                    self._begin()
        except BaseException as error:
            if is_outermost:
                is_unchanged = isinstance(error, DbctlError) and not isinstance(error, IN_DOUBT)
                self._end(self._find_result(error), is_unchanged=is_unchanged)
            raise
        else:
            if is_outermost:
                self._end(COMMITTED)
        finally:
            self._depth -= 1

    def _find_result(self, error: BaseException) -> str:
        is_own = isinstance(error, DbctlError) and error.context.get("target") == self._writer.target
        if is_own and isinstance(error, CommitUnconfirmedError):
            return COMMITTED
        return OPEN if is_own and isinstance(error, CommitInDoubtError) else FAILED

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        if table in self._skipped:
            return self._writer.insert(table, values, returning=returning)
        key, images = self.images.begin_change(table), self.images
        images.add(table, 1)
        missing = [column for column in key if values.get(column) is None]
        if len(missing) > 1 or (missing and returning not in (None, missing[0])):
            images.reasons[table] = GENERATED_KEY
        if not key or table in images.reasons:
            return self._writer.insert(table, values, returning=returning)
        try:
            result = self._writer.insert(table, values, returning=returning or next(iter(missing), None))
        except KeyNotReturnedError:  # a trigger or an expression generated it
            if returning:
                raise
            images.reasons[table] = GENERATED_KEY
            return None
        known = {**values, **({missing[0]: result} if missing else {})}
        images.add_inserted(table, [[known[column] for column in key]])
        return result if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        key, images = self.images.begin_change(table), self.images
        if not key:
            return images.add(table, self._writer.insert_many(table, columns, rows))
        iterator = iter(rows)
        first_rows = list(islice(iterator, images.limit + 1))
        if len(first_rows) > images.limit:
            images.reasons[table] = describe_limit(images.limit)
            rows = chain(first_rows, iterator)
            return images.add(table, self._writer.insert_many(table, columns, rows))
        missing = [column for column in key if column not in columns]
        if missing:
            return self._insert_each(table, columns, first_rows, missing)
        count = images.add(table, self._writer.insert_many(table, columns, first_rows))
        positions = [list(columns).index(column) for column in key]
        images.add_inserted(table, [[row[position] for position in positions] for row in first_rows])
        return count

    def _insert_each(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], generated: Sequence[str]
    ) -> int:
        """Insert rows whose keys the database generates; return their number."""
        images, insert_many = self.images, self._writer.insert_many
        # Rows of one statement may refer to later rows of the same table.
        refers_to_itself = any(item.table == table for item in self._writer.references(table))
        if len(generated) > 1 or refers_to_itself:
            images.reasons[table] = GENERATED_KEY
            return images.add(table, insert_many(table, columns, rows))
        count = 0
        for number, row in enumerate(rows, 1):
            try:
                values = dict(zip(columns, row, strict=True))
                self.insert(table, values, returning=generated[0])
                count += 1
            except KeyNotReturnedError:  # as in ``insert``
                images.reasons[table] = GENERATED_KEY
                return count + 1 + images.add(table, insert_many(table, columns, rows[number:]))
            except DbctlError as error:
                error.context.setdefault("row", number)
                raise
        return count

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        self.images.read_update(table, values, where)
        return self.images.add(table, self._writer.update(table, values, where))

    def delete(self, table: str, where: Sequence[Where]) -> int:
        self.images.read_cascade(table, where)
        is_tree = any(reference.table == table for reference in self._writer.references(table))
        # not every database counts the rows that a foreign key deletes before the statement reaches them
        selected = self._writer.count(table, where) if is_tree and table in self.images.reasons else 0
        deleted = self._writer.delete(table, where)
        self.images.add(table, max(deleted, selected))
        return deleted

    def merge(self, merge: Merge) -> int:
        self.images.reasons[merge.table] = "the rows were merged with a query"
        return self.images.add(merge.table, self._writer.merge(merge))

    def _begin(self) -> None:
        """Record the changes of all open writers before the first of them is committed."""
        writers = [sibling for sibling in self._siblings if isinstance(sibling, RecordedWriter)]
        operation = self._recorder.begin(
            [writer.database_name for writer in writers if writer.images.counts],
            lambda: [change for writer in writers for change in writer.images.list_changes()],
        )
        for writer in writers:
            writer.operation_number = operation

    def _end(self, result: str, *, is_unchanged: bool = False) -> None:
        if self.images.counts and (result != OPEN or self.operation_number is None):
            names = [self.database_name]
            self._recorder.end(self.operation_number, result, names, is_unchanged=is_unchanged)
        self.operation_number, self.images = None, self._create_images()

    def name_counts(self) -> dict[str, int]:
        """Return the number of written rows by ``DATABASE.TABLE``."""
        counts = self.images.counts.items()
        return {f"{self.database_name}.{table}": count for table, count in counts if count}
