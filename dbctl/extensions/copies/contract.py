"""Contract: rewrite a private database inside its engine. Each engine has a part of this class."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.contract.database import Condition, Readable
from dbctl.extensions.copies.errors import CopyConstraintError
from dbctl.extensions.copies.pseudonyms import Pseudonyms, select_rule
from dbctl.extensions.copies.rules import TableRule


class Rewriter(ABC):
    """The part of a writer that rewrites a database which no other process uses, and which is dropped after an error."""

    shortest = 0  #: bytes of a value that is searched in a dump, where fewer occur by chance

    @abstractmethod
    def find_unreadable(self) -> Sequence[str]:
        """Return what the database stores and no rule covers, such as tables of a module that is not installed."""

    def find_texts(self, columns: Sequence[tuple[str, str]]) -> Sequence[str]:
        """Return those columns that contain texts although their type is one of numbers, times or UUIDs, as ``table.column``; each is given as table and column."""
        del columns  # most engines store only values of the type of a column
        return ()

    @contextmanager
    def without_triggers(self) -> Iterator[None]:
        """Switch the triggers and rules of all tables off, and on again at the end.

        Otherwise they would copy values of changed and of deleted rows to other tables, or keep these rows.
        """
        yield

    @abstractmethod
    def rewrite(self, tables: Mapping[str, TableRule], pseudonyms: Pseudonyms) -> Sequence[str]:
        """Rewrite the columns of tables, and empty tables; return what is not built again, one sentence for each.

        Runs in ``without_triggers``. Full-text indexes are built from their rows again. Afterwards the database satisfies its constraints.

        Raises:
            CopyConstraintError: the new values of a table violate a constraint.
        """

    def describe_omitted(self) -> Sequence[str]:
        """Return what ``rewrite`` leaves out besides rows, one sentence for each."""
        return ()

    @abstractmethod
    def encode(self, value: object) -> bytes:
        """Return the bytes with which an uncompressed dump contains a value."""

    def read_rows(self, db: Readable, table: str, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        """Yield the rows of a table of this database with exact values; vectors are bytes."""
        yield from read_rows(db, table, columns)

    def list_omitted(
        self, db: Readable, tables: Mapping[str, TableRule]
    ) -> Mapping[str, Sequence[Sequence[Condition]]]:
        """Return the conditions of the rows that are not copied, by table: of each, rows meet all of one of them."""
        omitted = dict[str, list[Sequence[Condition]]]()
        for table, rules in tables.items():
            for rule in rules.values() if rules != "empty" else ():
                if any(entry.kind == "omit" for entry in rule.values.values()):
                    selectors = {tuple(row) for row in self.read_rows(db, table, rule.by)}
                    omitted.setdefault(table, []).extend(
                        [Condition(name, "=", value) for name, value in zip(rule.by, selector, strict=True)]
                        for selector in selectors
                        if select_rule(rule, selector).kind == "omit"
                    )
        return omitted

    def read_compressed(self) -> Iterator[bytes]:
        """Yield what a dump contains in a compressed form: the values of all columns."""
        return iter(())

    def clean(self) -> None:  # noqa: B027 - a dump of most engines contains rows alone
        """Remove what an engine stores besides the rows, and a dump contains: free pages, and statistics."""

    @abstractmethod
    def read_schema(self) -> Iterator[bytes]:
        """Yield what a dump of the empty database contains, or a part of it in any order."""


def read_rows(db: Readable, table: str, columns: Sequence[str]) -> Iterator[Sequence[object]]:
    """Yield all rows of a table; memory does not grow with it on engines that stream rows."""
    if db.streams is None:
        yield from db.select(table, columns)
        return
    with db.streams.stream(table, columns) as stream:
        for batch in stream.batches:
            signals.raise_if_interrupted()
            yield from batch


def create_violation(db: Readable, paths: Sequence[str], reason: object) -> CopyConstraintError:
    """Return the error about a violated constraint: its reason names some of the columns (``table.column``), or any may violate it."""
    named = [path for path in paths if re.search(rf"\b{re.escape(path.rpartition('.')[2])}\b", str(reason))]
    return CopyConstraintError(target=db.target, columns=", ".join(named or paths), reason=reason)


@contextmanager
def refuse_orphans(db: Readable) -> Iterator[None]:
    """Refuse changes of the block that leave more rows without the row to which they refer.

    Raises:
        CopyConstraintError: there are more.
    """
    before = _count_orphans(db)
    yield
    for (table, columns), count in _count_orphans(db).items():
        if count > before.get((table, columns), 0):
            paths = [f"{table}.{name}" for name in columns]
            raise create_violation(db, paths, f"{count} rows refer to no row")


def _count_orphans(db: Readable) -> Mapping[tuple[str, tuple[str, ...]], int]:
    orphaned = db.checks.find_checkable_orphans() if db.checks else ()
    return {(orphans.table, tuple(orphans.columns)): orphans.count for orphans in orphaned}
