"""Steps that the import of a file and of a folder share: verify what an engine has imported, and describe it as a backup."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from dbctl import __version__
from dbctl.engines import registry
from dbctl.engines.contract import Content, Dump, DumpVerification, ImportedDump
from dbctl.engines.file_type import ENGINES, FileType
from dbctl.errors import CorruptError, FileInvalidError, NotADatabaseError, QueryFailedError
from dbctl.files import atomic
from dbctl.model import Struct
from dbctl.services.app import App
from dbctl.services.backup.foreign.matching import CONTENT_FACT, is_dbctl_file_name
from dbctl.services.backup.foreign.timestamps import DetectedTime, detect_time
from dbctl.services.backup.manifest import Manifest, Member, Origin
from dbctl.stores import hash_blocks

MAX_NAME_BYTES = 200  #: bytes
#: Types of content that always include every table of their database.
COMPLETE_CONTENTS: Collection[Content] = ("sqlite", "lancedb")
#: Hints for invalid files by type of content.
RECOVER_HINT = "Salvage a damaged SQLite database with: dbctl restore recover --from FILE"
DUMP_AGAIN_HINT = "Create the dump again, or use another backup: dbctl backup list. Remove statements that no dump program writes."


class StagedBackup(Struct, frozen=True, kw_only=True):
    """A foreign file or folder as a backup."""

    manifest: Manifest
    description: str
    remarks: Sequence[str]  #: warnings for the user
    is_loaded: bool = False  #: whether a server has loaded it


class DumpImport:
    """The import of one file or folder."""

    def __init__(
        self, app: App, path: Path, temp_dir: Path, created_at: datetime | None, *, source_name: str
    ) -> None:
        """Set the options.

        Args:
            app: the app.
            path: the file or folder.
            temp_dir: a private folder with space for its content.
            created_at: time of the backup; None: from ``source_name`` or the modification time.
            source_name: name of the path of the user, which may contain a time.
        """
        self.app, self.path, self.temp_dir = app, path, temp_dir
        self._created_at, self._source_name = created_at, source_name
        self.name = str(path)  #: for messages
        self.content: Content = "unknown"  #: the type of its content, once it is detected

    def verify(self, engine: str, destination: Path, imported: ImportedDump) -> DumpVerification:
        """Verify the imported dump completely.

        Raises:
            CorruptError: the dump has a problem.
        """
        dump = Dump(metadata=imported.metadata, tables={}, schema="")
        verification = registry.load_engine(engine).verify_dump(
            destination, dump, self.name, quick=False, make_temp_dir=self._make_temp_dir
        )
        if verification.problems:
            raise CorruptError(target=self.name, reason=verification.problems[0])
        return verification

    @contextmanager
    def _make_temp_dir(self, _need: int) -> Iterator[Path]:
        """Yield a temporary folder inside the existing one, which has enough space."""
        folder = self.temp_dir / "read"
        folder.mkdir(mode=0o700)
        yield folder

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate errors of a damaged database into errors of the file, with different hints."""
        try:
            yield
        except (CorruptError, NotADatabaseError, QueryFailedError) as error:
            reason = str(error.context.get("reason", error)).removeprefix(f"{self.path.name}: ")
            raise self.create_invalid_error(reason) from error

    def create_invalid_error(self, reason: str) -> FileInvalidError:
        """Return the error of an invalid file, with the hint for its content."""
        if self.content == "sqlite":
            return FileInvalidError(path=self.path, reason=reason, hint=RECOVER_HINT)
        if self.content in ENGINES and self.content not in COMPLETE_CONTENTS:
            return FileInvalidError(path=self.path, reason=reason, hint=DUMP_AGAIN_HINT)
        return FileInvalidError(path=self.path, reason=reason)

    def describe_member(
        self,
        file_type: FileType,
        file: Path,
        imported: ImportedDump,
        verification: DumpVerification,
        database: str,
        time: DetectedTime,
    ) -> Member:
        """Return the imported dump as a member of a backup.

        Args:
            file_type: the type of the original.
            file: the imported dump.
            imported: its description by the engine.
            verification: its verification.
            database: the database to which it belongs.
            time: the time of the backup.
        """
        stored = hash_blocks(atomic.read_blocks(file))
        dump_facts = {} if file_type.content in COMPLETE_CONTENTS else {CONTENT_FACT: file_type.content}
        return Member(
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

    def create_manifest(self, member: Member, sha256: str, time: DetectedTime) -> Manifest:
        """Return the manifest of a backup with one member; ``sha256`` is that of the original."""
        path = str(self.path.resolve())
        return Manifest(
            id=path,
            number=0,
            kind="partial" if member.only else "backup",
            app=self.app.name,
            profile=self.app.profile.name,
            created_at=time.timestamp,
            verified_at=time.timestamp,
            host=os.uname().nodename,
            dbctl=__version__,
            origin=Origin(path=path, sha256=sha256, time=time.description),
            members=[member],
            left_out=(),
        )

    def detect_time(self, status: os.stat_result) -> DetectedTime:
        """Return the time of the backup; ``status`` is that of the original."""
        if self._created_at is not None:
            return DetectedTime(timestamp=self._created_at, source="option", description="--at")
        return detect_time(self._source_name, status.st_mtime, is_utc=is_dbctl_file_name(self.app, self.path))


def shorten_name(name: str) -> str:
    """Return a name that is short enough for the suffixes of SQLite side files."""
    return name if len(os.fsencode(name)) <= MAX_NAME_BYTES else "file"
