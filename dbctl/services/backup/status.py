"""How the backups of some apps stand: how old, how well proven, what is due. No backup is read whole for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from dbctl.config import BackupConfig, Selection
from dbctl.errors import DbctlError, Exit, RepositoryMissingError, RepositoryUnsetError, gravest
from dbctl.model import Row, Value, counted, now, read_span
from dbctl.services.app import App, clock
from dbctl.services.app import app as apps
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository, verified_at
from dbctl.services.backup.verification_record import Drill, Proven

#: The command of ``backup`` that is due.
Job: TypeAlias = Literal["create", "verify", "drill"]
UNDRILLED = "no backup was ever restored on trial (dbctl backup drill)"


class DatabaseBackups(Value, frozen=True, kw_only=True):
    """How the backups of one database stand: those that hold it whole, and that nothing is known to be wrong with."""

    app: str
    database: str
    backups: int
    newest: str | None  #: its id; None, as all that follows from it: there is none
    created_at: datetime | None
    age: timedelta | None
    bytes: int | None  #: that it takes in the newest
    growth_bytes: int | None  #: how many more than in the one before; None: there is none before
    verified_at: datetime | None  #: when the newest was last read whole
    drilled_at: datetime | None  #: when any of them was last restored on trial
    drilled: str | None  #: which one that was
    drill_duration: timedelta | None  #: how long that took
    due: Mapping[Job, str]  #: what is to be done by the configuration, and why


class RepositoryStanding(Value, frozen=True, kw_only=True):
    """How the place stands where the backups of one app are."""

    app: str
    place: str
    backups: int  #: of every kind
    bytes: int
    room_bytes: int | None  #: None: not known
    incomplete: Sequence[str]  #: what was cut off, or is being made now
    cut_off: Sequence[str]  #: those of them that no process is filling
    unread: Mapping[str, str]  #: whose manifest cannot be read, and why
    gone: Mapping[str, str]  #: safety backups whose retained database is gone
    damaged: Mapping[str, str]  #: with what is known to be wrong with them; ``backup verify`` looks for more
    future: Sequence[str]  #: later than the clock: while there are any, ``backup prune`` refuses


class BackupsStanding(Value, frozen=True, kw_only=True):
    """Answer of ``backup status``."""

    databases: Sequence[DatabaseBackups]
    repositories: Sequence[RepositoryStanding]

    def brief(self) -> Sequence[Row]:
        names = ["database", "created_at", "bytes", "backups", "verified_at", "drilled_at"]
        names[:0] = ["app"] if len({one.app for one in self.databases}) > 1 else []
        return [
            {name: getattr(one, name) for name in names}
            | {"drill": one.drill_duration, "due": "; ".join(one.due.values()) or None}
            for one in self.databases
        ]


class Surveyed(Value, frozen=True, kw_only=True):
    """What is told of some apps."""

    standing: BackupsStanding
    troubles: Sequence[str]
    check: Exit  #: what ``--check`` asks for
    status: Exit  #: what is asked for without it: what kept from looking


def survey(said: Sequence[Selection], *, timeout: float, only: str = "", repository: str = "") -> Surveyed:
    """Tell how the backups of some apps stand.

    Args:
        said: which apps, as the options say it; of several, those without a repository are passed over.
        timeout: how long to wait for a lock, in seconds.
        only: the one database of each that is told of.
        repository: where the backups are, in place of the configured one.

    Raises:
        RepositoryUnsetError: nothing says where those of the only app are.
        DbctlError: what keeps them from being looked at; of several apps, the others are told all the same.
    """
    found, failed = list[AppBackups](), list[tuple[str, DbctlError]]()
    for one in said:
        try:
            with apps.opened(one, timeout=timeout, only=only) as app:
                if told := stand(app, repository):
                    found.append(told)
                elif len(said) == 1:
                    raise RepositoryUnsetError(app=app.name)
        except DbctlError as error:
            if len(said) == 1:
                raise
            failed.append((one.app, error))
    overall = gravest([error.exit_status for _, error in failed])
    if failed and found:
        overall = Exit.PARTIAL
    wanting = [Exit.UNSOUND for one in found if one.repository.unread or one.repository.damaged]
    wanting += [Exit.ACTION_NEEDED for one in found for each in one.databases if each.due]
    wanting += [
        Exit.ACTION_NEEDED for backups in found if backups.repository.future or backups.repository.cut_off
    ]
    return Surveyed(
        standing=BackupsStanding(
            databases=[each for one in found for each in one.databases if only in ("", each.database)],
            repositories=[one.repository for one in found],
        ),
        troubles=[
            *(trouble for one in found for trouble in one.troubles(only)),
            *(f"{app}: {error}" for app, error in failed),
        ],
        check=overall or gravest(wanting),
        status=overall,
    )


class AppBackups(Value, frozen=True, kw_only=True):
    """How the backups of one app stand."""

    databases: Sequence[DatabaseBackups]
    repository: RepositoryStanding

    def of(self, database: str) -> DatabaseBackups | None:
        """Return how those of a database stand."""
        return next((one for one in self.databases if one.database == database), None)

    def unsound(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with backups: a code, and a sentence."""
        for folder, reason in self.repository.unread.items():
            yield "manifest-unread", f"backup {folder} has a manifest that cannot be read: {reason}"
        for folder, reason in self.repository.damaged.items():
            yield "backup-damaged", f"backup {folder} is damaged: {reason}"

    def troubles(self, only: str = "") -> Iterator[str]:
        """Yield all that is wrong, or due, in sentences that say with what."""
        for _, what in self.unsound():
            yield f"{self.repository.app}: {what}"
        for name in self.repository.cut_off:
            yield f"{self.repository.app}: {was_cut_off(name)} (dbctl backup prune removes it)"
        for name in self.repository.future:
            yield f"{self.repository.app}: {from_future(name)} (dbctl backup delete {name})"
        if self.repository.gone:
            lost = counted(len(self.repository.gone), "safety backup")
            names = ", ".join(sorted(self.repository.gone))
            yield f"{self.repository.app}: {lost} cannot be restored any more, what a restore retained is gone: {names}"
        for one in self.databases:
            if only in ("", one.database):
                yield from (f"{one.app}/{one.database}: {what}" for what in one.due.values())


