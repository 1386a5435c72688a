"""A writer whose changes the audit log records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from dbctl.engines.contract.database import Merge, Where, Writable
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import NotSupportedError
from dbctl.services.audit.images import FindSecrets, RowImages, describe_limit
from dbctl.services.events.changes.records import COMMITTED, FAILED

if TYPE_CHECKING:
    from dbctl.services.audit.recorder import OperationRecorder

GENERATED_KEY = "the database generated the keys"


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
        except BaseException:
            if is_outermost:
                self._end(FAILED)
            raise
        else:
            if is_outermost:
                self._end(COMMITTED)
        finally:
            self._depth -= 1

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
        except NotSupportedError:  # the row was inserted, but a trigger or an expression generated its key
            if returning:
                raise
            images.reasons[table] = GENERATED_KEY
            return None
        known = {**values, **({missing[0]: result} if missing else {})}
        images.add_inserted(table, key, [[known[column] for column in key]])
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
        images.add_inserted(table, key, [[row[position] for position in positions] for row in first_rows])
        return count

    def _insert_each(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        generated: Sequence[str],
    ) -> int:
        """Insert rows whose keys the database generates; return their number, without those that a trigger ignored."""
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
                count += self.insert(table, values, returning=generated[0]) is not None
            except NotSupportedError:  # as in ``insert``
                images.reasons[table] = GENERATED_KEY
                return count + 1 + images.add(table, insert_many(table, columns, rows[number:]))
            except DbctlError as error:
                error.context.setdefault("row", number)
                raise
        return count

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        if key := self.images.begin_change(table):
            self.images.read_before(table, where)
            if not values.keys().isdisjoint(key):
                self.images.reasons[table] = "keys of rows were changed"
        return self.images.add(table, self._writer.update(table, values, where))

    def delete(self, table: str, where: Sequence[Where]) -> int:
        if self.images.begin_change(table):
            self.images.read_cascade(table, where)
        return self.images.add(table, self._writer.delete(table, where))

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

    def _end(self, result: str) -> None:
        if self.images.counts:
            self._recorder.end(self.operation_number, result, [self.database_name])
        self.operation_number, self.images = None, self._create_images()

    def name_counts(self) -> dict[str, int]:
        """Return the number of written rows by ``DATABASE.TABLE``."""
        counts = self.images.counts.items()
        return {f"{self.database_name}.{table}": count for table, count in counts if count}
