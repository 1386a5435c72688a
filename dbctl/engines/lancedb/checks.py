"""Whether what a LanceDB stores can be read: its versions, its files, and each row of the newest version.

Lance keeps no checksum of a row. What is missing, cut off, or no longer decodes is found; a number or a letter that became
another one is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract import IndexDamage, IndexDifference, Orphans
from dbctl.engines.lancedb import schema
from dbctl.engines.lancedb.errors import failure, reason_of, unpanicked
from dbctl.engines.lancedb.location import Files
from dbctl.engines.lancedb.query import MOST_PARTITIONS, LanceVectors
from dbctl.engines.lancedb.storage import MAGIC, Fragment, History, Manifest
from dbctl.errors import CorruptError, DbctlError, NotSupportedError

if TYPE_CHECKING:
    from lancedb.query import LanceVectorQueryBuilder

#: Rows that are read at a time, with their vectors.
BATCH = 1024
#: How a line begins that is about an index.
INDEX = "index "


class LanceChecks(LanceVectors):
    """Capability.CHECK."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        names = self._place.names()
        if table and table not in names:
            self._checked(table)
        files = Files(self._place)
        return [
            line
            for name in names
            if table in ("", name)
            for line in self._table_damage(name, History(files, name), quick=quick)
        ]

    def index_damage(self, line: str) -> IndexDamage | None:
        name = line.removeprefix(INDEX).partition(":")[0]
        return IndexDamage(index=name, twice=False) if line.startswith(INDEX) else None

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        if table:
            self._checked(table)
        return []

    def index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        del index, limit  # the engine reads an index only together with its table
        return ()

    def lost_commits(self) -> int:
        return 0

    def text_indexes(self) -> Sequence[str]:
        return []

    def text_index_damage(self, name: str) -> str:
        raise NotSupportedError(what=f"checking {name}", by=self.target, instead="It is no text index.")

    def _table_damage(self, table: str, history: History, *, quick: bool) -> Iterator[str]:
        signals.check()
        hinted, versions = history.hinted(), history.versions()
        if not versions:
            left = len(history.sizes())
            yield f"{table}: it has no version, so that it is no table: making it was cut off, or _versions is gone ({left} files are left)"
            return
        newest = next(iter(versions))
        if hinted > newest:
            yield f"{table}: version {hinted} was written and is gone: what was written since version {newest} is lost"
        if reason := history.unreadable(versions):
            yield f"{table}: {reason}"
            return
        told = history.read(versions[newest])
        broken = list(self._file_damage(table, history, told))
        yield from broken
        if not (quick or broken):
            yield from self._row_damage(table, told)
            yield from self._unusable(table)

    def _file_damage(self, table: str, history: History, told: Manifest) -> Iterator[str]:
        """Compare the files of a version with what it says of them."""
        found = history.sizes()
        files = Files(self._place)
        for part in told.fragments:
            for one in part.files:
                path, rows = f"data/{one.path}", part.rows - part.deleted
                if path not in found:
                    yield f"{table}: {path} is missing, with {rows} rows"
                elif one.bytes is not None and found[path] != one.bytes:
                    yield f"{table}: {path}, with {rows} rows, has {found[path]} bytes in place of {one.bytes}"
                elif not _ends_well(files, f"{history.folder}/{path}"):
                    yield f"{table}: {path}, with {rows} rows, does not end as such a file does"
            if part.deletions and part.deletions not in found:
                yield f"{table}: {part.deletions} is missing, so that {part.deleted} deleted rows would be back"
        for index in told.indexes:
            folder = f"_indices/{index.uuid}/"
            if not any(path.startswith(folder) and taken for path, taken in found.items()):
                yield f"{INDEX}{index.name}: its files are missing ({table}.lance/{folder})"

    def _row_damage(self, table: str, told: Manifest) -> Iterator[str]:
        """Read every row; where that fails, each part by itself, so that it is told which."""
        try:
            self._read_through(table, None, 0)
        except CorruptError as error:
            parts, before = list[str](), 0
            for part in told.fragments:
                rows = part.rows - part.deleted
                parts += self._part_damage(table, part, before)
                before += rows
            yield from parts or [f"{table}: {error.facts['reason']}"]

    def _unusable(self, table: str) -> Iterator[str]:
        """Ask each index of vectors once, in all of its parts."""
        try:
            with unpanicked():
                opened = self._place.connection.open_table(table)
                wanted = {one.column: one.dimension for one in schema.vector_columns(table, opened.schema)}
                indexes = list(opened.list_indices())
        except (ValueError, RuntimeError, OSError) as error:
            yield f"{table}: its indexes cannot be told: {reason_of(error)}"
            return
        for one in indexes:
            signals.check()
            dimension = wanted.get(one.columns[0])
            if not dimension:
                continue
            try:
                with unpanicked():
                    told = opened.index_stats(one.name)
                    query = cast("LanceVectorQueryBuilder", opened.search([1.0] * dimension, one.columns[0]))
                    metric = (told and told.distance_type) or "l2"
                    query.distance_type(metric).nprobes(MOST_PARTITIONS).limit(1).to_arrow()
            except (ValueError, RuntimeError, OSError) as error:
                yield f"{INDEX}{one.name}: {reason_of(error)}"

    def _part_damage(self, table: str, part: Fragment, before: int) -> Iterator[str]:
        rows = part.rows - part.deleted
        try:
            if rows:
                self._read_through(table, rows, before)
        except CorruptError as error:
            names = ", ".join(f"data/{one.path}" for one in part.files)
            yield f"{table}: {names}, with {rows} rows, cannot be read: {error.facts['reason']}"

    def _read_through(self, table: str, limit: int | None, offset: int) -> None:
        """Read rows and forget them.

        Raises:
            CorruptError: one cannot be read.
        """
        try:
            with unpanicked():
                opened = self._place.connection.open_table(table)
                query = opened.search(None)
                if limit is not None:
                    query = query.limit(limit).offset(offset)
                for _ in query.to_batches(BATCH):
                    signals.check()
        except DbctlError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            told = failure(error, self._place)
            raise CorruptError(target=self.target, reason=reason_of(error)) from told


def _ends_well(files: Files, path: str) -> bool:
    try:
        return files.tail(path, len(MAGIC)) == MAGIC
    except OSError:
        return False
