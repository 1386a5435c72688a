"""The steps of ``restore apply`` that replace the live databases, and return to the previous state after an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from dbctl.engines.contract import LoadResult, PreparedSwap
from dbctl.errors import DbctlError, RestorePartialError, RestoreUnfinishedError
from dbctl.files import release_nothing
from dbctl.model import Finding
from dbctl.services.app import App
from dbctl.services.backup import (
    EncryptionPolicy,
    Manifest,
    Member,
    MemberReader,
    OmittedDatabase,
    Repository,
    SafetyBackupSource,
)
from dbctl.services.restore.steps import CreateSafetyBackup, Step

#: The reason recorded in the manifest for a database that did not exist.
NO_DATABASE = "the database did not exist"
Advance = Callable[[int], None]


class Replacement:
    """The state that the steps of one restore share: which databases have the content of the backup."""

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        reader: MemberReader,
        sources: Sequence[SafetyBackupSource],
        encryption: EncryptionPolicy,
        *,
        timeout: float,
        advance: Advance,
    ) -> None:
        """Set the options.

        Args:
            app: the app.
            repository: the destination of the safety backup; the caller holds its lock.
            manifest: the backup.
            reader: reads its members and those of the safety backup.
            sources: the databases to replace.
            encryption: of the safety backup.
            timeout: seconds to wait for a lock.
            advance: receives the number of bytes processed since the last call.
        """
        self.app, self.manifest, self._reader = app, manifest, reader
        self._timeout, self._advance = timeout, advance
        self.create_safety_backup = CreateSafetyBackup(
            app,
            repository,
            [source for source in sources if not source.is_empty],
            encryption,
            left_out=[
                OmittedDatabase(database=source.database, reason=NO_DATABASE)
                for source in sources
                if source.is_empty
            ],
            restored=manifest.id,
            is_needed=self._is_safety_backup_needed,
        )
        self.results = dict[
            str, LoadResult
        ]()  #: of the replaced databases, by name, in the order of their replacement
        self._current = ""
        self._failed_reverts = list[tuple[str, str, str]]()  # database, reason, hint

    @property
    def safety(self) -> Manifest:
        """The safety backup, after its step."""
        return self.create_safety_backup.manifest

    def _is_safety_backup_needed(self, error: BaseException) -> bool:
        return bool(self.results) or isinstance(error, RestoreUnfinishedError)

    def replace(self, member: Member, load: Callable[[], LoadResult]) -> None:
        """Replace a database by the function ``load``, which replaces it or raises an error."""
        self._current = member.database
        self.results[member.database] = load()

    def load(
        self,
        manifest: Manifest,
        member: Member,
        retained: Mapping[str, str],
        release_locks: Callable[[], None] = release_nothing,
    ) -> LoadResult:
        """Load a member of ``manifest`` into its live database; arguments and errors as of ``RestoreTarget.load``."""
        done = 0

        def progress(share: float) -> None:
            nonlocal done
            completed_bytes = int(share * member.size)
            self._advance(max(0, completed_bytes - done))
            done = max(done, completed_bytes)

        with self._reader.open_decoded(manifest, member, self.app.target(member.database)) as path:
            return self.app.restore_target(member.database).load(
                path,
                member.dump,
                timeout=self._timeout,
                retained=retained,
                progress=progress,
                release_locks=release_locks,
            )

    def revert(self, member: Member, error: BaseException) -> None:
        """Restore a replaced database from the safety backup, because another one failed with ``error``.

        Raises:
            RestorePartialError: it has to stay as it is; the error also names the databases for which this was raised before.
        """
        if member.database not in self.results:
            return
        saved = self.safety.restorable_member(member.database)
        reason, hint = "it did not exist before", "Delete it, or repair the cause and restore again."
        if saved is not None:
            try:
                # A retained database is the only copy: it gets its previous name.
                self.load(self.safety, saved, find_retained_facts(self.manifest, member))
            except DbctlError as failure:
                reason = str(failure)
                hint = f"Restore the previous state with: dbctl restore apply {self.safety.id} --db {member.database}"
            else:
                del self.results[member.database]
                return
        self._failed_reverts.append((member.database, reason, hint))
        databases, reasons, hints = zip(*self._failed_reverts, strict=True)
        raise RestorePartialError(
            app=self.app.name,
            done=", ".join(databases),
            database=self._current,
            reason=error,
            rollback_error="; ".join(reasons),
            hint=" ".join(hints),
        ) from error


class BlockWriters(Step):
    """Block writers of the databases: a write between the safety backup and the replacement would be lost."""

    def __init__(self, sources: Sequence[SafetyBackupSource], *, timeout: float) -> None:
        """Set the databases, and the seconds to wait for a lock."""
        self._sources, self._timeout = sources, timeout
        self.locks = ExitStack()
        self.releases = dict[
            str, Callable[[], None]
        ]()  #: by database: releases its lock before ``locks`` is closed

    def run(self) -> None:
        for source in self._sources:
            self.releases[source.database] = self.locks.enter_context(
                source.block_writers(timeout=self._timeout)
            )

    def undo(self, error: BaseException) -> None:
        self.locks.__exit__(type(error), error, error.__traceback__)


class MarkSwap(Step):
    """Write the marker of a prepared swap, so that a kill between two databases can be detected."""

    def __init__(self, replacement: Replacement, member: Member, prepared: PreparedSwap) -> None:
        self._replacement, self._member, self._prepared = replacement, member, prepared

    def run(self) -> None:
        self._prepared.write_marker(find_retained_facts(self._replacement.safety, self._member))

    def undo(self, error: BaseException) -> None:
        del error
        self._prepared.remove_marker()


class SwapDatabase(Step):
    """Replace a database by a prepared swap."""

    def __init__(self, replacement: Replacement, member: Member, prepared: PreparedSwap) -> None:
        self._replacement, self._member, self._prepared = replacement, member, prepared

    def run(self) -> None:
        retained = find_retained_facts(self._replacement.safety, self._member)
        self._replacement.replace(self._member, lambda: self._prepared.swap(retained))

    def undo(self, error: BaseException) -> None:
        self._replacement.revert(self._member, error)


class LoadDatabase(Step):
    """Replace the content of a database by a member of the backup."""

    def __init__(self, replacement: Replacement, member: Member, writers: BlockWriters) -> None:
        self._replacement, self._member, self._writers = replacement, member, writers

    def run(self) -> None:
        replacement, member = self._replacement, self._member
        retained = find_retained_facts(replacement.safety, member)
        release_locks = self._writers.releases[member.database]
        replacement.replace(
            member, lambda: replacement.load(replacement.manifest, member, retained, release_locks)
        )

    def undo(self, error: BaseException) -> None:
        self._replacement.revert(self._member, error)


class DropOlderRetained(Step):
    """Drop databases that earlier restores retained on a server, because only the latest restore can be undone."""

    def __init__(self, replacement: Replacement, members: Sequence[Member]) -> None:
        """Set the replaced databases."""
        self._replacement, self._members = replacement, members
        self.findings = list[Finding]()  #: what could not be dropped

    def run(self) -> None:
        app = self._replacement.app
        for member in self._members:
            if self._replacement.results[member.database].method in ("swapped", "new"):
                try:
                    messages = app.restore_target(member.database).drop_retained(
                        find_retained_facts(self._replacement.safety, member)
                    )
                except DbctlError as error:
                    messages = [f"databases retained by earlier restores were not dropped: {error}"]
                self.findings += create_maintenance_findings(app.target(member.database), messages)


def find_retained_facts(manifest: Manifest, member: Member) -> Mapping[str, str]:
    """Return the facts of a retained database in the manifest, such as its name on the server; empty if there is none."""
    retained = manifest.restorable_member(member.database)
    return retained.facts if retained and retained.form == "kept" else {}


def create_maintenance_findings(target: str, messages: Sequence[str]) -> Sequence[Finding]:
    """Return a warning for each message."""
    return [
        Finding(target=target, severity="warning", code="maintenance", message=message)
        for message in messages
    ]
