"""Backups copied from one repository into another: the same ids, the same bytes, proven on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dbctl.errors import (
    BackupDiffersError,
    BackupUnsoundError,
    DbctlError,
    Exit,
    RepositoryFailedError,
    RepositoryMissingError,
    UsageError,
    gravest,
)
from dbctl.model import Done, Plan, Row, Value
from dbctl.services.app import App
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record
from dbctl.services.backup.manifest import Manifest, ManifestInvalidError
from dbctl.services.backup.repository import Repository
from dbctl.stores import State

#: Told how many bytes more are done.
Advance = Callable[[int], None]
#: Failures of one backup, after which the next one is copied all the same.
OF_ONE = (BackupDiffersError, BackupUnsoundError, RepositoryFailedError)


class NotCopied(Value, frozen=True, kw_only=True):
    """A backup that is not in the other repository, or not as it is here."""

    id: str
    code: str  #: of the error
    message: str
    exit_code: int


class BackupsCopied(Done, frozen=True, kw_only=True):
    """Answer of ``backup copy``."""

    source: str
    destination: str
    copied: Sequence[str]
    there: Sequence[str]  #: were in the other repository already, with the same manifest and all files
    failed: Sequence[NotCopied]
    untried: Sequence[str]  #: those that were left when a failure ended it
    copied_bytes: int

    def brief(self) -> Row:
        told: dict[str, object] = {
            "source": self.source,
            "destination": self.destination,
            "copied": self.copied,
            "there already": self.there,
            "bytes": self.copied_bytes,
        }
        return told | ({"not copied": [one.id for one in self.failed]} if self.failed else {})

    @property
    def remarks(self) -> Sequence[str]:
        told = [one.message for one in self.failed]
        return [*told, f"not tried: {', '.join(self.untried)}"] if self.untried else told

    @property
    def exit_status(self) -> int:
        if not self.failed:
            return Exit.OK
        if self.copied or self.there:
            return Exit.PARTIAL
        return gravest([Exit(one.exit_code) for one in self.failed])


class Choice(Value, frozen=True, kw_only=True):
    """Which backups are meant, and what the other repository has of them."""

    missing: Sequence[Manifest]
    there: Sequence[Manifest]
    unread: Mapping[str, str]  #: those whose manifest cannot be read, and why

    @property
    def bytes(self) -> int:
        """How many bytes are to be copied."""
        return sum(member.bytes for one in self.missing for member in one.members)


def choose(app: App, source: Repository, destination: Repository, names: Sequence[str]) -> Choice:
    """Return what is to be copied: the backups that are named, or all that can be read.

    Raises:
        BackupMissingError, BackupUnsoundError: one that was named is not there, or has no manifest that can be read.
        UsageError: both repositories are one, or only one database is meant.
    """
    if app.only:
        raise UsageError(detail="--db: whole backups are copied; leave it out")
    if source.store.place == destination.store.place:
        raise UsageError(detail=f"--to {destination.store.place}: that is where the backups are")
    if names:
        chosen, unread = source.find_all(names), dict[str, str]()
    else:
        chosen, unread = source.manifests()
    try:
        states = destination.store.folders()
    except RepositoryMissingError:  # the first backup makes it
        states = {}
    return _sorted(chosen, unread, states)


def _sorted(chosen: Sequence[Manifest], unread: Mapping[str, str], states: Mapping[str, State]) -> Choice:
    there = [one for one in chosen if states.get(one.id, State.INCOMPLETE) is not State.INCOMPLETE]
    return Choice(missing=[one for one in chosen if one not in there], there=there, unread=unread)


class Copying:
    """What ``backup copy`` is about to do."""

    def __init__(
        self,
        app: App,
        source: Repository,
        destination: Repository,
        chosen: Choice,
        *,
        timeout: float,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._source, self._destination, self._chosen = source, destination, chosen
        self._timeout, self._advance = timeout, advance

    def plan(self) -> Plan:
        """Return what would be copied; writes nothing."""
        steps = [
            f"copy {one.id} ({sum(member.bytes for member in one.members):,} bytes)"
            for one in self._chosen.missing
        ]
        steps += [
            f"refuse {one.id}: {error}"
            for one in self._chosen.there
            if (error := self._differs(one)) is not None
        ]
        steps += [f"refuse {name}: its manifest: {why}" for name, why in self._chosen.unread.items()]
        title = f"Copy from {self._source.store.place} to {self._destination.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> BackupsCopied:
        """Copy, the newest first; what is there already is compared and never written over.

        Raises:
            BusyError: another dbctl works on the other repository.
            StorageFailedError, DiskFullError, RoomMissingError: nothing could be copied at all.
        """
        del seen  # nothing is destroyed, so nobody was asked
        copied, there, failed = list[Manifest](), list[str](), list[NotCopied]()
        store = self._destination.store
        with store.lock("backup copy", timeout=self._timeout):
            states = store.folders()  # another dbctl may have copied meanwhile
            chosen = _sorted([*self._chosen.missing, *self._chosen.there], self._chosen.unread, states)
            waiting = list(chosen.missing)
            for one in chosen.there:
                error = self._differs(one) or self._uncarried(one)
                if error is None:
                    there.append(one.id)
                else:
                    failed.append(_failure(one.id, error))
            for name, why in chosen.unread.items():
                reason = f"its manifest: {why}"
                failed.append(_failure(name, BackupUnsoundError(id=name, app=self.app, reason=reason)))
            while waiting:
                one = waiting.pop(0)
                try:
                    if one.id in states:  # left by a copy that was cut off: whoever fills one holds the lock
                        store.remove(one.id)
                    if self._copy(one):
                        copied.append(one)
                except OF_ONE as error:
                    failed.append(_failure(one.id, error))
                except DbctlError as error:
                    if not (copied or there or failed):
                        raise
                    failed.append(_failure(one.id, error))
                    break
        return BackupsCopied(
            source=self._source.store.place,
            destination=self._destination.store.place,
            copied=[one.id for one in copied],
            there=there,
            failed=failed,
            untried=[one.id for one in waiting],
            copied_bytes=sum(member.bytes for one in copied for member in one.members),
        )

    def _copy(self, manifest: Manifest) -> bool:
        """Copy one backup; return whether there was still one.

        Raises:
            BackupUnsoundError: it is not what its manifest says; nothing of it stays there.
        """
        source, destination, name = self._source.store, self._destination.store, manifest.id
        text, sizes = source.last(name), source.files(name)
        if text is None:
            return False
        self._check(manifest, text, sizes)
        destination.want_room(sum(one.bytes for one in manifest.members), aside=False)
        try:
            with destination.begin(name) as folder:
                for one in manifest.members:
                    kept = folder.write(one.file, self._passing(name, one.file), one.bytes)
                    if (kept.bytes, kept.sha256) != (one.bytes, one.sha256):
                        raise self._unsound(
                            name, f"{one.file}: its content is not what was written (SHA-256)"
                        )
                folder.finish(text.decode())
            verification_record.carry(source, destination, name)
        except RepositoryFailedError:
            if self._source.is_gone(manifest):
                return False
            raise
        return True

    def _uncarried(self, manifest: Manifest) -> RepositoryFailedError | None:
        """Let what is known of a backup follow it; return why it could not."""
        try:
            verification_record.carry(self._source.store, self._destination.store, manifest.id)
        except RepositoryFailedError as error:
            return error
        return None

    def _check(self, manifest: Manifest, text: bytes, sizes: Mapping[str, int]) -> None:
        try:
            read = backup_manifest.read(text)
        except ManifestInvalidError as error:
            raise self._unsound(manifest.id, f"its manifest: {error}") from error
        if read != manifest:
            raise self._unsound(manifest.id, "its manifest was exchanged meanwhile")
        if manifest.app != self.app:
            raise self._unsound(manifest.id, f"it is one of {manifest.app}")
        for one in manifest.members:
            if one.file not in sizes:
                raise self._unsound(manifest.id, f"{one.file}: it is missing")
            if sizes[one.file] != one.bytes:
                reason = f"{one.file}: it has {sizes[one.file]:,} bytes and had {one.bytes:,}"
                raise self._unsound(manifest.id, reason)

    def _unsound(self, name: str, reason: str) -> BackupUnsoundError:
        return BackupUnsoundError(id=name, app=self.app, reason=reason)

    def _passing(self, folder: str, file: str) -> Iterator[bytes]:
        for block in self._source.store.read(folder, file):
            yield block
            self._advance(len(block))

    def _differs(self, manifest: Manifest) -> BackupDiffersError | None:
        """Return how what is there under the id of a backup is not that backup; None where it is."""
        store, reason = self._destination.store, ""
        try:
            text = store.last(manifest.id)
            if text is None or backup_manifest.read(text) != manifest:
                reason = "it is another one"
        except (ManifestInvalidError, RepositoryFailedError) as error:
            reason = f"its manifest cannot be read: {error}"
        sizes = store.files(manifest.id)
        if not reason and any(sizes.get(one.file) != one.bytes for one in manifest.members):
            reason = "files of it are missing, or cut off"
        if not reason:
            return None
        return BackupDiffersError(id=manifest.id, place=store.place, reason=reason)


def _failure(name: str, error: DbctlError) -> NotCopied:
    return NotCopied(id=name, code=error.code, message=str(error), exit_code=int(error.exit_status))
