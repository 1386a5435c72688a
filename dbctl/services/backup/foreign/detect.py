"""Read a foreign file or folder as a backup: detect its content and verify it, without changing it.

The file is copied into a temporary folder first, and only the copy is read: later changes of the file do not affect the
verified data. The staged backup is available through an overlay of the repository while it is in use.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from msgspec import structs

from dbctl import __version__
from dbctl.engines import registry
from dbctl.engines.contract import Content, Dump, Dumps, DumpVerification, ImportedDump, list_dump_tables
from dbctl.engines.file_locks import list_lock_holders
from dbctl.engines.file_type import (
    ENGINES,
    HINTS,
    TITLES,
    TOC_FILE,
    FileType,
    detect_file_type,
)
from dbctl.errors import (
    BusyError,
    ChangedWhileReadError,
    CorruptError,
    DbctlError,
    DecompressionLimitError,
    FileFailedError,
    FileInvalidError,
    FileMissingError,
    FileNotRestorableError,
    FileUnsafeError,
    ForeignDumpRefusedError,
    InsufficientSpaceError,
    NotADatabaseError,
    NotSupportedError,
    QueryFailedError,
    SameFileError,
    UsageError,
    WrongAppError,
)
from dbctl.files import DecompressedImport, atomic, compression
from dbctl.model import Struct
from dbctl.services.app import App, find_wrong_app_hint
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.encryption import EncryptionPolicy
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.timestamps import DetectedTime, detect_time
from dbctl.services.backup.manifest import Manifest, ManifestInvalidError, Member, Origin, member_file_name
from dbctl.services.backup.repository import ID, Repository
from dbctl.services.backup.sources import ByteProgress
from dbctl.services.backup.verify import ENVIRONMENT_ERRORS, trial_server
from dbctl.stores import MANIFEST, MAX_MANIFEST_BYTES, hash_blocks

#: Limit of the decompressed size: this number of bytes or, if larger, this multiple of the compressed size.
MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO = 64 << 20, 100
#: Decompression leaves one tenth of the free space unused.
RESERVED_SHARE = 10
MAX_NAME_BYTES = 200  #: bytes
#: Fact of a member from a foreign dump program, which may have omitted tables: the type of its content.
CONTENT_FACT = "written_as"
#: Types of content that always include every table of their database.
COMPLETE_CONTENTS: Collection[Content] = ("sqlite", "lancedb")
#: Hints for invalid files by type of content.
RECOVER_HINT = "Salvage a damaged SQLite database with: dbctl restore recover --from FILE"
DUMP_AGAIN_HINT = "Create the dump again, or use another backup: dbctl backup list. Remove statements that no dump program writes."
#: Side files of a SQLite database that contain committed rows.
SIDE_FILE_SUFFIXES = ("-wal", "-journal")


class StagedBackup(Struct, frozen=True, kw_only=True):
    """A foreign file or folder as a backup."""

    manifest: Manifest
    description: str
    remarks: Sequence[str]  #: warnings for the user
    is_loaded: bool = False  #: whether a server has loaded it


@contextmanager
def stage_backup(
    app: App,
    repository: Repository,
    path: Path,
    *,
    created_at: datetime | None = None,
    trial: bool,
    advance: ByteProgress = lambda _bytes: None,
) -> Iterator[tuple[StagedBackup, Repository]]:
    """Yield the staged backup, and the repository through which it is read.

    Args:
        app: the app.
        repository: provides temporary space; its backups are not changed.
        path: a file, or a folder with a manifest.
        created_at: time of the backup; None: from the name of the file or its modification time.
        trial: whether to load a dump into a temporary database on its server.
        advance: receives the number of bytes read since the last call.

    Raises:
        FileMissingError, FileFailedError: it does not exist, or cannot be read.
        FileNotRestorableError: it cannot be restored here.
        FileInvalidError: it is incomplete or damaged.
        FileUnsafeError: other users may write it.
        WrongAppError: it is a database of another app.
        UsageError: it matches several databases.
        SameFileError: it is a live database of the app.
        BusyError, ChangedWhileReadError: another process is writing it.
        DecompressionLimitError, InsufficientSpaceError, DiskFullError: it is too large.
    """
    status, set_paths = stat_file(path), file_sets.find_set(app, path)
    if stat.S_ISDIR(status.st_mode) and set_paths == [path] and registry.find_folder_engine(path) is None:
        manifest, remarks = _read_backup_folder(app, path)
        backup = StagedBackup(manifest=manifest, description="a backup created by dbctl", remarks=remarks)
        yield backup, repository.overlay(manifest.id, path.resolve())
        return
    for set_path in set_paths:
        stat_file(set_path)
        _refuse_live(app, set_path)
    encryption = EncryptionPolicy(app)  # with encryption, the repository must not contain plain files
    open_temp_dir = encryption.staging.folder if encryption else repository.store.temp_dir
    with open_temp_dir(sum(set_path.stat().st_size for set_path in set_paths)) as temp_dir:
        folder = temp_dir / "folder"
        folder.mkdir(mode=0o700)
        staged_files = list[StagedBackup]()
        for index, set_path in enumerate(set_paths):
            file_dir = temp_dir / str(index)
            file_dir.mkdir(mode=0o700)
            file_class = _ForeignFolder if set_path.is_dir() else _ForeignFile
            staged_files.append(
                file_class(app, set_path, file_dir, created_at, advance, source_name=path.name).stage(
                    folder, trial=trial
                )
            )
        backup = _join(app, path, staged_files)
        yield backup, repository.overlay(backup.manifest.id, folder)


def _join(app: App, path: Path, parts: Sequence[StagedBackup]) -> StagedBackup:
    """Combine the files of a set into one backup, with the time of the first."""
    manifests, first = [part.manifest for part in parts], parts[0].manifest
    origins = [manifest.origin.sha256 for manifest in manifests if manifest.origin]
    sha256 = origins[0] if len(parts) == 1 else hashlib.sha256("\n".join(origins).encode()).hexdigest()
    time = first.origin.time if first.origin else ""
    remarks = [remark for part in parts for remark in part.remarks]
    if missing := file_sets.find_missing(app, path):
        remarks.append(f"{path}: no copy of {', '.join(missing)} with the same time is next to it")
    return StagedBackup(
        manifest=structs.replace(
            first,
            id=str(path.resolve()),
            origin=Origin(path=str(path.resolve()), sha256=sha256, time=time),
            members=[member for manifest in manifests for member in manifest.members],
        ),
        description=" and ".join(dict.fromkeys(part.description for part in parts)),
        remarks=remarks,
        is_loaded=any(part.is_loaded for part in parts),
    )


def count_bytes(paths: Sequence[Path]) -> int:
    """Return the number of bytes to read; missing files have 0 bytes."""
    return sum(path.stat().st_size for path in paths if atomic.is_regular(path))


def stat_file(path: Path) -> os.stat_result:
    """Return the status of a file that the user named; raises as ``stage_backup``."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileMissingError(kind="file", path=path) from error
    except (OSError, ValueError) as error:
        raise FileFailedError(path=path, reason=getattr(error, "strerror", "") or str(error)) from error
    if stat.S_IMODE(status.st_mode) & stat.S_IWOTH:
        raise FileUnsafeError(path=path, mode=f"{stat.S_IMODE(status.st_mode):o}")
    return status


