"""Rows of a damaged file, brought into the tables of a new one, and an account of those that are missing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dbctl import signals
from dbctl.engines.contract import Concern, TableRecovered
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.errors import name_of
from dbctl.engines.sqlite.recover.btree import HIGHEST, LOWEST, Batch, Gap, Trees
from dbctl.engines.sqlite.recover.image import Image
from dbctl.engines.sqlite.recover.new_database import Aside, Inserter, Table
from dbctl.engines.sqlite.recover.schema import Entry, corrected
from dbctl.files import Progress
from dbctl.model import counted

MOST_TOLD = 5  #: ranges or rows that a message lists
FIELDS_KEPT = 100  #: of a row that belongs to no table, as it stays aside
FIELD_NAMES = [f"field{at}" for at in range(1, FIELDS_KEPT + 1)]


@dataclass
class Account:
    """What became of one table so far."""

    table: Table
    root: int
    insert: Inserter
    gaps: list[Gap] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    unnamed: int = 0
    aside: int = 0
    hollow: int = 0
    fewest: int = 0  #: fields of a row
    reasons: list[str] = field(default_factory=list)  # why rows stay aside
    known: int | None = None  # rows that are lost, once indexes were asked


class Copying:
    """Fills the tables of one new file."""

    def __init__(
        self, db: sqlite3.Connection, image: Image, trees: Trees, aside: Aside, progress: Progress
    ) -> None:
        self._db, self._image, self.trees, self._aside, self._progress = db, image, trees, aside, progress
        self._accounts = dict[str, Account]()
        self._read = 0
        self.concerns = list[Concern]()
        #: Whether the list of tables is whole, so that no page of an unknown one can pass for another's.
        self.knows_all = True

    def tables(self, entries: Sequence[Entry]) -> list[TableRecovered]:
        """Make every table that there is and fill it; return what became of each."""
        self._db.execute("begin")
        for one in entries:
            if one.kind == "table" and not one.virtual and not one.own and one.sql:
                self._make(one)
        for account in self._accounts.values():
            self._fill(account)
        self._sequences(entries)
        for one in entries:
            if one.kind == "table" and one.name not in self._accounts and one.root:
                self._keep_unmade(one)
        self._place_unlinked()
        self._indexes(entries)
        for account in self._accounts.values():
            indexes = [
                one
                for one in entries
                if one.kind == "index" and one.table.lower() == account.table.name.lower()
            ]
            self._compare(account, indexes)
        self._db.execute("commit")
        return [self._told(one) for one in self._accounts.values()]

    def _make(self, entry: Entry) -> None:
        try:
            declared = corrected(entry)
            self._db.execute(declared.sql or "")
            table = Table(self._db, declared.name)
        except sqlite3.OperationalError as error:
            self._tell("not-made", f"table {entry.name} could not be made: {error}; its rows are aside")
            return
        if declared != entry:
            self._tell(
                "name-differs",
                f"table {table.name}: its entry in the list of tables and its declaration have different names",
            )
        self._accounts[table.name] = Account(table, entry.root, Inserter(self._db, table.name, table.columns))

    def _fill(self, account: Account) -> None:
        table = account.table
        if not account.root:
            self._tell("table-unknown", f"table {table.name}: nothing tells which pages are its own")
            return
        if table.has_rowid:
            batches = self.trees.table(account.root, table.fits)
        else:
            batches = self.trees.index(account.root, lambda fields: table.fits(0, fields), table.order)
        for batch in batches:
            self._took_page()
            self._take(account, batch)

    def _take(self, account: Account, batch: Batch) -> None:
        table = account.table
        if batch.gap:
            account.gaps.append(batch.gap)
        account.lost.update(batch.lost)
        account.unnamed += batch.unnamed
        account.hollow += batch.hollow
        if batch.rows:
            fewest = min(len(fields) for _, fields in batch.rows)
            account.fewest = min(account.fewest or fewest, fewest)
            rows = [table.row(key, fields) for key, fields in batch.rows]
            for place, why in account.insert.insert(rows):
                self._put_aside(account, batch.rows[place][0], rows[place], table.columns, why)
        for key, fields, why in batch.aside:
            self._put_aside(account, key, table.row(key, fields), table.columns, why)

    def _put_aside(
        self, account: Account, key: int, row: list[object], columns: Sequence[str], why: str
    ) -> None:
        account.aside += 1
        if len(account.reasons) < MOST_TOLD:
            account.reasons.append(why)
        self._aside.add(account.table.name, columns, why, key if account.table.has_rowid else None, row)

    def _sequences(self, entries: Sequence[Entry]) -> None:
        """Bring back the last key that AUTOINCREMENT gave: of rows that were deleted it must never give one again."""
        for one in entries:
            if one.name != "sqlite_sequence":
                continue
            try:
                self._db.execute("select 1 from sqlite_sequence")
            except sqlite3.OperationalError:  # no table wants it any more
                return
            for batch in self.trees.table(one.root, lambda _key, fields: len(fields) == 2):  # noqa: PLR2004 - name, seq
                if batch.gap:
                    self._tell(
                        "sequence", f"the last keys of AUTOINCREMENT cannot be read: {batch.gap.reason}"
                    )
                for _, (name, last) in batch.rows:
                    if name in self._accounts and isinstance(last, int):
                        self._last_key(str(name), last)

    def _last_key(self, table: str, last: int) -> None:
        found = self._db.execute("select seq from sqlite_sequence where name = ?", [table]).fetchone()
        if found is None:
            self._db.execute("insert into sqlite_sequence (name, seq) values (?, ?)", [table, last])
        elif found[0] < last:
            self._db.execute("update sqlite_sequence set seq = ? where name = ?", [last, table])

    def _place_unlinked(self) -> None:
        """Bring rows of pages to which nothing leads any more to the one table that misses just these."""
        free, complete = self._image.freelist()
        hurt = [one for one in self._accounts.values() if one.table.has_rowid and one.gaps]
        placed = left = pages = 0
        for number in range(2, self._image.there + 1):
            signals.check()
            if self.trees.claimed[number] or number in free or self._image.holds_no_tree(number):
                continue
            batch = self.trees.unlinked(number)
            if batch is None:
                continue
            homes = [one for one in hurt if _misses(one, batch)] if complete and self.knows_all else []
            self._took_page()
            if len(homes) == 1:
                self._take(homes[0], batch)
                placed += len(batch.rows)
                continue
            pages += 1
            left += len(batch.rows)
            why = f"page {number} belongs to " + (
                "more than one table" if homes else "no table that misses it"
            )
            for key, fields in batch.rows:
                self._keep_unlinked(why, key, fields)
        if placed:
            self._tell(
                "unlinked", f"{counted(placed, 'row')} came back from pages to which nothing led", "info"
            )
        if left:
            stale = "" if complete else "; the list of free pages is damaged, so some may have been deleted"
            self._tell(
                "unlinked",
                f"{counted(left, 'row')} of {counted(pages, 'page')} to which nothing leads are aside{stale}",
            )

    def _keep_unmade(self, entry: Entry) -> None:
        """Keep aside what a table held that could not be made; of those that SQLite keeps for itself the pages are known then."""
        for batch in self.trees.table(entry.root, lambda _key, fields: len(fields) <= FIELDS_KEPT):
            for key, fields in batch.rows if not entry.own else ():
                self._aside.add(entry.name, FIELD_NAMES, "its table could not be made", key, fields)

    def _keep_unlinked(self, why: str, key: int, fields: list[object]) -> None:
        self._aside.add("rows_of_no_table", FIELD_NAMES, why, key, fields)

    def _indexes(self, entries: Sequence[Entry]) -> None:
        for one in entries:
            if one.kind == "index" and one.sql:
                try:
                    self._db.execute(one.sql)
                except sqlite3.DatabaseError as error:
                    signals.check()
                    if name_of(error).startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")):
                        raise
                    self._tell("not-made", f"index {one.name} of {one.table} could not be made anew: {error}")

    def _compare(self, account: Account, indexes: Iterable[Entry]) -> None:
        """Ask the old indexes of a table which rows it had, and whether they tell other values than it does."""
        table = account.table
        if not (table.has_rowid and (table.rowid or table.alias is not None)):
            return
        rowid = ident(table.rowid) if table.alias is None else ident(table.stored[table.alias])
        name = ident(table.name)
        with self._scratch("create temp table told (recovered_key integer primary key)"):
            self._db.executemany(
                "insert or ignore into temp.told values (?)", ([one] for one in account.lost)
            )
            complete = [self._hear(account, one, rowid) for one in indexes]
            missing = (
                f"select count(*) from temp.told where recovered_key not in (select {rowid} from main.{name})"  # noqa: S608 - quoted
            )
            (known,) = self._db.execute(missing).fetchone()
        if any(complete):  # so whatever is missing is known
            account.gaps, account.known = [], known
        else:
            account.known = max(known, len(account.lost) + account.unnamed)

    def _hear(self, account: Account, index: Entry, rowid: str) -> bool:
        """Take in what one index tells; return whether it tells of every row."""
        found = _columns_of(self._db, account.table, index)
        if found is None:
            return False
        columns, complete = found
        names = [f"v{at}" for at in range(len(columns))]
        with self._scratch(f"create temp table entry (recovered_key, {', '.join(names) or 'v0'})"):
            insert = Inserter(self._db, "entry", ["recovered_key", *names], schema="temp")
            width = len(columns) + 1
            for batch in self.trees.index(
                index.root, lambda fields: len(fields) == width and isinstance(fields[-1], int)
            ):
                self._took_page()
                complete = complete and not (batch.gap or batch.unnamed or batch.aside)
                list(insert.insert([[fields[-1], *fields[:-1]] for _, fields in batch.rows]))
            self._db.execute("insert or ignore into temp.told select recovered_key from temp.entry")
            differs = " or ".join(
                f"e.{mine} is not t.{ident(column)} collate binary"
                for mine, column in zip(names, columns, strict=True)
                if column
            )
            rows = self._db.execute(
                f"select e.recovered_key from temp.entry e join main.{ident(account.table.name)} t"  # noqa: S608 - the names are quoted
                f" on t.{rowid} = e.recovered_key where {differs or '0'} order by 1"
            ).fetchall()
        if rows:
            listed = ", ".join(str(key) for (key,) in rows[:MOST_TOLD])
            self._tell(
                "values-differ",
                f"table {account.table.name} and its index {index.name} tell different values of"
                f" {counted(len(rows), 'row')} (rowid {listed}); those of the table were taken",
            )
        return complete

    @contextmanager
    def _scratch(self, sql: str) -> Iterator[None]:
        self._db.execute(sql)
        try:
            yield
        finally:
            self._db.execute(f"drop table temp.{sql.split()[3]}")

    def _told(self, account: Account) -> TableRecovered:
        name, gaps = account.table.name, account.gaps
        lost = len(account.lost) + account.unnamed if account.known is None else account.known
        if gaps:
            places = "; ".join(_range(one, account.table) for one in gaps[:MOST_TOLD])
            more = f"; and {len(gaps) - MOST_TOLD} more" if len(gaps) > MOST_TOLD else ""
            self._tell(
                "rows-unread", f"table {name}: {counted(len(gaps), 'range')} of keys unread: {places}{more}"
            )
        if lost:
            self._tell("rows-lost", f"table {name}: {counted(lost, 'row')} known to be lost")
        if account.aside:
            reasons = "; ".join(dict.fromkeys(account.reasons))
            self._tell("rows-aside", f"table {name}: {counted(account.aside, 'row')} kept aside: {reasons}")
        if account.hollow:
            self._tell(
                "hollow",
                f"table {name}: long values of {counted(account.hollow, 'row')} stand in part on pages of nothing but zeros",
            )
        return TableRecovered(
            table=name,
            saved=account.insert.saved,
            lost=lost,
            unread=len(gaps) if account.root else 1,
            aside=account.aside,
        )

    def _tell(self, code: str, message: str, severity: str = "error") -> None:
        self.concerns.append(
            Concern(severity="info" if severity == "info" else "error", code=code, message=message)
        )

    def _took_page(self) -> None:
        self._read += 1
        if self._read % 64 == 0:
            self._progress(min(1.0, self._read / max(1, self._image.there)))


def _misses(account: Account, batch: Batch) -> bool:
    """Whether a table misses rows just where those of a page would stand, and they look like its own."""
    table = account.table
    first, last = min(key for key, _ in batch.rows), max(key for key, _ in batch.rows)
    return any(gap.low < first and last <= gap.high for gap in account.gaps) and all(
        len(fields) >= (account.fewest or len(table.stored)) and table.fits_closely(key, fields)
        for key, fields in batch.rows
    )


def _columns_of(db: sqlite3.Connection, table: Table, index: Entry) -> tuple[list[str], bool] | None:
    """Return the columns that an index holds in front of the rowid, and whether it holds every row.

    An expression is empty. None: the index could not be made anew, so nobody knows what is in it.
    """
    listed = {row[1]: row for row in db.execute(f"pragma index_list({ident(table.name)})")}
    if index.name not in listed:
        return None
    found = db.execute(f"pragma index_xinfo({ident(index.name)})").fetchall()
    return [str(row[2] or "") for row in found[:-1]], not listed[index.name][4]


def _range(gap: Gap, table: Table) -> str:
    why = f"page {gap.page}: {gap.reason}"
    if not table.has_rowid or (gap.low, gap.high) == (LOWEST, HIGHEST):
        return why
    if gap.low == LOWEST:
        return f"rowids up to {gap.high} ({why})"
    if gap.high == HIGHEST:
        return f"rowids from {gap.low + 1} ({why})"
    return f"rowids {gap.low + 1} to {gap.high} ({why})"
