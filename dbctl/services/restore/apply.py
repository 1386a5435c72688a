"""``restore apply``: verify a backup, create a safety backup, and replace the live databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines import registry
from dbctl.engines.contract import LoadResult, PreparedSwap
from dbctl.errors import (
    BackupMissingError,
    DbctlError,
    Exit,
    FileMissingError,
    NothingToUndoError,
    RestorePartialError,
    RestoreUnfinishedError,
    RetainedDatabaseMissingError,
    TablesLostError,
    UndoMissingError,
    WriteConflictError,
)
from dbctl.files import make_folder, release_nothing
from dbctl.model import ChangeResult, Finding, Plan, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.backup import (
    LATEST,
    DecryptionKeys,
    EncryptionPolicy,
    Manifest,
    Member,
    MemberReader,
    OmittedDatabase,
    Repository,
    SafetyBackupSource,
    create_backup,
    is_encrypted,
    open_reader,
    report_unchanged_files,
)
from dbctl.services.backup.foreign import CONTENT_FACT, find_missing_live_tables
from dbctl.services.restore.post_checks import (
    StateBefore,
    check_restored,
    check_surroundings,
    list_pending_migrations,
    record_restore,
)
from dbctl.services.restore.source import label_member, require_backup, select_members, verify_members
from dbctl.url import Url

#: Attempts to create a safety backup and replace the databases, if other processes write in between.
MAX_ATTEMPTS = 5
#: The reason recorded in the manifest for a database that did not exist.
NO_DATABASE = "the database did not exist"
IDENTITY_MISSING = "its identity is not available: restore undo requires it"
Advance = Callable[[int], None]


class RestoredDatabase(Struct, frozen=True, kw_only=True):
    """One restored database."""

    database: str
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int


class RestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply`` and ``restore undo``."""

    backup: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no database existed
    databases: Sequence[RestoredDatabase]
    findings: Sequence[Finding]

    @property
    def remarks(self) -> Sequence[str]:
        return [
            f"{finding.target}: {finding.message}. {finding.hint}".rstrip()
            for finding in self.findings
            if finding.severity != "info"
        ]

    @property
    def exit_status(self) -> int:
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Row:
        row: dict[str, object] = {"backup": self.backup, "safety_backup": self.safety_backup}
        for database in self.databases:
            row[database.database] = (
                f"{format_count(database.rows, 'row')} of {format_count(database.tables, 'table')}, {database.strategy}"
            )
        notes = [
            f"{finding.message}; {finding.hint}" if finding.hint else finding.message
            for finding in self.findings
            if finding.severity == "info"
        ]
        return row | ({"notes": notes} if notes else {})


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
        self._prepared = dict[str, PreparedSwap]()

    def plan(self) -> Plan:
        """Return the databases to replace and the backups to create; writes nothing."""
        rows: dict[str, int] = {}
        steps = [f"verify {self._manifest.id}: checksums, integrity, rows, schema"]
        if is_encrypted(self._manifest):
            steps.insert(0, f"decrypt {self._manifest.id} into a private temporary folder")
        steps += [f"create the directory {folder}, which is missing" for folder in self._missing_folders()]
        for member in self._members:
            count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            url, target = self._open_app.url(member.database), self._open_app.target(member.database)
            strategy = registry.load_engine(url.engine).restore_target(url, target).strategy(member.dump)
            safety = "as a safety backup, encrypted" if self._encryption else "as a safety backup"
            location = strategy.location if strategy.retains_previous else safety
            location += "" if self._can_undo else f" ({IDENTITY_MISSING})"
            if strategy.method != "new":
                steps.append(f"back up {member.database} {location}")
            steps += strategy.steps
            steps.append(f"replace the contents of {member.database} with {label_member(member)} ({count})")
            for table, row_count in member.rows.items():
                rows[table] = rows.get(table, 0) + row_count
        steps += [f"leave {target} unchanged: {reason}" for target, reason in self._unchanged_databases()]
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
        app, store = self._open_app, self._repository.store
        with ExitStack() as stack:
            stack.enter_context(store.lock(self.purpose, timeout=self._timeout))
            require_backup(self._repository, self._manifest)
            app.close()  # closing a reader later would drop the locks that this process holds on its file
            for folder in self._missing_folders():
                make_folder(folder)
            for member in self._members:
                url, target = app.url(member.database), app.target(member.database)
                stack.enter_context(
                    registry.load_engine(url.engine)
                    .restore_target(url, target)
                    .lock(self.purpose, timeout=self._timeout)
                )
                registry.load_engine(url.engine).restore_target(url, target).require_space(member.size)
            reader = stack.enter_context(open_reader(store, self._keys))
            verify_members(
                app,
                self._repository,
                self._manifest,
                self._members,
                keys=self._keys,
                reader=reader,
                advance=self._advance,
            )
            for member in self._members:
                path = stack.enter_context(
                    reader.open_decoded(self._manifest, member, app.target(member.database))
                )
                restore_target = app.restore_target(member.database)
                prepared = stack.enter_context(
                    restore_target.prepare(path, member.dump, timeout=self._timeout)
                )
                if prepared is not None:
                    self._prepared[member.database] = prepared
            # Fast steps that rarely fail come last: this shortens the time in which some databases are old and some new.
            self._members.sort(key=lambda member: member.database in self._prepared)
            for attempts_left in reversed(range(MAX_ATTEMPTS)):
                try:
                    return self._replace_all(stack, reader)
                except WriteConflictError:  # the database has changed since the safety backup
                    if not attempts_left:
                        raise
            raise RuntimeError("no attempt left")

    def _replace_all(self, stack: ExitStack, reader: MemberReader) -> RestoreResult:
        """Create the safety backup and replace the databases; closes ``stack`` afterwards."""
        app = self._open_app
        with ExitStack() as locks, ExitStack() as cleanup:
            sources = [
                SafetyBackupSource(app, source.database, self._advance, source.dump)
                for source in self._members
            ]
            pending = {source.database: list_pending_migrations(app, source.database) for source in sources}
            # Writes between the safety backup and the replacement would be lost.
            releases = [
                locks.enter_context(source.block_writers(timeout=self._timeout)) for source in sources
            ]
            before = {
                source.database: StateBefore(schema=source.schema(), pending=pending[source.database])
                for source in sources
            }
            safety = create_backup(
                app,
                self._repository,
                [source for source in sources if not source.is_empty],
                self._encryption,
                left_out=[
                    OmittedDatabase(database=source.database, reason=NO_DATABASE)
                    for source in sources
                    if source.is_empty
                ],
                kind="safety",
                restored=self._manifest.id,
                stack=cleanup,
            )
            app.close()  # closing a reader later would drop the locks that this process holds on its file
            # Signals are ignored until the result is created and the locks are released: the restore must not look interrupted.
            with signals.defer_signals():
                cleanup.close()  # an interruption before this line deletes the safety backup
                loaded = self._load_all(safety, reader, releases)
                with signals.block_signals():
                    findings = [*self._load_findings(loaded), *self._drop_retained(safety, loaded)]
                    locks.close()
                    stack.close()
                    result = self._create_result(safety, before, loaded, findings)
                    signals.commit_point()
                    return result

    def _unchanged_databases(self) -> Iterator[tuple[str, str]]:
        """Yield databases that the backup does not contain and that stay unchanged, each with the reason."""
        for omitted in self._manifest.left_out if self._manifest.kind == "safety" else ():
            if self._open_app.only in ("", omitted.database):
                yield (
                    self._open_app.target(omitted.database),
                    f"it did not exist before the restore of {self._manifest.restored}",
                )
        for failure in self._manifest.failed:
            if self._open_app.only in ("", failure.database):
                yield self._open_app.target(failure.database), f"the backup lacks it: {failure.reason}"

    def _load_findings(self, loaded: Sequence[LoadResult]) -> Iterator[Finding]:
        for member, result in zip(self._members, loaded, strict=True):
            yield from _create_maintenance_findings(self._open_app.target(member.database), result.remarks)

    def _drop_retained(self, safety: Manifest, loaded: Sequence[LoadResult]) -> Iterator[Finding]:
        """Drop databases that earlier restores retained on a server, because only the latest restore can be undone."""
        for member, result in zip(self._members, loaded, strict=True):
            target = self._open_app.target(member.database)
            if result.method in ("swapped", "new"):
                try:
                    messages = (
                        self._open_app.engine(member.database)
                        .restore_target(self._open_app.url(member.database), target)
                        .drop_retained(_find_retained_facts(safety, member))
                    )
                except DbctlError as error:
                    messages = [f"databases retained by earlier restores were not dropped: {error}"]
                yield from _create_maintenance_findings(target, messages)

    def _create_result(
        self,
        safety: Manifest,
        before: Mapping[str, StateBefore],
        loaded: Sequence[LoadResult],
        findings: Sequence[Finding],
    ) -> RestoreResult:
        return RestoreResult(
            backup=self._manifest.id,
            safety_backup=safety.id if safety.members else None,
            databases=[
                RestoredDatabase(
                    database=member.database,
                    strategy=result.method,
                    rows=sum(member.rows.values()),
                    tables=len(member.rows),
                )
                for member, result in zip(self._members, loaded, strict=True)
            ],
            findings=[
                *findings,
                *self._check_identity(safety),
                *(
                    Finding(
                        target=target,
                        severity="warning",
                        code="not-undone",
                        message=f"it stays unchanged: {reason}",
                    )
                    for target, reason in self._unchanged_databases()
                ),
                *report_unchanged_files(self._open_app, self._manifest),
                *record_restore(self._open_app, self._manifest, safety, self.purpose),
                *(
                    finding
                    for member in self._members
                    for finding in check_restored(self._open_app, member, before[member.database])
                ),
                *check_surroundings(self._open_app, [member.database for member in self._members]),
            ],
        )

    def _check_identity(self, safety: Manifest) -> Iterator[Finding]:
        if safety.members and not self._can_undo:
            message = f"the safety backup {safety.id} is encrypted, and {IDENTITY_MISSING}"
            hint = "Make its identity available before you run dbctl restore undo."
            yield Finding(
                target=self.app, severity="warning", code="undo-needs-identity", message=message, hint=hint
            )

    def _load_all(
        self, safety: Manifest, reader: MemberReader, releases: Sequence[Callable[[], None]]
    ) -> list[LoadResult]:
        results = list[LoadResult]()
        # Signals are processed only before the engine commits: if a completed restore were treated as failed, the only
        # copy of the previous state would be deleted.
        with signals.defer_signals():
            member = self._members[0]
            try:
                for member in self._members:
                    if member.database in self._prepared:
                        self._prepared[member.database].write_marker(_find_retained_facts(safety, member))
                for member, release in zip(self._members, releases, strict=True):
                    results.append(self._restore_member(member, safety, reader, release))
            except BaseException as error:  # also on a signal: the databases of an app must match
                with signals.block_signals():
                    for prepared in self._prepared.values():
                        prepared.remove_marker()
                    self._revert(safety, self._members[: len(results)], member, error, reader)
                    if _is_unneeded(safety) and not isinstance(error, RestoreUnfinishedError):
                        with suppress(DbctlError):  # an unneeded backup that remains is not an error
                            self._repository.store.remove_folder(safety.id)
                raise
        return results

    def _restore_member(
        self, member: Member, safety: Manifest, reader: MemberReader, release: Callable[[], None]
    ) -> LoadResult:
        if prepared := self._prepared.get(member.database):
            return prepared.swap(_find_retained_facts(safety, member))
        return self._load(self._manifest, member, _find_retained_facts(safety, member), reader, release)

    def _load(
        self,
        manifest: Manifest,
        member: Member,
        retained: Mapping[str, str],
        reader: MemberReader,
        release: Callable[[], None] = release_nothing,
    ) -> LoadResult:
        done = 0

        def progress(share: float) -> None:
            nonlocal done
            completed_bytes = int(share * member.size)
            self._advance(max(0, completed_bytes - done))
            done = max(done, completed_bytes)

        url, target = self._open_app.url(member.database), self._open_app.target(member.database)
        with reader.open_decoded(manifest, member, target) as path:
            return (
                registry.load_engine(url.engine)
                .restore_target(url, target)
                .load(
                    path,
                    member.dump,
                    timeout=self._timeout,
                    retained=retained,
                    progress=progress,
                    release_locks=release,
                )
            )

    def _revert(
        self,
        safety: Manifest,
        restored: Sequence[Member],
        failed: Member,
        error: BaseException,
        reader: MemberReader,
    ) -> None:
        for member in restored:
            saved = safety.restorable_member(member.database)
            reason, hint = "it did not exist before", "Delete it, or repair the cause and restore again."
            if saved is not None:
                try:
                    # A retained database is the only copy: it gets its previous name.
                    self._load(safety, saved, _find_retained_facts(self._manifest, member), reader)
                    continue
                except DbctlError as failure:
                    reason = str(failure)
                    hint = f"Restore the previous state with: dbctl restore apply {safety.id} --db {member.database}"
            raise RestorePartialError(
                app=self.app,
                done=member.database,
                database=failed.database,
                reason=error,
                rollback_error=reason,
                hint=hint,
            ) from error