def _refuse_live(app: App, path: Path) -> None:
    """Refuse a live database of the app: opening it would release the locks that this process has on it."""
    for url in app.configured.databases.values():
        if url.is_folder and path.resolve() == Path(url.path).resolve():
            raise SameFileError(path=path)
        database_files = registry.load_engine(url.engine).database_files(url)
        for live_file in (database_files.file, *database_files.side_files) if database_files else ():
            with suppress(OSError):
                if path.samefile(live_file):
                    raise SameFileError(path=path)


# Folders -----------------------------------------------------------------------------------------------------------


def _read_backup_folder(app: App, path: Path) -> tuple[Manifest, Sequence[str]]:
    """Return the manifest of a folder that dbctl created on any machine, and warnings."""
    try:
        text = atomic.read_whole(path / MANIFEST, MAX_MANIFEST_BYTES)
        manifest = backup_manifest.parse(text)
    except FileNotFoundError as error:
        if is_directory_dump(path):
            hint = f"Convert it with: pg_restore --file=dump.sql {path}"
            raise FileNotRestorableError(
                path=path, reason="it is a PostgreSQL dump (directory)", hint=hint
            ) from error
        hint = "Name a file in it, or a folder of a backup created by dbctl."
        raise FileNotRestorableError(
            path=path, reason=f"it is a folder without {MANIFEST}", hint=hint
        ) from error
    except ManifestInvalidError as error:
        raise FileInvalidError(path=path, reason=f"its manifest: {error}") from error
    except OSError as error:
        raise FileFailedError(path=path / MANIFEST, reason=error.strerror or str(error)) from error
    if manifest.profile != app.profile.name:
        raise FileNotRestorableError(
            path=path,
            reason=f"it is a backup of {manifest.app} ({manifest.profile})",
            hint=f"{app.name} is {app.profile.title}; select another app with --app.",
        )
    if retained := [member.database for member in manifest.members if member.form == "kept"]:
        raise FileNotRestorableError(
            path=path,
            reason=f"for {', '.join(retained)} it has no data: the server retained the database",
            hint="Restore it from its repository: dbctl restore apply ID",
        )
    remarks = []
    if (manifest.app, manifest.host) != (app.name, os.uname().nodename):
        remarks.append(f"{path}: it is a backup of {manifest.app} on {manifest.host}")
    manifest = backup_manifest.mark_foreign(manifest)
    return structs.replace(manifest, id=str(path.resolve()), app=app.name), remarks


