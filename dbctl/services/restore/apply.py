"""``restore apply``: verify a backup, create a safety backup, replace the live databases, and report what remains to do; ``restore undo`` finds that safety backup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from dbctl import progress
from dbctl.engines.contract.dumps import LoadRequest, StagedDump
from dbctl.errors.backup import (
    BackupMissingError,
    NothingToUndoError,
    RetainedDatabaseMissingError,
    TablesLostError,
    UndoMissingError,
)
from dbctl.errors.base import Exit, Remedy
from dbctl.errors.connection import WriteConflictError
from dbctl.files.atomic import make_folder
from dbctl.model import ChangeResult, Effect, Finding, Plan, Row, Struct, count_severities, join_hint
from dbctl.services.app.app import App
from dbctl.services.app.audit import record_operation
from dbctl.services.backup.app_files import report_unchanged_files
from dbctl.services.backup.encryption import is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import MemberReader
from dbctl.services.backup.named_files import CONTENT_FACT, find_missing_live_tables
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.restore.post_checks import check_log, check_restored, check_surroundings, record_restore
from dbctl.services.restore.replacement import Replacement
from dbctl.services.restore.source import (
    BackupSource,
    RestoreOperation,
    count_content,
    count_rows,
    describe_left_out,
    find_missing_folders,
    label_member,
)

_BEFORE_MIGRATION = Remedy(
    "Return to the state before the last migration or reset with: `restore apply {id}`; list backups with: `backup list`"
)
_OF_ANOTHER = Remedy(
    "The newest one is of another database, {address}; if this one was moved from there: `restore apply {id}`"
)
_LIST_OLDER = Remedy("List older backups with: `backup list`; restore one with: `restore apply ID`")
IDENTITY_MISSING = "its identity is not available: restore undo requires it"


def find_undo_backup(repository: Repository) -> Manifest:
    """Return the safety backup of the last restore.

    Two kinds are skipped: backups of a restore that was killed before it replaced anything, as far as that is known (then
    the retained databases of the restore before it still exist, because they are dropped at the end of a restore); and
    backups of a restore that was interrupted between two databases and then undone.

    Raises:
        UndoMissingError: there is no safety backup.
        NothingToUndoError: the last restore replaced no database, or was interrupted, and no earlier one exists.
    """
    app = repository.app
    manifests, _ = repository.manifests()
    own = repository.select_own(manifests, app.only)
    try:
        newest = repository.find(LATEST, "safety")
    except BackupMissingError:
        migration = next((backup for backup in own if backup.kind == "migration"), None)
        place = repository.store.location
        if migration:
            raise UndoMissingError(
                app=app.name, place=place, hint=_BEFORE_MIGRATION, id=migration.id
            ) from None
        safety = (backup for backup in manifests if backup.kind == "safety" and backup not in own)
        if other := next(safety, None):
            address = ", ".join(dict.fromkeys(repository.find_others(other).values()))
            raise UndoMissingError(
                app=app.name, place=place, hint=_OF_ANOTHER, id=other.id, address=address
            ) from None
        raise UndoMissingError(app=app.name, place=place) from None
    target = app.target(app.only) if app.only else app.name
    if not [name for name in newest.databases if app.only in ("", name)]:
        raise NothingToUndoError(
            target=target,
            reason=f"its last restore ({newest.restored}) replaced no database",
            hint=_LIST_OLDER,
        )
    backups = [backup for backup in own if backup.kind == "safety"]
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
        hint = Remedy("The data from before it is stored; restore it with: `restore apply {id}`")
        if lost := repository.find_lost_databases([newest]).get(newest.id):
            reason, hint = f"{reason}, or {lost}", _LIST_OLDER
        raise NothingToUndoError(target=target, reason=reason, hint=hint, id=newest.id)
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


class RestoredDatabase(Struct, frozen=True, kw_only=True):
    """One restored database."""

    database: str
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int
    schema_only: Sequence[str]  #: the tables that are empty, because the backup lacks their rows


class RestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply`` and ``restore undo``."""

    is_timed = True

    backup: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no database existed
    databases: Sequence[RestoredDatabase]
    findings: Sequence[Finding]

    @property
    def effect(self) -> Effect | None:
        counts = {**count_content(self.databases), **count_severities(self.findings)}
        place = f"from {self.backup}"
        details = describe_left_out(self.databases)
        return Effect(
            "restored", "database", count=len(self.databases), place=place, details=details, counts=counts
        )

    @property
    def remarks(self) -> Sequence[str]:
        return [
            join_hint(f"{finding.target}: {finding.message}", finding.hint)
            for finding in self.findings
            if finding.severity != "info"
        ]

    @property
    def notes(self) -> Sequence[str]:
        return [
            join_hint(f"{finding.target}: {finding.message}", finding.hint)
            for finding in self.findings
            if finding.severity == "info"
        ]

    @property
    def exit_status(self) -> int:
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Row:
        return {"safety_backup": self.safety_backup} if self.safety_backup else {}


