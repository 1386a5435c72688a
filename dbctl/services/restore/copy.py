"""A backup brought back beside the app's own databases: a copy to look into, which nothing else knows of."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from msgspec import structs

from dbctl import signals
from dbctl.engines import registry
from dbctl.errors import (
    BackupMissingError,
    CopyFilledError,
    CopyOntoOwnError,
    DbctlError,
    FileMissingError,
    NotSupportedError,
    UsageError,
)
from dbctl.model import Done, Plan, Row, Value, counted
from dbctl.services.app import App
from dbctl.services.backup import Keys, Manifest, Member, Repository, Unpacked, is_spare, unpacking
from dbctl.services.restore.source import members, prove, told, want_copyable, want_there
from dbctl.url import Url, meant


class DatabaseCopied(Value, frozen=True, kw_only=True):
    """One database that was brought back beside."""

    database: str
    url: str  #: without its password
    way: str  #: ``Loaded.way``
    rows: int
    tables: int


class Copied(Done, frozen=True, kw_only=True):
    """Answer of ``restore apply --to``."""

    backup: str
    databases: Sequence[DatabaseCopied]
    duration: float  #: seconds
    use: str  #: the words that make dbctl work on the copy
    notes: Sequence[str]  #: what somebody has to look after

    @property
    def remarks(self) -> Sequence[str]:
        return self.notes

    def brief(self) -> Row:
        found: dict[str, object] = {"backup": self.backup}
        for one in self.databases:
            found[one.database] = (
                f"{counted(one.rows, 'row')} of {counted(one.tables, 'table')}, in {one.url}"
            )
        return found | {"took": f"{self.duration:.1f} s", "to use it": f"{self.use} COMMAND"}


class _Copy(Value, frozen=True, kw_only=True):
    """One database, and where its copy goes."""

    member: Member
    url: Url

    def takes_the_file(self) -> bool:
        """Whether what was unpacked becomes the copy itself, as far as can be known."""
        way = registry.outside(self.url, str(self.url)).approach(self.member.dump).way
        return self.url.is_file and way == "new"


class Copying:
    """What ``restore apply --to`` is about to do; it opens none of the app's own databases."""

    purpose = "restore apply --to"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        to: Mapping[str, Url],
        keys: Keys,
        *,
        replace: bool = False,
        timeout: float,
        advance: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """Say which database goes where.

        Args:
            app: the app.
            repository: its backups.
            manifest: the backup.
            to: by database; ``main`` alone stands for the only one that is meant.
            keys: what opens the backup, made ready.
            replace: whether what is there already may go.
            timeout: seconds to wait for a lock.
            advance: told how many bytes more were moved.

        Raises:
            UsageError: it is not clear which goes where.
            NotSupportedError: it would go to another engine.
            CopyOntoOwnError: a copy would go into a database of the app.
            And as ``members`` does.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._manifest = app, repository, manifest
        self._keys = keys
        self._replace, self._timeout, self._advance = replace, timeout, advance
        self._copies = _paired(app, repository, manifest, to)
        for one in self._copies:
            _want_elsewhere(app, repository, one)

    def plan(self) -> Plan:
        """Return what would be made of what; writes nothing."""
        steps, filled = [f"prove {self._manifest.id}: digests, soundness, rows, schema"], False
        rows = dict[str, int]()
        for copy in self._copies:
            one, is_filled = copy.member, self._is_filled(copy)
            approach = registry.outside(copy.url, str(copy.url)).approach(one.dump)
            steps += approach.steps
            count = f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            what = (
                f"replace all that {copy.url} holds, of which nothing is kept,"
                if is_filled
                else f"fill {copy.url}"
            )
            steps.append(f"{what} by {told(one)} ({count})")
            filled |= is_filled
            rows |= {table: rows.get(table, 0) + number for table, number in one.rows.items()}
        title = f"Copy {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=filled)

    def apply(self, seen: str | None = None) -> Copied:
        """Make the copies, one after the other; each is whole or not there.

        Raises:
            BackupMissingError: it was pruned meanwhile; nothing was made.
            BackupUnsoundError: it is not what it was; nothing was made.
            CopyFilledError: something is there meanwhile; it is as it was.
        """
        del seen  # what is there is looked at again
        begun = time.monotonic()
        with ExitStack() as held:
            held.enter_context(self._repository.store.lock(self.purpose, timeout=self._timeout))
            want_there(self._repository, self._manifest)
            for copy in self._copies:
                url, target = copy.url, str(copy.url)
                held.enter_context(registry.write_lock(url, target, self.purpose, timeout=self._timeout))
                registry.want_room(url, target, copy.member.size)
                self._is_filled(copy)
            staying = [copy.member.database for copy in self._copies if copy.takes_the_file()]
            unpacked = held.enter_context(unpacking(self._repository.store, self._keys, staying=staying))
            chosen = [one.member for one in self._copies]
            prove(
                self._opened,
                self._repository,
                self._manifest,
                chosen,
                keys=self._keys,
                unpacked=unpacked,
                advance=self._advance,
            )
            made = [self._made(copy, unpacked) for copy in self._copies]
        return Copied(
            backup=self._manifest.id,
            databases=[one for one, _ in made],
            duration=round(time.monotonic() - begun, 3),
            use=_use(self._opened, self._copies),
            notes=[note for _, notes in made for note in notes],
        )

    def _is_filled(self, copy: _Copy) -> bool:
        """Return whether anything goes; raise CopyFilledError where nothing may."""
        outside = registry.outside(copy.url, str(copy.url))
        if not outside.is_there():
            return False
        if self._replace:
            return True
        if outside.holds():
            raise CopyFilledError(place=copy.url)
        return False

    def _made(self, copy: _Copy, unpacked: Unpacked) -> tuple[DatabaseCopied, Sequence[str]]:
        signals.check()
        one, target, done = copy.member, str(copy.url), 0

        def progress(share: float) -> None:
            nonlocal done
            self._advance(max(0, int(share * one.size) - done))
            done = max(done, int(share * one.size))

        # A copy is for whoever makes it; the rights of others are those to the live database.
        facts = {name: fact for name, fact in one.dump.facts.items() if name != "mode"}
        with unpacked.opened(self._manifest, one, target) as path:
            unpacked.settle(self._manifest, one)
            loaded = registry.load(
                copy.url,
                path,
                target,
                structs.replace(one.dump, facts=facts),
                timeout=self._timeout,
                progress=progress,
                spare=is_spare(one),
            )
        rows, tables = sum(one.rows.values()), len(one.rows)
        done_for = DatabaseCopied(database=one.database, url=target, way=loaded.way, rows=rows, tables=tables)
        return done_for, [f"{target}: {text}" for text in loaded.remarks]


def _paired(app: App, repository: Repository, manifest: Manifest, to: Mapping[str, Url]) -> list[_Copy]:
    held = {one.database: one for one in members(app, repository, manifest, live=False)}
    if list(to) == ["main"] and "main" not in held:
        if len(held) > 1:
            names = ", ".join(held)
            raise UsageError(
                detail=f"{manifest.id} holds {names}; --to NAME=URL says which goes there, and may be repeated, or --db NAME"
            )
        to = dict.fromkeys(held, to["main"])
    for name in to:
        app.database(name)
        if name not in held:
            place = repository.store.place
            raise BackupMissingError(name=manifest.id, app=f"{app.name}/{name}", place=place, near="")
    # A path alone is one of the engine that the backup was made of.
    return [_Copy(member=held[name], url=meant(url, [held[name].engine])) for name, url in to.items()]


def _want_elsewhere(app: App, repository: Repository, copy: _Copy) -> None:
    """Look whether a copy can go where it is to go, and replaces nothing that the app or its backups are.

    Raises:
        As ``Copying``.
    """
    one, url = copy.member, copy.url
    want_copyable(one)
    if one.engine != url.engine:
        raise NotSupportedError(
            what=f"bringing back {one.file}",
            by=f"{url}, which is of another engine",
            instead="Nothing was changed. A copy is kept by the engine that the backup was made of.",
        )
    if url.is_local:
        folder = Path(url.path).resolve().parent
        if not folder.is_dir():
            raise FileMissingError(what="directory", path=folder)
        if folder.is_relative_to(Path(repository.store.place).resolve()):
            raise CopyOntoOwnError(place=url, target=f"a file of the backups of {app.name}")
        registry.outside(url, str(url)).approach(one.dump)  # before a lock is laid beside it
    identity = registry.outside(url, str(url)).identity()
    for name, own in _own(app):
        if own.engine == url.engine and _identity(own, app.target(name)) == identity:
            raise CopyOntoOwnError(place=url, target=app.target(name))


def _own(app: App) -> Iterator[tuple[str, Url]]:
    for name in app.profile.databases:
        with suppress(DbctlError):  # the configuration need not name each
            yield name, app.url(name)


def _identity(url: Url, target: str) -> str:
    try:
        return registry.outside(url, target).identity()
    except DbctlError:  # it cannot be reached, so that a copy that can be is another one
        return ""


def _use(app: App, copies: Sequence[_Copy]) -> str:
    words = ["dbctl", "--profile", app.configured.profile]
    for one in copies:
        address = registry.outside(one.url, str(one.url)).address(one.member.dump)
        words += ["--url", f"{one.member.database}={address}"]
    return shlex.join(words)


def size(app: App, repository: Repository, manifest: Manifest, to: Mapping[str, Url]) -> int:
    """Return how many bytes a copy reads and writes, about; raises as ``Copying``."""
    return sum(one.member.bytes + one.member.size for one in _paired(app, repository, manifest, to))