def was_cut_off(name: str) -> str:
    """Return what is wrong with a folder of a backup that was interrupted."""
    return f"{name} is an incomplete backup, and no process is writing it"


def from_future(name: str) -> str:
    """Return what is wrong with a backup that is later than the clock."""
    return f"backup {name} is from the future, and backup prune refuses: a clock is wrong, or was"


def stand(app: App, given: str = "") -> AppBackups | None:
    """Return how the backups of an app stand; None where nothing says where they are.

    Args:
        app: the app.
        given: where they are, in place of the configured one.

    Raises:
        RepositoryFailedError: they cannot be reached.
    """
    told = app.configured.backup
    if told is None and not given:
        return None
    repository = Repository(app, given)
    try:
        (found, unread), incomplete, missing = repository.manifests(), repository.incomplete(), ""
    except RepositoryMissingError as error:  # none was made yet, or its disk is not there: one is due
        found, unread, incomplete, missing = [], {}, [], f" ({error})"
    proven = {one.id: repository.proven(one) for one in found}
    damaged = {one.id: why for one in found if (why := repository.damage(one, proven[one.id]))}
    good = [one for one in found if one.kind == "backup" and one.id not in damaged]
    lacking = (
        {left.database: f"{good[0].id} lacks it: {left.reason}" for left in good[0].failed} if good else {}
    )
    return AppBackups(
        databases=[
            _of_database(
                app,
                name,
                [(one, proven[one.id]) for one in good if one.member(name)],
                told,
                missing,
                lacking.get(name, ""),
            )
            for name, database in app.profile.databases.items()
            if (database.backup and name in app.configured.databases)
            or any(name in one.databases for one in good)
        ],
        repository=RepositoryStanding(
            app=app.name,
            place=repository.store.place,
            backups=len(found),
            bytes=sum(member.bytes for one in found for member in one.members),
            room_bytes=None if missing else repository.store.room(),
            incomplete=incomplete,
            cut_off=() if incomplete and repository.store.is_locked() else incomplete,
            unread=unread,
            gone=repository.gone(found),
            damaged=damaged,
            future=clock.find_future((manifest.id, manifest.created_at) for manifest in found),
        ),
    )