#: Attempts to create a safety backup and replace the databases, if other processes write in between.
MAX_ATTEMPTS = 5


class ApplyRestore(RestoreOperation):
    """Restore a backup into the live databases."""

    def __init__(self, source: BackupSource, *, replace: bool = False) -> None:
        """Select the databases: the one of ``app.only``, or all of the backup.

        Args:
            source: the backup.
            replace: whether tables may be dropped that a dump of another program does not contain.

        Raises:
            BackupMissingError: the backup does not contain that database.
            NotSupportedError: it contains only files of it that are not a valid database.
            ReadOnlyError: the database belongs to another program.
            KeyMissingError: as ``RestoreOperation``.
            TablesLostError: the dump lacks tables of the live database, which would be dropped.
        """
        super().__init__(source)
        self._members = source.select_members()
        if not replace:
            self._refuse_some_tables()
        self._encryption = source.repository.encryption
        self._can_undo = not self._encryption or self._encryption.can_be_decrypted_by(source.keys)

    def size(self) -> int:
        return sum(member.bytes + 2 * member.size for member in self._members)

    def plan(self) -> Plan:
        """Return the databases to replace and the backups to create; writes nothing."""
        app, manifest, rows = self._app, self._manifest, Counter[str]()
        steps = [f"verify {manifest.id}: checksums, integrity, rows, schema"]
        if is_encrypted(manifest):
            steps.insert(0, f"decrypt {manifest.id} into a private temporary folder")
        folders = find_missing_folders(app.url(member.database) for member in self._members)
        steps += [f"create the directory {folder}, which is missing" for folder in folders]
        for member in self._members:
            restore_target, target = app.restore_target(member.database), app.target(member.database)
            strategy = restore_target.strategy(member.dump)
            safety = "as a safety backup, encrypted" if self._encryption else "as a safety backup"
            location = strategy.location if strategy.retains_previous else safety
            location += "" if self._can_undo else f" ({IDENTITY_MISSING})"
            if strategy.method != "new":
                steps.append(f"back up {member.database} {location}")
            steps += [*strategy.steps, *self._source.plan_member(restore_target, member, target)]
            content = f"{label_member(member)} ({count_rows(member)})"
            # Apps of several configurations may have the same name, and a repository in common.
            if address := self._source.repository.find_others(manifest).get(member.database):
                content += f", a backup of {address}"
            steps.append(f"replace the contents of {member.database} with {content}")
            rows.update(member.rows)
        unchanged = list_unchanged_databases(app, manifest)
        steps += [f"leave {target} unchanged: {reason}" for target, reason in unchanged]
        return self._create_plan(f"Restore {self._source.label}", steps, rows, destructive=True)

    def _refuse_some_tables(self) -> None:
        """Refuse a dump of another program that lacks tables of the live database; it may be a partial dump."""
        for member in self._members:
            if CONTENT_FACT in member.facts and (
                tables := find_missing_live_tables(self._app, member.database, member.rows)
            ):
                target = self._app.target(member.database)
                raise TablesLostError(dump=self._manifest.id, target=target, tables=", ".join(tables))

    def apply(self, confirmed: str | None = None) -> RestoreResult:
        """Restore the databases; on failure the previous state remains or is restored.

        Raises:
            FileMissingError: the parent of the databases' folder is missing, too; nothing was changed.
            BackupMissingError: the backup was pruned since the plan; nothing was changed.
            BackupCorruptError: the backup is damaged; nothing was changed.
            RolesMissingError: a server lacks roles of the backup; nothing was changed.
            BusyError: another process held a lock for too long, or wrote too often; nothing was changed.
            RestoreUnfinishedError: it failed in an unknown state; the safety backup stays.
            RestorePartialError: one of several databases failed, and the databases before it could not be reverted.
        """
        del confirmed  # the plan depends only on the backup, which does not change
        with ExitStack() as locks:
            self._lock_databases(locks)
            locks.enter_context(record_operation(self._app, [member.database for member in self._members]))
            reader = locks.enter_context(self._source.open_reader())
            self._source.verify(self._members, reader)
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
        app = self._app
        locks.enter_context(self._lock())
        self._source.require_existing()
        for folder in find_missing_folders(app.url(member.database) for member in self._members):
            make_folder(folder)
        for member in self._members:
            restore_target = app.restore_target(member.database)
            locks.enter_context(restore_target.lock(app.spec.name, timeout=app.timeout))
            restore_target.require_space(member.size)
            self._source.plan_member(restore_target, member, app.target(member.database))

    def _prepare_members(self, stack: ExitStack, reader: MemberReader) -> Mapping[str, StagedDump]:
        """Return by database what is loaded and verified in advance; ``stack`` removes it."""
        app, prepared = self._app, dict[str, StagedDump]()
        for member in progress.list_parts(self._members, "database"):
            progress.start_stage("preparing")
            target = app.target(member.database)
            path = reader.decode(self._manifest, member, target)
            restore_target = app.restore_target(member.database)
            if restore_target.stages_early:
                request = LoadRequest(path=path, dump=member.dump, timeout=app.timeout)
                prepared[member.database] = stack.enter_context(restore_target.stage(request))
        return prepared

    def _replace_all(
        self, locks: ExitStack, reader: MemberReader, prepared: Mapping[str, StagedDump]
    ) -> RestoreResult:
        """Create the safety backup and replace the databases; closes ``locks`` afterwards."""
        replacement = Replacement(self._source, self._members, reader, prepared)
        results = list[RestoreResult]()
        replacement.run(
            locks,
            lambda: results.append(
                create_result(replacement, self._source, self._members, can_undo=self._can_undo)
            ),
        )
        return results[0]


