"""The app that a command works on: its profile, and its databases opened as the profile allows."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import structs

from dbctl.config import environment, model
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable, Table, Writable
from dbctl.engines.contract.engine import Engine, OpenOptions
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, ConcurrentChangeError, InterruptedWriteError, ReadOnlyError
from dbctl.errors.usage import (
    DatabaseNotConfiguredError,
    DatabaseUnknownError,
    FeatureMissingError,
    UsageError,
    WrongAppError,
)
from dbctl.profiles import loader
from dbctl.profiles.model.databases import NO_LEDGER, Database
from dbctl.spec import Fact, Write
from dbctl.url import Url, resolve_engine

if TYPE_CHECKING:  # most commands only read a database, of which ``core`` has what they need
    from dbctl.engines.contract.dumps import RestoreTarget
    from dbctl.model import Secret
    from dbctl.profiles.model.core import CoreProfile, ProfileVariant, Topic
    from dbctl.profiles.model.profile import Profile
    from dbctl.services.app.session import Session
    from dbctl.services.audit.recorder import OperationRecorder

T = TypeVar("T")


class HasDatabase(Protocol):
    """A section of the profile about tables of one database."""

    @property
    def database(self) -> str: ...


class App:
    """One configured app. Its databases open on first use, and ``close`` closes them."""

    def __init__(self, session: Session, configured: model.App, profile: CoreProfile) -> None:
        self.main_database = profile.main_database
        sections, databases = profile.databases, configured.databases
        if list(databases) == ["main"] and "main" not in sections:  # an address without a name
            databases = {self.main_database: databases["main"]}
            if "main" in configured.replicas:
                replicas = {self.main_database: configured.replicas["main"]}
                configured = structs.replace(configured, replicas=replicas)
        # The profile decides the engine of a plain path.
        urls = {
            name: resolve_engine(url, sections[name if name in sections else self.main_database].engines)
            for name, url in databases.items()
        }
        databases = urls
        if any(url.via for url in urls.values()):
            from dbctl.engines.contract.route import LocalAddresses

            databases = LocalAddresses(urls, configured.name)
        self.configured = structs.replace(configured, databases=databases)
        #: by name, the replicas from which databases are read, instead of their own servers
        self.replicas = configured.replicas if configured.reads_replicas else {}
        self.session = session
        self.spec, self.timeout, self.only = session.spec, session.timeout, session.only
        self.core = profile  #: the profile, or the part of it that most commands need
        self._base = profile  #: the same without the changes of a variant
        self.variant: ProfileVariant | None = None  #: the variant of the profile that the live schema has
        self.name, self.protected = configured.name, configured.protected
        self.trust_clock, self.acting_as = session.trust_clock, session.acting_as
        self.password_key: Secret | None = None  #: of ``users.password.hmac_key``, from its first read on
        self.used: list[str] = []  #: the databases that were opened, in the order of their first use
        self._readers: dict[str, Readable] = {}
        self.writers: dict[str, Writable] = {}  #: the databases that are open for writing
        self.compared = set[
            tuple[str, Sequence[Fact]]
        ]()  #: databases, and facts that their data does not contradict
        self._main_lock: BusyError | None = None  #: why the main database could not be read at the start

    @property
    def profile(self) -> Profile:
        """The whole profile, with the changes of the variant."""
        self.core = profile = loader.complete(self.core)  # kept, because rows are read with it
        return profile

    @property
    def base_profile(self) -> Profile:
        """The whole profile, without the changes of a variant."""
        self._base = profile = loader.complete(self._base)
        return profile

    def resolve_profile(self) -> None:
        """Change the profile to the prefix of the app's tables, and to the variant that the main database has.

        Without access to the main database, the profile remains as written, with the configured prefix.

        Raises:
            AmbiguousPrefixError: the main database has the tables with several prefixes.
        """
        profile, prefix = self._base, self.configured.prefix
        detects_prefix = bool(profile.prefix) and prefix is None
        tables: Mapping[str, Table] = {}
        if detects_prefix or profile.variants:
            try:
                with closing(self.open_for_reading(self.main_database)) as database:
                    tables = database.tables()
            except BusyError as error:
                self._main_lock = error
            except DbctlError:  # a command that uses the database reports it
                pass
        if profile.prefix:
            from dbctl.profiles.templates import change_prefix, detect_prefix

            if detects_prefix:
                prefix = detect_prefix(self.base_profile, tables, self.name)
            self.core = self._base = change_prefix(self.base_profile, prefix or "")
        if profile.variants:
            self._select_variant(tables)

    def locate_key(self, key: Sequence[str | int]) -> Sequence[str | int]:
        """Return where the file of the profile has a key: below the active variant if that changes it."""
        if self.variant is None:
            return key
        from dbctl.profiles.variants import locate_key

        return locate_key(self.base_profile.variants.index(self.variant), self.variant, key)

    def _select_variant(self, tables: Mapping[str, Table]) -> None:
        """Apply the variant that the tables of the main database have; without one, the profile is used as written."""
        variant = self._find_variant(tables)
        if variant != self.variant:
            self.variant = variant
            from dbctl.profiles.variants import apply_variant

            self.core = apply_variant(self.base_profile, variant) if variant else self._base

    def _find_variant(self, tables: Mapping[str, Table]) -> ProfileVariant | None:
        from dbctl.services.app.live_table import select_variant

        return select_variant(self._base.variants, tables)

    def target(self, database: str = "") -> str:
        """Return the name of a database in messages and results: ``app/database``; by default of the first that was used, if any."""
        name = database or next(iter(self.used), "")
        return f"{self.name}/{name}" if name else self.name

    def database(self, name: str) -> Database:
        """Return the profile's section about a database.

        Raises:
            DatabaseUnknownError: the profile has no such section.
        """
        if name not in self.core.databases:
            raise DatabaseUnknownError(
                app=self.name, name=name, names=", ".join(self.core.databases), candidates=self.core.databases
            )
        section = self.core.databases[name]
        if section.migrations and (
            name in self.configured.unmigrated or section.migrations.ledger == NO_LEDGER
        ):
            return structs.replace(section, migrations=None)
        return section

    def url(self, name: str) -> Url:
        """Return the configured URL of a database.

        Raises:
            DatabaseNotConfiguredError: no URL is configured.
        """
        self.database(name)
        databases = self.configured.databases
        if name not in databases:
            raise DatabaseNotConfiguredError(app=self.name, name=name)
        return databases[name]

    def engine(self, name: str) -> Engine:
        """Return the engine of a database; raises as ``url``."""
        return registry.load_engine(self.url(name).engine)

    def restore_target(self, name: str) -> RestoreTarget:
        """Return a database as backups and restores use it; raises as ``url``."""
        return self.engine(name).restore_target(self.url(name), self.target(name))

    def resolve_database(self, section: HasDatabase | None) -> str:
        """Return the database of a section of the profile: the one that it names, otherwise the main database."""
        return (section.database if section else "") or self.main_database

    def require_section(self, section: T | None, feature: str, *, alternative: str = "") -> T:
        """Return a section of the profile; ``alternative`` is the hint if it is missing.

        Raises:
            FeatureMissingError: the profile lacks the section; the message names the profiles that have it.
        """
        if section:
            return section
        raise FeatureMissingError(
            app=self.name,
            profile=self.core.name,
            feature=feature,
            profiles=loader.list_profiles_with(feature) or "none of the built-in profiles",
            hint=alternative and f"{alternative} ",
        )

    def require_decision(self, topic: Topic, feature: str) -> None:
        """Refuse a feature that depends on what the profile leaves open.

        Raises:
            DecisionOpenError: the profile has an open decision about the topic.
        """
        if decisions := self.core.undecided.get(topic, ()):
            from dbctl.errors.users import DecisionOpenError

            raise DecisionOpenError(
                profile=self.core.name, feature=feature, decisions="; ".join(decisions), topic=topic
            )

    def require_writable(self, name: str) -> Database:
        """Return the profile's section about a database that dbctl may change.

        Raises:
            ReadOnlyError: the profile declares the database as read-only, or it is read from its replica.
        """
        self.require_primary(name)
        section = self.database(name)
        if section.mode == "read-only":
            raise ReadOnlyError(
                target=self.target(name),
                reason=f"it belongs to {section.owner or 'another program'}",
                hint=f"No option changes that. Change it through {section.owner or 'that program'}.",
            )
        return section

    def require_primary(self, name: str) -> None:
        """Refuse to change a database that is read from its replica, or from a file of another machine.

        Raises:
            ReplicaReadOnlyError: it is read from its replica.
            RoutedReadOnlyError: it is a file of another machine; or why its route cannot be opened.
        """
        if name in self.replicas:
            from dbctl.errors.operations import ReplicaReadOnlyError

            raise ReplicaReadOnlyError(target=self.target(name))
        url = self.configured.databases.get(name)
        if url and url.has_routed_path:
            from dbctl.engines.contract.route import find_path
            from dbctl.errors.connection import RoutedReadOnlyError

            if find_path(url, self.target(name)) is None:
                raise RoutedReadOnlyError(target=self.target(name), path=url.path, via=url.via)

    def reader(
        self, name: str, *, allow_empty: bool = False, familiar_tables: Collection[str] = ()
    ) -> Readable:
        """Return a database opened for reading; the writer, while the database is open for writing.

        ``allow_empty`` accepts a database without tables, ``familiar_tables`` one with at least half of its tables among these.

        Raises:
            WrongAppError: the database belongs to another app, or is empty without ``allow_empty``.
        """
        self._mark_used(name)
        if name in self.writers:
            return self.writers[name]
        if name not in self._readers:
            database = self.open_for_reading(name)
            try:
                tables = database.tables()
                # a migration or a restore may have changed it since the command began
                if name == self.main_database and self._base.variants:
                    self._select_variant(tables)
                familiar = sum(table in familiar_tables for table in tables)
                is_alike = familiar_tables and 2 * familiar >= len(tables)
                if not (is_alike if tables else allow_empty):
                    self._require_tables(name, database)
            except BaseException:  # an open connection must not outlive the failure
                database.close()
                raise
            self._readers[name] = database
        return self._readers[name]

    def open_for_reading(self, name: str) -> Readable:
        """Open a database read-only; ``reader`` also checks its tables, and opens it once.

        Raises:
            ReplicaPromotedError, ReplicaLagError: it is read from its replica, which is none, or too far behind.
        """
        url, target, section = self.url(name), self.target(name), self.database(name)
        engine = registry.load_engine(url.engine)
        options = OpenOptions(timeout=self.timeout, traceless=self.session.traceless, keys=section.keys)
        try:
            database = engine.create_reader(url, target, options)
        except InterruptedWriteError as interrupted:
            if self.session.traceless or section.mode == "read-only":
                raise
            # Opening for writing rolls back the interrupted transaction, as the app itself would; it changes no row.
            try:
                engine.open_for_writing(url, target, timeout=self.timeout).close()
            except ReadOnlyError as error:
                reason = f", but {error.context['reason']}"
                raise InterruptedWriteError(target=target, reason=reason) from interrupted
            database = engine.open_for_reading(url, target, timeout=self.timeout)
        if replica := self.replicas.get(name):
            from dbctl.engines.contract.monitoring import require_replica

            with ExitStack() as stack:
                stack.callback(database.close)
                require_replica(database, max_lag=replica.max_lag, timeout=self.timeout)
                stack.pop_all()
        return database

    @contextmanager
    def writer(
        self, name: str, write: Write | None = None, *, create: bool = False, exclusive: bool = False
    ) -> Iterator[Writable]:
        """Open a database for writing, locked against other dbctl processes.

        ``write`` describes a part of a command that differs from the declaration of the command. With ``create``, for
        migrations, the database may be missing, empty or incomplete. For ``exclusive``, see ``OpenOptions``.

        Raises:
            ReadOnlyError: the profile declares the database as read-only; nothing was opened.
            ConcurrentChangeError: the main database has another variant of the profile than when the command began.
            WrongAppError: as for ``reader``.
        """
        from dbctl.services.app.audit import record_writes
        from dbctl.services.app.evidence.facts import refuse_contradictions
        from dbctl.services.app.live_table import default_times

        write = write or self.declared_write
        section, url = self.require_writable(name), self.url(name)
        engine = registry.load_engine(url.engine)
        self._mark_used(name)
        reader = self._readers.pop(name, None)
        if not (reader or create) and engine.writers_leave_traces:
            reader = self.open_for_reading(name)
        if reader:
            with closing(reader):  # closing it later would drop this process's locks on the file
                if not create:  # the file of another app must not even be opened for writing
                    self._require_tables(name, reader)
        options = OpenOptions(
            timeout=self.timeout,
            pragmas=section.pragmas,
            exclusive=exclusive,
            # An instance of a fleet may have been deleted since it was listed.
            create=section.create if create and not self.configured.fleet else None,
            keys=section.keys,
            fill=partial(default_times, self.core),
            reader=reader,
        )
        database = engine.create_writer(url, self.target(name), options)
        try:
            if not create:
                self._require_tables(name, database)
            refuse_contradictions(self, name, database, write.facts)
            with database.lock(self.spec.name), record_writes(self, name, write, database) as recorded:
                self.writers[name] = recorded
                yield recorded
        finally:
            self.writers.pop(name, None)
            database.close()

    def _require_tables(self, name: str, database: Readable) -> None:
        """Check that a database is the app's, by its tables; raises as ``writer``."""
        is_main, section, tables = name == self.main_database, self.database(name), database.tables()
        if is_main and self._base.variants and self._find_variant(tables) != self.variant:
            raise ConcurrentChangeError(target=self.target(name))
        if missing_tables := [table for table in section.needs if table not in tables]:
            if database.server:
                database.server.require_complete()
            hidden = "The server hides tables from an account that may not read them. "
            raise WrongAppError(
                target=self.target(name),
                profile=self.core.title,
                missing=f"table {', '.join(missing_tables)}" if tables else "every table",
                hint=(hidden if database.hides_tables else "") + self.core.suggest_cause(section, tables),
            )

    @property
    def declared_write(self) -> Write:
        """How the command writes; the caller is about to write, or plans it.

        Raises:
            ValueError: the command does not declare it.
        """
        if self.spec.writes is None:
            raise ValueError(f"{self.spec.name} does not declare that it writes")
        return self.spec.writes

    def find_address(self, name: str, url: Url | None = None) -> str:
        """Return where a database is, the same for every account and configuration; ``url``: its address, if that is another one."""
        url = url or self.configured.databases[name]
        path = os.path.realpath(url.path) if url.is_local else url.path
        address = str(structs.replace(url, path=path, user="", password=None))
        schema = next((option for option in url.options.split("&") if option.startswith("schema=")), "")
        return f"{address}{'&' if '?' in address else '?'}{schema}" if schema else address

    @cached_property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """Where each database is, then where its replica is, for repositories that several machines use: ``MACHINE:ADDRESS`` for those on this one."""
        from dbctl.services.events.store import storable_text

        machine, addresses = environment.machine_name(), dict[str, list[str]]()
        for name, configured_url in self.configured.databases.items():
            replica = self.configured.replicas.get(name)
            for url in (replica.primary or configured_url, replica.url) if replica else (configured_url,):
                place = f"{machine}:" if machine and url.is_on_this_machine else ""
                address = storable_text(f"{place}{self.find_address(name, url)}")
                addresses.setdefault(name, []).append(address)
        return addresses

    @cached_property
    def recorder(self) -> OperationRecorder | None:
        """The recorder of the audit log; None: changes are not recorded."""
        return self.session.create_recorder(self)

    def _mark_used(self, name: str) -> None:
        if self.only not in ("", name):
            raise UsageError(detail=f"this command uses {self.target(name)}, but --db selects {self.only!r}")
        if name not in self.used:
            self.used.append(name)
        if name == self.main_database and self._main_lock:  # without a second wait
            raise self._main_lock

    def close(self, name: str = "") -> None:
        """Close a database that is open for reading, or every one."""
        for opened in [name] if name else [*self._readers]:
            if reader := self._readers.pop(opened, None):
                reader.close()