def _of_database(
    app: App,
    name: str,
    good: Sequence[tuple[Manifest, Proven]],
    told: BackupConfig | None,
    missing: str,
    lacking: str,
) -> DatabaseBackups:
    """Return how the ``good`` backups of a database stand, the newest first; the newest of the app may be ``lacking`` it."""
    verified = {one.id: verified_at(one, proven) for one, proven in good}
    drills = {one.id: proven.drills[name] for one, proven in good if name in proven.drills}
    future = clock.find_future((folder, drill.at) for folder, drill in drills.items())
    drilled = max(drills, key=lambda folder: (folder not in future, drills[folder].at), default=None)
    drill = drills[drilled] if drilled else None
    newest, moment = (good[0][0] if good else None), now()
    due = dict[Job, str]()
    if app.profile.databases[name].backup and name in app.configured.databases:
        due = {"create": f"there is no backup{missing}"}
        if newest:
            due = dict(_due(newest, moment, verified, drill, told))
        if lacking:
            due["create"] = f"the newest backup {lacking}"
    sizes = [sum(each.bytes for each in one.members if each.database == name) for one, _ in good[:2]]
    return DatabaseBackups(
        app=app.name,
        database=name,
        backups=len(good),
        newest=newest.id if newest else None,
        created_at=newest.created_at if newest else None,
        age=max(moment - newest.created_at, timedelta()) if newest else None,
        bytes=sizes[0] if newest else None,
        growth_bytes=sizes[0] - sizes[1] if len(sizes) > 1 else None,
        verified_at=verified[newest.id] if newest else None,
        drilled_at=drill.at if drill else None,
        drilled=drilled,
        drill_duration=drill.duration if drill else None,
        due=due,
    )


def _due(
    newest: Manifest,
    moment: datetime,
    verified: Mapping[str, datetime],
    drill: Drill | None,
    told: BackupConfig | None,
) -> Iterator[tuple[Job, str]]:
    """Yield what is overdue; only what the configuration sets a time for is."""
    if newest.created_at > moment + clock.SKEW:
        ahead = f"{newest.created_at:%Y-%m-%d %H:%M} UTC"
        yield "create", f"the newest backup is of {ahead}, still to come: a clock is wrong, or was"
    if told is None:
        return
    if told.max_age and moment - newest.created_at > read_span(told.max_age):
        yield "create", f"the newest backup is older than {told.max_age}"
    if told.verify_within:
        late = [one for one, at in verified.items() if not _within(told.verify_within, at, moment)]
        if late:
            what = f"{counted(len(late), 'backup')} not read whole within {told.verify_within}"
            yield "verify", f"{what}, the oldest {min(late)} (dbctl backup verify)"
    if told.drill_within:
        if drill is None:
            yield "drill", UNDRILLED
        elif not _within(told.drill_within, drill.at, moment):
            yield "drill", f"no backup was restored on trial within {told.drill_within} (dbctl backup drill)"


def _within(span: str, at: datetime, moment: datetime) -> bool:
    """Whether something was so short a time ago; a time to come was told by a clock that is not to be trusted."""
    return -clock.SKEW <= moment - at <= read_span(span)