def create_result(
    replacement: Replacement, source: BackupSource, members: Sequence[Member], *, can_undo: bool
) -> RestoreResult:
    """Record the restore in the app, check the restored databases, and return the result.

    ``replacement`` has ended; ``can_undo``: the identity is available that decrypts the safety backup.
    """
    safety = replacement.safety
    return RestoreResult(
        backup=source.manifest.id,
        safety_backup=safety.id if safety.members else None,
        databases=[
            RestoredDatabase(
                database=member.database,
                strategy=replacement.results[member.database].method,
                rows=sum(member.rows.values()),
                tables=len(member.rows),
                schema_only=member.schema_only,
            )
            for member in members
        ],
        findings=list(_find_remaining_work(replacement, source, members, can_undo=can_undo)),
    )


def _find_remaining_work(
    replacement: Replacement, source: BackupSource, members: Sequence[Member], *, can_undo: bool
) -> Iterator[Finding]:
    app, manifest, safety = source.app, source.manifest, replacement.safety
    yield from replacement.find_remarks()
    if safety.members and not can_undo:
        yield Finding(
            app.name,
            "warning",
            "undo-needs-identity",
            f"the safety backup {safety.id} is encrypted, and {IDENTITY_MISSING}",
            Remedy("Make its identity available before you run: `restore undo`").write(app.name),
        )
    for target, reason in list_unchanged_databases(app, manifest):
        message = f"it stays unchanged: {reason}"
        yield Finding(target=target, severity="warning", code="not-undone", message=message)
    yield from report_unchanged_files(app, manifest)
    yield from record_restore(app, manifest, safety)
    for member in members:
        yield from check_restored(app, member, replacement.states[member.database])
    if retained := [member.database for member in safety.members if member.form == "kept"]:
        yield from check_log(source.repository, retained)
    yield from check_surroundings(app, [member.database for member in members])


def list_unchanged_databases(app: App, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield databases that the backup does not contain and that stay unchanged, each with the reason."""
    for omitted in manifest.left_out if manifest.kind == "safety" else ():
        if app.only in ("", omitted.database):
            reason = f"it did not exist before the restore of {manifest.restored}"
            yield app.target(omitted.database), reason
    for failure in manifest.failed:
        if app.only in ("", failure.database):
            yield app.target(failure.database), f"the backup lacks it: {failure.reason}"
