"""Replace the live databases by those of a backup, as a list of steps: a failure undoes them in reverse order, and a signal waits at one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from dbctl import progress, signals
from dbctl.engines.contract.dumps import LoadRequest, LoadResult, StagedDump, release_nothing
from dbctl.errors.backup import RestorePartialError, RestoreUnfinishedError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.model import Finding
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.manifest import Manifest, Member, OmittedDatabase
from dbctl.services.backup.member_files import MemberReader
from dbctl.services.backup.safety import SafetyBackupSource
from dbctl.services.backup.sources import MemberSource, count_in_bytes
from dbctl.services.restore.post_checks import StateBefore, list_pending_migrations
from dbctl.services.restore.source import BackupSource


def _undo_nothing(_error: BaseException) -> None:
    """Leave the effects of a step."""


class Step(NamedTuple):
    """One step of a change.

    ``undo`` undoes what ``run`` has done, which may be a part or nothing. It receives the error of this or a later step.
    """

    run: Callable[[], object]
    undo: Callable[[BaseException], None] = _undo_nothing


def run_steps(prepare: Sequence[Step], change: Sequence[Step], finish: Sequence[Step]) -> None:
    """Run all steps, or undo those that have started, in reverse order.

    The end of ``change`` is the commit point: what follows must not look interrupted.

    Args:
        prepare: a signal interrupts them at any time.
        change: signals are deferred, because an exception at any time could hide that an engine has committed. A step
            may call ``signals.raise_if_interrupted`` before its own commit.
        finish: signals are ignored. They are not undone, and run even if an earlier one fails.

    Raises:
        The error of the step; if an undo failed, the error of the last one that did.
    """
    started = list[Step]()
    with ExitStack() as mask:
        try:
            signals.raise_if_interrupted()
            for step in prepare:
                started.append(step)
                step.run()
            mask.enter_context(signals.defer_signals())
            for step in change:
                started.append(step)
                step.run()
        except BaseException as error:  # also on a signal
            with signals.block_signals():
                _undo_steps(started, error)
            raise
        mask.enter_context(signals.block_signals())
        with ExitStack() as remaining:
            for step in reversed(finish):
                remaining.callback(step.run)
        signals.commit_point()


def _undo_steps(steps: Sequence[Step], error: BaseException) -> None:
    """Undo steps in reverse order, all of them even if one fails; raise the error of the last failed undo."""
    undo_error: BaseException | None = None
    for step in reversed(steps):
        try:
            step.undo(error)
        except BaseException as failure:  # noqa: BLE001 - raised after the other steps
            undo_error = failure
    if undo_error is not None:
        raise undo_error


class SafetyBackup:
    """The backup of what the next steps replace."""

    def __init__(
        self,
        source: BackupSource,
        sources: Sequence[MemberSource],
        *,
        is_needed: Callable[[BaseException], bool],
        left_out: Sequence[OmittedDatabase] = (),
    ) -> None:
        """Set the options.

        Args:
            source: the backup that is restored; the caller holds the lock of its repository.
            sources: the databases to back up.
            is_needed: whether the previous state may exist only in the backup after an error of a later step.
            left_out: databases that are not in the backup.
        """
        self._source, self._sources = source, sources
        self._is_needed, self._left_out = is_needed, left_out
        self._manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            raise RuntimeError("create was not called")
        return self._manifest

    @property
    def step(self) -> Step:
        """The step that creates the backup; its undo deletes the backup, unless it may still be needed."""
        return Step(self.create, self.delete_unneeded)

    def create(self) -> None:
        # Signals are blocked while the backup is complete and ``delete_unneeded`` could not find it.
        with ExitStack() as stack:
            self._manifest = create_backup(
                self._source.repository,
                self._sources,
                left_out=self._left_out,
                kind="safety",
                restored=self._source.manifest.id,
                stack=stack,
            )
            self._source.app.close()  # closing a reader later would drop the locks that this process holds on its file

    def delete_unneeded(self, error: BaseException) -> None:
        """Delete the backup after ``error``, if the previous state exists without it."""
        # A damaged database is replaced file by file, so some of its files may exist only in the backup.
        if (
            self._manifest is not None
            and not self._is_needed(error)
            and all(member.form != "raw" for member in self._manifest.members)
        ):
            with suppress(DbctlError):  # an unneeded backup that remains is not an error
                self._source.repository.store.remove_folder(self._manifest.id)


DAMAGED_HINT = Remedy(
    "Repair the cause and restore again. The damaged files are in a safety backup; show it with: `backup show {id}`"
)
#: The reason recorded in the manifest for a database that did not exist.
NO_DATABASE = "the database did not exist"


class Replacement:
    """The replacement of several databases: either all of them have the content of the backup, or none."""

    def __init__(
        self,
        source: BackupSource,
        members: Sequence[Member],
        reader: MemberReader,
        prepared: Mapping[str, StagedDump],
    ) -> None:
        """Read the states of the databases.

        Args:
            source: the backup; the caller holds the locks of its repository and of the databases.
            members: the members to restore, in their order: those of ``prepared`` last.
            reader: reads them and those of the safety backup.
            prepared: by database: what is loaded and verified in advance.
        """
        self._source, self._app, self._members, self._reader = source, source.app, members, reader
        self._prepared = prepared
        app = self._app
        self._databases = [SafetyBackupSource(app, member.database, member.dump) for member in members]
        self._pending = {member.database: list_pending_migrations(app, member.database) for member in members}
        self.states = dict[str, StateBefore]()  #: of the databases before the replacement, by name
        self._safety_backup = SafetyBackup(
            source,
            [database for database in self._databases if not database.is_empty],
            left_out=[
                OmittedDatabase(database=database.database, reason=NO_DATABASE)
                for database in self._databases
                if database.is_empty
            ],
            is_needed=lambda error: bool(self.results) or isinstance(error, RestoreUnfinishedError),
        )
        #: of the replaced databases, by name, in the order of their replacement
        self.results = dict[str, LoadResult]()
        self._drop_messages = dict[str, Sequence[str]]()
        self._write_locks = ExitStack()
        self._releases = dict[
            str, Callable[[], None]
        ]()  # by database: releases its lock before the stack is closed
        self._current = ""
        self._failed_reverts = list[tuple[str, str, str]]()  # database, reason, hint

    @property
    def safety(self) -> Manifest:
        """The safety backup, after its step."""
        return self._safety_backup.manifest

    def run(self, locks: ExitStack, finish: Callable[[], object]) -> None:
        """Create the safety backup and replace the databases; close ``locks`` and call ``finish`` afterwards.

        Raises:
            WriteConflictError: a database was changed after its safety backup; nothing was changed.
            RestoreUnfinishedError, RestorePartialError: see ``ApplyRestore.apply``.
        """
        swapped = [member for member in self._members if member.database in self._prepared]
        run_steps(
            prepare=[
                Step(self.block_writers, self._release_writers),
                Step(self.read_states),
                self._safety_backup.step,
            ],
            change=[
                *(
                    Step(partial(self._mark_swap, member), partial(self._unmark_swap, member))
                    for member in swapped
                ),
                *(
                    Step(partial(self.replace_database, member), partial(self._revert, member))
                    for member in self._members
                ),
            ],
            finish=[
                Step(self.drop_older_retained),
                Step(self._write_locks.close),
                Step(locks.close),
                Step(finish),
            ],
        )

    def block_writers(self) -> None:
        """Block writers of the databases: a write between the safety backup and the replacement would be lost."""
        for database in self._databases:
            lock = database.block_writers(timeout=self._app.timeout)
            self._releases[database.database] = self._write_locks.enter_context(lock)

    def _release_writers(self, error: BaseException) -> None:
        self._write_locks.__exit__(type(error), error, error.__traceback__)

    def read_states(self) -> None:
        """Read the schemas while no other process writes, to compare them after the restore."""
        for database in self._databases:
            name = database.database
            self.states[name] = StateBefore(schema=database.schema(), pending=self._pending[name])

    def _mark_swap(self, member: Member) -> None:
        """Write the marker of a prepared swap, so that a kill between two databases can be detected."""
        self._prepared[member.database].write_marker(find_retained_facts(self.safety, member))

    def _unmark_swap(self, member: Member, error: BaseException) -> None:
        # After an unknown result of another database, the marker shows that this one is not replaced.
        if not isinstance(error, RestoreUnfinishedError):
            self._prepared[member.database].remove_marker()

    def replace_database(self, member: Member) -> None:
        """Replace a database by a prepared swap, or its content by a member of the backup."""
        self._current = member.database
        if member.database in self._prepared:
            self.results[member.database] = self._prepared[member.database].swap()
            return
        self.results[member.database] = self._load(
            self._source.manifest,
            member,
            find_retained_facts(self.safety, member),
            self._releases[member.database],
        )

    def _load(
        self,
        manifest: Manifest,
        member: Member,
        retained: Mapping[str, str],
        release_locks: Callable[[], None] = release_nothing,
    ) -> LoadResult:
        """Load a member of ``manifest`` into its live database; arguments and errors as of ``RestoreTarget.load``."""
        progress.start_stage("restoring")
        path = self._reader.decode(manifest, member, self._app.target(member.database))
        request = LoadRequest(
            path=path,
            dump=member.dump,
            timeout=self._app.timeout,
            retained=retained,
            progress=count_in_bytes((member.size, progress.advance)),
            release_locks=release_locks,
            roles=self._source.read_role_policy(member, self._reader),
        )
        return self._app.restore_target(member.database).load(request)

    def _revert(self, member: Member, error: BaseException) -> None:
        """Restore a replaced database from the safety backup, because another one failed with ``error``.

        Raises:
            RestorePartialError: it has to stay as it is; the error also names the databases for which this was raised before.
        """
        if member.database not in self.results:
            return
        saved = self.safety.restorable_member(member.database)
        facts = {"id": self.safety.id, "database": member.database}
        reason, hint = "it did not exist before", "Delete it, or repair the cause and restore again."
        if any(item.database == member.database and item.form == "raw" for item in self.safety.members):
            reason, hint = "it was damaged before", DAMAGED_HINT.write(self._app.name, facts)
        if saved is not None:
            try:
                # A retained database is the only copy: it gets its previous name.
                self._load(self.safety, saved, find_retained_facts(self._source.manifest, member))
            except DbctlError as failure:
                reason = str(failure)
                restore = Remedy("Restore the previous state with: `restore apply {id} --db {database}`")
                hint = restore.write(self._app.name, facts)
            else:
                del self.results[member.database]
                return
        self._failed_reverts.append((member.database, reason, hint))
        databases, reasons, hints = zip(*self._failed_reverts, strict=True)
        raise RestorePartialError(
            app=self._app.name,
            done=", ".join(databases),
            database=self._current,
            reason=error,
            rollback_error="; ".join(reasons),
            hint=" ".join(hints),
        ) from error

    def drop_older_retained(self) -> None:
        """Drop databases that earlier restores retained on a server, because only the latest restore can be undone."""
        for member in self._members:
            if self.results[member.database].method in ("swapped", "new"):
                restore_target = self._app.restore_target(member.database)
                latest = find_retained_facts(self.safety, member).get("kept")
                try:
                    messages = restore_target.drop_retained(lambda name, latest=latest: name != latest)  # type: ignore[misc]
                except DbctlError as error:
                    messages = [f"databases retained by earlier restores were not dropped: {error}"]
                self._drop_messages[member.database] = messages

    def find_remarks(self) -> Iterator[Finding]:
        """Yield warnings about the replaced databases."""
        for remarks in ({name: result.remarks for name, result in self.results.items()}, self._drop_messages):
            for name, messages in remarks.items():
                for message in messages:
                    target = self._app.target(name)
                    yield Finding(target=target, severity="warning", code="maintenance", message=message)


def find_retained_facts(manifest: Manifest, member: Member) -> Mapping[str, str]:
    """Return the facts of a retained database in the manifest, such as its name on the server; empty if there is none."""
    retained = manifest.restorable_member(member.database)
    return retained.facts if retained and retained.form == "kept" else {}
