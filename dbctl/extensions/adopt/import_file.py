"""Import a foreign file or folder: copy it decompressed, and let its engine convert and verify it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TypeVar

from msgspec import structs

from dbctl import __version__
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Content, Dump, DumpVerification, LoadRequest
from dbctl.engines.contract.engine import DumpImport, FolderImport, ImportedDump, VerifyOptions
from dbctl.engines.file_locks import list_lock_holders
from dbctl.engines.file_type import ENGINES, HINTS, TITLES, FileType, detect_file_type
from dbctl.errors.backup import (
    DecompressionLimitError,
    DumpOverreachesError,
    FileInvalidError,
    FileNotRestorableError,
    ForeignDumpRefusedError,
)
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    BusyError,
    ChangedWhileReadError,
    CorruptError,
    InsufficientSpaceError,
    NotADatabaseError,
    QueryFailedError,
    report_file_errors,
)
from dbctl.errors.usage import NotSupportedError, WrongAppError
from dbctl.extensions.adopt.discovery import (
    SIDE_FILE_SUFFIXES,
    detect_database,
    find_partial_match,
    is_dbctl_file_name,
)
from dbctl.extensions.adopt.timestamps import DetectedTime, detect_time
from dbctl.files import atomic, compression
from dbctl.files.atomic import FileDigest, hash_blocks
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Manifest, Member, Origin
from dbctl.services.backup.named_files import (
    CONTENT_FACT,
    StagedBackup,
    decompression_limit,
    find_missing_live_tables,
)
from dbctl.services.backup.verifier import ENVIRONMENT_ERRORS, trial_server

P = TypeVar("P")
#: Decompression leaves one tenth of the free space unused.
RESERVED_SHARE = 10
#: Bytes of a file name that leave space for the suffixes of SQLite side files.
MAX_NAME_BYTES = 200
#: Types of content that always include every table of their database.
COMPLETE_CONTENTS: Collection[Content] = ("sqlite", "lancedb")
#: Hints for invalid files by type of content.
RECOVER_HINT = Remedy("Salvage a damaged SQLite database with: `restore recover --from FILE`")
DUMP_AGAIN_HINT = Remedy("{advice}Create it again, or use another backup; list backups with: `backup list`")


class _ConvertedFile(Struct, frozen=True, kw_only=True):
    """A foreign file or folder in the format of a dump of its engine."""

    path: Path
    file_type: FileType
    description: str
    imported: ImportedDump
    status: os.stat_result  #: of the original
    sha256: str  #: of the decompressed original with its side files; empty: that of ``path``


class ForeignImport:
    """The import of one file or folder that another program created."""

    def __init__(
        self, app: App, path: Path, temp_dir: Path, created_at: datetime | None, *, source_name: str
    ) -> None:
        """Set the options; ``temp_dir`` is a private folder with space for the content of ``path``.

        The time of the backup is ``created_at``, otherwise that in ``source_name``, the name of the user's path, or the modification time.
        """
        self._app, self._path, self._temp_dir = app, path, temp_dir
        self._created_at, self._source_name = created_at, source_name
        self._name = str(path)  #: for messages
        self._content: Content = "unknown"  #: the type of its content, once it is detected
        self._remarks = list[str]()

    def stage(self, folder: Path, *, trial: bool) -> StagedBackup:
        """Read and verify the file, and write the result into ``folder``; ``trial``: also load it into a server."""
        convert = self._convert_folder if self._path.is_dir() else self._convert_file
        with self._translate_errors():
            converted = convert(folder)
            verification = self._verify(converted)
        engine, tables = converted.file_type.engine, verification.tables
        database, is_partial = self._detect_database(engine, tables)
        time = self._detect_time(converted.status)
        stored = hash_blocks(atomic.read_blocks(converted.path))
        content = converted.file_type.content
        dump_facts = {} if content in COMPLETE_CONTENTS else {CONTENT_FACT: content}
        member = Member(
            database=database,
            file=converted.path.name,
            bytes=stored.bytes,
            sha256=stored.sha256,
            only=list(tables) if is_partial else (),
            engine=engine,
            taken_at=time.timestamp,
            rows=tables,
            schema=verification.schema,
            facts={**converted.imported.metadata, **dump_facts},
            foreign=True,
        )
        # Only a server can check the rest.
        needs_trial = trial and not verification.schema and not self._path.is_dir()
        loaded = self._load_for_trial(member, converted.path) if needs_trial else None
        if loaded is not None:
            member = structs.replace(member, schema=loaded.schema)
        self._remarks += converted.imported.remarks
        missing = [] if is_partial else find_missing_live_tables(self._app, database, tables)
        if missing:  # it may be a partial dump
            self._remarks.append(
                f"{self._path} lacks tables of {self._app.target(database)}: {', '.join(missing)}"
            )
        return StagedBackup(
            manifest=self._create_manifest(member, converted.sha256 or stored.sha256, time),
            description=converted.description,
            remarks=self._remarks,
            is_loaded=loaded is not None,
        )

    def _convert_folder(self, folder: Path) -> _ConvertedFile:
        """Write an archive of a folder of LanceDB tables, which is read in place."""
        destination, status = folder / f"{self._file_name()}.tar", self._path.stat()
        file_type = FileType(content="lancedb", compress="none")
        return _ConvertedFile(
            path=destination,
            file_type=file_type,
            description="a folder of LanceDB tables",
            imported=self._find_part(file_type, FolderImport).import_folder(
                self._path, destination, self._name
            ),
            status=status,
            sha256="",
        )

    def _convert_file(self, folder: Path) -> _ConvertedFile:
        """Copy the file decompressed, and let its engine convert the copy."""
        plain, destination = self._temp_dir / "plain", folder / self._file_name()
        with report_file_errors(self._path), atomic.open_regular(self._path) as file:
            before = os.fstat(file.fileno())
            file_type = self._detect_type()
            self._refuse_open(file_type)
            decompressed = self._copy_decompressed(file, plain, file_type)
            for after in (os.fstat(file.fileno()), self._path.stat()):
                if _identity(after) != _identity(before):
                    raise ChangedWhileReadError(target=self._name)
        return _ConvertedFile(
            path=destination,
            file_type=file_type,
            description=file_type.description,
            imported=self._find_part(file_type, DumpImport).import_dump(
                file_type.content,
                plain,
                destination,
                self._name,
                max_bytes=decompression_limit(decompressed.bytes),
            ),
            status=before,
            sha256=decompressed.sha256,
        )

    def _find_part(self, file_type: FileType, kind: type[P]) -> P:
        """Return the part of the engine that converts the file.

        Raises:
            NotSupportedError: the engine has none, or its extension is not installed.
        """
        engine = registry.load_engine(file_type.engine)
        if part := engine.extension_part(kind):
            return part
        raise NotSupportedError(
            feature=f"reading {self._name} as a backup",
            subject=f"this installation of dbctl for {engine.title}",
            hint="Install all of dbctl.",
        )

    def _file_name(self) -> str:
        name = self._path.name
        return name if len(os.fsencode(name)) <= MAX_NAME_BYTES else "file"

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate errors of a damaged database into errors of the file, with different hints."""
        try:
            yield
        except (CorruptError, NotADatabaseError, QueryFailedError) as error:
            reason = str(error.context.get("reason", error)).removeprefix(f"{self._path.name}: ")
            raise self._create_invalid_error(reason) from error

    def _create_invalid_error(self, reason: str, hint: str = "") -> FileInvalidError:
        """Return the error of an invalid file, with the hint for its content; ``hint`` precedes that for dumps."""
        if self._content == "sqlite":
            return FileInvalidError(path=self._path, reason=reason, hint=RECOVER_HINT)
        if self._content in ENGINES and self._content not in COMPLETE_CONTENTS:
            return FileInvalidError(
                path=self._path, reason=reason, hint=DUMP_AGAIN_HINT, advice=hint and f"{hint} "
            )
        return FileInvalidError(path=self._path, reason=reason)

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
                path=self._path, reason=f"it is {TITLES[file_type.content]}", hint=HINTS[file_type.content]
            )
        return file_type

    def _refuse_open(self, file_type: FileType) -> None:
        if file_type.content != "sqlite" or file_type.compress != "none":
            return
        with suppress(NotSupportedError):  # not supported by the system; changes are detected anyway
            if holders := list_lock_holders(Path(os.path.realpath(self._path))):
                processes = ", ".join(f"pid {holder.pid} ({holder.command})" for holder in holders)
                raise BusyError(target=self._name, holder=f" by {processes}, which has it open", waited="0")

    def _copy_decompressed(self, file: IO[bytes], plain: Path, file_type: FileType) -> FileDigest:
        """Copy the file decompressed, with its side files."""
        is_compressed, size = file_type.compress != "none", os.fstat(file.fileno()).st_size
        file_system = os.statvfs(self._temp_dir)
        free_space = file_system.f_bavail * file_system.f_frsize // RESERVED_SHARE * (RESERVED_SHARE - 1)
        limit = decompression_limit(size) if is_compressed else max(1, size)
        try:
            decompressed = compression.decompress_import(
                file,
                self._path,
                plain,
                file_type.compress,
                max_bytes=min(limit, free_space),
                target=self._name,
            )
        except DecompressionLimitError:
            if not is_compressed:
                raise ChangedWhileReadError(target=self._name) from None
            if free_space < limit:
                required = free_space + 1
                raise InsufficientSpaceError(
                    place=self._temp_dir, required=required, free=free_space
                ) from None
            raise
        for suffix in SIDE_FILE_SUFFIXES if file_type.content == "sqlite" and not is_compressed else ():
            side_file = Path(f"{self._path}{suffix}")
            if os.path.isfile(side_file) and side_file.stat().st_size:
                atomic.copy_file(side_file, Path(f"{plain}{suffix}"))
                side = hash_blocks(atomic.read_blocks(Path(f"{plain}{suffix}")))
                both = f"{decompressed.sha256}\n{side.sha256}".encode()
                # a file of which another backup has no side file, or another one, is not the same
                decompressed = structs.replace(decompressed, sha256=hash_blocks([both]).sha256)
                self._remarks.append(f"{self._name}: includes the rows in {side_file.name}")
        return decompressed

    def _verify(self, converted: _ConvertedFile) -> DumpVerification:
        """Verify the converted dump completely; raises CorruptError if it has a problem."""
        dump = Dump(metadata=converted.imported.metadata, tables={}, schema="")
        engine = registry.load_engine(converted.file_type.engine)
        options = VerifyOptions(quick=False, make_temp_dir=self._make_temp_dir)
        verification = engine.verify_dump(converted.path, dump, self._name, options)
        if verification.problems:
            raise CorruptError(target=self._name, reason=verification.problems[0])
        return verification

    @contextmanager
    def _make_temp_dir(self, _need: int) -> Iterator[Path]:
        """Yield a temporary folder inside the existing one, which has enough space."""
        folder = self._temp_dir / "read"
        folder.mkdir(mode=0o700)
        yield folder

    def _detect_database(self, engine: str, tables: Mapping[str, int]) -> tuple[str, bool]:
        """Return the database to which the file belongs, and whether it has only some of its tables."""
        try:
            return detect_database(self._app, engine, tables, self._path), False
        except WrongAppError:
            if database := find_partial_match(self._app, engine, tables):
                return database, True
            raise

    def _detect_time(self, status: os.stat_result) -> DetectedTime:
        """Return the time of the backup; ``status`` is that of the original."""
        if self._created_at is not None:
            return DetectedTime(self._created_at, "--at")
        is_utc = is_dbctl_file_name(self._app, self._path)
        return detect_time(self._source_name, status.st_mtime, is_utc=is_utc)

    def _load_for_trial(self, member: Member, file: Path) -> DumpVerification | None:
        """Load the dump for trial; return None if the environment does not allow it."""
        server = trial_server(self._app, member)
        try:
            request = LoadRequest(path=file, dump=member.dump, timeout=self._app.timeout)
            with registry.load_engine(member.engine).trial_restore(server, request, self._name) as trial:
                verification, remarks = trial.verification, trial.remarks
        except ForeignDumpRefusedError:
            raise
        except ENVIRONMENT_ERRORS as error:
            self._remarks.append(f"{self._name}: not loaded for trial: {error}")
            return None
        except DbctlError as error:
            hint = str(error.context["hint"]) if isinstance(error, DumpOverreachesError) else ""
            raise self._create_invalid_error(f"it cannot be loaded: {error}", hint) from error
        self._remarks += remarks
        return verification

    def _create_manifest(self, member: Member, sha256: str, time: DetectedTime) -> Manifest:
        """Return the manifest of a backup with one member; ``sha256`` is that of the original."""
        path = str(self._path.resolve())
        return Manifest(
            id=path,
            number=0,
            kind="partial" if member.only else "backup",
            app=self._app.name,
            profile=self._app.profile.name,
            created_at=time.timestamp,
            verified_at=time.timestamp,
            host=os.uname().nodename,
            dbctl=__version__,
            origin=Origin(path=path, sha256=sha256, time=time.description),
            members=[member],
            left_out=(),
        )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
