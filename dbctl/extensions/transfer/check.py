"""What prevents a copy: values that the destination cannot store, and rows that refer to missing rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import cast

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.engines.contract.schema import SchemaReference
from dbctl.errors.base import DbctlError
from dbctl.extensions.transfer.errors import ValuesUnstorableError
from dbctl.extensions.transfer.portable.contract import (
    PortableSchema,
    PortableSchemas,
    RowSource,
    require,
    require_scripts,
)
from dbctl.extensions.transfer.portable.lines import split_line
from dbctl.extensions.transfer.schema import TransferSchema
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.duplicates import find_duplicates
from dbctl.extensions.transfer.values.unstorable import CopyProblem, find_unstorable_values

#: Characters of a statement in a problem.
_LONGEST_STATEMENT = 120


def find_problems(
    source: Readable,
    destination: Readable,
    tables: Sequence[TransferTable],
    schemas: tuple[PortableSchema, PortableSchema],
) -> Iterator[CopyProblem]:
    """Yield what prevents the copy; every row of the source is read.

    Args:
        source: the source, in a snapshot.
        destination: a database with the tables and indexes of the destination.
        tables: the tables to copy.
        schemas: that of the source, and that of the destination.
    """
    (own, other), part = schemas, require(destination, PortableSchemas)
    yield from find_unstorable_values(source, tables, part.limits)
    yield from find_duplicates(source, tables, own, other, part)
    yield from find_orphans(source, tables)
    yield from _find_missing_parents(source, own, other, tables)
    yield from _find_large_counters(source, own, tables)


def find_refused_statements(schema: TransferSchema, scratch: Readable) -> Iterator[CopyProblem]:
    """Create a derived schema in a private database; yield the statements that its engine refuses."""
    scripts, db = require_scripts(scratch), cast("Writable", scratch)
    with ExitStack() as stack:
        begin: Callable[[], AbstractContextManager[None]] = scripts.schema_transaction
        # As the copy: at the end of a transaction of SQLite, the columns to which a foreign key refers need their index.
        if scripts.transactional_ddl:
            stack.enter_context(begin())
            begin = db.transaction
        for sql in (*schema.statements, *schema.later_statements):
            try:
                with begin():
                    scripts.run_statement(sql)
            except DbctlError as error:
                name = " ".join(sql.split())[:_LONGEST_STATEMENT]
                reason = str(error.context.get("reason") or error)
                yield CopyProblem(table=name, column="statement", keys=(), rows=0, reason=reason)


def _find_missing_parents(
    source: Readable, own: PortableSchema, other: PortableSchema, tables: Sequence[TransferTable]
) -> Iterator[CopyProblem]:
    """Yield rows that refer to missing rows by a foreign key that only the destination has."""
    rows, known = require(source, RowSource), {table.name: table for table in tables}
    columns = {table.name: {column.name: column for column in table.columns} for table in tables}
    enforced = {(table.name, *_identify(reference)) for table in own.tables for reference in table.references}
    references = ((child.name, each) for child in other.tables for each in child.references)
    for name, reference in references:
        parent = reference.table
        if (
            not {name, parent} <= known.keys()
            or not set(reference.columns) <= columns[name].keys()
            or not set(reference.to) <= columns[parent].keys()
            or (name, *_identify(reference)) in enforced
        ):
            continue
        values = [columns[name][column] for column in reference.columns]
        # in the same form as the values that refer to them
        keys = [
            structs.replace(columns[parent][to], kind=value.kind)
            for to, value in zip(reference.to, values, strict=True)
        ]
        with rows.stream_lines(parent, keys) as batches:
            parents = {line for batch in batches for line in batch.lines}
        with rows.stream_lines(name, values) as batches:
            lines = (line for batch in batches for line in batch.lines if line not in parents)
            missing = sum(None not in split_line(line) for line in lines)
        if missing:
            names, reason = ", ".join(reference.columns), f"no row of {parent}"
            yield CopyProblem(table=name, column=names, keys=(), rows=missing, reason=reason)


def _identify(reference: SchemaReference) -> tuple[object, ...]:
    return tuple(reference.columns), reference.table, tuple(reference.to)


def _find_large_counters(
    source: Readable, schema: PortableSchema, tables: Sequence[TransferTable]
) -> Iterator[CopyProblem]:
    """Yield the numbers of next rows that the column of the destination cannot store."""
    numbers = require(source, PortableSchemas).read_counters()
    automatic = {
        (table.name, column.name)
        for table in schema.tables
        for column in table.columns
        if column.is_automatic
    }
    for pair in (pair for table in tables for pair in table.pairs if (table.name, pair.column) in automatic):
        number, logical = numbers.get(pair.table), pair.destination_type
        largest = (1 << (logical.bits - (not logical.is_unsigned))) - 1
        if logical.kind == "integer" and number is not None and number > largest:
            reason = f"its next number {number} is larger than {largest}, the largest one of the destination"
            yield CopyProblem(
                table=f"{pair.table}.{pair.column}", column="counter", keys=(), rows=0, reason=reason
            )


def find_orphans(source: Readable, tables: Sequence[TransferTable]) -> Iterator[CopyProblem]:
    """Yield rows that refer to missing rows, which a new foreign key refuses."""
    names = {table.name for table in tables}
    for orphans in source.checks.find_checkable_orphans() if source.checks else ():
        if orphans.table in names:
            yield CopyProblem(
                table=orphans.table,
                column=", ".join(orphans.columns),
                keys=[{"row": orphans.example}] if orphans.example else [],
                rows=orphans.count,
                reason=f"no row of {orphans.referenced_table}",
            )


def refuse_problems(source: Readable, problems: Sequence[CopyProblem]) -> None:
    """Refuse a copy that the destination would not accept.

    Raises:
        ValuesUnstorableError: with all problems.
    """
    if problems:
        error = ValuesUnstorableError(target=source.target)
        error.details = list(map(str, problems))
        raise error
