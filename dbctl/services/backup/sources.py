"""The databases of a backup: selection, copy and verification."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import (
    Dump,
    DumpResult,
    Dumps,
    DumpVerification,
    Readable,
    SnapshotPin,
    require_part,
)
from dbctl.errors import (
    BackupFailedError,
    CorruptError,
    DatabaseMissingError,
    DatabaseNotConfiguredError,
    DbctlError,
    DriverMissingError,
    InterruptedWriteError,
    NotADatabaseError,
    NotSupportedError,
    SchemaMismatchError,
    TableMissingError,
    UnreachableError,
    UsageError,
    WrongAppError,
)
from dbctl.files import SUFFIXES, Progress, run_in_parallel
from dbctl.model import Compression
from dbctl.services.app import App, suggest_sentence
from dbctl.services.backup.manifest import Member, OmittedDatabase, member_file_name
from dbctl.services.backup.writer import BackupWriter, MemberFile

#: Typical compression ratio. A higher estimate of the space could reject a backup that would fit.
COMPRESSION_RATIO = 3

#: Errors of one database; the backup continues with the other databases of the app.
SINGLE_DATABASE_ERRORS = (
    BackupFailedError,
    CorruptError,
    InterruptedWriteError,
    DatabaseMissingError,
    NotADatabaseError,
    UnreachableError,
    WrongAppError,
)

#: Receives the number of bytes processed since the last call.
ByteProgress = Callable[[int], None]

T = TypeVar("T")


def no_rate_limit(_bytes: int) -> None:
    """Do not wait."""


def list_copyable(app: App, names: Sequence[str]) -> tuple[list[str], list[OmittedDatabase]]:
    """Return the databases that can be opened, and the failed ones.

    Raises:
        DbctlError: no database can be opened.
    """
    copyable, failed, errors = list[str](), list[OmittedDatabase](), list[DbctlError]()
    for name in names:
        try:
            open_dumps(app, name).estimate_dump_size()
        except SINGLE_DATABASE_ERRORS as error:
            failed.append(record_failure(app, name, error))
            errors.append(error)
        else:
            copyable.append(name)
    if errors and not copyable:
        raise errors[0]
    return copyable, failed


def record_failure(app: App, database: str, error: DbctlError) -> OmittedDatabase:
    """Return the entry of the manifest for a database that could not be copied."""
    reason = str(error).removeprefix(f"{app.target(database)}: ")
    return OmittedDatabase(database=database, reason=reason, failed=True)


class Source:
    """One database of a backup."""

    allow_empty = False  #: whether a database without tables is accepted
    familiar_tables: Collection[str] = ()  #: tables by which ``App.reader`` also recognises the database

    def __init__(
        self,
        app: App,
        database: str,
        advance: ByteProgress,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression = "none",
        rate_limit: ByteProgress = no_rate_limit,
    ) -> None:
        self.app, self.database, self.target = app, database, app.target(database)
        self.engine = app.url(database).engine
        self._advance, self._form, self._tables = advance, form, tables
        self._compress, self._rate_limit = compress, rate_limit
        self._file_names: Sequence[str] = ()  #: files that may exist in the folder of the backup

    def pin_snapshot(self) -> bool:
        """Open a snapshot if the engine supports it; return whether it does."""
        db = self._open_source()
        if not isinstance(db, SnapshotPin):
            return False
        db.pin_snapshot()
        return True

    def size(self) -> int:
        """Estimate the number of bytes to copy."""
        return self._open_source().estimate_dump_size()

    def stored_size(self) -> int:
        """Estimate the bytes in the backup."""
        size = self.size()
        is_uncompressed = self._compress == "none" or self._open_source().is_compressed
        return size if is_uncompressed else size // COMPRESSION_RATIO

    def plan_step(self) -> str:
        """Return the step of a plan."""
        db = self._open_source()
        subject = f"{', '.join(self._tables)} of {self.database}" if self._tables else self.database
        # The size of a compressed dump is known when it is complete.
        approximation = "about " if db.forms.get(self._select_form(db)) else ""
        compressed = "" if self._select_compression(db) == "none" else "compressed "
        return f"copy {subject} ({approximation}{db.estimate_dump_size():,} bytes) {compressed}as {self._file_name(db, 'TIME')}"

    def _open_source(self) -> Dumps:
        return open_dumps(
            self.app, self.database, allow_empty=self.allow_empty, familiar_tables=self.familiar_tables
        )

    def _select_form(self, db: Dumps) -> str:
        """Return the requested form, otherwise that of the documented file name, otherwise the default."""
        if self._form in db.forms:
            return self._form
        documented_extension = self.app.profile.file_name(self.database).partition("{time}")[2]
        default = next(iter(db.forms))
        return next((form for form, ending in db.forms.items() if ending == documented_extension), default)

    def _select_compression(self, db: Dumps) -> Compression:
        return "none" if db.is_compressed else self._compress

    def _file_name(self, db: Dumps, name: str) -> str:
        plain = member_file_name(self.app, self.database, name, ending=db.forms[self._select_form(db)])
        return plain + SUFFIXES[self._select_compression(db)]

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Write the dump into the folder of a backup.

        Raises:
            BackupFailedError: the dump is invalid, or has no table.
        """
        db = self._open_source()
        file, compress = self._file_name(db, folder.name), self._select_compression(db)
        self._file_names = list(dict.fromkeys([file, file.removesuffix(SUFFIXES[compress])]))
        path = folder.path_for(file.removesuffix(SUFFIXES[compress]))
        size = db.estimate_dump_size()
        compression_bytes = 0 if compress == "none" else size // 2
        copy_progress = count_in_bytes(size - compression_bytes, self._advance)
        # Each stage reads the complete database, so each has the full rate. A copy that blocks writers is not limited.
        if not db.blocks_writers():
            copy_progress = call_both(copy_progress, count_in_bytes(size, self._rate_limit))
        dump_result = db.dump(path, form=self._select_form(db), tables=self._tables, progress=copy_progress)
        compression_progress = call_both(
            count_in_bytes(compression_bytes, self._advance), count_in_bytes(size, self._rate_limit)
        )
        if compress == "none":
            stored, verification = self._store_and_verify(folder, file, dump_result)
            plain_bytes = 0
        else:
            (stored, plain_bytes), verification = run_in_parallel(
                lambda: folder.compress(path, file, compress, compression_progress),
                lambda: dump_result.verification or self._verify_dump(path, dump_result),
            )
            path.unlink()
        if verification.problems:
            others = f", and {len(verification.problems) - 1} more" if len(verification.problems) > 1 else ""
            raise BackupFailedError(target=self.target, reason=f"{verification.problems[0]}{others}")
        # An emptied database must not become the latest backup.
        if not (verification.tables or self.allow_empty):
            raise BackupFailedError(target=self.target, reason="it has no table")
        return [
            Member(
                **structs.asdict(stored),
                database=self.database,
                compress=compress,
                plain_bytes=plain_bytes,
                only=self._tables,
                engine=self.engine,
                taken_at=dump_result.taken_at,
                rows=verification.tables,
                schema=verification.schema,
                # The manifest is not encrypted, and the digest of a small table would confirm a guess of its content.
                digests=verification.digests if stored.encryption == "none" else {},
                facts=dump_result.metadata,
            )
        ]

    def discard(self, folder: BackupWriter) -> None:
        """Delete the files that a failed ``write_members`` left in the folder."""
        for name in self._file_names:
            folder.discard(name)

    def _verify_dump(self, plain: Path, dump_result: DumpResult) -> DumpVerification:
        dump = Dump(metadata=dump_result.metadata, tables={}, schema="")
        return registry.load_engine(self.engine).verify_dump(plain, dump, self.target, quick=True)

    def _store_and_verify(
        self, folder: BackupWriter, file: str, dump_result: DumpResult
    ) -> tuple[MemberFile, DumpVerification]:
        if dump_result.verification is not None:
            return folder.store(file, dump_result.sha256), dump_result.verification
        return run_in_parallel(
            lambda: folder.store(file), lambda: self._verify_dump(folder.path_for(file), dump_result)
        )


