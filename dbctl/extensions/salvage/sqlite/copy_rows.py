"""Copy the rows of a damaged file into the tables of a new one, and report the missing rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from dbctl import signals
from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.salvage.contract import SalvagedTable
from dbctl.extensions.salvage.sqlite.btree import HIGHEST, LOWEST, Batch, Gap, Trees
from dbctl.extensions.salvage.sqlite.image import Image
from dbctl.extensions.salvage.sqlite.new_database import Inserter, RejectedRows, Table, create_entries
from dbctl.extensions.salvage.sqlite.schema import Entry, correct_name
from dbctl.model import format_count
from dbctl.progress import Progress

MAX_LISTED = 5  #: maximum number of ranges or rows in a message
MAX_FIELDS = 100  #: maximum number of stored fields of a row that belongs to no table
FIELD_NAMES = [f"field{number}" for number in range(1, MAX_FIELDS + 1)]


@dataclass
class TableSalvage:
    """The progress of one table."""

    table: Table
    root: int
    inserter: Inserter
    gaps: list[Gap] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    unnamed: int = 0
    rejected: int = 0
    zeroed: int = 0
    min_fields: int = 0  #: smallest number of fields in a row
    reasons: list[str] = field(default_factory=list)  # why rows were rejected
    known_lost: int | None = None  # number of lost rows, after the comparison with indexes


class RowCopier:
    """Writer of the rows of all tables of the new file."""

    def __init__(
        self, db: sqlite3.Connection, image: Image, trees: Trees, rejected: RejectedRows, progress: Progress
    ) -> None:
        self._db, self._image, self.trees = db, image, trees
        self._rejected, self._progress = rejected, progress
        self._salvages = dict[str, TableSalvage]()
        self._pages_read = 0
        self.findings = list[EngineFinding]()
        #: Whether the catalog is complete, so that every page belongs to a known table.
        self.is_schema_complete = True

    def copy_tables(self, entries: Sequence[Entry]) -> list[SalvagedTable]:
        """Create and fill every table; return the result of each."""
        self._db.execute("begin")
        for entry in entries:
            if entry.kind == "table" and not entry.is_virtual and not entry.is_internal and entry.sql:
                self._create_table(entry)
        for salvage in self._salvages.values():
            self._fill_table(salvage)
        self._restore_sequences(entries)
        rejected = [
            self._reject_table(entry)
            for entry in entries
            if entry.kind == "table" and entry.name not in self._salvages and entry.root
        ]
        self._assign_unlinked()
        self._create_indexes(entries)
        for salvage in self._salvages.values():
            indexes = [
                entry
                for entry in entries
                if entry.kind == "index" and entry.table.lower() == salvage.table.name.lower()
            ]
            self._compare_indexes(salvage, indexes)
        self._db.execute("commit")
        return [
            *(self._build_result(salvage) for salvage in self._salvages.values()),
            *(table for table in rejected if table),
        ]

    def _create_table(self, entry: Entry) -> None:
        try:
            declaration = correct_name(entry)
            self._db.execute(declaration.sql or "")
            table = Table(self._db, declaration.name, self._image.encoding)
        except sqlite3.OperationalError as error:
            self._report(
                "not-created", f"table {entry.name} could not be created: {error}; its rows were rejected"
            )
            return
        if declaration != entry:
            self._report(
                "name-differs",
                f"table {table.name}: its catalog entry and its declaration have different names",
            )
        self._salvages[table.name] = TableSalvage(
            table, entry.root, Inserter(self._db, table.name, table.columns)
        )

    def _fill_table(self, salvage: TableSalvage) -> None:
        table = salvage.table
        if not salvage.root:
            self._report("table-unknown", f"table {table.name}: its pages are unknown")
            return
        if table.has_rowid:
            batches = self.trees.read_table(salvage.root, table.fits)
        else:
            batches = self.trees.read_index(
                salvage.root, lambda fields: table.fits(0, fields), table.key_function
            )
        for batch in batches:
            self._count_page()
            self._insert_batch(salvage, batch)

    def _insert_batch(self, salvage: TableSalvage, batch: Batch) -> None:
        table = salvage.table
        if batch.gap:
            salvage.gaps.append(batch.gap)
        salvage.lost.update(batch.lost)
        salvage.unnamed += batch.unnamed
        salvage.zeroed += batch.zeroed
        if batch.rows:
            min_fields = min(len(fields) for _, fields in batch.rows)
            salvage.min_fields = min(salvage.min_fields or min_fields, min_fields)
            rows = [table.build_row(key, fields) for key, fields in batch.rows]
            for position, reason in salvage.inserter.insert(rows):
                self._reject(salvage, batch.rows[position][0], rows[position], table.columns, reason)
        for key, fields, reason in batch.rejected:
            self._reject(salvage, key, table.build_row(key, fields), table.columns, reason)

    def _reject(
        self, salvage: TableSalvage, key: int, row: list[object], columns: Sequence[str], reason: str
    ) -> None:
        salvage.rejected += 1
        if len(salvage.reasons) < MAX_LISTED:
            salvage.reasons.append(reason)
        self._rejected.add(salvage.table.name, columns, reason, key if salvage.table.has_rowid else None, row)

    def _restore_sequences(self, entries: Sequence[Entry]) -> None:
        """Restore the sequences of AUTOINCREMENT, which must not reuse the keys of deleted rows."""
        for entry in entries:
            if entry.name != "sqlite_sequence":
                continue
            try:
                self._db.execute("select 1 from sqlite_sequence")
            except sqlite3.OperationalError:  # no table uses it
                return
            for batch in self.trees.read_table(entry.root, lambda _key, fields: len(fields) == 2):  # noqa: PLR2004 - name, seq
                if batch.gap:
                    self._report(
                        "sequences-unread", f"the AUTOINCREMENT sequences cannot be read: {batch.gap.reason}"
                    )
                for _, (name, last) in batch.rows:
                    if name in self._salvages and isinstance(last, int):
                        self._set_sequence(str(name), last)

    def _set_sequence(self, table: str, last: int) -> None:
        row = self._db.execute("select seq from sqlite_sequence where name = ?", [table]).fetchone()
        if row is None:
            self._db.execute("insert into sqlite_sequence (name, seq) values (?, ?)", [table, last])
        elif row[0] < last:
            self._db.execute("update sqlite_sequence set seq = ? where name = ?", [last, table])

    def _assign_unlinked(self) -> None:
        """Assign the rows of pages without a parent to the only table that lacks them."""
        free, complete = self._image.read_freelist()
        damaged = [salvage for salvage in self._salvages.values() if salvage.table.has_rowid and salvage.gaps]
        placed = unassigned = pages = 0
        for page_number in range(2, self._image.present_pages + 1):
            signals.raise_if_interrupted()
            if self.trees.claimed[page_number] or page_number in free or self._image.is_reserved(page_number):
                continue
            batch = self.trees.read_unlinked(page_number)
            if batch is None:
                continue
            candidates = (
                [salvage for salvage in damaged if _has_matching_gap(salvage, batch)]
                if complete and self.is_schema_complete
                else []
            )
            self._count_page()
            if len(candidates) == 1:
                self._insert_batch(candidates[0], batch)
                placed += len(batch.rows)
                continue
            pages += 1
            unassigned += len(batch.rows)
            reason = f"page {page_number} belongs to " + (
                "several tables" if candidates else "no table with missing rows"
            )
            for key, fields in batch.rows:
                self._rejected.add("rows_of_no_table", FIELD_NAMES, reason, key, fields)
        if placed:
            self._report(
                "unlinked", f"{format_count(placed, 'row')} recovered from pages without a parent", "info"
            )
        if unassigned:
            stale = (
                "" if complete else "; the list of free pages is damaged, so some rows may have been deleted"
            )
            self._report(
                "unlinked",
                f"{format_count(unassigned, 'row')} of {format_count(pages, 'page')} without a parent were rejected{stale}",
            )

    def _reject_table(self, entry: Entry) -> SalvagedTable | None:
        """Reject the rows of a table that could not be created; claim the pages of SQLite's internal tables."""
        rejected = lost = gaps = 0
        if self.trees.is_index(entry.root):  # a table without rowids
            batches = self.trees.read_index(entry.root, lambda fields: len(fields) <= MAX_FIELDS)
        else:
            batches = self.trees.read_table(entry.root, lambda _key, fields: len(fields) <= MAX_FIELDS)
        for batch in batches:
            lost += len(batch.lost) + batch.unnamed
            gaps += batch.gap is not None
            rows = [*batch.rows, *((key, fields) for key, fields, _ in batch.rejected)]
            for key, fields in rows if not entry.is_internal else ():
                self._rejected.add(
                    entry.name, FIELD_NAMES, "its table could not be created", key, fields[:MAX_FIELDS]
                )
                rejected += 1
        if entry.is_internal:
            return None
        return SalvagedTable(table=entry.name, saved=0, lost=lost, unread_ranges=gaps, rejected=rejected)

    def _create_indexes(self, entries: Sequence[Entry]) -> None:
        for entry, error in create_entries(self._db, entries, "index"):
            message = f"index {entry.name} of {entry.table} could not be rebuilt: {error}"
            self._report("not-created", message)

    def _compare_indexes(self, salvage: TableSalvage, indexes: Iterable[Entry]) -> None:
        """Compare a table with its old indexes, to find lost rows and different values."""
        table = salvage.table
        if not (table.has_rowid and (table.rowid_name or table.rowid_alias is not None)):
            return
        rowid = (
            ident(table.rowid_name)
            if table.rowid_alias is None
            else ident(table.stored_columns[table.rowid_alias])
        )
        name = ident(table.name)
        with self._temp_table("create temp table keys (recovered_key integer primary key)"):
            self._db.executemany(
                "insert or ignore into temp.keys values (?)", ([key] for key in salvage.lost)
            )
            complete = [self._read_index(salvage, index, rowid) for index in indexes]
            query = (
                f"select count(*) from temp.keys where recovered_key not in (select {rowid} from main.{name})"
            )
            (missing_count,) = self._db.execute(query).fetchone()
        if any(complete):  # an index contains all rows, so the number of missing rows is known
            salvage.gaps, salvage.known_lost = [], missing_count
        else:
            salvage.known_lost = max(missing_count, len(salvage.lost) + salvage.unnamed)

    def _read_index(self, salvage: TableSalvage, index: Entry, rowid: str) -> bool:
        """Read the keys of one index and compare its values; return whether it contains every row."""
        result = _read_index_columns(self._db, salvage.table, index)
        if result is None:
            return False
        columns, complete = result
        names = [f"v{position}" for position in range(len(columns))]
        with self._temp_table(f"create temp table entry (recovered_key, {', '.join(names) or 'v0'})"):
            inserter = Inserter(self._db, "entry", ["recovered_key", *names], schema="temp")
            width = len(columns) + 1
            for batch in self.trees.read_index(
                index.root, lambda fields: len(fields) == width and isinstance(fields[-1], int)
            ):
                self._count_page()
                complete = complete and not (batch.gap or batch.unnamed or batch.rejected or batch.zeroed)
                if not batch.zeroed:  # the rowid, the last field of an entry, may be among the zeros
                    list(inserter.insert([[fields[-1], *fields[:-1]] for _, fields in batch.rows]))
            self._db.execute("insert or ignore into temp.keys select recovered_key from temp.entry")
            differs = " or ".join(
                f"e.{name} is not t.{ident(column)} collate binary"
                for name, column in zip(names, columns, strict=True)
                if column
            )
            rows = self._db.execute(
                f"select e.recovered_key from temp.entry e join main.{ident(salvage.table.name)} t"
                f" on t.{rowid} = e.recovered_key where {differs or '0'} order by 1"
            ).fetchall()
        if rows:
            listed = ", ".join(str(key) for (key,) in rows[:MAX_LISTED])
            self._report(
                "values-differ",
                f"table {salvage.table.name} and its index {index.name} have different values in"
                f" {format_count(len(rows), 'row')} (rowid {listed}); the values of the table were used",
            )
        return complete

    @contextmanager
    def _temp_table(self, sql: str) -> Iterator[None]:
        self._db.execute(sql)
        try:
            yield
        finally:
            self._db.execute(f"drop table temp.{sql.split()[3]}")

    def _build_result(self, salvage: TableSalvage) -> SalvagedTable:
        name, gaps = salvage.table.name, salvage.gaps
        lost = len(salvage.lost) + salvage.unnamed if salvage.known_lost is None else salvage.known_lost
        if gaps:
            ranges = "; ".join(_describe_gap(gap, salvage.table) for gap in gaps[:MAX_LISTED])
            suffix = f"; and {len(gaps) - MAX_LISTED} more" if len(gaps) > MAX_LISTED else ""
            self._report(
                "rows-unread",
                f"table {name}: {format_count(len(gaps), 'range')} of keys unreadable: {ranges}{suffix}",
            )
        if lost:
            self._report("rows-lost", f"table {name}: {format_count(lost, 'row')} lost")
        if salvage.rejected:
            reasons = "; ".join(dict.fromkeys(salvage.reasons))
            self._report(
                "rows-rejected", f"table {name}: {format_count(salvage.rejected, 'row')} rejected: {reasons}"
            )
        if salvage.zeroed:
            self._report(
                "zeroed-pages",
                f"table {name}: long values of {format_count(salvage.zeroed, 'row')} are partly on pages of zeros",
            )
        return SalvagedTable(
            table=name,
            saved=salvage.inserter.saved,
            lost=lost,
            unread_ranges=len(gaps) if salvage.root else 1,
            rejected=salvage.rejected,
        )

    def _report(self, code: str, message: str, severity: Literal["error", "info"] = "error") -> None:
        self.findings.append(EngineFinding(severity=severity, code=code, message=message))

    def _count_page(self) -> None:
        self._pages_read += 1
        if self._pages_read % 64 == 0:
            self._progress(min(1.0, self._pages_read / max(1, self._image.present_pages)))


