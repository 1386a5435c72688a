"""What prevents a copy: values that the destination cannot store, and rows that refer to missing rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from dbctl.engines.contract import Checks, Readable
from dbctl.errors import ValuesUnstorableError
from dbctl.model import Row, Struct, format_count
from dbctl.services.transfer.parts import require_schemas
from dbctl.services.transfer.schema import read_schema
from dbctl.services.transfer.tables import TransferTable
from dbctl.services.transfer.values import find_duplicates, find_unstorable_values


class CopyProblem(Struct, frozen=True, kw_only=True):
    """Rows that the destination cannot store for one reason, or an object of the schema that it refuses."""

    table: str  #: or the name of the object
    column: str  #: or the kind of the object
    keys: Sequence[Row]  #: the primary keys of the first of these rows
    rows: int  #: 0 for an object
    reason: str

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.column} {self.table}: {self.reason}"
        example = f" ({', '.join(format_key(key) for key in self.keys)})" if self.keys else ""
        return f"{self.table}.{self.column}: {self.reason} in {format_count(self.rows, 'row')}{example}"


def find_problems(
    source: Readable, destination: Readable, tables: Sequence[TransferTable]
) -> Iterator[CopyProblem]:
    """Yield what prevents the copy; every row of the source is read."""
    limits = require_schemas(destination).limits
    problems = chain(
        find_unstorable_values(source, tables, limits),
        find_duplicates(source, tables, read_schema(source), read_schema(destination)),
    )
    for values in problems:
        yield CopyProblem(
            table=values.table, column=values.column, keys=values.keys, rows=values.rows, reason=values.reason
        )
    yield from find_orphans(source, tables)


def find_orphans(source: Readable, tables: Sequence[TransferTable]) -> Iterator[CopyProblem]:
    """Yield rows that refer to missing rows, which a new foreign key refuses."""
    names = {table.name for table in tables}
    checks = source.part(Checks)
    for orphans in checks.find_orphaned_rows() if checks else ():
        if orphans.table in names:
            yield CopyProblem(
                table=orphans.table,
                column=", ".join(orphans.columns),
                keys=[{"row": orphans.example}] if orphans.example else [],
                rows=orphans.count,
                reason=f"no row of {orphans.referenced_table}",
            )


def refuse_orphans(source: Readable, tables: Sequence[TransferTable]) -> None:
    """Refuse a copy of rows that refer to missing rows.

    Raises:
        ValuesUnstorableError: with all problems.
    """
    _refuse(source, list(find_orphans(source, tables)))


def refuse_unstorable_values(
    source: Readable, destination: Readable, tables: Sequence[TransferTable]
) -> None:
    """Refuse a copy that the destination would not accept.

    Raises:
        ValuesUnstorableError: with all problems.
    """
    _refuse(source, list(find_problems(source, destination, tables)))


def _refuse(source: Readable, problems: Sequence[CopyProblem]) -> None:
    if problems:
        error = ValuesUnstorableError(target=source.target)
        error.details = list(map(str, problems))
        raise error


def format_key(key: Row) -> str:
    """Return a primary key as text."""
    return " ".join(f"{name}={value}" for name, value in key.items())
