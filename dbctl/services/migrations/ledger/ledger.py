"""The table in which an app records its applied migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, cast

from dbctl.engines.contract.database import Condition, Readable, Where, Writable
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Struct, now
from dbctl.profiles.codecs import KEYS, read_time
from dbctl.profiles.model import databases
from dbctl.profiles.model.databases import ForeignLedger, Migrations
from dbctl.profiles.model.profile import Profile
from dbctl.services.app import ledger_detection
from dbctl.services.app.live_table import LiveTable, list_uncovered
from dbctl.services.migrations.files.loader import Folder, MigrationFile
from dbctl.services.migrations.ledger import journal

#: Suffixes of names in the ledgers of runners whose migrations are programs.
_PROGRAM_SUFFIXES = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".sql", ".py")
#: The most digits with which a version is compared; a timestamp with microseconds has 20.
_MAX_DIGITS = 24


Level = Literal["", "applied", "baseline"]


class MigrationTarget(Struct, frozen=True, kw_only=True):
    """One database with its migrations: their folder, and the ledger that records them."""

    app: str  #: the name of the app
    database: str
    profile: Profile
    section: Migrations
    ledger: databases.Ledger  #: the one that dbctl writes
    foreign: ForeignLedger | None = None  #: that of another runner, which is read instead
    folder: Folder
    engine: str  #: name of the database's engine
    #: by variant, if dbctl ships the files: the folder
    variant_folders: Mapping[str, Folder] = {}
    #: by variant, if the app has its own files: the folder that dbctl ships; the ledger may name its files, too
    shipped_folders: Mapping[str, Folder] = {}
    variant: str = ""  #: of ``folder``; empty before it is selected or detected

    @property
    def name(self) -> str:
        """``app/database``."""
        return f"{self.app}/{self.database}"

    @property
    def ledger_tables(self) -> frozenset[str]:
        """The tables that do not belong to the schema."""
        return frozenset({self.ledger.table, self.foreign.table if self.foreign else "", journal.TABLE})


class Record(Struct, frozen=True, kw_only=True):
    """One row of a ledger."""

    version: str = ""  #: digits, if the ledger has them
    name: str = ""  #: whole name, or the part after the digits; empty if the ledger has no names
    applied_at: datetime | None = None
    checksum: str | None = None
    duration: timedelta | None = None
    failed: bool = False
    level: Level = ""  #: state that this row implies for all earlier migrations

    @property
    def number(self) -> int:
        """The version as a number, or -1."""
        return int(self.version) if self.version.isdigit() else -1

    @property
    def title(self) -> str:
        """The name of the migration if it has no file."""
        return "_".join(part for part in (self.version, self.name) if part)

    def matches(self, file: MigrationFile) -> bool:
        if not self.version:
            return self.name == file.name
        if self.number != file.order_key[0]:
            return False
        # Rows without a name, or of runners that record only the last version, match by number.
        return not self.name or bool(self.level) or _normalize(self.name) == _normalize(file.description)


def _normalize(name: str) -> str:
    """Normalize a name for comparison: some runners record it with blanks."""
    return name.replace(" ", "_").replace("-", "_").lower()


def read_foreign_records(ledger: ForeignLedger, db: Readable, engine: str) -> list[Record]:
    """Return the rows of the ledger of another runner."""
    return [
        Record(
            version=str(version) if version is not None else "",
            name=str(name or "").removesuffix(
                next((end for end in _PROGRAM_SUFFIXES if str(name or "").endswith(end)), "")
            ),
            applied_at=read_time(applied_at),
            failed=bool(failed),
            level=cast("Level", level),
            checksum=None if checksum is None else str(checksum),
        )
        for version, name, applied_at, failed, level, checksum in ledger_detection.query_foreign(
            ledger, db, engine
        )
    ]


def read_records(target: MigrationTarget, db: Readable) -> list[Record]:
    """Return the rows of the ledger, unordered."""
    ledger = Ledger(target, db)
    rows = dict[tuple[str, str], Record]()
    for row in db.select(ledger.table.name, ledger.columns()):
        values = dict(zip(ledger.columns(), row, strict=True))
        version, name = (
            "" if (value := values.get(word or "")) is None else str(value)
            for word in (ledger.version, ledger.name)
        )
        ended = values.get(ledger.applied_at or "")
        if values.get(ledger.rolled_back_at or "") is not None:
            continue  # rolled back
        is_failed = bool(ledger.started_at) and ended is None
        if is_failed and (version, name) in rows:
            continue  # another attempt was recorded
        checksum, duration = values.get(ledger.checksum or ""), values.get(ledger.duration or "")
        rows[version, name] = Record(
            version=version,
            name=name,
            failed=is_failed,
            applied_at=read_time(ended),
            checksum=str(checksum) if checksum else None,
            duration=timedelta(milliseconds=duration)
            if isinstance(duration, int | float)
            else ledger.compute_duration(values),
        )
    return list(rows.values())


class Ledger:
    """The ledger of an app, addressed by the column names of its profile."""

    def __init__(self, target: MigrationTarget, db: Readable) -> None:
        section = target.ledger
        self.table = LiveTable(target.profile, db, section.table, "the ledger of migrations")
        self.version = self.table.optional_column(section.version)
        self.name = self.table.optional_column(section.name)
        self.applied_at = self.table.optional_column(section.applied_at)
        self.checksum = self.table.optional_column(section.checksum)
        self.duration = self.table.optional_column(section.duration_ms)
        self.started_at = self.table.optional_column(section.started_at)
        self.rolled_back_at = self.table.optional_column(section.rolled_back_at)
        self._section = section

    def columns(self) -> list[str]:
        """Return the columns that contain the state of a migration."""
        columns = (self.version, self.name, self.applied_at, self.checksum, self.duration, self.started_at)
        return [name for name in (*columns, self.rolled_back_at) if name]

    def applied_conditions(self, file: MigrationFile) -> list[Where]:
        where = self.row_conditions(file.version, file.name)
        if self.started_at and self.applied_at:
            where.append(Condition(self.applied_at, "!=", None))
        return where

    def row_conditions(self, version: str, name: str, *, exact: bool = False) -> list[Where]:
        """Return the conditions for all rows of a migration, with or without a file.

        ``version`` has its digits, with ``exact`` as they are stored; ``name`` is its whole name, for a ledger without versions.
        """
        where: list[Where] = [Condition(self.rolled_back_at, "=", None)] if self.rolled_back_at else []
        if self.version is None:
            return [Condition(self.table.column(self._section.name or "name"), "=", name), *where]
        versions: list[object] = [version]
        if version.isdigit() and not exact:
            number = str(int(version))
            # rows match by number, so its leading zeros may be others than those of the file
            versions += [number.zfill(width) for width in range(len(number), _MAX_DIGITS)]
        if self._section.numeric and version.isdigit():
            versions = [int(version)]
        return [Condition(self.table.column(self.version), "in", list(dict.fromkeys(versions))), *where]

    def remove_rows(self, db: Writable, where: Sequence[Where]) -> int:
        """Mark rows as rolled back if the ledger has such a column, otherwise delete them; return their number."""
        if self.rolled_back_at:
            return db.update(
                self.table.name, {self.rolled_back_at: self.table.encode(self.rolled_back_at, now())}, where
            )
        return db.delete(self.table.name, where)

    def complete(self, db: Writable, file: MigrationFile) -> int:
        """Record a failed migration as applied without running it; return the number of rows."""
        ended = self.table.column(self.applied_at or "applied_at")
        where = [*self.row_conditions(file.version, file.name), Condition(ended, "=", None)]
        values: dict[str, object] = {ended: self.table.encode(ended, now())}
        return db.update(
            self.table.name, values | ({self.checksum: file.checksum} if self.checksum else {}), where
        )

    def _identifying_values(self, file: MigrationFile) -> dict[str, object]:
        """Return the columns that identify the row of a migration."""
        if self.version is None:
            return {self.table.column(self._section.name or "name"): file.name}
        version: object = int(file.version) if self._section.numeric else file.version
        return {self.version: version} | ({self.name: file.description} if self.name else {})

    def compute_duration(self, values: Mapping[str, object]) -> timedelta | None:
        """Return the duration between the columns for start and end, or None."""
        started_at, applied_at = (
            read_time(values.get(name or "")) for name in (self.started_at, self.applied_at)
        )
        return applied_at - started_at if started_at and applied_at and applied_at >= started_at else None

    def create_row(self, file: MigrationFile, duration: float) -> dict[str, object]:
        """Return the row that records a migration; ``duration`` is in seconds."""
        applied_at = now()
        values = self.table.encode_constants(self._section.new)
        values |= self._identifying_values(file)
        if self.applied_at:
            values[self.applied_at] = self.table.encode(self.applied_at, applied_at)
        if self._section.id and (create_key := KEYS[self._section.id.codec]):
            values[self.table.column(self._section.id.column)] = create_key()
        if self.started_at:
            started_at = applied_at - timedelta(milliseconds=round(duration * 1000))
            values[self.started_at] = self.table.encode(self.started_at, started_at)
        if self.checksum:
            values[self.checksum] = file.checksum
        if self.duration:
            values[self.duration] = round(duration * 1000)
        return values

    def refuse_unknown_columns(self) -> None:
        """Refuse a ledger with required columns that the profile does not fill.

        Raises:
            SchemaMismatchError: the ledger has such a column.
        """
        covered = {*self.columns(), *self.table.encode_constants(self._section.new)}
        covered |= {self._section.id.column} if self._section.id else set()
        uncovered = list_uncovered(self.table.table, covered)
        if uncovered:
            description = f"a value for {self.table.name}.{', '.join(uncovered)} (not in the profile)"
            raise SchemaMismatchError(
                target=self.table.db.target, missing=description, purpose="the ledger of migrations"
            )
