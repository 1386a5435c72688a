"""``restore apply``: verify a backup, create a safety backup, and replace the live databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from dbctl.engines.contract import PreparedSwap
from dbctl.errors import FileMissingError, TablesLostError, WriteConflictError
from dbctl.files import make_folder
from dbctl.model import Plan, format_count
from dbctl.services.app import App
from dbctl.services.backup import (
    DecryptionKeys,
    EncryptionPolicy,
    Manifest,
    MemberReader,
    Repository,
    SafetyBackupSource,
    is_encrypted,
    open_reader,
)
from dbctl.services.backup.foreign import CONTENT_FACT, find_missing_live_tables
from dbctl.services.restore.replacement import (
    BlockWriters,
    DropOlderRetained,
    LoadDatabase,
    MarkSwap,
    Replacement,
    SwapDatabase,
)
from dbctl.services.restore.result import (
    IDENTITY_MISSING,
    CreateResult,
    ReadStates,
    RestoreResult,
    list_unchanged_databases,
)
from dbctl.services.restore.source import label_member, require_backup, select_members, verify_members
from dbctl.services.restore.steps import ReleaseLocks, run_steps
from dbctl.url import Url

#: Attempts to create a safety backup and replace the databases, if other processes write in between.
MAX_ATTEMPTS = 5
Advance = Callable[[int], None]


class ApplyRestore:
    """Restore a backup into the live databases."""

    purpose = "restore apply"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        keys: DecryptionKeys,
        *,
        timeout: float,
        replace: bool = False,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Select the databases: the one of ``app.only``, or all of the backup.

        Args:
            app: the app.
            repository: the repository of the backup.
            manifest: the backup.
            keys: the keys for encrypted backups.
            timeout: seconds to wait for a lock.
            replace: whether tables may be dropped that a dump of another program does not contain.
            advance: receives the number of bytes processed since the last call.

        Raises:
            BackupMissingError: the backup does not contain that database.
            NotSupportedError: it contains only files of it that are not a valid database.
            ReadOnlyError: the database belongs to another program.
            KeyMissingError: the backup is encrypted, and no identity is available; and as ``DecryptionKeys.prepare``.
            TablesLostError: the dump lacks tables of the live database, which would be dropped.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._open_app, self._repository, self._timeout = app, repository, timeout
        self._manifest, self._advance = manifest, advance
        self._members = select_members(app, repository, manifest)
        if not replace:
            self._refuse_some_tables()
        keys.prepare(repository.store, manifest)
        self._keys, self._encryption = keys, EncryptionPolicy(app)
        self._can_undo = not self._encryption or self._encryption.can_be_decrypted_by(keys)

    def plan(self) -> Plan:
        """Return the databases to replace and the backups to create; writes nothing."""
        rows: dict[str, int] = {}
        steps = [f"verify {self._manifest.id}: checksums, integrity, rows, schema"]
        if is_encrypted(self._manifest):
            steps.insert(0, f"decrypt {self._manifest.id} into a private temporary folder")
        steps += [f"create the directory {folder}, which is missing" for folder in self._missing_folders()]
        for member in self._members:
            count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            strategy = self._open_app.restore_target(member.database).strategy(member.dump)
            safety = "as a safety backup, encrypted" if self._encryption else "as a safety backup"
            location = strategy.location if strategy.retains_previous else safety
            location += "" if self._can_undo else f" ({IDENTITY_MISSING})"
            if strategy.method != "new":
                steps.append(f"back up {member.database} {location}")
            steps += strategy.steps
            steps.append(f"replace the contents of {member.database} with {label_member(member)} ({count})")
            for table, row_count in member.rows.items():
                rows[table] = rows.get(table, 0) + row_count
        steps += [
            f"leave {target} unchanged: {reason}"
            for target, reason in list_unchanged_databases(self._open_app, self._manifest)
        ]
        title = f"Restore {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def _refuse_some_tables(self) -> None:
        """Refuse a dump of another program that lacks tables of the live database; it may be a partial dump."""
        for member in self._members:
            tables = (
                find_missing_live_tables(self._open_app, member.database, member.rows)
                if CONTENT_FACT in member.facts
                else []
            )
            if tables:
                target = self._open_app.target(member.database)
                raise TablesLostError(dump=self._manifest.id, target=target, tables=", ".join(tables))

    def _missing_folders(self) -> Sequence[Path]:
        """Return the missing folders of the databases, each once."""
        folders = (_find_missing_folder(self._open_app.url(member.database)) for member in self._members)
        return [folder for folder in dict.fromkeys(folders) if folder is not None]

    def apply(self, confirmed: str | None = None) -> RestoreResult:
        """Restore the databases; on failure the previous state remains or is restored.

        Raises:
            FileMissingError: the parent of the databases' folder is missing, too; nothing was changed.
            BackupMissingError: the backup was pruned since the plan; nothing was changed.
            BackupCorruptError: the backup is damaged; nothing was changed.
            BusyError: another process held a lock for too long, or wrote too often; nothing was changed.
            RestoreUnfinishedError: it failed in an unknown state; the safety backup stays.
            RestorePartialError: one of several databases failed, and the databases before it could not be reverted.
        """
        del confirmed  # the plan depends only on the backup, which does not change
        with ExitStack() as locks:
            self._lock_databases(locks)
            reader = locks.enter_context(open_reader(self._repository.store, self._keys))
            prepared = self._prepare_members(locks, reader)
            # Fast steps that rarely fail come last: this shortens the time in which some databases are old and some new.
            self._members.sort(key=lambda member: member.database in prepared)
            for attempts_left in reversed(range(MAX_ATTEMPTS)):
                try:
                    return self._replace_all(locks, reader, prepared)
                except WriteConflictError:  # the database has changed since the safety backup
                    if not attempts_left:
                        raise
            raise RuntimeError("no attempt left")

    def _lock_databases(self, locks: ExitStack) -> None:
        """Lock the repository and the databases against other dbctl processes."""
        app = self._open_app
        locks.enter_context(self._repository.store.lock(self.purpose, timeout=self._timeout))
        require_backup(self._repository, self._manifest)
        app.close()  # closing a reader later would drop the locks that this process holds on its file
        for folder in self._missing_folders():
            make_folder(folder)
        for member in self._members:
            restore_target = app.restore_target(member.database)
            locks.enter_context(restore_target.lock(self.purpose, timeout=self._timeout))
            restore_target.require_space(member.size)

    def _prepare_members(self, stack: ExitStack, reader: MemberReader) -> Mapping[str, PreparedSwap]:
        """Verify the members, and return by database what is loaded and verified in advance; ``stack`` removes it."""
        verify_members(
            self._open_app,
            self._repository,
            self._manifest,
            self._members,
            keys=self._keys,
            reader=reader,
            advance=self._advance,
        )
        prepared = dict[str, PreparedSwap]()
        for member in self._members:
            path = stack.enter_context(
                reader.open_decoded(self._manifest, member, self._open_app.target(member.database))
            )
            restore_target = self._open_app.restore_target(member.database)
            swap = stack.enter_context(restore_target.prepare(path, member.dump, timeout=self._timeout))
            if swap is not None:
                prepared[member.database] = swap
        return prepared

    def _replace_all(
        self, locks: ExitStack, reader: MemberReader, prepared: Mapping[str, PreparedSwap]
    ) -> RestoreResult:
        """Create the safety backup and replace the databases; closes ``locks`` afterwards.

        Raises:
            WriteConflictError: a database was changed after its safety backup; nothing was changed.
        """
        app, members = self._open_app, self._members
        sources = [SafetyBackupSource(app, member.database, self._advance, member.dump) for member in members]
        read_states = ReadStates(app, sources)
        block_writers = BlockWriters(sources, timeout=self._timeout)
        replacement = Replacement(
            app,
            self._repository,
            self._manifest,
            reader,
            sources,
            self._encryption,
            timeout=self._timeout,
            advance=self._advance,
        )
        drop_retained = DropOlderRetained(replacement, members)
        create_result = CreateResult(
            replacement,
            members,
            read_states,
            drop_retained,
            purpose=self.purpose,
            can_undo=self._can_undo,
        )
        swapped = [member for member in members if member.database in prepared]
        loaded = [member for member in members if member.database not in prepared]
        run_steps(
            prepare=[block_writers, read_states, replacement.create_safety_backup],
            change=[
                *(MarkSwap(replacement, member, prepared[member.database]) for member in swapped),
                *(LoadDatabase(replacement, member, block_writers) for member in loaded),
                *(SwapDatabase(replacement, member, prepared[member.database]) for member in swapped),
            ],
            finish=[drop_retained, ReleaseLocks(block_writers.locks, locks), create_result],
        )
        return create_result.result


def _find_missing_folder(url: Url) -> Path | None:
    """Return the parent folder of a local database, if only that folder is missing; otherwise None.

    Raises:
        FileMissingError: the parent of that folder is missing, too; it may be a disk that is not mounted.
    """
    if not url.is_local:
        return None
    folder = Path(os.path.realpath(url.path)).parent
    if os.path.lexists(folder):
        return None
    if not folder.parent.is_dir():
        raise FileMissingError(kind="directory", path=folder.parent)
    return folder
