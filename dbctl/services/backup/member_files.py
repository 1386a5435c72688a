"""Read and write the files of backups: decrypted and decompressed when they are read, plain or encrypted when written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.errors.backup import RepositoryFailedError
from dbctl.errors.connection import CorruptError, FileFailedError, report_file_errors
from dbctl.errors.databases import TempSpaceFailedError
from dbctl.files import age, atomic, compression
from dbctl.files.atomic import FileDigest, create_file, hash_blocks, sync_file
from dbctl.files.compression import CompressedFile
from dbctl.model import Compression, now
from dbctl.progress import Progress, no_progress
from dbctl.services.backup import deltas
from dbctl.services.backup.encryption import DecryptionKeys, EncryptionPolicy
from dbctl.services.backup.manifest import Delta, Manifest, Member
from dbctl.stores.base import FolderWriter, Store

if TYPE_CHECKING:
    from dbctl.services.backup.streaming import StreamedFile


def _create_member(file: str, stored: FileDigest) -> Member:
    """Return a file as a member whose source adds what it contains."""
    return Member(
        file=file,
        bytes=stored.bytes,
        sha256=stored.sha256,
        database="",
        engine="",
        taken_at=now(),
        rows={},
        schema="",
        facts={},
    )


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
        yield BackupWriter(folder, name, encryption, staging_dir)


class BackupWriter:
    def __init__(
        self,
        folder: FolderWriter,
        name: str,
        encryption: EncryptionPolicy | None = None,
        staging_dir: Path | None = None,
    ) -> None:
        self._folder, self._staging_dir = folder, staging_dir
        self.name = name  #: the id of the backup
        self.recipients: list[str] = []  #: of the encrypted files
        self.key: age.ProtectedKey | None = None  #: of this backup alone
        self._encrypt, self._suffix, self._encryption = None, "", encryption
        if encryption:
            self.key = encryption.create_key()
            self.recipients = [self.key.recipient] if self.key else encryption.recipient_names
            self._encrypt = partial(age.encrypt, recipients=encryption.recipients(self.key))
            self._suffix = age.SUFFIX

    def path_for(self, file: str) -> Path:
        """Return the path at which to create a file for ``store`` or ``compress``."""
        return self._staging_dir / file if self._staging_dir else self._folder.local_path(file)

    def store(self, file: str, sha256: str = "") -> Member:
        """Store the file created at its path; without ``sha256``, it is read to compute the checksum."""
        if self._encrypt:
            return self.copy(self.path_for(file), file)
        return _create_member(file, self._folder.store(file, sha256))

    def copy(self, source: Path, file: str) -> Member:
        """Store a copy of a file.

        Raises:
            FileFailedError: it cannot be read.
        """
        return self.compress(source, file, "none")

    def compress(self, plain: Path, file: str, form: Compression, progress: Progress = no_progress) -> Member:
        """Store a compressed copy of a file."""
        destination = self._folder.local_path(f"{file}{self._suffix}")
        return self._store_compressed(
            file, form, compression.compress_file(plain, destination, form, progress, encrypt=self._encrypt)
        )

    def compress_blocks(self, blocks: Iterator[bytes], file: str, form: Compression) -> Member:
        """Store blocks as a compressed file."""
        destination = self._folder.local_path(f"{file}{self._suffix}")
        return self._store_compressed(
            file, form, compression.compress_blocks(blocks, destination, form, encrypt=self._encrypt)
        )

    @contextmanager
    def stream(
        self, file: str, form: Compression, estimated_bytes: int, target: str
    ) -> Iterator[StreamedFile]:
        """Yield a file that is compressed and stored while it is written; ``complete`` returns its member.

        ``estimated_bytes``: of the compressed file; ``target``: the database in messages. If the block raises, no further block is stored.
        """
        from dbctl.services.backup.streaming import StreamedFile

        name, decrypt = f"{file}{self._suffix}", None
        if self._encryption and (identities := self._encryption.find_identities(self.key, None)):
            decrypt = partial(age.decrypt, identities=identities, target=target, name=name)
        streamed = StreamedFile(
            self._folder,
            name,
            form=form,
            estimated_bytes=estimated_bytes,
            target=target,
            encrypt=self._encrypt,
            decrypt=decrypt,
        )
        try:
            yield streamed
        except BaseException:  # also on a signal
            streamed.abort()
            raise

    def complete(self, file: str, form: Compression, streamed: StreamedFile) -> Member:
        """Return the member of a streamed file after it was stored; raises as ``StreamedFile.finish``."""
        return self._describe(file, form, streamed.finish())

    def _store_compressed(self, file: str, form: Compression, compressed: CompressedFile) -> Member:
        self._folder.store(f"{file}{self._suffix}", compressed.stored.sha256)
        return self._describe(file, form, compressed)

    def _describe(self, file: str, form: Compression, compressed: CompressedFile) -> Member:
        member = _create_member(f"{file}{self._suffix}", compressed.stored)
        if form != "none":
            member = structs.replace(member, compress=form, plain_bytes=compressed.plain_bytes)
        if self._encrypt:
            inner = compressed.inner
            member = structs.replace(
                member, encryption="age", inner_bytes=inner.bytes, inner_sha256=inner.sha256
            )
        return member

    def discard(self, file: str) -> None:
        """Delete a file that is not needed, stored or not."""
        if self._staging_dir:
            (self._staging_dir / file).unlink(missing_ok=True)
        self._folder.remove(f"{file}{self._suffix}")

    def clean_up(self) -> None:
        """Delete temporary copies of stored files."""
        for path in self._staging_dir.iterdir() if self._staging_dir else ():
            path.unlink()

    def write_key(self) -> list[Member]:
        """Store the key of this backup, if it has its own key."""
        if self.key is None:
            return []
        file = f"key_{self.name}{age.SUFFIX}"
        with create_file(self._folder.local_path(file)) as output:
            output.write(self.key.file)
        key = _create_member(file, self._folder.store(file, output.counter.digest.sha256))
        return [structs.replace(key, form="key")]


@contextmanager
def open_reader(
    store: Store, keys: DecryptionKeys | None, *, moved_databases: Collection[str] = ()
) -> Iterator[MemberReader]:
    """Open a reader that decodes each file once; its temporary files are deleted when the block ends.

    Without ``keys``, only files that are not encrypted can be decoded.
    Files of ``moved_databases`` are synced in the background, because the caller usually moves them away.
    """
    with ExitStack() as stack:
        yield MemberReader(store, keys, stack, moved_databases)


class MemberReader:
    """Files of backups, decrypted and decompressed if necessary."""

    def __init__(
        self, store: Store, keys: DecryptionKeys | None, stack: ExitStack, moved_databases: Collection[str]
    ) -> None:
        self._store, self._optional_keys, self._stack = store, keys, stack
        self._moved_databases = moved_databases
        self._syncing = dict[tuple[str, str], Future[None]]()
        self._decoded_paths = dict[tuple[str, str], Path]()
        self._stored_paths = dict[tuple[str, str], Path]()
        #: by backup and file: the backup that has the file, and its name there
        self._keys_of_files = dict[tuple[str, str], tuple[str, str]]()
        self._content_hashes = dict[tuple[str, str], str]()  #: of bases

    @property
    def _keys(self) -> DecryptionKeys:
        if self._optional_keys is None:
            raise RuntimeError("an encrypted file is read without keys")
        return self._optional_keys

    def decode(self, manifest: Manifest, member: Member, target: str) -> Path:
        """Return a path at which the content of a file can be read until the reader is closed; it must not be modified.

        Raises:
            CorruptError: the content does not match the manifest.
            KeyMissingError, KeyWrongError: as ``DecryptionKeys.identities_for``, or no key decrypts it.
            InsufficientSpaceError, DiskFullError: not enough disk space for the content.
        """
        holder, stored = deltas.read_holder(self._store, manifest, member, target)
        path = self._decode_once(holder, stored, target)
        # the file of another backup may have another name than in the manifest of this one
        self._keys_of_files[manifest.id, member.file] = (holder.id, stored.file)
        return path

    def decode_verified(self, manifest: Manifest, member: Member, target: str) -> Path:
        """Return a path as ``decode`` does, also of a file that needs no decoding after its SHA-256 was compared; raises the same errors."""
        path = self.decode(manifest, member, target)
        if not self.is_decoded(manifest, member) and hash_file(path) != member.sha256:
            raise _mismatch_error(member, target)
        return path

    def decode_base(self, manifest: Manifest, base: Member, target: str) -> Path:
        """Return a path as ``decode`` does, after the SHA-256 of the content was compared; raises the same errors."""
        path, key = self._decode_once(manifest, base, target, hashed=True), (manifest.id, base.file)
        if key not in self._content_hashes:  # it was not decoded, or as no base
            self._content_hashes[key] = hash_file(path)
        if self._content_hashes[key] != base.content_sha256:
            reason = f"{base.file} of the base {manifest.id}: its content does not match the manifest"
            raise CorruptError(target=target, reason=reason)
        return path

    def _decode_once(self, manifest: Manifest, member: Member, target: str, *, hashed: bool = False) -> Path:
        if not needs_decoding(member):
            return self.stored_path(manifest.id, member)
        key = (manifest.id, member.file)
        if key not in self._decoded_paths:
            try:
                self._decoded_paths[key] = self._decode(manifest, member, target, hashed=hashed)
            except (
                CorruptError,
                RepositoryFailedError,
            ):  # perhaps another process encrypted the backup again
                if (replaced := deltas.find_replaced(self._store, manifest, member)) is None:
                    raise
                self._decoded_paths[key] = self._decode(*replaced, target, hashed=hashed)
            if member.database in self._moved_databases:
                self._syncing[key] = self._sync(self._decoded_paths[key])
        return self._decoded_paths[key]

    def is_decoded(self, manifest: Manifest, member: Member) -> bool:
        """Whether a file was decoded, and therefore matched the manifest."""
        return self._keys_of_files.get((manifest.id, member.file)) in self._decoded_paths

    def wait_until_synced(self, manifest: Manifest, member: Member) -> None:
        """Wait until the file of a moved database is synced to disk.

        Raises:
            FileFailedError: writing to the disk failed.
        """
        key = self._keys_of_files.get((manifest.id, member.file), (manifest.id, member.file))
        syncing = self._syncing.pop(key, None)
        if syncing is None:
            return
        with report_file_errors(self._decoded_paths[key]):
            syncing.result()

    def _sync(self, path: Path) -> Future[None]:
        pool = ThreadPoolExecutor(1)
        self._stack.callback(pool.shutdown, wait=False)  # files to be deleted need no sync
        return pool.submit(sync_file, path)

    def stored_path(self, folder: str, member: Member) -> Path:
        """Return a path to a file as stored, which is valid until the block ends.

        ``folder``: of the backup with the member.
        A remote file is downloaded once, so that the verified bytes are the loaded bytes.

        Raises:
            CorruptError: it is missing, or no regular file: opening a pipe could block forever.
        """
        folder = member.stored_in or folder
        key = (folder, member.file)
        if key not in self._stored_paths:
            path = self._stack.enter_context(self._store.open_locally(folder, member.file))
            if path.is_symlink() or not os.path.isfile(path):
                problem = "is not a regular file" if os.path.lexists(path) else "is missing"
                raise CorruptError(target=f"backup {folder}", reason=f"{member.file} {problem}")
            self._stored_paths[key] = path
        return self._stored_paths[key]

    def temp_dir(self, member: Member, required_bytes: int) -> AbstractContextManager[Path]:
        """Create a private folder for content, as ``open_temp_dir`` does."""
        return open_temp_dir(self._store, self._optional_keys, [member], required_bytes)

    def _decode(self, manifest: Manifest, member: Member, target: str, *, hashed: bool) -> Path:
        decrypt = None
        if member.encryption != "none":
            identities = self._keys.identities_for(self._store, manifest)
            decrypt = partial(age.decrypt, identities=identities, target=target, name=member.file)
        stored_path = self.stored_path(manifest.id, member)
        try:
            path = self._stack.enter_context(self.temp_dir(member, member.decoded_bytes)) / member.file
            decoded = compression.decompress_file(
                stored_path,
                path,
                member.compress,
                expected_bytes=member.decoded_bytes,
                target=target,
                decrypt=decrypt,
                hashed=hashed,
            )
        except (FileFailedError, RepositoryFailedError) as error:
            # It is an error of the temporary folder, not of the backup.
            raise TempSpaceFailedError(target=target, reason=error) from error
        if (decoded.stored.sha256, decoded.inner.sha256) != (member.sha256, member.inner_sha256):
            raise _mismatch_error(member, target)
        if member.delta:
            return self._apply_delta(member, member.delta, path, target)
        if hashed:
            self._content_hashes[manifest.id, member.file] = decoded.content.sha256
        return path

    def _apply_delta(self, member: Member, delta: Delta, path: Path, target: str) -> Path:
        """Return the content of a member that is stored as the difference from a base."""
        base_manifest, base = deltas.read_base(self._store, member, delta, target)
        base_path = self.decode_base(base_manifest, base, target)
        try:
            content = self._stack.enter_context(self.temp_dir(member, delta.bytes)) / member.file
            with create_file(content, temporary=True) as file:
                for block in deltas.build_content(base_path, path, member, target):
                    file.write(block)
        except (FileFailedError, RepositoryFailedError) as error:
            raise TempSpaceFailedError(target=target, reason=error) from error
        return content


def _mismatch_error(member: Member, target: str) -> CorruptError:
    return CorruptError(target=target, reason=f"{member.file}: its SHA-256 does not match the manifest")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file; raises ``FileFailedError``, also if another process has deleted it."""
    with report_file_errors(path):
        return hash_blocks(atomic.read_blocks(path)).sha256


def open_temp_dir(
    store: Store, keys: DecryptionKeys | None, members: Iterable[Member], required_bytes: int
) -> AbstractContextManager[Path]:
    """Create a private folder for the content of files: in the store, or in the staging folder if one of them is encrypted.

    Encrypted files are secret from the readers of the store, so their content must not be written there.
    """
    if all(member.encryption == "none" for member in members):
        return store.temp_dir(required_bytes)
    if keys is None:
        raise RuntimeError("an encrypted file is read without keys")
    return keys.staging.folder(required_bytes)


def needs_decoding(member: Member) -> bool:
    """Whether reading a file creates a decoded temporary copy, which the caller may move."""
    return member.compress != "none" or member.encryption != "none" or member.delta is not None
