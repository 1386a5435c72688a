"""A backup made while the app writes: each database at one moment, proven before it counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from dbctl import __version__, signals
from dbctl.engines import registry
from dbctl.errors import DbctlError, Exit, NotSupportedError
from dbctl.files import Pace
from dbctl.model import Compression, Done, Plan, Row, counted, now
from dbctl.services.app import App
from dbctl.services.backup.app_files import Extras
from dbctl.services.backup.encryption import Sealing
from dbctl.services.backup.manifest import Kind, LeftOut, Manifest, Member, Origin, free_id, written
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.sources import (
    OF_ONE_DATABASE,
    Advance,
    Source,
    call_both,
    check_form,
    choose_databases,
    find_database_with,
    list_copyable,
    open_dumps,
    record_failure,
    wait_for_nothing,
)
from dbctl.services.backup.writer import Laying, laying

T = TypeVar("T")

#: A clock that is so far behind the newest backup was set back.
SET_BACK = timedelta(minutes=1)


class BackupCreated(Backup, Done, frozen=True, kw_only=True):
    """Answer of ``backup create``."""

    remarks: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        return Exit.OK if self.complete else Exit.PARTIAL

    def brief(self) -> Row:
        return {"id": self.id, "path": self.path, "bytes": self.bytes, **self.apart()} | {
            one.database or "files": counted(int(one.facts["files"]), "file")
            if one.form == "files"
            else f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            for one in self.members
            if one.form != "key"
        }


class Creation:
    """What ``backup create`` is about to do."""

    def __init__(
        self,
        app: App,
        repository: Repository,
        *,
        timeout: float,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression | None = None,
        rate: int = 0,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Choose the databases: the one that was asked for, else all that the profile does not leave out.

        Args:
            app: the app.
            repository: where the backup goes.
            timeout: seconds to wait for a lock.
            form: of the dumps of those that know several; empty means the configured one, else the usual one.
            tables: these of one database alone; none means all that there is.
            compress: how dumps are packed that their engine does not pack; None means as configured.
            rate: bytes of what is copied a second, at most; 0 means as fast as can be.
            advance: told how many bytes more are done.

        Raises:
            DatabaseUnsetError: one that every deployment has is not configured.
            NotSupportedError: all of them are left out, one cannot be copied in parts, or none is packed here.
            UsageError: no database has that form, or it is not clear which one has the tables.
            SchemaLacksError: it has no such table.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._timeout = app, repository, timeout
        self._sealing = Sealing(app)
        with all_or_none(app, [] if tables else choose_databases(app)[0]):
            self._choose(form, tables, compress, rate, advance)

    def _choose(
        self, form: str, tables: Sequence[str], compress: Compression | None, rate: int, advance: Advance
    ) -> None:
        app = self._opened
        databases, self._left_out = choose_databases(app)
        self._kind: Kind = "partial" if tables else "backup"
        if tables:
            self._left_out, databases = [], [find_database_with(app, databases, tables)]
        else:
            databases, failed = list_copyable(app, databases)
            self._left_out += failed
        check_form(app, databases, form)
        told = app.configured.backup
        wanted = form or (told.format if told else "")
        if compress and all(open_dumps(app, name).packed for name in databases):
            raise NotSupportedError(
                what="packing a backup otherwise",
                by=app.name,
                instead="What the programs of its server write is packed already. Leave --compress out.",
            )
        packed = compress or (told.compress if told else "gzip")
        pace = Pace(rate) if rate else wait_for_nothing
        self._sources = [
            Source(app, name, advance, form=wanted, tables=tables, compress=packed, pace=pace)
            for name in databases
        ]
        extras = Extras(app, call_both(advance, pace))
        self._names = databases
        self._all: list[Source | Extras] = [*self._sources]
        self._all += [extras] if extras and not (tables or app.only) else []

    def plan(self) -> Plan:
        """Return what would be copied where; writes nothing."""
        with all_or_none(self._opened, self._names):
            steps = [one.told() for one in self._all]
        steps += [self._sealing.told()] if self._sealing else []
        steps += [f"leave {one.database} out: {one.reason}" for one in self._left_out]
        title = f"Back up to {self._repository.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> BackupCreated:
        """Make the backup; whatever keeps it from being whole and sound leaves nothing behind.

        Raises:
            BackupFailedError: a copy is not sound, because its database is not.
            RoomMissingError, DiskFullError: there is no room.
            BusyError: another dbctl works on the repository, or somebody writes a database for too long.
        """
        del seen  # nothing is destroyed, so nobody was asked
        repository = self._repository
        with ExitStack() as settled:
            with (
                all_or_none(self._opened, self._names),
                repository.store.lock("backup create", timeout=self._timeout),
            ):
                earlier, _ = repository.manifests()
                made = make(
                    self._sources[0].app,
                    repository,
                    self._all,
                    self._sealing,
                    left_out=self._left_out,
                    kind=self._kind,
                    settled=settled,
                    may_lack=True,
                )
            newest = max((manifest.created_at for manifest in earlier), default=made.created_at)
            remarks = [*_remarks(made.created_at, newest), *self._told(made)]
            told = repository.told(made, BackupCreated, remarks=remarks)
            signals.done()  # it stands, and whoever asked for it is told so, whatever comes
        return told

    def _told(self, made: Manifest) -> Iterator[str]:
        """Yield what somebody has to know of what was copied, or was not."""
        for one in made.members:
            if remark := one.facts.get("remarks"):
                yield f"{self._sources[0].app.target(one.database)}: {remark}"
        for left in made.left_out:
            target = self._sources[0].app.target(left.database)
            if left.failed:
                reason = left.reason.removeprefix(f"{target} could not be backed up: ")
                yield f"{target} is not in the backup: {reason}"
            elif left.reason == registry.AWAY:
                yield f"{target} is not in the backup: {left.reason}"


def size(app: App) -> int:
    """Return how many bytes a backup of the app copies, about; raises as ``Creation`` does."""
    extras = 0 if app.only else Extras(app, lambda _bytes: None).size()
    chosen = choose_databases(app)[0]
    with all_or_none(app, chosen):
        names, _ = list_copyable(app, chosen)
        return sum(open_dumps(app, name).dump_size() for name in names) + extras


@contextmanager
def all_or_none(app: App, names: Sequence[str]) -> Iterator[None]:
    """Where one database of several keeps a backup from being made, tell how to save the others meanwhile."""
    try:
        yield
    except DbctlError as error:
        failed = error.facts.get("target")
        others = [name for name in names if app.target(name) != failed]
        if others and len(others) < len(names) and not error.details:
            _tell_of_the_others(app, others, error)
        raise


def _tell_of_the_others(app: App, names: Sequence[str], error: DbctlError) -> None:
    others = {name: _why_not(app, name) for name in names}
    fine = [name for name, why in others.items() if not why]
    error.details = [
        f"Nothing of {app.name} was saved: a backup holds all of its databases, or is not made.",
        *(why for why in others.values() if why),
        *([f"{', '.join(fine)} can be read."] if fine else []),
    ]
    if fine:
        commands = "; ".join(f"dbctl backup create --db {name}" for name in fine)
        error.hint = f"{error.hint} Save the others meanwhile: {commands}"


def _why_not(app: App, database: str) -> str:
    try:
        open_dumps(app, database).dump_size()
    except DbctlError as error:
        return str(error)
    return ""


class Contributes(Protocol):
    """What puts files into a backup."""

    def pin(self) -> bool:
        """Hold what there is now, where that holds nobody up; return whether it is held."""
        ...

    def size(self) -> int:
        """Return how many bytes are copied, about."""
        ...

    def kept_size(self) -> int:
        """Return how many bytes they take in the backup, about."""
        ...

    def members(self, folder: Laying) -> list[Member]:
        """Put them into a folder."""
        ...


def make(
    app: App,
    repository: Repository,
    sources: Sequence[Contributes],
    sealing: Sealing,
    *,
    left_out: Sequence[LeftOut] = (),
    kind: Kind = "backup",
    restored: str = "",
    at: datetime | None = None,
    origin: Origin | None = None,
    settled: ExitStack | None = None,
    may_lack: bool = False,
) -> Manifest:
    """Make a backup, for one who holds the lock of the repository.

    Args:
        app: the app.
        repository: where it goes.
        sources: its databases, and the app's other files.
        sealing: how it is encrypted.
        left_out: those that it does not hold.
        kind: why it is made.
        restored: of a safety backup: the backup that is restored after it.
        at: the moment that it is of; None: now.
        origin: where it comes from, which dbctl did not make.
        settled: closed by a caller that has answered, or removes the backup where it ends; from the last file on no
            signal is heard until then.
        may_lack: whether it is made without a database that cannot be copied, as long as it holds another one.
    """
    store = repository.store
    store.want_room(_need(sources, aside=bool(sealing)))
    largest = max((one.size() for one in sources), default=0) if sealing else 0
    earlier, unread = repository.manifests()
    begun = at or now()
    name = free_id(begun, set(store.folders()))
    with store.begin(name) as folder:
        with laying(folder, name, sealing if sources else None, largest) as laid:
            key = laid.key()
            copied, failed = _copied(sources, laid, may_lack=may_lack)
            members = [*key, *copied]
        manifest = Manifest(
            id=name,
            number=_number(begun, earlier, len(unread), adopted=at is not None),
            kind=kind,
            app=app.name,
            profile=app.profile.name,
            created_at=begun,
            verified_at=now(),
            host=os.uname().nodename,
            dbctl=__version__,
            restored=restored,
            origin=origin,
            recipients=laid.recipients,
            members=members,
            left_out=[*left_out, *failed],
        )
        if settled:  # a backup that stands must not be told as interrupted
            settled.enter_context(signals.unheard())
        folder.finish(written(manifest))
    return manifest


def _copied(
    sources: Sequence[Contributes], laid: Laying, *, may_lack: bool
) -> tuple[list[Member], list[LeftOut]]:
    """Copy the sources into the folder of a backup; return its files, and the databases that it has to lack.

    Raises:
        DbctlError: one of them failed, and the backup may not lack it, or would hold no database at all.
    """
    members, failed, errors = list[Member](), list[LeftOut](), list[DbctlError]()

    def attempt(source: Contributes, work: Callable[[], T], instead: T) -> T:
        try:
            return work()
        except OF_ONE_DATABASE as error:
            if not (may_lack and isinstance(source, Source)):
                raise
            source.discard(laid)
            failed.append(record_failure(source.app, source.database, error))
            errors.append(error)
            return instead

    pinned = [source for source in sources if attempt(source, source.pin, False)]  # noqa: FBT003 - as pin answers
    pinnable = [source for source in sources if not _is_among(source, failed)]
    # The others at once, so that what an app keeps in several places is of one moment, or nearly.
    for source in sorted(pinnable, key=lambda source: source in pinned):
        members += attempt(source, partial(source.members, laid), [])
        laid.tidy()
    if errors and not any(member.database for member in members):
        raise errors[0]
    return members, failed


def _is_among(source: Contributes, failed: Sequence[LeftOut]) -> bool:
    return isinstance(source, Source) and any(left.database == source.database for left in failed)


def _number(begun: datetime, earlier: Sequence[Manifest], unread: int, *, adopted: bool) -> int:
    """Return what is greater than the number of every earlier backup, also of those whose manifest cannot be read now.

    It is the time in seconds, as long as the clock was not set back: so it also orders what is copied together from
    several repositories. One that is ``adopted`` has the number of the newest before it.
    """
    if adopted:
        return max((one.number for one in earlier if one.created_at <= begun), default=0)
    return max(int(begun.timestamp()), max((one.number for one in earlier), default=0) + unread + 1)


def _need(sources: Sequence[Contributes], *, aside: bool) -> int:
    """Return how many bytes a backup takes while it is made: what is packed goes only once it has been, or is ``aside``."""
    most = kept = 0
    for one in sources:
        size, stays = one.size(), one.kept_size()
        most = max(most, kept + (stays if aside or size == stays else size + stays))
        kept += stays
    return most


def _remarks(begun: datetime, newest: datetime) -> list[str]:
    if begun + SET_BACK >= newest:
        return []
    behind = f"the clock ({begun:%Y-%m-%d %H:%M}) is behind the newest backup ({newest:%Y-%m-%d %H:%M}, UTC)"
    return [f"{behind}; one of them was wrong"]
