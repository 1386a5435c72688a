"""Import a foreign file: copy it decompressed, detect its content, and let its engine convert and verify it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import DumpVerification
from dbctl.engines.file_locks import list_lock_holders
from dbctl.engines.file_type import HINTS, TITLES, FileType, detect_file_type
from dbctl.errors import (
    BusyError,
    ChangedWhileReadError,
    DbctlError,
    DecompressionLimitError,
    FileFailedError,
    FileInvalidError,
    FileNotRestorableError,
    ForeignDumpRefusedError,
    InsufficientSpaceError,
    NotSupportedError,
    WrongAppError,
)
from dbctl.files import DecompressedImport, atomic, compression
from dbctl.services.backup.foreign.dump_import import DumpImport, StagedBackup, shorten_name
from dbctl.services.backup.foreign.matching import detect_database, find_partial_match, report_missing_tables
from dbctl.services.backup.manifest import Member
from dbctl.services.backup.sources import ByteProgress
from dbctl.services.backup.verify import ENVIRONMENT_ERRORS, trial_server

#: Limit of the decompressed size: this number of bytes or, if larger, this multiple of the compressed size.
MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO = 64 << 20, 100
#: Decompression leaves one tenth of the free space unused.
RESERVED_SHARE = 10
#: Side files of a SQLite database that contain committed rows.
SIDE_FILE_SUFFIXES = ("-wal", "-journal")


class ForeignFile:
    """A file that another program created."""

    def __init__(self, dump_import: DumpImport, advance: ByteProgress) -> None:
        """Set the file; ``advance`` receives the number of bytes read since the last call."""
        self._import, self._advance, self._remarks = dump_import, advance, list[str]()
        self._app, self._path, self._name = dump_import.app, dump_import.path, dump_import.name
        self._temp_dir = dump_import.temp_dir

    def stage(self, folder: Path, *, trial: bool) -> StagedBackup:
        """Read and verify the file, and write the result into ``folder``."""
        plain, destination = self._temp_dir / "plain", folder / shorten_name(self._path.name)
        try:
            with atomic.open_regular(self._path) as file:
                before = os.fstat(file.fileno())
                file_type = self._detect_type()
                self._refuse_open(file_type)
                decompressed = self._copy_decompressed(file, plain, file_type)
                self._refuse_changed(before, file)
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        with self._import.translate_errors():
            limit = max(MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO * decompressed.plain_bytes)
            imported = registry.load_engine(file_type.engine).import_dump(
                file_type.content, plain, destination, self._name, max_bytes=limit
            )
            verification = self._import.verify(file_type.engine, destination, imported)
        database, is_partial = self._detect_database(file_type.engine, verification.tables)
        time = self._import.detect_time(before)
        member = self._import.describe_member(file_type, destination, imported, verification, database, time)
        if is_partial:
            member = structs.replace(member, only=list(verification.tables))
        # Only a server can check the rest.
        trial_result = (
            self._load_for_trial(member, destination) if trial and not verification.schema else None
        )
        if trial_result is not None:
            member = structs.replace(member, schema=trial_result.schema)
        return StagedBackup(
            manifest=self._import.create_manifest(member, decompressed.sha256, time),
            description=file_type.description,
            remarks=[
                *self._remarks,
                *imported.remarks,
                *(() if is_partial else report_missing_tables(self._app, database, verification, self._path)),
            ],
            is_loaded=trial_result is not None,
        )

    def _detect_database(self, engine: str, tables: Mapping[str, int]) -> tuple[str, bool]:
        """Return the database to which the file belongs, and whether it has only some of its tables."""
        try:
            return detect_database(self._app, engine, tables, self._path), False
        except WrongAppError:
            if database := find_partial_match(self._app, engine, tables):
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
        self._import.content = file_type.content
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
        with self._import.translate_errors():
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
            raise self._import.create_invalid_error(f"it cannot be loaded: {error}") from error
        self._remarks += remarks
        return verification


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
