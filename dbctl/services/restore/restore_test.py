"""``backup drill``: the newest backup of each database restored where nobody looks, and what that proved and took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import structs

from dbctl import __version__
from dbctl.config import model
from dbctl.engines import registry
from dbctl.engines.contract import Checks, Tried
from dbctl.errors import (
    AbilityMissingError,
    BackupMissingError,
    DbctlError,
    Exit,
    KeyWrongError,
    NotSupportedError,
    gravest,
    load_registry,
)
from dbctl.model import Done, Finding, Plan, Row, Severity, Value, counted, now
from dbctl.services.app import App
from dbctl.services.backup import (
    LATEST,
    Drill,
    Keys,
    Manifest,
    Member,
    Repository,
    partial,
    unpacking,
    verify,
)
from dbctl.services.integrity import check, cross_database
from dbctl.services.migrations import status
from dbctl.services.migrations.ledger import Schema, standing
from dbctl.url import Url

THEN = "So it was when it was backed up: dbctl integrity check and cross tell of the live database."
Advance = Callable[[int], None]


class DatabaseDrilled(Drill, frozen=True, kw_only=True):
    """One database that was restored on trial, sound or not."""

    app: str
    database: str
    backup: str
    created_at: datetime  #: of the backup
    sound: bool  #: whether it counts as a drill
    migrations: (
        Schema | None
    )  #: how it stands to its migrations; None where it has none, or that cannot be told


class Drilled(Done, frozen=True, kw_only=True):
    """Answer of ``backup drill``."""

    databases: Sequence[DatabaseDrilled]
    findings: Sequence[Finding]
    failed: Sequence[Finding] = ()  #: apps of which nothing could be tried, and why
    unrecorded: Sequence[str] = ()  #: why a proof could not be kept beside its backup

    @property
    def remarks(self) -> Sequence[str]:
        found = [*self.findings, *self.failed]
        told = [f"{one.target}: {one.message}" for one in found if one.severity != "info"]
        return [*told, *self.unrecorded]

    @property
    def exit_status(self) -> int:
        if any(one.severity == "error" for one in self.findings):
            return Exit.UNSOUND
        if self.failed and self.databases:
            return Exit.PARTIAL
        return gravest([load_registry()[one.code].exit_status for one in self.failed])

    def brief(self) -> Sequence[Row]:
        names = ["database", "backup", "created_at", "sound", "duration", "tables", "rows", "digests"]
        names[:0] = ["app"] if len({one.app for one in self.databases}) > 1 else []
        found = [one.target for one in self.findings]
        return [
            {name: getattr(one, name) for name in names} | {"found": found.count(f"{one.app}/{one.database}")}
            for one in self.databases
        ]


class Drilling:
    """What ``backup drill`` is about to do; the live databases are neither changed nor read."""

    def __init__(self, app: App, repository: Repository, keys: Keys, name: str = LATEST) -> None:
        """Choose the files: those of one backup, or the newest of each database, wherever it is.

        Raises:
            BackupMissingError: there is none, or it does not hold that database.
            BackupUnsoundError: its manifest cannot be read.
            BackupPartialError, NotSupportedError: it holds no database that could be restored.
            KeyMissingError: one is encrypted, and nothing here could open it; and as ``Keys.ready``.
        """
        self.app, self._opened, self._repository = app.name, app, repository
        self._chosen = _newest(app, repository) if name == LATEST else _of(app, repository, name)
        self._keys = keys
        for manifest in {manifest.id: manifest for manifest, _ in self._chosen}.values():
            keys.ready(repository.store, manifest)

    def size(self) -> int:
        """Return how many bytes are read, about: each file twice."""
        return sum(2 * one.bytes for _, one in self._chosen)

    def steps(self) -> list[str]:
        """Return what would be restored where."""
        steps = []
        for manifest, one in self._chosen:
            count = f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            where = _url(self._opened, one, Path())
            if where is None:
                into = "nothing: no server is known that could take it"
            else:
                own = "a file of its own" if where.is_file else "a folder of its own"
                into = own if where.is_local else f"a new database beside {where}"
            target = self._opened.target(one.database)
            steps.append(f"restore {target} of {manifest.id} ({one.size:,} bytes, {count}) into {into}")
        return steps

    def drill(self, advance: Advance) -> Drilled:
        """Do it.

        Args:
            advance: told how many bytes more were read.

        Raises:
            BackupMissingError: one was pruned meanwhile.
            NotSupportedError: no server is known that could take it.
            KeyWrongError: one was encrypted for others than what is at hand.
            PrivilegeMissingError, RoomMissingError, UnreachableError, ClientMissingError: that says nothing of the backup.
        """
        store = self._repository.store
        files = [one for _, one in self._chosen if Url(engine=one.engine, path="").is_local]
        with ExitStack() as held:
            secret = any(one.encryption != "none" for _, one in self._chosen)
            scratch = self._keys.aside.folder if secret else store.scratch
            folder = held.enter_context(scratch(sum(one.size for one in files)))
            work = _Work(self._opened, self._repository, self._keys, held, folder)
            for manifest, one in self._chosen:
                work.restore(manifest, one, advance)
            work.look()
            return work.answer()


class Drills:
    """The trial restores of some apps, one after the other."""

    protected = False  #: nothing of an app is touched

    def __init__(
        self, apps: Sequence[App], keys: Callable[[App], Keys], *, repository: str = "", name: str = LATEST
    ) -> None:
        """Choose the files of each.

        Args:
            apps: the apps; of several, those without a repository are passed over.
            keys: gives what opens the encrypted backups of one.
            repository: where the backups are, in place of the configured one.
            name: which backup, by id or ``latest``.

        Raises:
            DbctlError: as for ``Drilling`` of the only app; of several, the others are tried all the same.
        """
        self._only, self._each, self._failed = len(apps) == 1, list[Drilling](), list[Finding]()
        self.target = self.app = ", ".join(one.name for one in apps)
        for app in apps:
            if self._only or repository or app.configured.backup:
                with self._told(app.name):
                    self._each.append(Drilling(app, Repository(app, repository), keys(app), name))
        self.advance: Advance = lambda _bytes: None  #: told how many bytes more were read

    def size(self) -> int:
        """Return how many bytes are read, about."""
        return sum(one.size() for one in self._each)

    def plan(self) -> Plan:
        """Return what would be restored where; writes nothing."""
        steps = [step for one in self._each for step in one.steps()]
        if steps:
            steps.append("check them through; compare rows, schema and content with what was saved")
            steps.append("record beside the backup what was proven, and how long it took")
        steps += [f"leave {one.target} out: {one.message}" for one in self._failed]
        return Plan(title="Restore on trial", target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> Drilled:
        """Do it; raises as ``Drilling.drill`` does where there is but one app."""
        del seen  # nothing is destroyed, so nobody was asked
        done = list[Drilled]()
        for one in self._each:
            with self._told(one.app):
                done.append(one.drill(self.advance))
        return Drilled(
            databases=[each for one in done for each in one.databases],
            findings=[each for one in done for each in one.findings],
            failed=self._failed,
            unrecorded=[each for one in done for each in one.unrecorded],
        )

    @contextmanager
    def _told(self, app: str) -> Iterator[None]:
        """Let what fails with one of several apps be told at the end."""
        try:
            yield
        except DbctlError as error:
            if self._only:
                raise
            self._failed.append(check.failure(app, error))


class _Tried(Value, kw_only=True, frozen=True):
    """One database that was restored, as far as it went."""

    manifest: Manifest
    one: Member
    url: Url | None  #: where it stands; None where it could not be restored
    duration: timedelta
    digests: int

    def drill(self, at: datetime, checks: int) -> Drill:
        """Return it as it is kept."""
        return Drill(
            at=at,
            duration=self.duration,
            bytes=self.one.bytes,
            tables=len(self.one.rows),
            rows=sum(self.one.rows.values()),
            digests=self.digests,
            checks=checks,
            host=os.uname().nodename,
            dbctl=__version__,
        )


class _Work:
    """The databases of one app, restored side by side, so that what they tell of each other can be compared."""

    def __init__(self, app: App, repository: Repository, keys: Keys, held: ExitStack, folder: Path) -> None:
        self._app, self._repository, self._held, self._folder = app, repository, held, folder
        self._keys, self._unpacked = keys, held.enter_context(unpacking(repository.store, keys))
        self._tried = list[_Tried]()
        self._wrong = dict[str, list[Finding]]()  #: by backup
        self._then = list[Finding]()  #: what the app had put in already
        self._migrations = dict[str, Schema | None]()
        self._checks = 0

    def restore(self, manifest: Manifest, one: Member, advance: Advance) -> None:
        """Restore one, timed: it is read whole, loaded, checked through and counted."""
        begun, url, digests = time.monotonic(), None, 0
        wrong = self._read(manifest, one.database, advance)
        if not wrong:
            try:
                tried = self._loaded(manifest, one)
            except (KeyWrongError, *verify.NOT_OF_IT):
                raise
            except DbctlError as error:
                wrong.append(self._finding("error", error.code, manifest, one, str(error)))
            else:
                url, digests = tried.url, len(tried.proof.digests.keys() & one.digests.keys())
                for code, what in verify.differences(tried.proof, one):
                    severity: Severity = "warning" if code == verify.SCHEMA_DIFFERS else "error"
                    wrong.append(self._finding(severity, code, manifest, one, what))
        if wrong and self._repository.is_gone(manifest):
            place = self._repository.store.place
            raise BackupMissingError(name=manifest.id, app=self._app.name, place=place, near="")
        advance(one.bytes)
        self._wrong.setdefault(manifest.id, []).extend(wrong)
        lasted = timedelta(milliseconds=round(1000 * (time.monotonic() - begun)))
        self._tried.append(_Tried(manifest=manifest, one=one, url=url, duration=lasted, digests=digests))

    def _read(
        self, manifest: Manifest, database: str, advance: Advance = lambda _bytes: None
    ) -> list[Finding]:
        found = verify.problems(
            self._app,
            self._repository.store,
            manifest,
            deep=False,
            keys=self._keys,
            advance=advance,
            databases=[database],
        )
        return [one for one in found if one.severity == "error"]

    def _loaded(self, manifest: Manifest, one: Member) -> Tried:
        target = self._app.target(one.database)
        path = self._held.enter_context(self._unpacked.opened(manifest, one, target))
        url = _url(self._app, one, self._folder)
        return self._held.enter_context(
            registry.tried(one.engine, url, path, one.dump, target, timeout=self._app.timeout)
        )

    def look(self) -> None:
        """Let the app's own rules look at what was restored, and read the files that belong to it."""
        for manifest in {one.manifest.id: one.manifest for one in self._tried}.values():
            if not self._app.only:
                self._wrong[manifest.id] += self._read(manifest, "")
        there = {one.one.database: one.url for one in self._tried if one.url is not None}
        configured = structs.replace(self._app.configured, databases=there, protected=False, backup=None)
        for one in self._tried:
            if one.url is not None:
                with closing(self._copy(configured, only=one.one.database)) as copy:
                    self._look_at(copy, one)
        with closing(self._copy(configured)) as copy, suppress(AbilityMissingError):
            checked = cross_database.cross(copy).findings
            self._checks = checked.checked
            self._then += [_of_then(each) for each in checked.findings if each.severity != "info"]

    def _copy(self, configured: model.App, *, only: str = "") -> App:
        return App(configured, self._app.profile, timeout=self._app.timeout, only=only)

    def _look_at(self, copy: App, tried: _Tried) -> None:
        name = tried.one.database
        try:
            found = check.check(copy, quick=True).findings.findings
            live = copy.reader(name)
            indexes = live.text_indexes() if isinstance(live, Checks) else ()
            if indexes:
                found = [*found, *check.text_index_damage(copy, name, indexes)]
            self._then += [_of_then(one) for one in found if one.severity != "info"]
            self._migrations[name] = _migrations(copy, name)
        except verify.NOT_OF_IT:
            raise
        except DbctlError as error:  # such as that it is no database of this app
            said = self._finding("error", error.code, tried.manifest, tried.one, str(error))
            self._wrong[tried.manifest.id].append(said)

    def answer(self) -> Drilled:
        """Record what was proven beside the backups, and tell it."""
        at, unrecorded, told = now(), list[str](), list[DatabaseDrilled]()
        for folder, wrong in self._wrong.items():
            tried = [one for one in self._tried if one.manifest.id == folder]
            drills = {one.one.database: one.drill(at, self._checks) for one in tried}
            manifest, sound = tried[0].manifest, not any(each.severity == "error" for each in wrong)
            whole = not self._app.only and drills.keys() == set(manifest.databases)
            unrecorded += verify.recorded(
                self._repository, manifest, wrong, whole=whole, deep=True, drills=drills
            )
            told += [
                DatabaseDrilled(
                    **structs.asdict(drill),
                    app=self._app.name,
                    database=database,
                    backup=folder,
                    created_at=manifest.created_at,
                    sound=sound,
                    migrations=self._migrations.get(database),
                )
                for database, drill in drills.items()
            ]
        findings = [*(each for wrong in self._wrong.values() for each in wrong), *self._then]
        return Drilled(databases=told, findings=findings, unrecorded=unrecorded)

    def _finding(self, severity: Severity, code: str, manifest: Manifest, one: Member, what: str) -> Finding:
        message = f"backup {manifest.id}, {one.file}: {what}"
        hint = verify.BAD if severity == "error" else ""
        return Finding(
            target=self._app.target(one.database), severity=severity, code=code, message=message, hint=hint
        )


