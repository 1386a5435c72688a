"""Plans of queries, what statements would change, rows that refer to others, and digests of tables."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from dbctl import signals
from dbctl.engines.contract.checks import Explainer, Explanation, PlannedRows
from dbctl.engines.contract.database import AllOf, AnyOf, Not, Query, Readable, Table, require_supported
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import Row, Statement, ident
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.backup import RestoreFailedError
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Struct

_WITH = re.compile(r"\s*with\s+(recursive\s+)?", re.IGNORECASE)


class SqlExplainer(SqlPart, Explainer):
    """The part ``Explainer``; each engine reads its own plans."""

    @abstractmethod
    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        """Return the plan of a statement, in which ``aliases`` stand for tables."""

    def explain(self, query: Query) -> Explanation:
        statement = Statement(query.table)
        sql = self._db.create_index_order_builder().select(statement, query)
        return self.explain_statement(sql, statement.parameters, statement.aliases)

    def query_after(
        self, changes: Sequence[PlannedRows], sql: str, parameters: Mapping[str, object] = {}
    ) -> list[Row]:
        # Common table expressions with the names of changed tables hide the tables from the query.
        bound, rows, tables = dict(parameters), [], []
        for number, table in enumerate(dict.fromkeys(change.table for change in changes)):
            select = self._select_rows(table, [change for change in changes if change.table == table], bound)
            rows.append(f"dbctl_rows_{number} as ({select})")
            tables.append(f"{self._db.catalog.quote_table(table)} as (select * from dbctl_rows_{number})")
        return self._db.query(self._hide_tables(rows, tables, sql) if rows else sql, bound)

    @contextmanager
    def read_after(self, changes: Sequence[PlannedRows]) -> Iterator[None]:
        self._db.fetch = partial(self.query_after, changes)
        try:
            yield
        finally:
            self._db.fetch = self._connection.fetch

    def _hide_tables(self, rows: Sequence[str], tables: Sequence[str], sql: str) -> str:
        """Return ``sql`` with ``tables`` before its own expressions; ``rows``, which must not see them, belong to an outer query."""
        return f"with {', '.join(rows)} select * from ({add_expressions(tables, sql)}) dbctl_result"

    def _select_rows(self, table: str, changes: Sequence[PlannedRows], bound: dict[str, object]) -> str:
        """Return a SELECT of the rows that remain in a table, with their new values."""
        builder, statement = self._db.builder, Statement(table)
        statement.parameters = bound
        columns = {
            name: self._db.catalog.quote_column(table, name, "t0")
            for name in self._db.catalog.require_table(table).columns
        }
        for change in changes:
            condition = builder.condition(statement, table, AllOf(change.where))
            for name, value in change.values.items():
                new = "null" if value is None else builder.new_value(statement, table, name, value)
                columns[name] = f"case when {condition} then {new} else {columns[name]} end"
        deleted = [AllOf(change.where) for change in changes if not change.values]
        where = builder.where_clause(statement, table, [Not(AnyOf(deleted))] if deleted else [])
        selected = ", ".join(f"{value} as {ident(name)}" for name, value in columns.items())
        return f"select {selected} from {self._db.catalog.quote_table(table)} t0{where}"


def add_expressions(expressions: Sequence[str], sql: str) -> str:
    """Return a query with common table expressions before its own ones."""
    match = _WITH.match(sql)
    recursive = "recursive " if is_recursive(sql) else ""
    rest = f", {sql[match.end() :]}" if match else f" {sql}"
    return f"with {recursive}{', '.join(expressions)}{rest}"


def is_recursive(sql: str) -> bool:
    """Return whether the common table expressions of a query may be recursive."""
    match = _WITH.match(sql)
    return bool(match and match[1])


class Recount(Struct, frozen=True, kw_only=True):
    """Stored counters in ``table``, and the query that counts them.

    NULL and a missing row count as 0. A row is wrong if a counter differs from the count, if the count is not 0 and the
    row is missing, or if a counter is not 0 and the query returns nothing for it.
    """

    table: str
    key: Sequence[str]
    counters: Sequence[str]
    extra_columns: Sequence[str]  #: further columns of a row that is inserted
    select: str  #: portable; returns the columns of ``key``, ``counters`` and ``extra_columns``
    filter_column: str = ""  #: a column of ``key``; limits the rows to those with the value ``:only``

    def corrected_rows_sql(self, timestamp_count: int = 0) -> str:
        """Return SQL for the correct rows: key, counters, extra columns, and ``timestamp_count`` times ``:now``."""
        columns = [
            *_number_names("k", self.key),
            *_number_names("f", self.counters),
            *_number_names("n", self.extra_columns),
        ]
        return f"select {', '.join([*columns, *[':now'] * timestamp_count])} from ({self._wrong_rows_sql(self.extra_columns)}) w"

    def summary_sql(self) -> str:
        """Return SQL for the numbers of missing rows, rows with only increasing counters, and other wrong rows."""
        falls = " or ".join(f"o{index} > f{index}" for index in range(len(self.counters)))
        kinds = ["there = 0", f"there = 1 and not ({falls})", f"there = 1 and ({falls})"]
        sums = ", ".join(f"coalesce(sum(case when {kind} then 1 else 0 end), 0)" for kind in kinds)
        return f"select {sums} from ({self._wrong_rows_sql()}) w"

    def wrong_rows_sql(self, counter: str) -> str:
        """Return SQL for the rows in which one counter is wrong: key, stored value, counted value."""
        index = self.counters.index(counter)
        columns = ", ".join([*_number_names("k", self.key), f"o{index}", f"f{index}"])
        return f"select {columns} from ({self._wrong_rows_sql()}) w where o{index} <> f{index}"

    def _wrong_rows_sql(self, extra_columns: Sequence[str] = ()) -> str:
        """Return SQL for the wrong rows: key, stored and counted values, extra columns, and whether the row exists.

        Both sides are combined with UNION ALL and summed by key, so that each is read once; a condition on a key column
        applies to both.
        """
        keys, old, new = (
            _number_names(*pair) for pair in (("k", self.key), ("o", self.counters), ("f", self.counters))
        )
        counted = _number_names("n", self.extra_columns)
        extra = counted[: len(extra_columns)]
        zeros = ["0"] * len(self.counters)
        names = ", ".join([*keys, *old, *new, *extra, "there"])
        stored = [
            *map(ident, self.key),
            *(f"coalesce({ident(name)}, 0)" for name in self.counters),
            *zeros,
            *map(ident, extra_columns),
            "1",
        ]
        sums = [f"sum({name}) as {name}" for name in (*old, *new)]
        tops = [f"max({name}) as {name}" for name in (*extra, "there")]
        only = f" where {keys[self.key.index(self.filter_column)]} = :only" if self.filter_column else ""
        differ = " or ".join(
            f"sum({old_name}) <> sum({new_name})" for old_name, new_name in zip(old, new, strict=True)
        )
        return (
            f"with the_count ({', '.join([*keys, *new, *counted])}) as ({self.select.strip()}),"
            f" both_sides ({names}) as (select {', '.join([*keys, *zeros, *(f'coalesce({name}, 0)' for name in new), *extra, '0'])} from the_count"
            f" union all select {', '.join(stored)} from {ident(self.table)})"
            f" select {', '.join([*keys, *sums, *tops])} from both_sides{only} group by {', '.join(keys)} having {differ}"
        )


def _number_names(letter: str, names: Sequence[str]) -> list[str]:
    return [f"{letter}{index}" for index in range(len(names))]


#: Larger tables, by rows or by bytes of the values as text, get no digest, so that backups do not read them twice.
MAX_ROWS, MAX_BYTES = 2_000, 1 << 20
#: The form of the hashed values, at the start of a digest: digests of different forms cannot be compared.
FORM = "exact:"


def digest_tables(db: Readable, rows: Mapping[str, int], *, as_loaded: bool = False) -> dict[str, str]:
    """Return the digest of each table that is small; ``rows`` are the numbers of rows by table, also of tables that ``db`` lacks.

    ``as_loaded``: of the values that a load of a dump stores.
    """
    tables = db.tables()
    small = (tables[name] for name, count in rows.items() if count <= MAX_ROWS and name in tables)
    results = (
        (table.name, _try_digest(db, table, as_loaded=as_loaded)) for table in small if not table.is_view
    )
    return {name: digest for name, digest in results if digest}


def list_comparable(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the tables whose digests are known on both sides in the same form; older versions had another one."""
    return sorted(
        name
        for name in actual.keys() & expected.keys()
        if actual[name].startswith(FORM) == expected[name].startswith(FORM)
    )


