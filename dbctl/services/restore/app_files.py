"""``restore files``: extract the app files of a backup, or an archive, into a new folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dbctl.engines.file_type import detect_file_type
from dbctl.errors.backup import FileInvalidError, FileNotRestorableError
from dbctl.errors.connection import CorruptError, FileFailedError, FileMissingError
from dbctl.files import atomic, compression, tar
from dbctl.model import ChangeResult, Effect, Plan, format_count
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import open_reader, open_temp_dir
from dbctl.services.backup.named_files import decompression_limit, stat_file
from dbctl.services.backup.repository import Repository


class FilesRestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore files``."""

    is_timed = True

    source: str  #: id of the backup, or path of the archive
    path: Path  #: the new folder
    files: int
    bytes: int
    left_out: Sequence[str]  #: links, which are not created: ``name -> target``

    @property
    def effect(self) -> Effect | None:
        place, counts = f"of {self.source} to {self.path}", {"links not created": len(self.left_out)}
        return Effect("restored", "file", count=self.files, place=place, counts=counts, bytes=self.bytes)

    @property
    def remarks(self) -> Sequence[str]:
        if not self.left_out:
            return ()
        return [f"{format_count(len(self.left_out), 'link')} not created: {', '.join(self.left_out)}"]


class RestoreFiles(BackupOperation):
    """Extract the files of a backup or an archive into a new folder."""

    def __init__(
        self, repository: Repository, source: Manifest | Path, to: Path, keys: DecryptionKeys
    ) -> None:
        """Find the archive.

        Raises:
            FileMissingError: the backup contains no app files, or the archive does not exist.
            FileUnsafeError: other users can write to the archive.
        """
        if isinstance(source, Path):
            stat_file(source)
        super().__init__(repository)
        self._source, self._folder, self._keys = source, Path.cwd() / to, keys
        self._name = str(source) if isinstance(source, Path) else source.id
        self._member = None if isinstance(source, Path) else _find_member(source)
        #: whether this app created the archive, whose files may be many, nested deeply, or mostly zeros
        self._is_own = self._member is not None and not self._member.foreign

    def plan(self) -> Plan:
        """Return the archive and the new folder; writes nothing."""
        if self._member is None:
            step = f"extract {self._name}"
        else:
            files = format_count(int(self._member.facts.get("files", 0)), "file")
            step = f"extract {self._member.file} of {self._name} ({files}, {self._member.bytes:,} bytes compressed)"
        title = f"Extract files into {self._folder}"
        steps = [f"{step} into the new folder {self._folder}, without links"]
        return self._create_plan(title, steps)

    def apply(self, confirmed: str | None = None) -> FilesRestoreResult:
        """Extract the files; on failure the folder is not created.

        Raises:
            CorruptError: the backup is damaged.
            FileNotRestorableError: the file is not an archive.
            As ``tar.extract``.
        """
        del confirmed  # no confirmation: nothing is destroyed
        store, members = self._repository.store, [self._member] if self._member else []
        with (
            self._archive() as archive,
            open_temp_dir(store, self._keys, members, archive.stat().st_size) as temp_dir,
        ):
            plain = temp_dir / "archive.tar"
            self._decompress(archive, plain)
            limits = {"max_members": sys.maxsize, "max_depth": sys.maxsize} if self._is_own else {}
            size = plain.stat().st_size
            extracted = tar.extract(plain, self._folder, name=self._name, max_bytes=size, **limits)
        return FilesRestoreResult(
            source=self._name,
            path=self._folder,
            files=extracted.files,
            bytes=extracted.bytes,
            left_out=extracted.skipped_links,
        )

    @contextmanager
    def _archive(self) -> Iterator[Path]:
        if isinstance(self._source, Path):
            yield self._source
            return
        store, member = self._repository.store, self._member or _find_member(self._source)
        with open_reader(store, self._keys) as reader:
            yield reader.decode_verified(self._source, member, self.target)

    def _decompress(self, archive: Path, plain: Path) -> None:
        try:
            with atomic.open_regular(archive) as file:
                file_type = detect_file_type(archive)
                if file_type.content not in ("tar", "lancedb", "unknown", "empty"):
                    raise FileNotRestorableError(
                        path=self._name,
                        reason=f"it is {file_type.description}",
                        hint="It contains no files to extract.",
                    )
                max_bytes = sys.maxsize if self._is_own else decompression_limit(archive.stat().st_size)
                compression.decompress_import(
                    file, archive, plain, file_type.compress, max_bytes=max_bytes, target=self._name
                )
        except CorruptError as error:
            raise FileInvalidError(path=self._name, reason=error.context["reason"]) from error
        except OSError as error:
            raise FileFailedError(path=archive, reason=error.strerror or str(error)) from error


def _find_member(manifest: Manifest) -> Member:
    for member in manifest.members:
        if member.form == "files":
            return member
    raise FileMissingError(kind="archive of the app's own files in backup", path=manifest.id)