def _newest(app: App, repository: Repository) -> list[tuple[Manifest, Member]]:
    """Return the newest file of each database; those that are meant but in no backup are what ``backup status`` tells of."""
    found, _ = repository.manifests()
    chosen = dict[str, tuple[Manifest, Member]]()
    for manifest in found:
        for name in manifest.databases if manifest.kind == "backup" else ():
            if (one := manifest.member(name)) and app.only in ("", name):
                chosen.setdefault(name, (manifest, one))
    if not chosen:
        repository.find(LATEST)  # which tells that there is none
    return list(chosen.values())


def _of(app: App, repository: Repository, name: str) -> list[tuple[Manifest, Member]]:
    manifest = repository.find(name)
    if manifest.kind == "partial":
        raise partial(repository, manifest)
    named = [name for name in manifest.databases if app.only in ("", name)]
    if not named:
        place = repository.store.place
        raise BackupMissingError(name=manifest.id, app=f"{app.name}/{app.only}", place=place, near="")
    found = [one for one in manifest.members if one.form == "dump" and one.database in named]
    if not found:
        raise NotSupportedError(
            what=f"a trial restore of {manifest.id}",
            by="what it holds: databases that stayed on their server, or files that were no sound database",
            instead=f"Its files are in {repository.path(manifest)}.",
        )
    return [(manifest, one) for one in found]


def _url(app: App, one: Member, folder: Path) -> Url | None:
    """Return where it is restored: a file of its own in ``folder``, or a database of a server."""
    made = Url(engine=one.engine, path=str(folder / f"{one.database}.restored"))
    return made if made.is_local else verify.server_for(app, one)


def _migrations(copy: App, name: str) -> Schema | None:
    """Return how a copy stands to its migrations; None where it has none, or that cannot be told."""
    if copy.database(name).migrations is None:
        return None
    try:
        (track,) = status.tracks(copy, name, may_lack_folder=True)
        return standing(track, copy.reader(name)).schema
    except DbctlError:  # as that its folder is not there: which says nothing of the backup
        return None


def _of_then(found: Finding) -> Finding:
    """Return what is wrong with rows that a backup has saved as they were: no fault of the backup."""
    return structs.replace(found, severity="info", hint=THEN)
