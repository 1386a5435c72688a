"""Values that the destination of a transfer cannot store, found before anything is copied."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.portable import RowSource, StorageLimits, ValueChange
from dbctl.engines.contract.streaming import split_line
from dbctl.model import Row, Struct
from dbctl.services.transfer.parts import require_rows, require_screen
from dbctl.services.transfer.tables import TransferTable
from dbctl.services.transfer.values.checks import BatchCheck, create_check
from dbctl.services.transfer.values.json_changes import find_json_changes

MAX_KEYS = 5  #: keys of rows that a message has


class UnstorableValues(Struct, frozen=True, kw_only=True):
    """Values of a column that the destination cannot store, for the same reason."""

    table: str
    column: str
    reason: str
    rows: int
    keys: Sequence[Row]  #: the primary keys of the first ``MAX_KEYS`` of these rows


def find_unstorable_values(
    source: Readable, tables: Sequence[TransferTable], limits: StorageLimits
) -> Iterator[UnstorableValues]:
    """Yield the values that the destination cannot store, table by table.

    Only columns that conditions in SQL do not clear are read value by value.

    Args:
        source: the source, in a snapshot.
        tables: the tables to copy.
        limits: what the destination cannot store at all.
    """
    screen, rows = require_screen(source), require_rows(source)
    for table in tables:
        checks = {
            pair.column: check for pair in table.pairs if (check := create_check(pair, limits)) is not None
        }
        pairs = [pair for pair in table.pairs if pair.column in checks]
        suspects = screen.find_suspects(table.name, pairs, limits)
        if suspects:
            suspected_checks = {column: checks[column] for column in suspects}
            yield from _check_table(rows, table, suspected_checks)


def find_changes(
    source: Readable, tables: Sequence[TransferTable], limits: StorageLimits
) -> Iterator[ValueChange]:
    """Yield the values that the destination stores, but changes in more than the type of their column."""
    screen, rows = require_screen(source), require_rows(source)
    for table in tables:
        yield from screen.count_changes(table.name, table.pairs, limits)
        yield from find_json_changes(rows, table)


def _check_table(
    source: RowSource, table: TransferTable, checks: Mapping[str, BatchCheck]
) -> Iterator[UnstorableValues]:
    columns = [column for column in table.columns if column in table.key or column.name in checks]
    counts = Counter[tuple[str, str]]()
    keys = defaultdict[tuple[str, str], list[Row]](list)
    with source.stream_lines(table.name, columns) as batches:
        for batch in batches:
            rows = list(map(split_line, batch.lines))
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                check = checks.get(column.name)
                for index, reason in check(values) if check else ():
                    problem = column.name, reason
                    counts[problem] += 1
                    if counts[problem] <= MAX_KEYS and table.key:
                        keys[problem].append(format_key(table, rows[index]))
    for (column_name, reason), count in counts.items():
        yield UnstorableValues(
            table=table.name, column=column_name, reason=reason, rows=count, keys=keys[column_name, reason]
        )


def format_key(table: TransferTable, row: Sequence[bytes | None]) -> Row:
    return {
        column.name: None if value is None else value.decode(errors="backslashreplace")
        for column, value in zip(table.key, row, strict=False)
    }