def _is_unneeded(safety: Manifest) -> bool:
    """Return whether a safety backup can be deleted after its restore has failed and was reverted.

    A damaged database is replaced file by file, so some of its files may exist only in the safety backup.
    """
    return all(member.form != "raw" for member in safety.members)


def _find_retained_facts(manifest: Manifest, member: Member) -> Mapping[str, str]:
    """Return the facts of a retained database in the manifest, such as its name on the server; empty if there is none."""
    retained = manifest.restorable_member(member.database)
    return retained.facts if retained and retained.form == "kept" else {}


def _create_maintenance_findings(target: str, messages: Sequence[str]) -> Iterator[Finding]:
    for message in messages:
        yield Finding(target=target, severity="warning", code="maintenance", message=message)


def find_undo_backup(app: App, repository: Repository) -> Manifest:
    """Return the safety backup of the last restore.

    Two kinds are skipped: backups of a restore that was killed before it replaced anything, as far as that is known (then
    the retained databases of the restore before it still exist, because they are dropped at the end of a restore); and
    backups of a restore that was interrupted between two databases and then undone.

    Raises:
        UndoMissingError: there is no safety backup.
        NothingToUndoError: the last restore replaced no database, or was interrupted, and no earlier one exists.
    """
    try:
        newest = repository.find(LATEST, "safety")
    except BackupMissingError:
        raise UndoMissingError(app=app.name, place=repository.store.location) from None
    target = app.target(app.only) if app.only else app.name
    if not [name for name in newest.databases if app.only in ("", name)]:
        raise NothingToUndoError(
            target=target,
            reason=f"its last restore ({newest.restored}) replaced no database",
            hint="List older backups with dbctl backup list, and restore one with dbctl restore apply ID.",
        )
    backups = [backup for backup in repository.manifests()[0] if backup.kind == "safety"]
    undone = {name for backup in backups for name in _find_undone_backups(backup, backups)}
    if newest.id not in undone and not _replaced_nothing(app, newest):
        return newest
    candidates = (backup for backup in backups if backup.number < newest.number and backup.id not in undone)
    earlier = next((backup for backup in candidates if _is_complete(app, backup)), None)
    if earlier is None:
        reason = (
            "its last restore was interrupted and is already undone"
            if newest.id in undone
            else f"its last restore ({newest.restored}) was interrupted before it replaced a database"
        )
        hint = f"The data from before it is stored: dbctl restore apply {newest.id}"
        raise NothingToUndoError(target=target, reason=reason, hint=hint)
    return earlier


