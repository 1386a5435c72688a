"""The app that a command works on: its profile, and its databases opened as the profile allows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from msgspec import structs

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.engines import registry
from dbctl.engines.contract import Readable, Writable
from dbctl.errors import (
    AbilityMissingError,
    CutOffWriteError,
    DatabaseUnknownError,
    DatabaseUnsetError,
    ReadOnlyError,
    UsageError,
    WrongAppError,
)
from dbctl.profiles import loader
from dbctl.profiles.model import NO_LEDGER, Database, Profile
from dbctl.url import Url, meant

T = TypeVar("T")


class App:
    """One configured app. Databases open when they are asked for, and close with it."""

    def __init__(
        self,
        configured: model.App,
        profile: Profile,
        *,
        timeout: float,
        only: str = "",
        traceless: bool = False,
        trust_clock: bool = False,
        acting_as: str = "",
    ) -> None:
        # A path alone is of the engine that the profile names. Whoever asks for an address, asks for that one.
        self.configured = structs.replace(configured, databases=_as_meant(configured, profile))
        self.profile, self.timeout, self.only, self._traceless = profile, timeout, only, traceless
        self.name, self.protected = configured.name, configured.protected
        self.trust_clock, self.acting_as = trust_clock, acting_as
        self.used: list[str] = []  #: the databases that were opened, in the order of their first use
        self._readers: dict[str, Readable] = {}
        self._writers: dict[str, Writable] = {}

    def target(self, database: str) -> str:
        """Return how messages and answers name a database: ``app/database``."""
        return f"{self.name}/{database}"

    def database(self, name: str) -> Database:
        """Return what the profile says of a database.

        Raises:
            DatabaseUnknownError: it says nothing.
        """
        if name not in self.profile.databases:
            raise DatabaseUnknownError(app=self.name, name=name, names=", ".join(self.profile.databases))
        told = self.profile.databases[name]
        if told.migrations and (name in self.configured.unmigrated or told.migrations.ledger == NO_LEDGER):
            return structs.replace(told, migrations=None)
        return told

    def url(self, name: str) -> Url:
        """Return where a database is.

        Raises:
            DatabaseUnsetError: the configuration does not say.
        """
        self.database(name)
        given = self.configured.databases
        if name not in given and list(given) == ["main"] and self.main() == name:
            return given["main"]  # --url PATH without a name: the only one a command can mean
        if name not in given:
            raise DatabaseUnsetError(app=self.name, name=name)
        return given[name]

    def main(self) -> str:
        """Return the name of the first database that may be written, else the first."""
        return _main(self.profile)

    def ability(self, section: T | None, what: str, *, instead: str = "") -> T:
        """Return a section of the profile; ``instead`` is what it has in place of one.

        Raises:
            AbilityMissingError: the profile has none; the message names those that do.
        """
        if section:
            return section
        profiles = map(loader.load, loader.names())
        others = [one.name for one in profiles if what in [*one.abilities(), *one.special_abilities()]]
        raise AbilityMissingError(
            app=self.name,
            profile=self.profile.name,
            ability=what,
            others=", ".join(others) or "none of the built-in ones",
            instead=instead,
        )

    def writable(self, name: str) -> Database:
        """Return what the profile says of a database that dbctl may change.

        Raises:
            ReadOnlyError: it says that nobody but its owner does.
        """
        told = self.database(name)
        if told.mode == "read-only":
            raise ReadOnlyError(
                target=self.target(name),
                reason=f"it belongs to {told.owner or 'another program'}",
                instead=f"No option changes that. Change it through {told.owner or 'that program'}.",
            )
        return told

    def reader(self, name: str, *, may_be_empty: bool = False, like: Collection[str] = ()) -> Readable:
        """Return a database opened for reading; the writer itself while there is one.

        Args:
            name: the database.
            may_be_empty: whether one without a table is one of this app, too.
            like: tables; one is of this app also where at least half of its own are among them.

        Raises:
            WrongAppError: the database belongs to another app, or is empty and may not be.
        """
        self._use(name)
        if name in self._writers:
            return self._writers[name]
        if name not in self._readers:
            opened = self._open_for_reading(name)
            try:
                tables = opened.tables()
                is_alike = 2 * sum(table in like for table in tables) >= len(tables)
                if not ((like and is_alike) if tables else may_be_empty):
                    self._recognise(name, opened)
            except BaseException:  # an open connection must not outlive the failure
                opened.close()
                raise
            self._readers[name] = opened
        return self._readers[name]

    def _open_for_reading(self, name: str) -> Readable:
        url, target, foreign = self.url(name), self.target(name), self.database(name).mode == "read-only"
        try:
            return registry.open_for_reading(
                url,
                target,
                timeout=self.timeout,
                traceless=self._traceless,
                sidecars=foreign,
                keys=self._keys(name),
            )
        except CutOffWriteError:
            if self._traceless or foreign:
                raise
        # What the profile lets dbctl write is rolled back by opening it so, as the app itself would; it changes no row.
        registry.open_for_writing(url, target, timeout=self.timeout, pragmas={}).close()
        return registry.open_for_reading(url, target, timeout=self.timeout)

    @contextmanager
    def writer(self, name: str, purpose: str, *, create: bool = False) -> Iterator[Writable]:
        """Open a database for writing and keep every other dbctl from writing it meanwhile.

        Args:
            name: the database.
            purpose: what for, for whoever has to wait; one of ``PATHS``.
            create: whether it may be missing, empty or half built, as it is for migrations.

        Raises:
            ReadOnlyError: the profile says that nobody but its owner writes it; nothing was opened.
            WrongAppError: as for ``reader``.
        """
        from dbctl.services.app.live_table import default_times
        from dbctl.services.app.write_paths import PATHS

        if purpose not in PATHS:
            raise ValueError(f"{purpose!r} is no path of write_paths.PATHS")
        told = self.writable(name)
        self._use(name)
        if name in self._readers:  # closing a reader later would drop this process's locks on the file
            self._readers.pop(name).close()
        opened = registry.open_for_writing(
            self.url(name),
            self.target(name),
            timeout=self.timeout,
            pragmas=told.pragmas,
            create=told.create if create else None,
            keys=self._keys(name),
            fill=partial(default_times, self.profile),
        )
        try:
            if not create:
                self._recognise(name, opened)
            with opened.lock(purpose):
                self._writers[name] = opened
                yield opened
        finally:
            self._writers.pop(name, None)
            opened.close()

    def held(self, name: str) -> Writable:
        """Return a database that is open for writing; for what is written beside another one in one change."""
        return self._writers[name]

    def _keys(self, name: str) -> dict[str, Sequence[str]]:
        """Return what the profile says that tells rows apart, by table."""
        return {
            table: [one.removesuffix("?") for one in ([names] if isinstance(names, str) else names)]
            for table, names in self.database(name).keys.items()
        }

    def _use(self, name: str) -> None:
        if self.only not in ("", name):
            raise UsageError(detail=f"this works on {self.target(name)}, not on --db {self.only!r}")
        if name not in self.used:
            self.used.append(name)

    def close(self) -> None:
        """Close every database."""
        while self._readers:
            self._readers.popitem()[1].close()

    def _recognise(self, name: str, opened: Readable) -> None:
        needed = self.database(name).needs
        lacking = [table for table in needed if table not in opened.tables()]
        if lacking:
            what = "every table" if not opened.tables() else f"table {', '.join(lacking)}"
            raise WrongAppError(
                target=self.target(name),
                profile=self.profile.title,
                what=what,
                instead=self._instead(name, opened),
            )

    def _instead(self, name: str, opened: Readable) -> str:
        """Return what may be wrong with a database that is not the one it should be."""
        tables = opened.tables()
        if known := recognised_as(self.database(name), tables):
            return known
        if not tables and self.database(name).migrations:
            return "It is empty: dbctl migrate up fills a new database, if the path is right."
        for other, told in self.profile.databases.items():
            if told.needs and all(table in tables for table in told.needs):
                return f"Check the path: this looks like the database {other!r}."
        return "Check the path, or the URL, in the configuration."


def _main(profile: Profile) -> str:
    writable = [name for name, told in profile.databases.items() if told.mode == "read-write"]
    return (writable or list(profile.databases))[0]


def _as_meant(configured: model.App, profile: Profile) -> dict[str, Url]:
    """Return the addresses of an app's databases, each of an engine that its profile has it on."""
    known = profile.databases
    return {
        name: meant(url, known[name if name in known else _main(profile)].engines)
        for name, url in configured.databases.items()
    }