def find_database_with(app: App, databases: Sequence[str], tables: Sequence[str]) -> str:
    """Return the only database that has these tables."""
    matches = list(databases)
    if len(databases) > 1:
        matches = [name for name in databases if set(tables) <= app.reader(name).tables().keys()]
        if not matches:
            missing_tables = f"table {', '.join(tables)} in one of its databases ({', '.join(databases)})"
            raise SchemaMismatchError(target=app.name, missing=missing_tables, purpose="this backup")
        if len(matches) > 1:
            raise UsageError(detail=f"--table: select one database (--db {' or --db '.join(matches)})")
    _check_tables(app.reader(matches[0]), tables)
    return matches[0]


def _check_tables(live: Readable, tables: Sequence[str]) -> None:
    tables_of_database = live.tables()
    if not _require_dumps(live).supports_partial:
        raise NotSupportedError(
            feature="a backup of some tables",
            subject=live.target,
            hint="Its file can only be copied completely. Omit --table.",
        )
    for name in tables:
        if name not in tables_of_database:
            raise TableMissingError(
                name=name, target=live.target, suggestion=suggest_sentence(name, tables_of_database)
            )


def check_form(app: App, databases: Sequence[str], form: str) -> None:
    """Raise UsageError if no database can be dumped in this form."""
    supported_forms = list(
        dict.fromkeys(dump_form for name in databases for dump_form in open_dumps(app, name).forms)
    )
    if form and form not in supported_forms:
        raise UsageError(detail=f"--format {form}: {app.name} can be dumped as {', '.join(supported_forms)}")


