"""Files of a server as the keys of a store: requests for whole files, which appear under their names when they are complete."""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from shlex import quote

from dbctl import signals
from dbctl.errors.backup import (
    RepositoryFailedError,
    RepositoryMissingError,
    RepositoryUnsafeError,
    StorageFailedError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import DiskFullError
from dbctl.stores.remote.contract import ConflictError, Entry, Tag
from dbctl.stores.sftp.protocol import (
    Attributes,
    Connection,
    Handle,
    Kind,
    Reply,
    Request,
    Status,
    pack_mode,
    pack_text,
)

#: Bytes that each server accepts in one request, and that are read or written by requests that are sent together.
CHUNK, BLOCK = 32 << 10, 4 << 20
#: Folders that are listed together.
CONCURRENT_FOLDERS = 64
#: Flags of OPEN.
READ, CREATE_ONLY = 0x01, 0x02 | 0x08 | 0x20
FILE_MODE, FOLDER_MODE = 0o600, 0o700
#: Prefix of files that are not complete, next to the folders of backups.
NEW_PREFIX = ".dbctl-new-"
#: Extensions of OpenSSH.
POSIX_RENAME, FSYNC, STATVFS = b"posix-rename@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"

_REASONS: Mapping[int, str] = {
    Status.NO_SUCH_FILE: "no such file or directory",
    Status.PERMISSION_DENIED: "permission denied",
    Status.FAILURE: "the server refuses it without a reason",
    Status.OP_UNSUPPORTED: "the server does not support it",
}


class SftpClient:
    """The files below one folder of a server."""

    part = BLOCK

    def __init__(self, connection: Connection, root: str, location: str) -> None:
        """Send nothing yet; ``root`` is the folder, which is created if only its parent exists."""
        self._connection, self._root, self.location = connection, root, location
        self._folders = set[str]()  #: those that exist, as far as this client has created them

    # Reading ------------------------------------------------------------------------------------------------------

    def list_entries(self, prefix: str) -> list[Entry]:
        """Return all files below ``prefix``, sorted by key.

        Raises:
            RepositoryMissingError: the folder of the store does not exist.
        """
        entries, pending = list[Entry](), [prefix]
        while pending:
            names, pending = pending[:CONCURRENT_FOLDERS], pending[CONCURRENT_FOLDERS:]
            for folder, content in zip(names, self._list_folders(names), strict=True):
                for name, attributes in content:
                    key = f"{folder}/{name}"
                    if stat.S_ISDIR(attributes.mode):
                        pending.append(key)
                    elif stat.S_ISREG(attributes.mode):
                        entries.append(_to_entry(key, attributes))
        if not entries and self._stat("").status == Status.NO_SUCH_FILE:
            raise RepositoryMissingError(place=self.location)
        return sorted(entries, key=lambda entry: entry.key)

    def list_folder(self, key: str) -> list[Entry]:
        """Return the files of a folder without its subfolders; none if it is missing."""
        (content,) = self._list_folders([key])
        entries = [(f"{key}/{name}", attributes) for name, attributes in content]
        return [_to_entry(name, attributes) for name, attributes in entries if stat.S_ISREG(attributes.mode)]

    def _list_folders(self, keys: Sequence[str]) -> list[list[tuple[str, Attributes]]]:
        replies = self._connection.exchange(Request(Kind.OPENDIR, self._pack(key)) for key in keys)
        contents: list[list[tuple[str, Attributes]]] = [[] for _ in keys]
        handles = dict[int, Handle]()
        for number, (key, reply) in enumerate(zip(keys, replies, strict=True)):
            if reply.status != Status.NO_SUCH_FILE:  # deleted concurrently, or not created yet
                handles[number] = self._require(reply, key).handle
        unread = dict(handles)
        while unread:
            replies = self._connection.exchange(
                (Request(Kind.READDIR, handle.pack()) for handle in unread.values()),
                next(iter(unread.values())),
            )
            for number, reply in zip(list(unread), replies, strict=True):
                if reply.status == Status.EOF:
                    del unread[number]
                    continue
                listed = self._require(reply, keys[number]).list_names()
                contents[number] += [
                    (os.fsdecode(name), attributes)
                    for name, attributes in listed
                    if name not in {b".", b".."}
                ]
        self._close(*handles.values())
        return contents

    def get(self, key: str, *, end: int | None = None) -> tuple[Entry, bytes]:
        """Return the metadata of a file, and its bytes up to ``end``; raises ``FileNotFoundError``."""
        entry, handle = self._open_file(key)
        size = entry.bytes if end is None else min(end, entry.bytes)
        try:
            blocks = [self._read(key, handle, start, size) for start in range(0, size, BLOCK)]
        finally:
            self._close(handle)
        return entry, b"".join(blocks)

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Yield a file in blocks, of the content that it has when it is opened; raises ``FileNotFoundError``."""
        entry, handle = self._open_file(key)
        try:
            start = 0
            while block := self._read(key, handle, start, start + BLOCK):
                yield block
                start += len(block)
        finally:
            self._close(handle)
        if start != entry.bytes:
            raise ConflictError(key)

    def _open_file(self, key: str) -> tuple[Entry, Handle]:
        # the attributes of the name, because a link is not followed
        status, reply = self._connection.exchange(
            [
                Request(Kind.LSTAT, self._pack(key)),
                Request(Kind.OPEN, self._pack(key) + struct.pack(">II", READ, 0)),
            ]
        )
        if Status.NO_SUCH_FILE in {status.status, reply.status}:
            raise FileNotFoundError(key)
        if reply.status == Status.PERMISSION_DENIED:
            raise self._file_error(key, _REASONS[reply.status])
        attributes, handle = self._require(status, key).attributes, self._require(reply, key).handle
        if not stat.S_ISREG(attributes.mode):
            self._close(handle)
            raise self._file_error(key, "it is not a regular file")
        return _to_entry(key, attributes), handle

    def _read(self, key: str, handle: Handle, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to ``end``, at most ``BLOCK``; fewer at the end of the file."""
        end, content = min(end, start + BLOCK), bytearray()
        while (position := start + len(content)) < end:
            offsets = range(position, end, CHUNK)
            replies = self._connection.exchange(
                (
                    Request(Kind.READ, handle.pack() + struct.pack(">QI", offset, min(CHUNK, end - offset)))
                    for offset in offsets
                ),
                handle,
            )
            for offset, reply in zip(offsets, replies, strict=True):
                if reply.status == Status.EOF:
                    return bytes(content)
                # deleted since it was opened, where the server opens it now
                if reply.status == Status.NO_SUCH_FILE:
                    raise FileNotFoundError(key)
                content += self._require(reply, key).text
                if len(content) < min(offset + CHUNK, end) - start:  # the server has sent less than requested
                    break
        return bytes(content)

    # Writing ------------------------------------------------------------------------------------------------------

    @property
    def can_replace(self) -> bool:
        return self._connection.supports(POSIX_RENAME)

    def put(self, key: str, content: bytes) -> None:
        """Write a small file, and replace an earlier one."""
        renames = Kind.EXTENDED, pack_text(POSIX_RENAME)
        if not self._connection.supports(POSIX_RENAME):
            renames = Kind.RENAME, b""
        reply = self._write_and_rename(key, content, *renames)
        if reply.status == Status.FAILURE and renames[0] == Kind.RENAME:  # it replaces no file
            self.delete([key])
            reply = self._write_and_rename(key, content, *renames)
        self._require(reply, key)

    def create(self, key: str, content: bytes) -> None:
        """Create a small file.

        Raises:
            ConflictError: it exists already.
        """
        reply = self._write_and_rename(key, content, Kind.RENAME, b"")
        if reply.status == Status.FAILURE and self._stat(key).status == Status.OK:
            raise ConflictError(key)
        self._require(reply, key)

    def _write_and_rename(self, key: str, content: bytes, kind: Kind, before: bytes) -> Reply:
        """Write a file with a temporary name, and return the answer to its renaming."""
        new = f"{key.partition('/')[0]}/{NEW_PREFIX}{secrets.token_hex(8)}"
        try:
            self.upload(new, [content], len(content))
            names = self._pack(new) + self._pack(key)
            self._create_folders(key)
            (reply,) = self._connection.exchange([Request(kind, before + names)])
            if reply.status == Status.NO_SUCH_FILE:  # the last file of its folder was just deleted
                self._folders.clear()
                self._create_folders(key)
                (reply,) = self._connection.exchange([Request(kind, before + names)])
        except BaseException:
            with signals.block_signals(), suppress(DbctlError):
                self.delete([new])
            raise
        if reply.status != Status.OK:
            self.delete([new])
        return reply

    def upload(self, key: str, blocks: Iterable[bytes], size: int) -> None:
        """Create a file, and sync it if the server can."""
        del size  # an estimate, which does not explain a failure; each request states what it needs
        self._create_folders(key)
        words = self._pack(key) + struct.pack(">I", CREATE_ONLY) + pack_mode(FILE_MODE)
        (reply,) = self._connection.exchange([Request(Kind.OPEN, words)])
        handle = self._require(reply, key, 1).handle
        try:
            position, buffer = 0, bytearray()
            for block in blocks:
                buffer += block
                while len(buffer) >= BLOCK:
                    self._write(key, handle, position, bytes(buffer[:BLOCK]))
                    position += BLOCK
                    del buffer[:BLOCK]
            self._write(key, handle, position, bytes(buffer))
            if self._connection.supports(FSYNC):
                words = pack_text(FSYNC) + handle.pack()
                (reply,) = self._connection.exchange([Request(Kind.EXTENDED, words)], handle)
                self._require(reply, key, len(buffer))
        except BaseException:
            with signals.block_signals():
                self._close(handle)
            raise
        (reply,) = self._connection.exchange([Request(Kind.CLOSE, handle.pack())], handle)
        self._require(reply, key, len(buffer))

    def _write(self, key: str, handle: Handle, position: int, content: bytes) -> None:
        parts = [(start, content[start : start + CHUNK]) for start in range(0, len(content), CHUNK)]
        replies = self._connection.exchange(
            (
                Request(Kind.WRITE, handle.pack() + struct.pack(">Q", position + start) + pack_text(part))
                for start, part in parts
            ),
            handle,
        )
        for reply in replies:
            self._require(reply, key, len(content))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete files one after the other, and the folders of backups that are then empty; missing files are ignored."""
        for key in keys:
            (reply,) = self._connection.exchange([Request(Kind.REMOVE, self._pack(key))])
            if reply.status != Status.NO_SUCH_FILE:
                self._require(reply, key)
        folders = {parent for key in keys for parent in _list_parents(key)[1:]}
        for folder in sorted(folders, key=len, reverse=True):
            (reply,) = self._connection.exchange([Request(Kind.RMDIR, self._pack(folder))])
            if reply.status == Status.OK:
                self._folders.discard(folder)

    def _create_folders(self, key: str) -> None:
        """Create the folder of the store, but not its parent, and those of the key."""
        missing = [folder for folder in ("", *_list_parents(key)) if folder not in self._folders]
        for folder in missing:
            words = self._pack(folder) + pack_mode(FOLDER_MODE)
            (reply,) = self._connection.exchange([Request(Kind.MKDIR, words)])
            if reply.status != Status.OK:  # it exists, or cannot be created: servers have one status for both
                attributes = self._require(self._stat(folder), folder).attributes
                if not stat.S_ISDIR(attributes.mode):
                    raise self._create_error(folder, "it is not a directory")
                if attributes.mode & 0o022 and not attributes.mode & stat.S_ISVTX:
                    mode = f"{stat.S_IMODE(attributes.mode):o}"
                    place = f"{self.location}/{folder}".rstrip("/")
                    raise RepositoryUnsafeError(
                        place=place, mode=mode, machine="the server", quoted=quote(self._path(folder))
                    )
            self._folders.add(folder)

    # ---------------------------------------------------------------------------------------------------------------

    def free_space(self) -> int | None:
        """Return the free space of the server's disk in bytes; None if it does not report it."""
        if not self._connection.supports(STATVFS):
            return None
        for path in (self._path(""), os.path.dirname(self._root) or "."):  # noqa: PTH120 - of another machine
            words = pack_text(STATVFS) + pack_text(os.fsencode(path))
            (reply,) = self._connection.exchange([Request(Kind.EXTENDED, words)])
            if reply.kind == Kind.EXTENDED_REPLY:
                _, unit, _, _, available = struct.unpack_from(">5Q", reply.content)
                return int(unit * available)
        return None

    def _stat(self, key: str) -> Reply:
        (reply,) = self._connection.exchange([Request(Kind.STAT, self._pack(key))])
        return reply

    def _close(self, *handles: Handle) -> None:
        """Close files or folders; the end of their connection has closed them, too."""
        if handles:
            with suppress(StorageFailedError):
                self._connection.exchange(
                    (Request(Kind.CLOSE, handle.pack()) for handle in handles), handles[0]
                )

    def _require(self, reply: Reply, key: str, size: int = 0) -> Reply:
        """Return an answer without failure; ``size`` is what its request needs on the disk.

        Raises:
            StorageFailedError, DiskFullError: it is a failure.
        """
        if reply.status == Status.OK:
            return reply
        free = self.free_space() if size and reply.status == Status.FAILURE else None
        if free is not None and free < size:
            raise DiskFullError(target=self.location)
        raise self._create_error(key, _REASONS.get(reply.status, f"status {reply.status}"))

    def _file_error(self, key: str, reason: str) -> RepositoryFailedError:
        """Return the error of one file that cannot be read, although the server can be used."""
        return RepositoryFailedError(place=self.location, reason=f"{self._path(key)}: {reason}")

    def _create_error(self, key: str, reason: str) -> StorageFailedError:
        hint = "Check the folder, its owner and its mode on the server."
        return StorageFailedError(place=self.location, reason=f"{self._path(key)}: {reason}", hint=hint)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/") or "/"

    def _pack(self, key: str) -> bytes:
        return pack_text(os.fsencode(self._path(key)))


def _list_parents(key: str) -> Sequence[str]:
    """Return the folders of a key, the outermost first."""
    parts = key.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _to_entry(key: str, attributes: Attributes) -> Entry:
    tag = Tag(f"{attributes.size}-{attributes.modified}")
    at = datetime.fromtimestamp(attributes.modified, UTC)
    return Entry(key=key, bytes=attributes.size, tag=tag, at=at)