def recognised_as(told: Database, tables: Collection[str]) -> str:
    """Return what the profile says of a database that lacks what it needs, by the tables it has; empty: nothing."""
    return next((one.says for one in told.lookalike if any(table in tables for table in one.has)), "")


@contextmanager
def opened(
    selection: model.Selection,
    *,
    timeout: float,
    only: str = "",
    traceless: bool = False,
    trust_clock: bool = False,
    acting_as: str = "",
) -> Iterator[App]:
    """Find the app that is meant and close what was opened at the end.

    Args:
        selection: what the options said.
        timeout: how long to wait for a lock, in seconds.
        only: the one database that may be opened; a command that wants another is refused.
        traceless: whether a database is rather left unread than a file touched or left beside it.
        trust_clock: whether to delete by age also where the clock contradicts what was recorded.
        acting_as: the login of the user on whose behalf changes are made.
    """
    configured = config.find(selection)
    profile = loader.load(configured.profile)
    app = App(
        configured,
        profile,
        timeout=timeout,
        only=only,
        traceless=traceless,
        trust_clock=trust_clock,
        acting_as=acting_as,
    )
    if only:
        app.database(only)
    unknown = [name for name in configured.databases if name not in app.profile.databases]
    # An address without a name means the only database there is; beside others it would be passed over in silence.
    if unknown and list(configured.databases) != ["main"]:
        raise DatabaseUnknownError(app=app.name, name=unknown[0], names=", ".join(app.profile.databases))
    try:
        yield app
    finally:
        app.close()
