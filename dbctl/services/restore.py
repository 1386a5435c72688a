"""A backup brought back: proven first, what it replaces kept, and into the live database as one change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress

from dbctl import interrupt
from dbctl.engines import registry
from dbctl.engines.dumps import Loaded
from dbctl.errors import (
    BackupMissingError,
    BackupPartialError,
    BackupUnsoundError,
    DbctlError,
    Exit,
    NotSupportedError,
    ReadOnlyError,
    RestoreHalfError,
    RestoreUnfinishedError,
    UndoMissingError,
    UndoNothingError,
)
from dbctl.model import Done, Finding, Plan, Row, Value, counted
from dbctl.services import backup_verify
from dbctl.services.apps import App
from dbctl.services.backup_create import make
from dbctl.services.backup_extras import left_alone
from dbctl.services.backup_manifest import LeftOut, Manifest, Member
from dbctl.services.backup_unpacked import Unpacked, unpacking
from dbctl.services.backups import LATEST, Repository
from dbctl.services.restore_after import looked_at, recorded
from dbctl.services.safety import Rescue

#: Why a safety backup holds nothing of a database.
NONE = "there was none"
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
        notes = [
            f"{one.message}; {one.hint}" if one.hint else one.message
            for one in self.findings
            if one.severity == "info"
        ]
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
            url, target = self._opened.url(one.database), self._opened.target(one.database)
            approach = registry.outside(url, target).approach(one.dump)
            where = "on its server" if approach.keeps else "as a safety backup"
            if approach.way != "new":
                steps.append(f"keep {one.database} as it is now, {where}")
            steps += approach.steps
            steps.append(f"replace all that {one.database} holds by {_told(one)} ({count})")
            for table, number in one.rows.items():
                rows[table] = rows.get(table, 0) + number
        title = f"Restore {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def apply(self, seen: str | None = None) -> Restored:
        """Bring it back; on any failure what was there stays, or is put back.

        Raises:
            BackupMissingError: it was pruned meanwhile; nothing was changed.
            BackupUnsoundError: it is not what it was; nothing was changed.
            BusyError: somebody held a lock for too long; nothing was changed.
            RestoreUnfinishedError: it failed where nobody can tell how far it came; what it replaces is kept.
            RestoreHalfError: one of several databases failed, and those before it could not be put back.
        """
        del seen  # the plan is made of the backup alone, which does not change
        app, store = self._opened, self._repository.store
        with ExitStack() as held:
            held.enter_context(store.lock(self.purpose, timeout=self._timeout))
            if self._repository.is_gone(self._manifest):
                place = store.place
                raise BackupMissingError(name=self._manifest.id, app=app.name, place=place, near="")
            app.close()  # closing a reader later would drop the locks that this process holds on its file
            for one in self._members:
                url, target = app.url(one.database), app.target(one.database)
                held.enter_context(registry.write_lock(url, target, self.purpose, timeout=self._timeout))
                registry.want_room(url, target, one.size)
            unpacked = held.enter_context(unpacking(store))
            self._prove(unpacked)
            rescues = [Rescue(app, one.database, self._advance, one.dump) for one in self._members]
            before = {one.database: one.schema() for one in rescues}
            safety = make(
                app,
                self._repository,
                [one for one in rescues if not one.empty],
                left_out=[LeftOut(database=one.database, reason=NONE) for one in rescues if one.empty],
                kind="safety",
                restored=self._manifest.id,
            )
            app.close()  # as above
            # Between what is done and its answer no signal is heard, nor while locks go: it must not look otherwise.
            with interrupt.held():
                loaded = self._load_all(safety, unpacked)
                with interrupt.unheard():
                    remarks = [*self._remarks(loaded), *self._let_go(safety, loaded)]
                    held.close()
                    return self._answer(safety, before, loaded, remarks)

    def _remarks(self, loaded: Sequence[Loaded]) -> Iterator[Finding]:
        for one, how in zip(self._members, loaded, strict=True):
            yield from _look_after(self._opened.target(one.database), how.remarks)

    def _let_go(self, safety: Manifest, loaded: Sequence[Loaded]) -> Iterator[Finding]:
        """Let go what earlier restores kept on a server: this one is the one to be undone now."""
        for one, how in zip(self._members, loaded, strict=True):
            target = self._opened.target(one.database)
            if how.way in ("swapped", "new"):
                try:
                    left = registry.outside(self._opened.url(one.database), target).forget(_keep(safety, one))
                except DbctlError as error:
                    left = [f"what earlier restores kept on its server is still there: {error}"]
                yield from _look_after(target, left)

    def _answer(
        self,
        safety: Manifest,
        before: Mapping[str, str],
        loaded: Sequence[Loaded],
        remarks: Sequence[Finding],
    ) -> Restored:
        return Restored(
            backup=self._manifest.id,
            safety_backup=safety.id if safety.members else None,
            databases=[
                DatabaseRestored(
                    database=one.database, way=how.way, rows=sum(one.rows.values()), tables=len(one.rows)
                )
                for one, how in zip(self._members, loaded, strict=True)
            ],
            findings=[
                *remarks,
                *left_alone(self._opened, self._manifest, self._repository.path(self._manifest)),
                *recorded(self._opened, self._manifest, safety, self.purpose),
                *(
                    finding
                    for one in self._members
                    for finding in looked_at(self._opened, one, before[one.database])
                ),
            ],
        )

    def _prove(self, unpacked: Unpacked) -> None:
        wrong = backup_verify.problems(
            self._opened,
            self._repository.store,
            self._manifest,
            deep=True,
            quick=True,
            advance=self._advance,
            databases=[one.database for one in self._members],
            unpacked=unpacked,
        )
        for one in wrong:
            if one.severity == "error":
                reason = one.message.removeprefix(f"backup {self._manifest.id}").lstrip(", ")
                raise BackupUnsoundError(id=self._manifest.id, app=self.app, reason=reason)

    def _load_all(self, safety: Manifest, unpacked: Unpacked) -> list[Loaded]:
        ways = list[Loaded]()
        # A signal is heard where the engine looks for one, which is before it commits: what was restored must not
        # pass for what was not, for then the only copy of what it replaced would go.
        with interrupt.held():
            for one in self._members:
                try:
                    ways.append(self._load(self._manifest, one, _keep(safety, one), unpacked))
                except BaseException as error:  # also on a signal: half an app must not stay
                    with interrupt.unheard():
                        self._put_back(safety, self._members[: len(ways)], one, error, unpacked)
                        if _is_there(safety) and not isinstance(error, RestoreUnfinishedError):
                            with suppress(DbctlError):  # one backup too many is no failure
                                self._repository.store.remove(safety.id)
                    raise
        return ways

    def _load(self, manifest: Manifest, one: Member, keep: Mapping[str, str], unpacked: Unpacked) -> Loaded:
        done = 0

        def progress(share: float) -> None:
            nonlocal done
            reached = int(share * one.size)
            self._advance(max(0, reached - done))
            done = max(done, reached)

        url, target = self._opened.url(one.database), self._opened.target(one.database)
        with unpacked.opened(manifest.id, one, target) as path:
            return registry.load(
                url, path, target, one.dump, timeout=self._timeout, keep=keep, progress=progress
            )

    def _put_back(
        self,
        safety: Manifest,
        done: Sequence[Member],
        failed: Member,
        error: BaseException,
        unpacked: Unpacked,
    ) -> None:
        for one in done:
            kept = safety.member(one.database)
            why, hint = "it was not there before", "Remove it, or restore again once what failed is mended."
            if kept is not None:
                try:
                    # What a server had kept is the only copy: it goes back to where it was.
                    self._load(safety, kept, _keep(self._manifest, one), unpacked)
                    continue
                except DbctlError as failure:
                    why = str(failure)
                    hint = f"What it held is kept: dbctl restore apply {safety.id} --db {one.database}"
            raise RestoreHalfError(
                app=self.app, done=one.database, database=failed.database, reason=error, why=why, kept=hint
            ) from error


def _is_there(safety: Manifest) -> bool:
    """Whether a safety backup holds what there is, when the restore that it was made for has failed.

    What was no database any more is replaced file by file, and then some of its files may be gone.
    """
    return all(one.form != "raw" for one in safety.members)


def _keep(manifest: Manifest, one: Member) -> Mapping[str, str]:
    """Return under which name a server keeps what the manifest tells of; nothing where it does not."""
    kept = manifest.member(one.database)
    return kept.facts if kept and kept.form == "kept" else {}


def _told(one: Member) -> str:
    return one.facts.get("kept", one.file) if one.form == "kept" else one.file


def _look_after(target: str, remarks: Sequence[str]) -> Iterator[Finding]:
    for message in remarks:
        yield Finding(target=target, severity="warning", code="look-after", message=message)


def size(app: App, repository: Repository, manifest: Manifest) -> int:
    """Return how many bytes a restore reads and writes, about: it proves, keeps and loads; raises as ``Restoring``."""
    return sum(one.bytes + 2 * one.size for one in members(app, repository, manifest))


def latest_safety(app: App, repository: Repository) -> Manifest:
    """Return the safety backup that the last restore made.

    Raises:
        UndoMissingError: there is none.
        UndoNothingError: that restore found nothing that it could keep.
    """
    try:
        found = repository.find(LATEST, "safety")
    except BackupMissingError:
        raise UndoMissingError(app=app.name, place=repository.store.place) from None
    if not [name for name in found.databases if app.only in ("", name)]:
        raise UndoNothingError(target=app.target(app.only) if app.only else app.name, id=found.restored)
    return found


def members(app: App, repository: Repository, manifest: Manifest) -> list[Member]:
    """Return the files of a backup that are meant, and may be restored; raises as ``Restoring`` does."""
    chosen = [name for name in manifest.databases if app.only in ("", name)]
    if not chosen:
        raise BackupMissingError(
            name=manifest.id, app=f"{app.name}/{app.only}", place=repository.store.place, near=""
        )
    if manifest.kind == "partial":
        tables = ", ".join(name for one in manifest.members for name in one.only)
        instead = f"The programs of the server bring tables back from it: {repository.path(manifest)}"
        raise BackupPartialError(id=manifest.id, app=app.name, tables=tables, instead=instead)
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
                by="what it holds: files that were no sound database",
                instead=f"Nothing was changed. They are in {repository.path(manifest)}, as they were.",
            )
        found.append(one)
    return found
