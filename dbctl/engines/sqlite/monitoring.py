"""Sizes, indexes and unused space of a SQLite file, read without a checkpoint, and the statements of its maintenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.checks import Storage, TableSize
from dbctl.engines.contract.monitoring import Bloat, Index, MaintenanceKind, MaintenanceTask, StorageManager
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.fulltext_index import TABLE_TEXTS, read_text_indexes
from dbctl.engines.sqlite.write_connection import WriteConnection
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.databases import MaintenanceUnsafeError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import mounts
from dbctl.files.mounts import read_volume

if TYPE_CHECKING:
    from dbctl.engines.sqlite.connection import SQLiteConnection


#: The total and the unused bytes of each table and index.
_SIZES = "select name, sum(pgsize), sum(unused) from dbstat where aggregate = 1 group by name"
_INDEX_TEXTS = "select name, coalesce(sql, '') from sqlite_master where type = 'index'"


STATEMENTS: Mapping[MaintenanceKind, str] = {
    "vacuum": "VACUUM",
    "analyze": "ANALYZE",
    # 2 is the default; 0x10000 includes tables that this connection has not read
    "optimize": "PRAGMA optimize = 0x10002",
    "reindex": "REINDEX",
    "checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)",
    "wal": "PRAGMA journal_mode = wal",
    "rollback-journal": "PRAGMA journal_mode = delete",
}
#: Those that also take the name of a table.
TABLE_KINDS = ("analyze", "reindex")


class SQLiteStorage(SQLitePart, StorageManager):
    """The part ``StorageManager``; SQLite has no usage counters, and every maintenance statement is atomic."""

    quote_name = staticmethod(ident)

    def measure_storage(self) -> Storage:
        from dbctl.engines.sqlite import files

        size, pages, free = (
            cast("int", self._connection.fetch(f"pragma {name}")[0][0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        wal_bytes = files.read_wal_size(self._connection.path)
        journal_mode = self._connection.read_journal_mode()
        return Storage(
            bytes=size * pages,
            page_size=size,
            page_count=pages,
            freelist_pages=free,
            wal_bytes=wal_bytes,
            wal_pages=files.count_pending_pages(self._connection.path) if wal_bytes else 0,
            journal_mode=journal_mode,
            shares_memory=journal_mode == "wal",
            tables=len(self._catalog.base_tables()),
        )

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - SQLite has no estimates
        sizes = None if table else _read_sizes(self._connection)
        result = []
        for name in self._catalog.base_tables():
            if table in ("", name):
                indexes = sorted(_list_index_names(self._connection, name))
                owned = None if sizes is None else [sizes.get(owner, (0, 0))[0] for owner in (name, *indexes)]
                size, rows = None if owned is None else sum(owned), self._db.count(name)
                result.append(TableSize(table=name, rows=rows, bytes=size, indexes=indexes))
        return result

    def list_indexes(self, *, sized: bool = True) -> Sequence[Index]:
        sizes = _read_sizes(self._connection) if sized else None
        # sqlite_master has no index, so a lookup per name would scan it each time.
        texts = {str(name): str(sql) for name, sql in self._connection.fetch(_INDEX_TEXTS)}
        return [
            Index(
                table=table,
                name=str(name),
                columns=list(self._read_terms(str(name), texts.get(str(name), ""))),
                unique=bool(unique),
                primary=origin == "pk",
                constraint=origin != "c",
                method="btree",
                where=_read_condition(texts.get(str(name), "")) if partial else "",
                bytes=None if sizes is None else sizes.get(str(name), (0, 0))[0],
                drop_statement=f"DROP INDEX {ident(str(name))};" if origin == "c" else "",
            )
            for table in self._catalog.base_tables()
            for _, name, unique, origin, partial in self._connection.fetch(
                f"pragma index_list({ident(table)})"
            )
        ]

    def _read_terms(self, name: str, sql: str) -> Iterator[str]:
        for _, _, column, descending, collation, key in self._connection.fetch(
            f"pragma index_xinfo({ident(name)})"
        ):
            if key:
                # An expression is only in the SQL of the index, so the term equals that of no other index.
                term = str(column) if column is not None else f"expression of {sql}"
                term += "" if collation == "BINARY" else f" collate {str(collation).lower()}"
                yield f"{term} desc" if descending else term

    def measure_bloat(self) -> Sequence[Bloat]:
        """Return the free pages of the file, and the unused space in the pages of each table."""
        storage, sizes = self.measure_storage(), _read_sizes(self._connection)
        free_bytes = (storage.freelist_pages or 0) * storage.page_size
        rows = [Bloat(table="", bytes=free_bytes, wasted_bytes=free_bytes, source="freelist")]
        for table in self._catalog.base_tables():
            names = [table, *_list_index_names(self._connection, table)]
            known_sizes = [sizes[name] for name in names if sizes and name in sizes]
            total, unused = map(sum, zip(*known_sizes, strict=True)) if known_sizes else (None, None)
            source = "dbstat" if known_sizes else "none: this SQLite has no dbstat"
            rows.append(Bloat(table=table, bytes=total, wasted_bytes=unused, source=source))
        return rows

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        """Return the tasks of one kind, after the checks that refuse harmful ones."""
        for name in tables:
            self._catalog.require_table(name)
        storage, path = self.measure_storage(), self._connection.path
        is_wal = storage.journal_mode == "wal"
        if tables and kind not in TABLE_KINDS:
            raise NotSupportedError(
                feature=f"{kind} of one table", subject=self._catalog.target, hint="Leave --table out."
            )
        if kind in (("wal",) if is_wal else ("checkpoint", "rollback-journal")):
            return []
        if kind == "wal":
            _refuse_network_disk(path, self._catalog.target)
        if kind == "vacuum":
            self._refuse_renumbering()
            _require_space(path, storage)
        statement = STATEMENTS[kind]
        tasks = [MaintenanceTask(table=table, statement=f"{statement} {ident(table)}") for table in tables]
        return tasks or [MaintenanceTask(table="", statement=statement)]

    def _refuse_renumbering(self) -> None:
        """Refuse VACUUM if it could change rowids to which a full-text index refers."""
        indexes = read_text_indexes(self._connection.fetch(TABLE_TEXTS))
        # Without stored text, an index refers to the rowids of the table that it names, or of an unknown one.
        contents = [index.content.lower() for index in indexes if index.content is not None]
        if not contents:
            return
        for table, definition in self._catalog.tables().items():
            is_named = definition.has_rowid and ("" in contents or table.lower() in contents)
            if is_named and not definition.rowid:
                raise MaintenanceUnsafeError(
                    operation="VACUUM",
                    target=self._catalog.target,
                    reason=f"{table} has no INTEGER PRIMARY KEY: VACUUM may change its rowids, to which a full-text index may refer",
                    hint="Skip VACUUM, because free pages are reused, or run it manually and rebuild the text index.",
                )

    def maintain(self, task: MaintenanceTask) -> None:
        from dbctl.engines.file_locks import describe_lock_holders
        from dbctl.files.lock import wait_for_lock

        connection = self._connection
        wait_for_lock(
            self._catalog.target,
            connection.timeout,
            lambda: self._run(task),
            lambda: describe_lock_holders(connection.path),
        )

    def _run(self, task: MaintenanceTask) -> bool:
        """Run the statement of a task once, waiting for locks; return whether no reader prevented its effect."""
        connection = self._connection
        if not isinstance(connection, WriteConnection):
            raise TypeError("maintenance through a reader")
        if task.statement == "VACUUM":
            connection.database.vacuum()
        elif task.statement.startswith("ANALYZE"):
            connection.database.analyze(task.table or None)
        else:  # sqlite-utils has neither REINDEX nor checkpoints, and does not check a change of the journal mode
            # SQLite reports no error if readers block a checkpoint or a change of the journal mode.
            rows = connection.run(task.statement)
            return not (rows and _is_incomplete(task.statement, rows[0][0]))
        return True


def _read_sizes(connection: SQLiteConnection) -> Mapping[str, tuple[int, int]] | None:
    """Return the total and the unused bytes of each table and index; None in builds of SQLite without dbstat."""
    try:
        rows = cast("list[tuple[str, int, int]]", connection.fetch(_SIZES))
    except QueryFailedError:
        return None
    return {name: (size, unused) for name, size, unused in rows}


def _list_index_names(connection: SQLiteConnection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.fetch(f"pragma index_list({ident(table)})")]


def _read_condition(sql: str) -> str:
    """Return the condition of a partial index, in lower case and with single blanks."""
    _, _, condition = " ".join(sql.split()).lower().rpartition(" where ")
    return condition


def _is_incomplete(statement: str, answer: object) -> bool:
    """Whether other users of the file blocked the statement."""
    if "checkpoint" in statement:
        return bool(answer)
    return "journal_mode" in statement and answer != statement.rpartition(" ")[2]


def _refuse_network_disk(path: Path, target: str) -> None:
    """Refuse WAL mode on network file systems, because users of a -wal share memory."""
    volume = read_volume(path.parent)
    if volume.is_network:
        raise MaintenanceUnsafeError(
            operation="WAL mode",
            target=target,
            reason=f"{path} is on {volume.mount} ({volume.kind}), which other machines may use",
            hint="Move the database to a local disk first.",
        )


def _require_space(path: Path, storage: Storage) -> None:
    """Refuse VACUUM without free space for the new content and for the -wal or the journal."""
    used = storage.bytes - (storage.freelist_pages or 0) * storage.page_size
    need = used + (used if storage.journal_mode == "wal" else storage.bytes)
    mounts.require_space(path.parent, need)
