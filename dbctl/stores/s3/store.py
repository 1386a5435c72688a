"""Storage that speaks S3 as a store: ``s3://BUCKET/PREFIX/APP/FOLDER/FILE``.

A folder is what objects have in common at the beginning of their keys. The object that marks it is created only where
none is, so that one dbctl alone fills it. Whatever was written is read back before the last file makes a backup of it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from dbctl import signals
from dbctl.config import Address, s3
from dbctl.errors import DbctlError, RepositoryFailedError, StorageFailedError
from dbctl.files import atomic
from dbctl.stores import local
from dbctl.stores.base import LARGEST, LAST, LOCK, MARK, NOTE, Kept, State, Told, digest, each_last
from dbctl.stores.s3.client import PART, Client, Entry, Taken
from dbctl.stores.s3.lock import Lease
from dbctl.stores.staging import Staging

#: Small objects that are asked for at a time.
AT_ONCE = 8


class S3:
    """The backups of one app in a bucket."""

    def __init__(self, address: Address, app: str, staging: Staging, *, timeout: float) -> None:
        self.place = f"{address.text}/{app}"
        self._top = f"{address.prefix}/{app}".lstrip("/")
        self._staging = staging
        self._lease: Lease | None = None
        self._bare = set[str]()  #: folders that had no remark when they were listed, or finished
        self._marked = set[
            str
        ]()  #: folders that had their last file when they were listed, and still the mark
        self.client = Client(self.place, address.bucket, s3.access(address), timeout=timeout)

    def folders(self) -> Mapping[str, State]:
        found = dict[str, State]()
        self._bare.clear()
        self._marked.clear()
        inside = [one.key.removeprefix(f"{self._top}/") for one in self.client.entries(self._top)]
        for folder, keys in groupby((key for key in inside if "/" in key), key=_first):
            names = {key.removeprefix(f"{folder}/") for key in keys}
            if NOTE not in names:
                self._bare.add(folder)
            if LAST in names:
                found[folder] = State.WHOLE
                if MARK in names:
                    self._marked.add(folder)
            else:  # a remark alone came too late: its folder was pruned meanwhile
                ours = MARK in names or names == {NOTE}
                found[folder] = State.INCOMPLETE if ours else State.FOREIGN
        return found

    def last(self, folder: str) -> bytes | None:
        return self._small(folder, LAST)

    def lasts(self, folders: Sequence[str]) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        with signals.held(), ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                answers = list(pool.map(lambda folder: list(each_last(self, [folder])), folders))
            finally:  # what has not begun need not begin
                pool.shutdown(cancel_futures=True)
        signals.check()
        return (answer for each in answers for answer in each)

    def note(self, folder: str, text: str) -> None:
        if self.last(folder) is None:
            raise RepositoryFailedError(place=self.place, reason=f"{folder} is gone")
        self.client.put(self.key(folder, NOTE), text.encode())
        self._bare.discard(folder)

    def noted(self, folder: str) -> bytes | None:
        return None if folder in self._bare else self._small(folder, NOTE)

    def _small(self, folder: str, name: str) -> bytes | None:
        try:
            entry, content = self.client.get(self.key(folder, name), end=LARGEST)
        except FileNotFoundError:
            return None
        if entry.bytes > LARGEST:
            raise RepositoryFailedError(
                place=self.place, reason=f"{folder}/{name}: it is larger than {LARGEST:,} bytes"
            )
        return content

    def files(self, folder: str) -> Mapping[str, int]:
        return {
            name: one.bytes for name, one in self.entries(folder).items() if name not in (LAST, MARK, NOTE)
        }

    def entries(self, folder: str) -> dict[str, Entry]:
        """Return all objects of a folder by the names of their files."""
        top = f"{self._top}/{folder}"
        return {one.key.removeprefix(f"{top}/"): one for one in self.client.entries(top)}

    def path(self, folder: str, name: str) -> Path | None:
        del folder, name
        return None

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        try:
            yield from self.client.blocks(self.key(folder, name))
        except FileNotFoundError as error:
            raise RepositoryFailedError(place=self.place, reason=f"{folder}/{name} is gone") from error
        except Taken as error:
            raise RepositoryFailedError(
                place=self.place, reason=f"{folder}/{name} was exchanged while it was read"
            ) from error

    @contextmanager
    def opened(self, folder: str, name: str) -> Iterator[Path]:
        size = self.files(folder).get(name, 0)
        with self._staging.folder(size) as fetched:
            with local.translated(self._staging.place):
                atomic.filled(fetched / name, self.read(folder, name))
            yield fetched / name

    @contextmanager
    def scratch(self, need: int) -> Iterator[Path]:
        with self._staging.folder(need) as folder:
            yield folder

    @contextmanager
    def begin(self, folder: str) -> Iterator[Filling]:
        while self._marked:  # by a dbctl that was killed when all but this was done
            self.client.delete([self.key(self._marked.pop(), MARK)])
        with self._staging.folder(0) as made:
            filling = Filling(self, folder, made)
            try:
                with local.translated(self._staging.place):
                    filling.begin()
                    yield filling
            except BaseException:  # also on a signal: what is not whole must not stay
                filling.undo()
                raise
        if not filling.whole:
            raise RuntimeError(f"{folder} was not finished")

    def remove(self, folder: str) -> None:
        # As in a directory: with the mark instead of the last file, a cut leaves a folder that calls itself incomplete.
        self.client.put(self.key(folder, MARK), b"")
        self.client.delete([self.key(folder, LAST)])
        self.clear(folder)

    def want_room(self, need: int, *, aside: bool = True) -> None:
        if aside:  # what the bucket takes, nobody can tell
            self._staging.want_room(need)

    def room(self) -> int | None:
        return None

    def is_locked(self) -> bool:
        try:
            self.client.get(f"{self._top}/{LOCK}")
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        with self._staging.lock(self.place, purpose, timeout=timeout) as machine:
            lease = Lease(self.client, f"{self._top}/{LOCK}", self.place, machine, purpose)
            with lease.held(timeout=timeout):
                self._lease = lease
                try:
                    yield
                finally:
                    self._lease = None

    def renew(self) -> None:
        """Make sure that the lock is still held, before what cannot be taken back; raises ``BusyError``."""
        if self._lease is not None:
            self._lease.renew()

    def finished(self, folder: str) -> None:
        """Note that a folder has just got its last file, and so has no remark yet."""
        self._bare.add(folder)

    def key(self, folder: str, name: str) -> str:
        """Return the key of a file."""
        return f"{self._top}/{folder}/{name}"

    def clear(self, folder: str) -> None:
        """Delete all that a folder holds, its mark last."""
        keys = [one.key for name, one in self.entries(folder).items() if name != MARK]
        self.client.delete([*keys, self.key(folder, MARK)])


class Filling:
    """A folder of a bucket that is being filled; files are made in a folder of this machine first."""

    def __init__(self, store: S3, folder: str, made: Path) -> None:
        self._store, self._folder, self._made = store, folder, made
        told = {"pid": os.getpid(), "host": os.uname().nodename, "token": secrets.token_hex(16)}
        self._mark = json.dumps(told).encode()
        self._marked: bool | None = None  #: None: nobody knows, for the answer is not there yet
        self._ours, self._sent = False, dict[str, Kept | None]()
        self.whole = False

    def begin(self) -> None:
        """Mark it, where nothing is.

        Raises:
            RepositoryFailedError: something is there already.
        """
        try:
            self._client.create(self._key(MARK), self._mark)
        except Taken as error:
            self._marked = False
            raise self._there() from error
        self._marked = True
        if self._store.entries(self._folder).keys() != {MARK}:
            raise self._there()
        self._ours = True

    def undo(self) -> None:
        """Delete what was begun and is not whole."""
        with signals.unheard(), suppress(DbctlError, FileNotFoundError):
            if self._marked is None:
                self._marked = self._client.get(self._key(MARK))[1] == self._mark
            if self._marked and not self.whole:  # and of what was there before, nothing
                ours = [LAST, *self._sent] if self._ours else []
                self._client.delete([self._key(name) for name in [*ours, MARK]])

    def place(self, name: str) -> Path:
        for sent in self._sent.keys() - {name}:
            (self._made / sent).unlink(missing_ok=True)
        return self._made / name

    def keep(self, name: str, sha256: str = "") -> Kept:
        path = self._made / name
        kept = self.write(name, atomic.blocks(path), path.lstat().st_size)
        if sha256 not in ("", kept.sha256):
            raise self._spoiled(f"{name} was changed before it was sent")
        return kept

    def write(self, name: str, blocks: Iterable[bytes], size: int) -> Kept:
        told = Told(blocks)
        self._sent[name] = None  # whatever becomes of it
        if size > PART:
            self._client.upload(self._key(name), told, size)
        else:
            self._create(name, b"".join(told))
        self._sent[name] = told.kept
        # What the server was sent is signed, so it has checked that; what rests is known only by reading it.
        if digest(self._store.read(self._folder, name)) != told.kept:
            raise self._spoiled(f"it gives {name} back otherwise than it was sent")
        return told.kept

    def drop(self, name: str) -> None:
        (self._made / name).unlink(missing_ok=True)
        if name in self._sent:
            self._client.delete([self._key(name)])
            del self._sent[name]

    def finish(self, text: str) -> None:
        self._store.renew()
        found = {name: one.bytes for name, one in self._store.entries(self._folder).items() if name != MARK}
        if found != {name: kept and kept.bytes for name, kept in self._sent.items()}:
            raise self._spoiled(f"{self._folder} is not what was put into it: another program works there")
        with signals.unheard():  # else nobody knew whether it is whole
            try:
                self._create(LAST, text.encode())
            except StorageFailedError as error:
                if not self._has_last(text, error):
                    raise
            self.whole = True
            self._store.finished(self._folder)
            with suppress(DbctlError):  # with its last file it is whole all the same
                self._client.delete([self._key(MARK)])

    def _has_last(self, text: str, error: StorageFailedError) -> bool:
        """Whether the last file is there although no answer said so; where that is not known either, ``error`` says it."""
        try:
            return self._client.get(self._key(LAST))[1] == text.encode()
        except FileNotFoundError:
            return False
        except DbctlError:
            error.details = [
                f"Whether {self._folder} is complete is not known: its last file was on its way."
            ]
            error.hint = f"dbctl backup verify {self._folder} tells, once the storage answers. {error.hint}"
            return False

    def _create(self, name: str, content: bytes) -> None:
        try:
            self._client.create(self._key(name), content)
        except Taken as error:
            raise self._spoiled(f"another program has put {name} into {self._folder}") from error

    @property
    def _client(self) -> Client:
        return self._store.client

    def _key(self, name: str) -> str:
        return self._store.key(self._folder, name)

    def _there(self) -> RepositoryFailedError:
        return RepositoryFailedError(place=self._store.place, reason=f"{self._folder} is there already")

    def _spoiled(self, reason: str) -> StorageFailedError:
        instead = "It counts as no backup. Try again; do not trust this storage when it happens again."
        return StorageFailedError(place=self._store.place, reason=reason, instead=instead)


def _first(key: str) -> str:
    return key.partition("/")[0]
