"""Dump a SQLite file into a single new file, and verify dumps."""

from __future__ import annotations

import stat
from collections.abc import Mapping

from dbctl.engines.contract.dumps import DumpRequest, DumpResult, DumpVerification
from dbctl.engines.sql.checks import digest_tables
from dbctl.engines.sqlite.backup.dumper import dump as dump_file
from dbctl.engines.sqlite.catalog import SQLiteSchemaReader
from dbctl.engines.sqlite.checks import SQLiteChecks
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.engines.sqlite.monitoring import SQLiteSizes

#: Findings of SQLite's check about rows that violate a constraint: the app wrote them, and a copy is not worse.
APP_VIOLATIONS = ("NULL value in ", "CHECK constraint failed in ", "TEXT value in ", "NUMERIC value in ")
#: The only form of a dump is a copy of the file, without a further suffix.
FORMS: Mapping[str, str] = {"file": ""}


class SQLiteDumps:
    """The part ``Dumps`` of a reader."""

    forms = FORMS
    supports_partial = False
    is_compressed = False

    def __init__(self, db: SQLiteReader) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog

    def dump(self, request: DumpRequest) -> DumpResult:
        if request.tables:
            raise RuntimeError("single tables of a file cannot be dumped")

        mode = self._connection.read_journal_mode()

        def copy_file() -> DumpResult:
            request.destination.unlink(missing_ok=True)  # left by an unlocked read of a file that changed
            return dump_file(self._connection.driver, request.destination, request.progress)

        # A copy takes long, and an unlocked one is discarded after any write: one try is enough.
        result = self._connection.retry_if_changed(copy_file, unlocked_tries=1)
        metadata = {"journal_mode": mode, "mode": f"{stat.S_IMODE(self._connection.path.stat().st_mode):o}"}
        return DumpResult(taken_at=result.taken_at, metadata={**metadata, **result.metadata})

    def blocks_writers(self) -> bool:
        return self._connection.read_journal_mode() != "wal"

    def estimate_dump_size(self) -> int:
        return SQLiteSizes(self._db).measure_storage().bytes

    def verify_dump(self, *, quick: bool) -> DumpVerification:
        """Check a dump; ``quick`` does not compare indexes with their tables."""
        problems = [
            line
            for line in SQLiteChecks(self._db).find_damage(quick=quick)
            if not line.startswith(APP_VIOLATIONS)
        ]
        if problems:
            return DumpVerification(tables={}, schema="", problems=problems)
        rows = {name: self._db.count(name) for name in self._catalog.base_tables()}
        return DumpVerification(
            tables=rows,
            schema=SQLiteSchemaReader(self._db).fingerprint(),
            problems=(),
            digests=digest_tables(self._db, rows),
        )