def is_directory_dump(folder: Path) -> bool:
    """Whether a folder is a pg_dump dump in directory format."""
    contents = folder / TOC_FILE
    return atomic.is_regular(contents) and detect_file_type(contents).content == "postgresql-directory"


# Files -------------------------------------------------------------------------------------------------------------


class _ForeignFile:
    def __init__(
        self,
        app: App,
        path: Path,
        temp_dir: Path,
        created_at: datetime | None,
        advance: ByteProgress,
        *,
        source_name: str,
    ) -> None:
        self._app, self._path, self._temp_dir, self._created_at, self._advance = (
            app,
            path,
            temp_dir,
            created_at,
            advance,
        )
        self._source_name = source_name  #: name of the path of the user, which may contain a time
        self._name, self._remarks = str(path), list[str]()
        self._content: Content = "unknown"

    def stage(self, folder: Path, *, trial: bool) -> StagedBackup:
        """Read and verify the file, and write the result into ``folder``."""
        plain, destination = self._temp_dir / "plain", folder / _shorten_name(self._path.name)
        try:
            with atomic.open_regular(self._path) as file:
                before = os.fstat(file.fileno())
                file_type = self._detect_type()
                self._refuse_open(file_type)
                decompressed = self._copy_decompressed(file, plain, file_type)
                self._refuse_changed(before, file)
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        with self._translate_errors():
            limit = max(MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO * decompressed.plain_bytes)
            imported = registry.load_engine(file_type.engine).import_dump(
                file_type.content, plain, destination, self._name, max_bytes=limit
            )
            verification = self._verify_import(file_type.engine, destination, imported)
        database, is_partial = self._detect_database(file_type.engine, verification.tables)
        manifest = self._build_manifest(
            file_type, destination, imported, verification, database, decompressed, self._detect_time(before)
        )
        (member,) = manifest.members
        if is_partial:
            member = structs.replace(member, only=list(verification.tables))
            manifest = structs.replace(manifest, kind="partial", members=[member])
        # Only a server can check the rest.
        trial_result = (
            self._load_for_trial(member, destination) if trial and not verification.schema else None
        )
        if trial_result is not None:
            member = structs.replace(member, schema=trial_result.schema)
            manifest = structs.replace(manifest, members=[member])
        return StagedBackup(
            manifest=manifest,
            description=file_type.description,
            remarks=[
                *self._remarks,
                *imported.remarks,
                *(
                    ()
                    if is_partial
                    else _report_missing_tables(self._app, database, verification, self._path)
                ),
            ],
            is_loaded=trial_result is not None,
        )

    def _verify_import(self, engine: str, destination: Path, imported: ImportedDump) -> DumpVerification:
        """Verify the imported dump completely.

        Raises:
            CorruptError: the dump has a problem.
        """
        dump = Dump(metadata=imported.metadata, tables={}, schema="")
        verification = registry.load_engine(engine).verify_dump(
            destination, dump, self._name, quick=False, make_temp_dir=self._make_temp_dir
        )
        if verification.problems:
            raise CorruptError(target=self._name, reason=verification.problems[0])
        return verification

    def _detect_database(self, engine: str, tables: Mapping[str, int]) -> tuple[str, bool]:
        """Return the database to which the file belongs, and whether it has only some of its tables."""
        try:
            return detect_database(self._app, engine, tables, self._path), False
        except WrongAppError:
            if database := _find_partial_match(self._app, engine, tables):
                return database, True
            raise

    def _detect_type(self) -> FileType:
        file_type = detect_file_type(self._path)
        if file_type.content in ("unknown", "empty") and file_type.compress != "none":
            # It may be truncated before its first content: decompression detects that.
            with atomic.open_regular(self._path) as file:
                self._copy_decompressed(file, self._temp_dir / "probe", file_type)
        if file_type.content == "empty":
            raise FileInvalidError(path=self._path, reason="it is empty")
        self._content = file_type.content
        if not file_type.engine:
            raise FileNotRestorableError(
                path=self._path,
                reason=f"it is {TITLES[file_type.content]}",
                hint=HINTS[file_type.content],
            )
        return file_type

    def _copy_decompressed(self, file: IO[bytes], plain: Path, file_type: FileType) -> DecompressedImport:
        """Copy the file decompressed, with its side files."""
        size = os.fstat(file.fileno()).st_size
        file_system = os.statvfs(self._temp_dir)
        free_space = file_system.f_bavail * file_system.f_frsize // RESERVED_SHARE * (RESERVED_SHARE - 1)
        limit = (
            max(MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO * size)
            if file_type.compress != "none"
            else max(1, size)
        )
        with self._translate_errors():
            try:
                decompressed = compression.decompress_import(
                    file,
                    self._path,
                    plain,
                    file_type.compress,
                    max_bytes=min(limit, free_space),
                    target=self._name,
                    advance=self._advance,
                )
            except DecompressionLimitError:
                if file_type.compress == "none":
                    raise ChangedWhileReadError(target=self._name) from None
                if free_space < limit:
                    raise InsufficientSpaceError(
                        place=self._temp_dir, required=free_space + 1, free=free_space
                    ) from None
                raise
        if file_type.content == "sqlite" and file_type.compress == "none":
            for suffix in SIDE_FILE_SUFFIXES:
                side_file = Path(f"{self._path}{suffix}")
                if atomic.is_regular(side_file) and side_file.stat().st_size:
                    atomic.copy_file(side_file, Path(f"{plain}{suffix}"))
                    self._remarks.append(f"{self._name}: includes the rows in {side_file.name}")
        return decompressed

    def _refuse_open(self, file_type: FileType) -> None:
        if file_type.content != "sqlite" or file_type.compress != "none":
            return
        with suppress(NotSupportedError):  # not supported by the system; changes are detected anyway
            if holders := list_lock_holders(Path(os.path.realpath(self._path))):
                processes = ", ".join(f"pid {holder.pid} ({holder.command})" for holder in holders)
                raise BusyError(target=self._name, holder=f" by {processes}, which has it open", waited="0")

    def _refuse_changed(self, before: os.stat_result, file: IO[bytes]) -> None:
        for after in (os.fstat(file.fileno()), self._path.stat()):
            if _identity(after) != _identity(before):
                raise ChangedWhileReadError(target=self._name)

    @contextmanager
    def _make_temp_dir(self, _need: int) -> Iterator[Path]:
        """Yield a temporary folder inside the existing one, which has enough space."""
        folder = self._temp_dir / "read"
        folder.mkdir(mode=0o700)
        yield folder

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate errors of a damaged database into errors of the file, with different hints."""
        try:
            yield
        except (CorruptError, NotADatabaseError, QueryFailedError) as error:
            reason = str(error.context.get("reason", error)).removeprefix(f"{self._path.name}: ")
            raise self._invalid_file_error(reason) from error

    def _invalid_file_error(self, reason: str) -> FileInvalidError:
        if self._content == "sqlite":
            return FileInvalidError(path=self._path, reason=reason, hint=RECOVER_HINT)
        if self._content in ENGINES and self._content not in COMPLETE_CONTENTS:
            return FileInvalidError(path=self._path, reason=reason, hint=DUMP_AGAIN_HINT)
        return FileInvalidError(path=self._path, reason=reason)

    def _load_for_trial(self, member: Member, file: Path) -> DumpVerification | None:
        """Load the dump for trial; return None if the environment does not allow it."""
        # A partial dump may require types of its database.
        server = self._app.url(member.database) if member.only else trial_server(self._app, member)
        timeout = self._app.timeout
        try:
            with registry.load_engine(member.engine).trial_restore(
                server, file, member.dump, self._name, timeout=timeout
            ) as trial:
                verification, remarks = trial.verification, trial.remarks
        except ForeignDumpRefusedError:
            raise
        except ENVIRONMENT_ERRORS as error:
            self._remarks.append(f"{self._name}: not loaded for trial: {error}")
            return None
        except DbctlError as error:
            raise self._invalid_file_error(f"it cannot be loaded: {error}") from error
        self._remarks += remarks
        return verification

    def _detect_time(self, status: os.stat_result) -> DetectedTime:
        if self._created_at is not None:
            return DetectedTime(timestamp=self._created_at, source="option", description="--at")
        return detect_time(
            self._source_name, status.st_mtime, is_utc=is_dbctl_file_name(self._app, self._path)
        )

    def _build_manifest(
        self,
        file_type: FileType,
        file: Path,
        imported: ImportedDump,
        verification: DumpVerification,
        database: str,
        decompressed: DecompressedImport,
        time: DetectedTime,
    ) -> Manifest:
        stored = hash_blocks(atomic.read_blocks(file))
        dump_facts = {} if file_type.content in COMPLETE_CONTENTS else {CONTENT_FACT: file_type.content}
        member = Member(
            database=database,
            file=file.name,
            bytes=stored.bytes,
            sha256=stored.sha256,
            engine=file_type.engine,
            taken_at=time.timestamp,
            rows=verification.tables,
            schema=verification.schema,
            facts={**imported.metadata, **dump_facts},
            foreign=True,
        )
        return Manifest(
            id=str(self._path.resolve()),
            number=0,
            kind="backup",
            app=self._app.name,
            profile=self._app.profile.name,
            created_at=time.timestamp,
            verified_at=time.timestamp,
            host=os.uname().nodename,
            dbctl=__version__,
            origin=Origin(path=str(self._path.resolve()), sha256=decompressed.sha256, time=time.description),
            members=[member],
            left_out=(),
        )


class _ForeignFolder(_ForeignFile):
    """A folder of LanceDB tables, read in place."""

    def stage(self, folder: Path, *, trial: bool) -> StagedBackup:
        del trial  # it is read completely
        destination, before = folder / f"{_shorten_name(self._path.name)}.tar", self._path.stat()
        file_type = FileType(content="lancedb", compress="none")
        with self._translate_errors():
            imported = registry.load_engine(file_type.engine).import_folder(
                self._path, destination, self._name
            )
            verification = self._verify_import(file_type.engine, destination, imported)
        database = detect_database(self._app, file_type.engine, verification.tables, self._path)
        stored = hash_blocks(atomic.read_blocks(destination))
        decompressed = DecompressedImport(sha256=stored.sha256, plain_bytes=stored.bytes)
        return StagedBackup(
            manifest=self._build_manifest(
                file_type,
                destination,
                imported,
                verification,
                database,
                decompressed,
                self._detect_time(before),
            ),
            description="a folder of LanceDB tables",
            remarks=[
                *imported.remarks,
                *_report_missing_tables(self._app, database, verification, self._path),
            ],
        )


def _report_missing_tables(
    app: App, database: str, verification: DumpVerification, path: Path
) -> Iterator[str]:
    """Yield a warning about live tables that the file lacks: it may be a partial dump."""
    if missing := find_missing_live_tables(app, database, verification.tables):
        yield f"{path} lacks tables of {app.target(database)}: {', '.join(missing)}"


def find_missing_live_tables(app: App, database: str, tables: Mapping[str, int]) -> list[str]:
    """Return the live tables that are not in ``tables``; empty if the database cannot be read."""
    with suppress(DbctlError):  # a missing or damaged database is a reason for restoring
        live = list_dump_tables(app.reader(database, allow_empty=True, familiar_tables=tables))
        return sorted(name for name in live if name not in tables)
    return []


def is_dbctl_file_name(app: App, path: Path) -> bool:
    """Whether the file has a name by dbctl, with a UTC time, and not one documented by the app."""
    if ID.fullmatch(path.parent.name):
        return True
    dbctl_prefixes = {member_file_name(app, name, "*").partition("*")[0] for name in app.profile.databases}
    documented_prefixes = tuple(
        pattern.name.partition("{time}")[0]
        for pattern in app.profile.backup.foreign
        if "{time}" in pattern.name
    )
    return path.name.startswith(tuple(dbctl_prefixes)) and not path.name.startswith(documented_prefixes)


def detect_database(app: App, engine: str, tables: Mapping[str, int], path: Path) -> str:
    """Return the database of the app to which a file belongs, by its engine and tables.

    Raises:
        FileNotRestorableError: no database of the app uses the engine.
        WrongAppError: required tables are missing.
        UsageError: it matches several databases.
    """
    databases = {name: database for name, database in app.profile.databases.items() if app.only in ("", name)}
    engines = {
        name: app.configured.databases[name].engine for name in databases if name in app.configured.databases
    }
    if list(app.configured.databases) == ["main"] and app.main() in databases:
        engines[app.main()] = app.configured.databases["main"].engine
    matches = [name for name, database_engine in engines.items() if database_engine == engine]
    if not matches:
        names = ", ".join(
            f"{name} in {registry.engine_title(database_engine)}" for name, database_engine in engines.items()
        )
        raise FileNotRestorableError(
            path=path,
            reason=f"its engine is {registry.engine_title(engine)}",
            hint=f"{app.name} uses {names or 'no configured database'}. Import rows from other sources with: dbctl data import",
        )
    complete = [name for name in matches if all(table in tables for table in databases[name].needs)]
    if len(complete) == 1:
        return complete[0]
    if not complete:
        name = matches[0]
        missing = [table for table in databases[name].needs if table not in tables]
        description = f"table {', '.join(missing)}" if tables else "every table"
        partial_hint = "A partial dump can only restore tables that the database has."
        raise WrongAppError(
            target=path,
            profile=app.profile.title,
            missing=description,
            hint=f"Nothing was changed. {find_wrong_app_hint(databases[name], tables) or partial_hint}",
        )
    raise UsageError(
        detail=f"{path} matches {' and '.join(complete)}: select one with --db {' or --db '.join(complete)}"
    )


def _find_partial_match(app: App, engine: str, tables: Mapping[str, int]) -> str:
    """Return the only server database that has all of the tables; empty without a unique match."""
    matches = list[str]()
    for name in app.profile.databases:
        if tables and app.only in ("", name):
            with suppress(DbctlError):  # an unreadable database does not match
                live = app.reader(name)
                dumps = live.part(Dumps)
                if app.url(name).engine == engine and dumps and dumps.supports_partial:
                    matches += [name] if live.tables().keys() >= tables.keys() else []
    return matches[0] if len(matches) == 1 else ""


def _shorten_name(name: str) -> str:
    """Return a name that is short enough for the suffixes of SQLite side files."""
    return name if len(os.fsencode(name)) <= MAX_NAME_BYTES else "file"


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