def find_differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the tables whose digests are comparable and differ."""
    return [name for name in list_comparable(actual, expected) if actual[name] != expected[name]]


def find_differing_counts(rows: Mapping[str, int], expected: Mapping[str, int]) -> list[str]:
    """Return the tables whose numbers of rows differ, or that only one side has."""
    return sorted(name for name in {*rows, *expected} if rows.get(name) != expected.get(name))


def require_loaded_rows(
    dump: Dump, rows: Mapping[str, int], digests: Mapping[str, str], *, target: str, hint: str
) -> None:
    """Refuse a loaded database whose row counts or digests differ from those of its dump.

    Raises:
        RestoreFailedError: a table differs, or is missing, or is not in the dump.
    """
    if names := find_differing_counts(rows, dump.tables):
        reason = f"row counts of {', '.join(names)} differ from the dump after the load"
        raise RestoreFailedError(target=target, reason=reason, hint=hint)
    if others := find_differences(digests, dump.digests):
        reason = f"content of {', '.join(others)} differs from the dump after the load"
        raise RestoreFailedError(target=target, reason=reason, hint=hint)


def read_row_texts(
    db: Readable, table: str, columns: Sequence[str], *, as_loaded: bool = False
) -> Iterator[bytes]:
    """Yield the exact values of each row of a table as JSON, in any order, for digests.

    ``as_loaded``: the values that a load of a dump stores.
    """
    streams = require_supported(db, db.streams, "a digest", "Its engine cannot stream rows.")
    with (streams.stream_loaded if as_loaded else streams.stream)(table, columns) as stream:
        for batch in stream.batches:
            signals.raise_if_interrupted()
            for row in batch:
                yield codec.encode_json([codec.to_json(value) for value in row]).encode()


def _try_digest(db: Readable, table: Table, *, as_loaded: bool) -> str:
    """Return the digest of a table; empty if it cannot be read."""
    try:
        return _digest(db, table, as_loaded=as_loaded)
    except (QueryFailedError, ValueInvalidError):  # a backup does not fail for a missing digest
        return ""


def _digest(db: Readable, table: Table, *, as_loaded: bool) -> str:
    """Return the digest of a table; empty if it is too large."""
    from hashlib import sha256

    row_digests, size = list[bytes](), 0
    # Generated columns may depend on the date or the role, and are computed again when rows are loaded.
    columns = [column.name for column in table.columns.values() if not column.is_generated]
    # read all, because stopping would end the session on a server
    for text in read_row_texts(db, table.name, columns or list(table.columns), as_loaded=as_loaded):
        if size <= MAX_BYTES:
            size += len(text)
            row_digests.append(sha256(text).digest())
    if size > MAX_BYTES:
        return ""
    # Sort by digest: keys may be missing, and collations differ between databases.
    return FORM + sha256(b"".join(sorted(row_digests))).hexdigest()