def _find_undone_backups(safety: Manifest, backups: Sequence[Manifest]) -> Sequence[str]:
    """Return the ids of ``safety`` and of the backup it restored, if that undid an interrupted restore; otherwise none.

    The interrupted restore had not yet renamed a database, so the undo retained no database either.
    """
    undone = next((member for member in backups if member.id == safety.restored), None)
    members = undone.members if undone else ()
    unreplaced = [
        member
        for member in members
        if member.form == "kept"
        and (saved := safety.restorable_member(member.database)) is not None
        and saved.form != "kept"
    ]
    return (safety.id, safety.restored) if unreplaced else ()


def _replaced_nothing(app: App, safety: Manifest) -> bool:
    """Return whether all databases of a safety backup are still in place."""
    members = _select_members(app, safety)
    return bool(members) and all(_is_unreplaced(app, member) for member in members)


def _is_complete(app: App, safety: Manifest) -> bool:
    """Return whether a restore replaced the databases of a safety backup, and all retained databases exist."""
    members = _select_members(app, safety)
    return (
        bool(members)
        and not _replaced_nothing(app, safety)
        and not any(member.form == "kept" and _is_unreplaced(app, member) for member in members)
    )


def _select_members(app: App, safety: Manifest) -> list[Member]:
    databases = app.profile.databases if not app.only else [app.only]
    return [member for member in safety.members if member.database in databases]


def _is_unreplaced(app: App, member: Member) -> bool:
    """Return whether the source of a member was not replaced: it was never retained, or its markers are unchanged."""
    restore_target = app.restore_target(member.database)
    if member.form == "kept":
        try:
            restore_target.strategy(member.dump)
        except RetainedDatabaseMissingError:
            return True
        return False
    markers = restore_target.markers()
    return bool(markers) and markers.items() <= member.facts.items()


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