def _has_matching_gap(salvage: TableSalvage, batch: Batch) -> bool:
    """Whether the rows of a page fit into a gap of the table and look like its rows."""
    table = salvage.table
    first, last = min(key for key, _ in batch.rows), max(key for key, _ in batch.rows)
    return any(gap.low < first and last <= gap.high for gap in salvage.gaps) and all(
        len(fields) >= (salvage.min_fields or len(table.stored_columns)) and table.fits_strictly(key, fields)
        for key, fields in batch.rows
    )


def _read_index_columns(db: sqlite3.Connection, table: Table, index: Entry) -> tuple[list[str], bool] | None:
    """Return the columns of an index before the rowid, and whether it contains every row.

    An expression is an empty string. None: the index could not be rebuilt, so its columns are unknown.
    """
    indexes = {row[1]: row for row in db.execute(f"pragma index_list({ident(table.name)})")}
    if index.name not in indexes:
        return None
    rows = db.execute(f"pragma index_xinfo({ident(index.name)})").fetchall()
    return [str(row[2] or "") for row in rows[:-1]], not indexes[index.name][4]


def _describe_gap(gap: Gap, table: Table) -> str:
    reason = f"page {gap.page}: {gap.reason}"
    if not table.has_rowid or (gap.low, gap.high) == (LOWEST, HIGHEST):
        return reason
    if gap.low == LOWEST:
        return f"rowids up to {gap.high} ({reason})"
    if gap.high == HIGHEST:
        return f"rowids from {gap.low + 1} ({reason})"
    return f"rowids {gap.low + 1} to {gap.high} ({reason})"
