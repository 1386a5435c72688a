"""Write the files of a new backup except its manifest, all plain or all encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dbctl.errors import FileFailedError
from dbctl.files import Encrypt, Progress, ProtectedKey, age, atomic, compression, create_file, no_progress
from dbctl.model import Compression, Struct, now
from dbctl.services.backup.encryption import EncryptionPolicy
from dbctl.services.backup.manifest import Encryption, Member
from dbctl.stores import FolderWriter


class MemberFile(Struct, frozen=True, kw_only=True):
    """A file in a backup: these fields of its ``Member``."""

    file: str
    bytes: int
    sha256: str
    encryption: Encryption = "none"
    inner_bytes: int = 0
    inner_sha256: str = ""


@contextmanager
def open_writer(
    folder: FolderWriter, name: str, encryption: EncryptionPolicy | None, need: int
) -> Iterator[BackupWriter]:
    """Open a writer for the files of the backup ``name``.

    With encryption, plain files are written to a private local folder with space for ``need`` bytes, because other users
    may read the repository.

    Raises:
        InsufficientSpaceError, RepositoryFailedError, RepositoryUnsafeError: this folder cannot be created.
    """
    if not encryption:
        yield BackupWriter(folder, name)
        return
    with encryption.staging.folder(need) as staging_dir:
        yield EncryptedBackupWriter(folder, name, encryption, staging_dir)


class BackupWriter:
    """Writer of plain files."""

    def __init__(self, folder: FolderWriter, name: str) -> None:
        self._folder, self.name = folder, name  #: the id of the backup

    def path_for(self, file: str) -> Path:
        """Return the path at which to create a file for ``store`` or ``compress``."""
        return self._folder.local_path(file)

    def store(self, file: str, sha256: str = "") -> MemberFile:
        """Store the file created at its path; without ``sha256``, it is read to compute the checksum."""
        stored = self._folder.store(file, sha256)
        return MemberFile(file=file, bytes=stored.bytes, sha256=stored.sha256)

    def copy(self, source: Path, file: str) -> MemberFile:
        """Store a copy of a file.

        Raises:
            FileFailedError: it cannot be read.
        """
        try:
            atomic.copy_file(source, self._folder.local_path(file))
        except OSError as error:
            raise FileFailedError(path=source, reason=error.strerror or str(error)) from error
        return self.store(file)

    def compress(
        self, plain: Path, file: str, form: Compression, progress: Progress = no_progress
    ) -> tuple[MemberFile, int]:
        """Store a compressed file; return also its uncompressed size in bytes."""
        compressed = compression.compress_file(plain, self._folder.local_path(file), form, progress)
        return self.store(file, compressed.sha256), compressed.plain_bytes

    def discard(self, file: str) -> None:
        """Delete a file that is not needed, stored or not."""
        self._folder.remove(file)

    def clean_up(self) -> None:
        """Delete temporary copies of stored files."""

    @property
    def recipients(self) -> list[str]:
        """The recipients of the encrypted files."""
        return []

    def write_key(self) -> list[Member]:
        """Store the key of this backup, if it has its own key."""
        return []


class EncryptedBackupWriter(BackupWriter):
    """Writer of encrypted files."""

    def __init__(
        self, folder: FolderWriter, name: str, encryption: EncryptionPolicy, staging_dir: Path
    ) -> None:
        super().__init__(folder, name)
        self._policy, self._staging_dir = encryption, staging_dir
        self._key: ProtectedKey | None = encryption.create_key()
        recipients = encryption.recipients(self._key)
        self._encrypt: Encrypt = partial(age.encrypt, recipients=recipients)

    def path_for(self, file: str) -> Path:
        return self._staging_dir / file

    def store(self, file: str, sha256: str = "") -> MemberFile:
        del sha256  # of the plain file
        return self.copy(self.path_for(file), file)

    def copy(self, source: Path, file: str) -> MemberFile:
        return self.compress(source, file, "none")[0]

    def compress(
        self, plain: Path, file: str, form: Compression, progress: Progress = no_progress
    ) -> tuple[MemberFile, int]:
        encrypted_name = f"{file}{age.SUFFIX}"
        compressed = compression.compress_file(
            plain, self._folder.local_path(encrypted_name), form, progress, encrypt=self._encrypt
        )
        stored = self._folder.store(encrypted_name, compressed.sha256)
        member_file = MemberFile(
            file=encrypted_name,
            bytes=stored.bytes,
            sha256=stored.sha256,
            encryption="age",
            inner_bytes=compressed.inner_bytes,
            inner_sha256=compressed.inner_sha256,
        )
        return member_file, compressed.plain_bytes

    def discard(self, file: str) -> None:
        self.path_for(file).unlink(missing_ok=True)
        self._folder.remove(f"{file}{age.SUFFIX}")

    def clean_up(self) -> None:
        for path in self._staging_dir.iterdir():
            path.unlink()

    @property
    def recipients(self) -> list[str]:
        return [self._key.recipient] if self._key else self._policy.recipient_names

    def write_key(self) -> list[Member]:
        if self._key is None:
            return []
        file = f"key_{self.name}{age.SUFFIX}"
        with create_file(self._folder.local_path(file)) as output:
            output.write(self._key.file)
        stored = self._folder.store(file, output.sha256)
        return [
            Member(
                database="",
                file=file,
                bytes=stored.bytes,
                sha256=stored.sha256,
                form="key",
                engine="",
                taken_at=now(),
                rows={},
                schema="",
                facts={},
            )
        ]
