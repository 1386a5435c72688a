"""A backup brought back: proven first, what it replaces kept, and into the live database as one change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines import registry
from dbctl.engines.contract import Loaded, Ready
from dbctl.errors import (
    BackupMissingError,
    DbctlError,
    Exit,
    KeptMissingError,
    RestoreHalfError,
    RestoreUnfinishedError,
    StirredError,
    TablesLostError,
    UndoMissingError,
    UndoneAlreadyError,
    UndoNeedlessError,
    UndoNothingError,
)
from dbctl.files import at_once, make_folder
from dbctl.model import Done, Finding, Plan, Row, Value, counted
from dbctl.services.app import App
from dbctl.services.backup import (
    LATEST,
    Keys,
    LeftOut,
    Manifest,
    Member,
    Repository,
    Rescue,
    Sealing,
    Unpacked,
    is_encrypted,
    left_alone,
    make,
    unpacking,
)
from dbctl.services.backup.foreign import WRITTEN, live_tables_beyond
from dbctl.services.restore.post_checks import Before, around, looked_at, pending_in, recorded
from dbctl.services.restore.source import members, prove, told, want_there

#: How often what there is is kept anew, when somebody was quicker than the exchange.
TRIES = 5
#: Why a safety backup holds nothing of a database.
NONE = "there was none"
NO_WAY_BACK = "nothing at hand opens it: to undo this wants an identity that is not here"
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
        keys: Keys,
        *,
        timeout: float,
        replace: bool = False,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Choose the databases: the one that was asked for, else all that the backup holds.

        Args:
            app: the app.
            repository: through which the backup is read.
            manifest: the backup.
            keys: what opens encrypted backups.
            timeout: seconds to wait for a lock.
            replace: whether tables may go that a dump of another program does not hold.
            advance: told how many bytes more are done.

        Raises:
            BackupMissingError: the backup does not hold that database.
            NotSupportedError: it holds no more of it than files that are no database.
            ReadOnlyError: the database belongs to another program.
            KeyMissingError: the backup is encrypted, and nothing here could open it; and as ``Keys.ready``.
            TablesLostError: it may be a dump of some tables, which would replace the whole database.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._timeout = app, repository, timeout
        self._manifest, self._advance = manifest, advance
        self._members = members(app, repository, manifest)
        if not replace:
            self._refuse_some_tables()
        keys.ready(repository.store, manifest)
        self._keys, self._sealing = keys, Sealing(app)
        self._returns = not self._sealing or self._sealing.is_opened_by(keys)
        self._ready = dict[str, Ready]()

    def plan(self) -> Plan:
        """Return what would be replaced by what; writes nothing."""
        rows: dict[str, int] = {}
        steps = [f"prove {self._manifest.id}: digests, soundness, rows, schema"]
        if is_encrypted(self._manifest):
            steps.insert(0, f"decrypt {self._manifest.id} into a private folder of this machine")
        steps += [f"make the directory {folder}, which is missing" for folder in self._lacking()]
        for one in self._members:
            count = f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            url, target = self._opened.url(one.database), self._opened.target(one.database)
            approach = registry.outside(url, target).approach(one.dump)
            safety = "as a safety backup, encrypted" if self._sealing else "as a safety backup"
            where = approach.where if approach.keeps else safety
            where += "" if self._returns else f" ({NO_WAY_BACK})"
            if approach.way != "new":
                steps.append(f"keep {one.database} as it is now, {where}")
            steps += approach.steps
            steps.append(f"replace all that {one.database} holds by {told(one)} ({count})")
            for table, number in one.rows.items():
                rows[table] = rows.get(table, 0) + number
        steps += [f"leave {target} as it is, for {what}" for target, what in self._left()]
        title = f"Restore {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def _refuse_some_tables(self) -> None:
        """Refuse a dump of another program without tables of the live database: nothing in it tells which were left out."""
        for one in self._members:
            lost = live_tables_beyond(self._opened, one.database, one.rows) if WRITTEN in one.facts else []
            if lost:
                target = self._opened.target(one.database)
                raise TablesLostError(dump=self._manifest.id, target=target, tables=", ".join(lost))

    def _lacking(self) -> Sequence[Path]:
        """Return the folders that are missing, each once."""
        found = (registry.lacking_folder(self._opened.url(one.database)) for one in self._members)
        return [one for one in dict.fromkeys(found) if one is not None]

    def apply(self, seen: str | None = None) -> Restored:
        """Bring it back; on any failure what was there stays, or is put back.

        Raises:
            FileMissingError: what the databases' folder stood in is missing, too; nothing was changed.
            BackupMissingError: it was pruned meanwhile; nothing was changed.
            BackupUnsoundError: it is not what it was; nothing was changed.
            BusyError: somebody held a lock for too long, or wrote too often; nothing was changed.
            RestoreUnfinishedError: it failed where nobody can tell how far it came; what it replaces is kept.
            RestoreHalfError: one of several databases failed, and those before it could not be put back.
        """
        del seen  # the plan is made of the backup alone, which does not change
        app, store = self._opened, self._repository.store
        with ExitStack() as held:
            held.enter_context(store.lock(self.purpose, timeout=self._timeout))
            want_there(self._repository, self._manifest)
            app.close()  # closing a reader later would drop the locks that this process holds on its file
            for folder in self._lacking():
                make_folder(folder)
            for one in self._members:
                url, target = app.url(one.database), app.target(one.database)
                held.enter_context(registry.write_lock(url, target, self.purpose, timeout=self._timeout))
                registry.want_room(url, target, one.size)
            unpacked = held.enter_context(unpacking(store, self._keys))
            prove(
                app,
                self._repository,
                self._manifest,
                self._members,
                keys=self._keys,
                unpacked=unpacked,
                advance=self._advance,
            )
            for one in self._members:
                path = held.enter_context(unpacked.opened(self._manifest, one, app.target(one.database)))
                outside = registry.outside(app.url(one.database), app.target(one.database))
                ready = held.enter_context(outside.ready(path, one.dump, timeout=self._timeout))
                if ready is not None:
                    self._ready[one.database] = ready
            # What takes a moment and hardly fails comes last, so that an app is hardly ever seen half old, half new.
            self._members.sort(key=lambda one: one.database in self._ready)
            for left in reversed(range(TRIES)):
                try:
                    return self._exchange(held, unpacked)
                except StirredError:  # what was kept is no longer what would be replaced
                    if not left:
                        raise
            raise RuntimeError("no try was left")

    def _exchange(self, held: ExitStack, unpacked: Unpacked) -> Restored:
        """Keep what there is, replace it, and answer; ``held`` is let go when it is done."""
        app = self._opened
        with ExitStack() as waiting, ExitStack() as settled:
            rescues = [Rescue(app, one.database, self._advance, one.dump) for one in self._members]
            pending = {one.database: pending_in(app, one.database) for one in rescues}
            # What is committed between the copy and the exchange would be in neither.
            let_go = [waiting.enter_context(one.still(timeout=self._timeout)) for one in rescues]
            before = {
                one.database: Before(schema=one.schema(), pending=pending[one.database]) for one in rescues
            }
            safety = make(
                app,
                self._repository,
                [one for one in rescues if not one.empty],
                self._sealing,
                left_out=[LeftOut(database=one.database, reason=NONE) for one in rescues if one.empty],
                kind="safety",
                restored=self._manifest.id,
                settled=settled,
            )
            app.close()  # as above
            # Between what is done and its answer no signal is heard, nor while locks go: it must not look otherwise.
            with signals.held():
                settled.close()  # who ends now takes the safety backup away
                loaded = self._load_all(safety, unpacked, let_go)
                with signals.unheard():
                    remarks = [*self._remarks(loaded), *self._forget(safety, loaded)]
                    waiting.close()
                    held.close()
                    answer = self._answer(safety, before, loaded, remarks)
                    signals.done()
                    return answer

    def _left(self) -> Iterator[tuple[str, str]]:
        """Yield the databases that a safety backup tells of and does not hold: going back cannot take them away."""
        for one in self._manifest.left_out if self._manifest.kind == "safety" else ():
            if self._opened.only in ("", one.database):
                yield (
                    self._opened.target(one.database),
                    f"it was made by the restore of {self._manifest.restored}, before which there was none",
                )
        for left in self._manifest.failed:
            if self._opened.only in ("", left.database):
                yield self._opened.target(left.database), f"the backup lacks it: {left.reason}"

    def _remarks(self, loaded: Sequence[Loaded]) -> Iterator[Finding]:
        for one, how in zip(self._members, loaded, strict=True):
            yield from _look_after(self._opened.target(one.database), how.remarks)

    def _forget(self, safety: Manifest, loaded: Sequence[Loaded]) -> Iterator[Finding]:
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
        before: Mapping[str, Before],
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
                *self._no_way_back(safety),
                *(
                    Finding(
                        target=target,
                        severity="warning",
                        code="not-undone",
                        message=f"it stays as it is, for {what}",
                    )
                    for target, what in self._left()
                ),
                *left_alone(self._opened, self._manifest),
                *recorded(self._opened, self._manifest, safety, self.purpose),
                *(
                    finding
                    for one in self._members
                    for finding in looked_at(self._opened, one, before[one.database])
                ),
                *around(self._opened, [one.database for one in self._members]),
            ],
        )

    def _no_way_back(self, safety: Manifest) -> Iterator[Finding]:
        if safety.members and not self._returns:
            message = f"the safety backup {safety.id} is encrypted, and {NO_WAY_BACK}"
            hint = "Keep its identity at hand until nobody wants to undo this."
            yield Finding(target=self.app, severity="warning", code="no-way-back", message=message, hint=hint)

    def _load_all(
        self, safety: Manifest, unpacked: Unpacked, let_go: Sequence[Callable[[], None]]
    ) -> list[Loaded]:
        ways = list[Loaded]()
        # A signal is heard where the engine looks for one, which is before it commits: what was restored must not
        # pass for what was not, for then the only copy of what it replaced would go.
        with signals.held():
            one = self._members[0]
            try:
                for one in self._members:
                    if one.database in self._ready:
                        self._ready[one.database].arm(_keep(safety, one))
                for one, go in zip(self._members, let_go, strict=True):
                    ways.append(self._come_in(one, safety, unpacked, go))
            except BaseException as error:  # also on a signal: half an app must not stay
                with signals.unheard():
                    for ready in self._ready.values():
                        ready.disarm()
                    self._put_back(safety, self._members[: len(ways)], one, error, unpacked)
                    if _is_there(safety) and not isinstance(error, RestoreUnfinishedError):
                        with suppress(DbctlError):  # one backup too many is no failure
                            self._repository.store.remove(safety.id)
                raise
        return ways

    def _come_in(
        self, one: Member, safety: Manifest, unpacked: Unpacked, let_go: Callable[[], None]
    ) -> Loaded:
        if ready := self._ready.get(one.database):
            return ready.exchange(_keep(safety, one))
        return self._load(self._manifest, one, _keep(safety, one), unpacked, let_go)

    def _load(
        self,
        manifest: Manifest,
        one: Member,
        keep: Mapping[str, str],
        unpacked: Unpacked,
        let_go: Callable[[], None] = at_once,
    ) -> Loaded:
        done = 0

        def progress(share: float) -> None:
            nonlocal done
            reached = int(share * one.size)
            self._advance(max(0, reached - done))
            done = max(done, reached)

        url, target = self._opened.url(one.database), self._opened.target(one.database)
        with unpacked.opened(manifest, one, target) as path:
            return registry.load(
                url,
                path,
                target,
                one.dump,
                timeout=self._timeout,
                keep=keep,
                progress=progress,
                let_go=let_go,
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


def _look_after(target: str, remarks: Sequence[str]) -> Iterator[Finding]:
    for message in remarks:
        yield Finding(target=target, severity="warning", code="look-after", message=message)


def latest_safety(app: App, repository: Repository) -> Manifest:
    """Return the safety backup that the last restore made.

    One that was killed before it replaced anything is none, as far as that can be known. What an earlier one had a server
    keep under another name is then still there: the end of each restore lets it go. Neither is one that was cut off between
    two databases and then undone: whoever undoes once more means the restore before it, and no mixture.

    Raises:
        UndoMissingError: there is none.
        UndoNothingError: that restore found nothing that it could keep.
        UndoNeedlessError: it was killed before it replaced anything, and it was the first.
        UndoneAlreadyError: it was cut off and undone, and it was the first.
    """
    try:
        found = repository.find(LATEST, "safety")
    except BackupMissingError:
        raise UndoMissingError(app=app.name, place=repository.store.place) from None
    target = app.target(app.only) if app.only else app.name
    if not [name for name in found.databases if app.only in ("", name)]:
        raise UndoNothingError(target=target, id=found.restored)
    safeties = [one for one in repository.manifests()[0] if one.kind == "safety"]
    over = {name for one in safeties for name in _ended(one, safeties)}
    if found.id not in over and not _replaced_nothing(app, found):
        return found
    older = (one for one in safeties if one.number < found.number and one.id not in over)
    earlier = next((one for one in older if _is_whole(app, one)), None)
    if earlier is None and found.id in over:
        raise UndoneAlreadyError(target=target, id=found.restored, kept=found.id)
    if earlier is None:
        raise UndoNeedlessError(target=target, id=found.restored, kept=found.id)
    return earlier


def _ended(safety: Manifest, safeties: Sequence[Manifest]) -> Sequence[str]:
    """Return the ids of the safety backups of a restore that was cut off and of the one that undid it, which made ``safety``.

    What the first was to have moved beside had never been moved, so that the second moved nothing beside either.
    """
    undone = next((one for one in safeties if one.id == safety.restored), None)
    members = undone.members if undone else ()
    stayed = [
        one
        for one in members
        if one.form == "kept" and (now := safety.member(one.database)) is not None and now.form != "kept"
    ]
    return (safety.id, safety.restored) if stayed else ()


def _replaced_nothing(app: App, safety: Manifest) -> bool:
    """Whether what a safety backup was made of still stands where it stood, all of it."""
    meant = _meant(app, safety)
    return bool(meant) and all(_stands(app, one) for one in meant)


def _is_whole(app: App, safety: Manifest) -> bool:
    """Whether a restore did replace what a safety backup tells of, and what servers were to keep of it is there."""
    meant = _meant(app, safety)
    return (
        bool(meant)
        and not _replaced_nothing(app, safety)
        and not any(one.form == "kept" and _stands(app, one) for one in meant)
    )


def _meant(app: App, safety: Manifest) -> list[Member]:
    named = app.profile.databases if not app.only else [app.only]
    return [one for one in safety.members if one.database in named]


def _stands(app: App, one: Member) -> bool:
    """Whether nothing has replaced what a member was made of: a server never came to keep it, or its facts still hold."""
    outside = registry.outside(app.url(one.database), app.target(one.database))
    if one.form == "kept":
        try:
            outside.approach(one.dump)
        except KeptMissingError:
            return True
        return False
    standing = outside.standing()
    return bool(standing) and standing.items() <= one.facts.items()
