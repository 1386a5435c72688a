"""Read members of backups: decrypt and decompress them into temporary files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from dbctl.errors import CorruptError, FileFailedError, RepositoryFailedError, TempSpaceFailedError
from dbctl.files import is_regular, sync_file
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.stores import Store


@contextmanager
def open_reader(
    store: Store, keys: DecryptionKeys, *, moved_databases: Collection[str] = ()
) -> Iterator[MemberReader]:
    """Open a reader that decodes each file once; its temporary files are deleted when the block ends.

    Files of ``moved_databases`` are synced in the background, because the caller usually moves them away.
    """
    with ExitStack() as stack:
        yield MemberReader(store, keys, stack, moved_databases)


class MemberReader:
    """Files of backups, decrypted and decompressed if necessary."""

    def __init__(
        self, store: Store, keys: DecryptionKeys, stack: ExitStack, moved_databases: Collection[str]
    ) -> None:
        self._store, self._keys, self._stack, self._moved_databases = store, keys, stack, moved_databases
        self._syncing = dict[tuple[str, str], Future[None]]()
        self._decoded_paths = dict[tuple[str, str], Path]()
        self._stored_paths = dict[tuple[str, str], Path]()

    @contextmanager
    def open_decoded(self, manifest: Manifest, member: Member, target: str) -> Iterator[Path]:
        """Yield a path at which the content of a file can be read; it must not be modified.

        Raises:
            CorruptError: the content does not match the manifest.
            KeyMissingError, KeyWrongError: as ``DecryptionKeys.identities_for``, or no key decrypts it.
            InsufficientSpaceError, DiskFullError: not enough disk space for the content.
        """
        if not needs_decoding(member):
            yield self.stored_path(manifest.id, member)
            return
        key = (manifest.id, member.file)
        if key not in self._decoded_paths:
            self._decoded_paths[key] = self._decode(manifest, member, target)
            if member.database in self._moved_databases:
                self._syncing[key] = self._sync(self._decoded_paths[key])
        yield self._decoded_paths[key]

    def is_decoded(self, manifest: Manifest, member: Member) -> bool:
        """Whether a file was decoded, and therefore matched the manifest."""
        return (manifest.id, member.file) in self._decoded_paths

    def wait_until_synced(self, manifest: Manifest, member: Member) -> None:
        """Wait until the file of a moved database is synced to disk.

        Raises:
            FileFailedError: writing to the disk failed.
        """
        syncing = self._syncing.pop((manifest.id, member.file), None)
        if syncing is None:
            return
        try:
            syncing.result()
        except OSError as error:
            raise FileFailedError(
                path=self._decoded_paths[manifest.id, member.file], reason=error.strerror or str(error)
            ) from error

    def _sync(self, path: Path) -> Future[None]:
        pool = ThreadPoolExecutor(1)
        self._stack.callback(pool.shutdown, wait=False)  # files to be deleted need no sync
        return pool.submit(sync_file, path)

    def stored_path(self, folder: str, member: Member) -> Path:
        """Return a path to a file as stored, which is valid until the block ends.

        A remote file is downloaded once, so that the verified bytes are the loaded bytes.

        Raises:
            CorruptError: it is missing, or no regular file: opening a pipe could block forever.
        """
        key = (folder, member.file)
        if key not in self._stored_paths:
            path = self._stack.enter_context(self._store.open_locally(folder, member.file))
            if path.is_symlink() or not is_regular(path):
                reason = (
                    f"{member.file} is not a regular file"
                    if os.path.lexists(path)
                    else f"{member.file} is missing"
                )
                raise CorruptError(target=f"backup {folder}", reason=reason)
            self._stored_paths[key] = path
        return self._stored_paths[key]

    def temp_dir(self, member: Member, required_bytes: int) -> AbstractContextManager[Path]:
        """Create a private folder for content: in the store, or in the staging folder if the file is encrypted."""
        open_temp_dir = self._store.temp_dir if member.encryption == "none" else self._keys.staging.folder
        return open_temp_dir(required_bytes)

    def _decode(self, manifest: Manifest, member: Member, target: str) -> Path:
        from dbctl.files import age, compression

        open_temp_dir, decrypt = self._store.temp_dir, None
        if member.encryption != "none":
            # The file is encrypted against readers of the store, so its content must not be written there.
            open_temp_dir = self._keys.staging.folder
            identities = self._keys.identities_for(self._store, manifest)
            decrypt = partial(age.decrypt, identities=identities, target=target, name=member.file)
        stored_path = self.stored_path(manifest.id, member)
        try:
            path = self._stack.enter_context(open_temp_dir(member.size)) / member.file
            decoded = compression.decompress_file(
                stored_path, path, member.compress, expected_bytes=member.size, target=target, decrypt=decrypt
            )
        except (FileFailedError, RepositoryFailedError) as error:
            # It is an error of the temporary folder, not of the backup.
            raise TempSpaceFailedError(target=target, reason=error) from error
        if (decoded.sha256, decoded.inner_sha256) != (member.sha256, member.inner_sha256):
            raise CorruptError(
                target=target, reason=f"{member.file}: its SHA-256 does not match the manifest"
            )
        return path


def needs_decoding(member: Member) -> bool:
    """Whether reading a file creates a decoded temporary copy, which the caller may move."""
    return member.compress != "none" or member.encryption != "none"
