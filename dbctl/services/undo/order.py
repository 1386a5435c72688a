"""The order in which undo inserts deleted rows: after those to which they refer, also in cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

from dbctl.engines.contract.database import Readable, Reference
from dbctl.engines.sql import codec
from dbctl.services.undo.tables import Restoration, TableUndo


class UnorderableRowsError(Exception):
    """Rows refer to each other in a cycle, and the database checks each row at once; ``args`` is the reason."""


class InsertOrder(NamedTuple):
    rows: Sequence[tuple[TableUndo, Restoration]]
    postponed: Mapping[str, Sequence[str]]  #: columns that are NULL until all rows exist, by table


class _Link(NamedTuple):
    """The rows to insert that refer to each other by one foreign key, as pairs of (referring, referenced)."""

    reference: Reference
    nullable: Sequence[str]  #: columns that may be NULL at first
    pairs: Sequence[tuple[int, int]]


def sort_inserts(db: Readable, tables: Sequence[TableUndo]) -> InsertOrder:
    """Sort the deleted rows of one database after those to which they refer.

    A cycle is broken at a foreign key that can be checked at the end, or else that may be NULL at first.

    Raises:
        UnorderableRowsError: a cycle has neither.
    """
    rows = [(table, row) for table in tables for row in table.rows if row.inserts]
    links = list(_read_links(db, tables, rows))
    postponed = defaultdict[str, list[str]](list)
    while True:
        sorter = TopologicalSorter[int](dict.fromkeys(range(len(rows)), ()))
        for link in links:
            for referring, referenced in link.pairs:
                sorter.add(referring, referenced)
        try:
            return InsertOrder([rows[index] for index in sorter.static_order()], postponed)
        except CycleError as error:
            link = _choose_link(links, {(later, earlier) for earlier, later in pairwise(error.args[1])})
            links.remove(link)
            if not link.reference.deferrable:
                postponed[link.reference.table] += link.nullable


def _read_links(
    db: Readable, tables: Sequence[TableUndo], rows: Sequence[tuple[TableUndo, Restoration]]
) -> Iterator[_Link]:
    by_name = {table.table: table for table in tables}
    for name in by_name:
        for reference in db.references(name):
            if reference.table not in by_name:
                continue
            parents = {
                _select(row, reference.to): index
                for index, (table, row) in enumerate(rows)
                if table.table == name
            }
            pairs = [
                (index, parent)
                for index, (table, row) in enumerate(rows)
                if table.table == reference.table
                and (parent := parents.get(_select(row, reference.columns), index)) != index
            ]
            if pairs:
                yield _Link(reference, by_name[reference.table].list_nullable(reference.columns), pairs)


def _select(row: Restoration, names: Sequence[str]) -> tuple[object, ...]:
    return codec.identify_all((row.values or {}).get(name) for name in names)


def _choose_link(links: Sequence[_Link], cycle: set[tuple[int, int]]) -> _Link:
    """Return the foreign key of a cycle that does not have to be met at once."""
    circular = [link for link in links if not cycle.isdisjoint(link.pairs)]
    for link in circular:
        if link.reference.deferrable:
            return link
    for link in circular:
        if link.nullable:
            return link
    tables = " and ".join(sorted({link.reference.table for link in circular}))
    raise UnorderableRowsError(
        f"deleted rows of {tables} refer to each other by foreign keys that may not be NULL"
        " and are checked at once"
    )
