"""A backup brought back: proven first, what it replaces kept, and into the live database as one change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

from dbctl.engines import registry
from dbctl.engines.base import Capability, Checks
from dbctl.errors import (
    BackupMissingError,
    BackupUnsoundError,
    DbctlError,
    Exit,
    NotSupportedError,
    ReadOnlyError,
    RestoreHalfError,
    UndoMissingError,
)
from dbctl.model import Done, Finding, Plan, Row, Value, counted
from dbctl.services import audit, backup_verify
from dbctl.services.apps import App
from dbctl.services.backup_create import make
from dbctl.services.backup_manifest import Manifest, Member
from dbctl.services.backups import LATEST, Repository
from dbctl.services.safety import Rescue

Advance = Callable[[int], None]


class DatabaseRestored(Value, frozen=True, kw_only=True):
    """One database that was brought back."""

    database: str
    way: str  #: ``Loaded.way``
    rows: int
    tables: int


class Restored(Done, frozen=True, kw_only=True):
    """Answer of ``restore apply`` and ``restore undo``."""

    backup: str
    safety_backup: str | None  #: what was there before; None where nothing was
    databases: Sequence[DatabaseRestored]
    findings: Sequence[Finding]

    @property
    def remarks(self) -> Sequence[str]:
        return [
            f"{one.target}: {one.message}. {one.hint}".rstrip()
            for one in self.findings
            if one.severity != "info"
        ]

    @property
    def exit_status(self) -> int:
        return Exit.UNSOUND if any(one.severity == "error" for one in self.findings) else Exit.OK

    def brief(self) -> Row:
        told: dict[str, object] = {"backup": self.backup, "safety_backup": self.safety_backup}
        for one in self.databases:
            told[one.database] = f"{counted(one.rows, 'row')} of {counted(one.tables, 'table')}, {one.way}"
        notes = [one.message for one in self.findings if one.severity == "info"]
        return told | ({"notes": notes} if notes else {})


class Restoring:
    """What ``restore apply`` is about to do."""

    purpose = "restore apply"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        *,
        timeout: float,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Choose the databases: the one that was asked for, else all that the backup holds.

        Raises:
            BackupMissingError: the backup does not hold that database.
            NotSupportedError: it holds no more of it than files that are no database.
            ReadOnlyError: the database belongs to another program.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._timeout = app, repository, timeout
        self._manifest, self._advance = manifest, advance
        self._members = members(app, repository, manifest)

    def plan(self) -> Plan:
        """Return what would be replaced by what; writes nothing."""
        rows: dict[str, int] = {}
        steps = [f"prove {self._manifest.id}: digests, soundness, rows, schema"]
        for one in self._members:
            count = f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            steps.append(f"keep {one.database} as it is now, as a safety backup")
            steps.append(f"replace all that {one.database} holds by {one.file} ({count})")
            for table, number in one.rows.items():
                rows[table] = rows.get(table, 0) + number
        title = f"Restore {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def apply(self, seen: str | None = None) -> Restored:
        """Bring it back; on any failure what was there stays, or is put back.

        Raises:
            BackupUnsoundError: it is not what it was; nothing was changed.
            BusyError: somebody held a lock for too long; nothing was changed.
            RestoreHalfError: one of several databases failed, and those before it could not be put back.
        """
        del seen  # the plan is made of the backup alone, which does not change
        app, store = self._opened, self._repository.store
        with ExitStack() as held:
            held.enter_context(store.lock(self.purpose, timeout=self._timeout))
            app.close()  # closing a reader later would drop the locks that this process holds on its file
            for one in self._members:
                url, target = app.url(one.database), app.target(one.database)
                held.enter_context(registry.write_lock(url, target, self.purpose, timeout=self._timeout))
                registry.want_room(url, target, one.bytes)
            self._prove()
            rescues = [Rescue(app, one.database, self._advance) for one in self._members]
            before = {one.database: one.schema() for one in rescues}
            filled = [one for one in rescues if not one.empty]
            safety = (
                make(app, self._repository, filled, kind="safety", restored=self._manifest.id)
                if filled
                else None
            )
            app.close()  # as above
            ways = self._load_all(safety)
        unrecorded = list(self._record(safety))
        return Restored(
            backup=self._manifest.id,
            safety_backup=safety.id if safety else None,
            databases=[
                DatabaseRestored(
                    database=one.database, way=way, rows=sum(one.rows.values()), tables=len(one.rows)
                )
                for one, way in zip(self._members, ways, strict=True)
            ],
            findings=[
                *unrecorded,
                *(finding for one in self._members for finding in self._look(one, before[one.database])),
            ],
        )

    def _prove(self) -> None:
        wrong = backup_verify.problems(
            self._opened,
            self._repository.store,
            self._manifest,
            deep=True,
            quick=True,
            advance=self._advance,
            databases=[one.database for one in self._members],
        )
        for one in wrong:
            if one.severity == "error":
                reason = one.message.removeprefix(f"backup {self._manifest.id}").lstrip(", ")
                raise BackupUnsoundError(id=self._manifest.id, app=self.app, reason=reason)

    def _load_all(self, safety: Manifest | None) -> list[str]:
        ways = list[str]()
        for one in self._members:
            try:
                ways.append(self._load(self._manifest, one))
            except BaseException as error:  # also on a signal: half an app must not stay
                self._put_back(safety, self._members[: len(ways)], one, error)
                if safety:  # what it holds is what there is; should it stay, it does no harm
                    with suppress(DbctlError):
                        self._repository.store.remove(safety.id)
                raise
        return ways

    def _load(self, manifest: Manifest, one: Member) -> str:
        done = 0

        def progress(share: float) -> None:
            nonlocal done
            reached = int(share * one.bytes)
            self._advance(max(0, reached - done))
            done = max(done, reached)

        with self._repository.store.opened(manifest.id, one.file) as path:
            url, target = self._opened.url(one.database), self._opened.target(one.database)
            loaded = registry.load(
                url, path, target, timeout=self._timeout, facts=one.facts, progress=progress
            )
        return loaded.way

    def _put_back(
        self, safety: Manifest | None, done: Sequence[Member], failed: Member, error: BaseException
    ) -> None:
        for one in done:
            kept = safety.member(one.database) if safety else None
            why, hint = "it was not there before", "Remove it, or restore again once what failed is mended."
            if kept is not None and safety is not None:
                try:
                    self._load(safety, kept)
                    continue
                except DbctlError as failure:
                    why = str(failure)
                    hint = f"What it held is kept: dbctl restore apply {safety.id} --db {one.database}"
            raise RestoreHalfError(
                app=self.app, done=one.database, database=failed.database, reason=error, why=why, kept=hint
            ) from error

    def _record(self, safety: Manifest | None) -> Iterator[Finding]:
        """Record it where the app keeps such records; yield what kept it from being recorded.

        In a transaction of its own: what the backup holds came in by another way than statements.
        """
        app = self._opened
        if app.profile.audit is None or app.main() not in {one.database for one in self._members}:
            return
        told = {"created_at": self._manifest.created_at, "safety_backup": safety.id if safety else None}
        try:
            with app.writer(app.main(), self.purpose) as db, db.transaction():
                audit.record(app, db, "restore.apply", "backup", self._manifest.id, told)
        except DbctlError as error:
            message = f"it was done, but could not be recorded in the app: {error}"
            target = app.target(app.main())
            yield Finding(target=target, severity="warning", code="not-recorded", message=message)

    def _look(self, one: Member, before: str) -> Iterator[Finding]:
        """Yield what is to be known once it is there."""
        app, target = self._opened, self._opened.target(one.database)
        try:
            live = app.reader(one.database)
            lines = (
                live.damage(quick=True)
                if Capability.CHECK in live.capabilities and isinstance(live, Checks)
                else ()
            )
        except DbctlError as error:  # it was done all the same, and must not end as if it were not
            message = f"it was restored, but could not be looked at afterwards: {error}"
            hint = "dbctl integrity check does that."
            yield Finding(target=target, severity="warning", code=error.code, message=message, hint=hint)
            lines = ()
        for line in lines:
            hint = "dbctl restore undo goes back."
            yield Finding(target=target, severity="error", code="corrupt", message=line, hint=hint)
        if before and before != one.schema:
            yield Finding(
                target=target,
                severity="warning",
                code="schema-changed",
                message="its schema is another one than before the restore",
                hint="Restart the app; dbctl migrate status tells what is pending.",
            )
        if app.profile.users and app.profile.users.signed_in and one.database == app.main():
            yield Finding(
                target=target,
                severity="info",
                code="sessions-of-then",
                message="passwords, roles and sessions are those of the backup: what was revoked since is valid again",
                hint="dbctl sessions revoke LOGIN ends those of one user.",
            )


def size(app: App, repository: Repository, manifest: Manifest) -> int:
    """Return how many bytes a restore reads and writes, about: it proves, keeps and loads; raises as ``Restoring``."""
    return 3 * sum(one.bytes for one in members(app, repository, manifest))


def latest_safety(app: App, repository: Repository) -> Manifest:
    """Return the safety backup that the last restore made.

    Raises:
        UndoMissingError: there is none.
    """
    try:
        return repository.find(LATEST, "safety")
    except BackupMissingError:
        raise UndoMissingError(app=app.name, place=repository.store.place) from None


def members(app: App, repository: Repository, manifest: Manifest) -> list[Member]:
    """Return the files of a backup that are meant, and may be restored; raises as ``Restoring`` does."""
    chosen = [name for name in manifest.databases if app.only in ("", name)]
    if not chosen:
        raise BackupMissingError(
            name=manifest.id, app=f"{app.name}/{app.only}", place=repository.store.place, near=""
        )
    found = []
    for name in chosen:
        told = app.database(name)
        if told.mode == "read-only":
            owner = told.owner or "another program"
            raise ReadOnlyError(
                target=app.target(name),
                reason=f"it belongs to {owner}",
                instead=f"Nothing was changed. Its copy is in {repository.path(manifest)}; --db restores another.",
            )
        one = manifest.member(name)
        if one is None:
            raise NotSupportedError(
                what=f"restoring {app.target(name)} from {manifest.id}",
                by="what it holds, files that were no sound database,",
                instead=f"Nothing was changed. They are in {repository.path(manifest)}, as they were.",
            )
        found.append(one)
    return found
