"""Advice about indexes and slow statements: what the database would do faster, without any change of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.monitoring import Index, SlowQuery
from dbctl.errors.base import Remedy
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Finding, format_count, now
from dbctl.services.app.evidence.subjects import DoesNotApplyError, Subject, check
from dbctl.services.app.validation import truncate
from dbctl.services.checks.base import EXAMPLES, join_examples
from dbctl.services.stats.indexes import IndexProblem, IndexStats, classify_indexes

#: Rows of a table from which an index matters: fewer are read in milliseconds.
MIN_ROWS = 10_000
#: Bytes of an index without a reader from which it matters.
MIN_BYTES = 1 << 20
#: Time without a read after which an index counts as unused: some reports run once a month.
UNUSED_FOR = timedelta(days=35)
#: A statement is slow by its average duration in seconds, if it ran so often.
SLOW_SECONDS, SLOW_CALLS = 1.0, 10
#: The name of a column at the beginning of a term of an index, before its sort order.
_COLUMN = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(\S+)")
#: The condition of an index that has all rows with a value.
_IS_NOT_NULL = re.compile(r"\(*(.+?) is not null\)*", re.IGNORECASE)
#: Characters of a name that every engine stores.
MAX_NAME = 63
#: Characters of a statement in a message.
MAX_STATEMENT = 120
_OWNER = "The schema belongs to the app: ask its developers, or expect that an update of the app reverts the change."


@check("reference-unindexed")
def check_advice(subject: Subject) -> Iterator[Finding]:
    """Yield at most one remark of each kind for a database, with examples."""
    indexes = subject.db.storage.list_indexes(sized=False)
    if indexes is None:  # a database without any index lacks those that it requires
        raise DoesNotApplyError
    rows = _RowCounts(subject.db)
    yield from _check_references(subject, indexes, rows)
    problems = list(classify_indexes(subject.target, indexes))
    yield from _check_covered(subject, problems, rows)
    yield from _check_unused(subject, problems)
    yield from _check_statements(subject)


class _RowCounts:
    """Numbers of rows, estimates on servers; each table is counted once, and only if it is asked for."""

    def __init__(self, db: Readable) -> None:
        self._db, self._counts = db, dict[str, int]()

    def is_large(self, table: str) -> bool:
        if table not in self._counts:
            sizes = self._db.storage.measure_tables(exact=False, table=table)
            self._counts[table] = next((size.rows or 0 for size in sizes if size.table == table), 0)
        return self._counts[table] >= MIN_ROWS


def _check_references(subject: Subject, indexes: Sequence[Index], rows: _RowCounts) -> Iterator[Finding]:
    """Yield the foreign keys without an index: each deletion of a referenced row reads the whole table."""
    db, tables = subject.db, subject.db.tables()
    served = {(index.table, term) for index in indexes if index.valid for term in _list_served(index)}
    served |= {(name, table.primary_key[0]) for name, table in tables.items() if table.primary_key}
    reported = subject.section.indexed  # as ``column-unindexed``
    references = {
        (reference.table, tuple(reference.columns)): reference  # a column may have several foreign keys
        for name, table in tables.items()
        if not table.is_view
        for reference in db.references(name)
    }
    missing = [
        reference
        for (table, columns), reference in references.items()
        if f"{table}.{columns[0]}" not in reported and not any((table, name) in served for name in columns)
    ]
    large = [reference for reference in missing if rows.is_large(reference.table)]
    if large:
        count = format_count(len(large), "foreign key")
        shown = join_examples([f"{reference.table} ({', '.join(reference.columns)})" for reference in large])
        message = f"{count} without an index, so that each deletion of a referenced row reads the whole table: {shown}"
        statements = " ".join(
            write_statement(db, reference.table, reference.columns) for reference in large[:EXAMPLES]
        )
        yield subject.finding("info", "reference-unindexed", message, f"{statements} {_OWNER}")


def _list_served(index: Index) -> Iterator[str]:
    """Yield the column of whose values the index finds all rows: the first one, also as SQLite writes one with blanks."""
    term = index.columns[0]
    condition = _IS_NOT_NULL.fullmatch(index.where)
    if not index.where or (condition and read_column(condition[1]).lower() == read_column(term).lower()):
        yield from (read_column(term), term)


def read_column(term: str) -> str:
    """Return the name of the column at the beginning of a term of an index; SQLite does not quote it."""
    match = _COLUMN.match(term)
    return next(filter(None, match.groups())) if match else term


def write_statement(db: Readable, table: str, columns: Sequence[str]) -> str:
    """Return the statement that creates an index, for any client of the database."""
    storage, schema = db.storage, db.storage.find_schema(table)
    names = ["_".join(["idx", table, *columns])[:MAX_NAME], table, *columns]
    name, table, *terms = map(storage.quote_name, names)
    return f"CREATE INDEX {name} ON {schema and f'{schema}.'}{table} ({', '.join(terms)});"


def _check_covered(subject: Subject, problems: Sequence[IndexStats], rows: _RowCounts) -> Iterator[Finding]:
    """Yield indexes that another one replaces, unless they enforce something."""
    covered = [
        index for index in problems if not (index.unique or index.constraint) and rows.is_large(index.table)
    ]
    equal = [index for index in covered if index.state is IndexProblem.DUPLICATE]
    yield from _report_covered(subject, equal, "index-duplicate", "with the columns of another one")
    shorter = [index for index in covered if index.state is IndexProblem.REDUNDANT]
    yield from _report_covered(
        subject, shorter, "index-redundant", "with only the first columns of another one"
    )


def _report_covered(
    subject: Subject, indexes: Sequence[IndexStats], code: str, reason: str
) -> Iterator[Finding]:
    if indexes:
        shown = join_examples([f"{index.index} by {index.covered_by}" for index in indexes])
        message = f"{format_count(len(indexes), 'index')} {reason}: {shown}"
        yield subject.finding("info", code, message, _create_hint(indexes))


def _check_unused(subject: Subject, problems: Sequence[IndexStats]) -> Iterator[Finding]:
    """Yield large indexes that were never read, if the reads are counted for long enough."""
    since = subject.db.storage.scans_counted_since()
    if since is None or now() - since < UNUSED_FOR:
        return
    unused = [
        index for index in problems if index.state is IndexProblem.UNUSED and (index.bytes or 0) >= MIN_BYTES
    ]
    if unused:
        shown = join_examples([f"{index.index} of {index.table}" for index in unused])
        message = (
            f"{format_count(len(unused), 'index')} not read since {since:%Y-%m-%d} on this server: {shown}"
        )
        yield subject.finding("info", "index-unused", message, _create_hint(unused))


def _create_hint(indexes: Sequence[IndexStats]) -> str:
    statements = " ".join(index.drop for index in indexes[:EXAMPLES] if index.drop)
    return f"{statements} {_OWNER}"


def _check_statements(subject: Subject) -> Iterator[Finding]:
    """Yield the slow statements, if the server records them; ``stats slow`` states why it does not."""
    server = subject.db.server
    if server is None:
        return
    try:
        recorded = server.list_slow_queries()
    except (NotSupportedError, PrivilegeMissingError, QueryFailedError):
        return
    slow = [query for query in recorded if query.calls >= SLOW_CALLS and query.mean_seconds >= SLOW_SECONDS]
    if slow:
        count = format_count(len(slow), "statement")
        shown = join_examples([_describe_statement(subject.db, query) for query in slow], separator="; ")
        message = f"{count} longer than {SLOW_SECONDS:g} s on average: {shown}"
        yield subject.finding("info", "statement-slow", message, Remedy("List them with: `stats slow`"))


def _describe_statement(db: Readable, query: SlowQuery) -> str:
    explanation = db.explainer.explain_recorded(query.query) if db.explainer else None
    plan = ""
    if explanation and explanation.full_scans:
        plan = f", its plan reads all rows of {join_examples(explanation.full_scans)}"
    return f"{truncate(query.query, MAX_STATEMENT)} ({query.calls:,} calls, {query.mean_seconds:.1f} s{plan})"
