"""The tables of a backup that are meant, and their rows as the live database takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl import interrupt
from dbctl.engines.aside import LaysAside
from dbctl.engines.base import Capability, Readable, Table, Writable
from dbctl.errors import NotSupportedError, TableMissingError, UsageError, ValueInvalidError
from dbctl.model import Value
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest, Member
from dbctl.services.backups import Repository
from dbctl.services.data_table import streams
from dbctl.services.near import hint
from dbctl.services.restore_source import members, want_copyable

#: ``missing``: rows whose key the table has not; ``replace``: those too, and the rows that differ.
Merging: TypeAlias = Literal["missing", "replace"]


class Wanted(Value, frozen=True, kw_only=True):
    """Which tables are meant, and what becomes of their rows."""

    tables: Sequence[str]
    new: str = ""  #: the name of a new table, for one
    merge: Merging | None = None


class Rows:
    """The rows of a table of the backup, as a table of the live database takes them."""

    def __init__(self, source: Readable, db: Readable, name: str, into: str, columns: Sequence[str]) -> None:
        self._source, self._name, self._columns, self.given = streams(source), name, columns, 0
        self._reads = [streams(db).of_json(into, one) for one in columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        with self._source.stream(self._name, self._columns) as answer:
            for batch in answer.batches:
                interrupt.check()
                for row in batch:
                    self.given += 1
                    yield self._taken(row)

    def _taken(self, row: Sequence[object]) -> list[object]:
        try:
            return [
                None if value is None else read(value) for read, value in zip(self._reads, row, strict=True)
            ]
        except ValueInvalidError as error:
            error.details = [f"row {self.given} of {self._name} in the backup"]
            raise


def member_of(app: App, repository: Repository, manifest: Manifest, wanted: Wanted) -> Member:
    """Return the file of a backup that holds the tables; raises as ``RestoringTables``."""
    if bool(wanted.new) == bool(wanted.merge):
        raise UsageError(
            detail="--table: what becomes of its rows? Either --as NEW, or --merge missing, or --merge replace"
        )
    if wanted.new and len(wanted.tables) > 1:
        raise UsageError(detail="--as names one new table; bring them back one by one")
    if len(set(wanted.tables)) < len(wanted.tables):
        raise UsageError(detail="--table gives the same table twice")
    held = {one.database: one for one in members(app, repository, manifest, part=True)}
    having = [one for one in held.values() if wanted.tables[0] in one.rows]
    if len(having) > 1:
        names = " or --db ".join(one.database for one in having)
        raise UsageError(detail=f"--table: say of which database (--db {names})")
    one = (having or list(held.values()))[0]
    want_copyable(one)
    for table in wanted.tables:
        if table not in one.rows:
            raise TableMissingError(
                name=table, target=f"backup {manifest.id}", near=hint(table, list(one.rows))
            )
    return one


def size(app: App, repository: Repository, manifest: Manifest, wanted: Wanted) -> int:
    """Return how many bytes are read, about; raises as ``RestoringTables``."""
    one = member_of(app, repository, manifest, wanted)
    return one.bytes + (one.size if wanted.merge == "replace" else 0)


def table_of(source: Readable, name: str) -> Table:
    found = source.tables().get(name)
    if found is None:
        raise TableMissingError(name=name, target=source.target, near="")
    return found


def parents_first(db: Readable, names: Sequence[str]) -> list[str]:
    """Return tables in an order in which those come first to which others point; in a circle, as they were named."""
    pointing: Mapping[str, set[str]] = {
        name: {one.table for one in db.references(name)} - {name} for name in names if name in db.tables()
    }
    left, ordered = list(names), list[str]()
    while left:
        free = next(
            (one for one in left if not any(one in pointing.get(other, ()) for other in left)), left[0]
        )
        ordered.append(free)
        left.remove(free)
    return ordered


def lays_aside(db: Writable) -> LaysAside:
    if Capability.ASIDE not in db.capabilities or not isinstance(db, LaysAside):
        raise NotSupportedError(
            what="bringing single tables back",
            by=db.target,
            instead="dbctl restore apply brings back all; of a copy beside (--to), dbctl data export and import take rows.",
        )
    return db