def select_databases(app: App) -> tuple[list[str], list[OmittedDatabase]]:
    """Return the databases of a backup, and the omitted ones with the reason.

    Raises:
        DatabaseNotConfiguredError: a required database is not configured.
        NotSupportedError: no database can be backed up.
    """
    selected, left_out = [], []
    for name, profile_database in app.profile.databases.items():
        if app.only not in ("", name):
            continue
        try:
            url = app.url(name)
        except DatabaseNotConfiguredError:
            if not profile_database.optional or app.only:
                raise
            left_out.append(OmittedDatabase(database=name, reason="it is not configured"))
            continue
        if remote_reason := registry.load_engine(url.engine).no_backup_reason(url):
            if app.only:
                raise NotSupportedError(
                    feature="a backup", subject=app.target(name), hint=f"Its tables: {remote_reason}."
                )
            left_out.append(OmittedDatabase(database=name, reason=remote_reason))
            continue
        if profile_database.backup or app.only:
            selected.append(name)
        else:
            owner = profile_database.owner or "another program"
            left_out.append(
                OmittedDatabase(database=name, reason=f"it belongs to {owner}; include it with --db {name}")
            )
    if not selected:
        reasons = "; ".join(f"{omitted.database}: {omitted.reason}" for omitted in left_out)
        raise NotSupportedError(feature="a backup without any database", subject=app.name, hint=f"{reasons}.")
    return selected, left_out


def open_dumps(
    app: App, database: str, *, allow_empty: bool = False, familiar_tables: Collection[str] = ()
) -> Dumps:
    """Open a database for dumping, or its files if its driver is missing.

    Raises:
        DriverMissingError: its driver is missing, and its files cannot be copied without it.
        NotSupportedError: its engine has no dumps.
    """
    try:
        db = app.reader(database, allow_empty=allow_empty, familiar_tables=familiar_tables)
    except DriverMissingError:
        if (files := app.engine(database).open_copier(app.url(database), app.target(database))) is None:
            raise
        return files
    return _require_dumps(db)


def _require_dumps(db: Readable) -> Dumps:
    return require_part(db, Dumps, "a backup", "Its engine cannot be copied.")


def call_both(first: Callable[[T], None], second: Callable[[T], None]) -> Callable[[T], None]:
    """Return a function that calls both."""

    def call(value: T) -> None:
        first(value)
        second(value)

    return call


def count_in_bytes(size: int, advance: ByteProgress) -> Progress:
    """Return a function that takes the completed share and calls ``advance`` with the bytes since the last call."""
    reported = 0

    def progress(share: float) -> None:
        nonlocal reported
        completed = int(share * size)
        advance(max(0, completed - reported))
        reported = max(reported, completed)

    return progress
