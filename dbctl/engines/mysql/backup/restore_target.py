"""A database on a server as a restore sees it.

A dump cannot be loaded as one change: each statement that makes a table is one of its own. So it goes into a new
database beside, is proven there, and then one statement renames all tables: those of the old one into a third database,
where they stay until the next restore, and the new ones into their place. What is no table (triggers, views, routines,
events) cannot be renamed: it is written as a script before, and made anew behind it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import Approach, Dump, Kept, Loaded, Proof, Tried
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.dump import place
from dbctl.engines.mysql.backup.foreign import scratch_role
from dbctl.engines.mysql.backup.foreign import stored_code as foreign
from dbctl.engines.mysql.backup.load import UNTOUCHED, feed, run
from dbctl.engines.mysql.backup.names import KEPT, NAMES, NEW, beside, new_ones
from dbctl.engines.mysql.errors import Place, number_of, translated, unreachable
from dbctl.engines.mysql.reader import SOON, MySQLReader
from dbctl.engines.mysql.session import Session, open_session, server_of
from dbctl.engines.mysql.types import literal
from dbctl.engines.mysql.writer import MySQLWriter
from dbctl.engines.sql import differing, digests, ident
from dbctl.errors import (
    BusyError,
    DbctlError,
    DumpOverreachesError,
    ForeignDumpRefusedError,
    KeptMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    RestoreFailedError,
    RestoreUnfinishedError,
    UnreachableError,
)
from dbctl.files import Progress, at_once, silent
from dbctl.url import Url

#: What every server has, and everybody may connect to.
CENTRAL = "information_schema"
#: Behind it, a script that keeps a database has what makes everything but its tables.
CODES = "-- What is no table follows.\n"
FOUND = "select default_character_set_name, default_collation_name from information_schema.schemata where schema_name = {}"
TABLES = """select table_name from information_schema.tables
where table_schema = {} and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""
VERSIONED = """select table_name from information_schema.tables
where table_schema = {} and table_type = 'SYSTEM VERSIONED' order by 1"""
LOOSE = """select table_name, constraint_name from information_schema.referential_constraints
where constraint_schema = {0} and unique_constraint_schema = {1} order by 1, 2"""
#: Whatever somebody has put into a database.
HELD = """select exists (select 1 from information_schema.tables where table_schema = {0})
or exists (select 1 from information_schema.routines where routine_schema = {0})
or exists (select 1 from information_schema.events where event_schema = {0})"""
MAY_NOT_CREATE = 1044
UNTRUSTED = "Look at what it does. Where the server writes a binary log, triggers and functions need SET GLOBAL log_bin_trust_function_creators = 1."
#: What a server keeps its accounts and its state in.
SYSTEM = frozenset({"information_schema", "mysql", "performance_schema", "sys"})


class MySQLOutside:
    """One database of a server."""

    loads = True

    def __init__(self, url: Url, target: str) -> None:
        self._url, self._target, self._name = url, target, url.path

    # What there is -------------------------------------------------------------------------------------------------

    def is_there(self) -> bool:
        with self._told(), self._central() as central:
            return self._is_database(central, self._name)

    def identity(self) -> str:
        # On some systems the case of its name makes no difference; that of two names is no way to tell them apart.
        with self._told(), self._central() as central:
            return f"{place(central)['system']}/{self._name.casefold()}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._url)

    def holds(self) -> bool:
        with self._told(), self._central() as central:
            return central.run(HELD.format(literal(self._name))) == [(1,)]

    def files(self) -> Sequence[Path]:
        return ()  # they are the server's

    def still(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Hold nobody up: what is replaced stays on its server under another name, with all that came meanwhile."""
        del dump, timeout
        return nullcontext(at_once)

    def want_room(self, need: int) -> None:
        """Look at nothing: a server does not tell how much room it has."""

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        # Such locks are the whole server's, so it holds also where the database is missing.
        url = structs.replace(self._url, path=CENTRAL)
        with closing(_Keeper(url, self._target, timeout=timeout)) as keeper:
            keeper.lock_name = locks.name_of(self._name)
            with keeper.lock(purpose):
                yield

    def approach(self, dump: Dump) -> Approach:
        self._want_own()
        with self._told(), self._central() as central:
            where, made = self._where(central), dump.facts.get("system", "")
            stored_code.want_makeable(central, self._name, self._target)
            if dump.form == "kept":
                self._kept_one(central, dump)
                steps = [f"let the tables of {dump.facts['kept']} and of {where} change places"]
                return Approach(way="swapped", keeps=True, steps=steps)
            _refuse_newer(dump, central, self._target)
            other = []
            if made not in ("", place(central)["system"]):
                other = [f"note that it is of another server: {dump.facts['database']} at {dump.facts['at']}"]
            if not self._is_database(central, self._name):
                return Approach(way="new", steps=[f"make {where} anew", *other])
        steps = [
            f"load into a new database beside {where}, prove it there, and let their tables change places in one statement",
            "make triggers, views, routines and events anew behind it",
        ]
        return Approach(way="swapped", keeps=True, steps=[*steps, *other])

    def kept(self, stamp: str) -> Kept:
        with self._told(), self._central() as central:
            name, tables = (
                beside(self._name, f"{KEPT}{stamp}"),
                stored_code.names(central, TABLES, self._name),
            )
            ((charset, collation),) = central.run(FOUND.format(literal(self._name)))
            facts = {
                **place(central),
                "kept": name,
                "database": self._name,
                "tables": str(len(tables)),
                "charset": str(charset),
                "collation": str(collation),
            }
            moves = _renames(tables, name, self._name)
            note = (
                f"-- {self._target} as it was when a restore replaced it: its tables are in the database {name} of its\n"
                "-- server, until the next restore. dbctl restore undo brings it back; by hand, once nothing is left in\n"
                f"-- {self._name}:\nset sql_mode = concat(@@sql_mode, ',ANSI_QUOTES');\n{moves};\n"
                f"set sql_mode = default;\nuse `{self._name.replace('`', '``')}`;\n{CODES}"
            )
            return Kept(facts=facts, note=note + self._script(central, self._name).decode(errors="replace"))

    def find_missing(self, kept: Sequence[Dump]) -> Sequence[str]:
        names = [dump.facts["kept"] for dump in kept]
        with self._told(), self._central() as central:
            return [name for name in names if not self._is_database(central, name)]

    def standing(self) -> Mapping[str, str]:
        return {}  # what is replaced is kept under another name, which tells enough

    # Bringing back -------------------------------------------------------------------------------------------------

    def _want_own(self) -> None:
        if self._name.casefold() in SYSTEM:
            raise NotSupportedError(
                what="bringing a backup back",
                by=f"{self._target}, which is the server's own",
                instead="Nothing was changed. Name a database of your own.",
            )

    def ready(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[None]:
        """Do nothing beforehand."""
        del path, dump, timeout
        return nullcontext()

    def load(
        self,
        path: Path,
        dump: Dump,
        *,
        timeout: float,
        keep: Mapping[str, str],
        progress: Progress,
        let_go: Callable[[], None],
        spare: bool = False,
    ) -> Loaded:
        del let_go, spare  # nobody is held up, and a dump is read
        self._want_own()
        with self._told(), self._central(timeout) as central:
            there = self._is_database(central, self._name)
            stored_code.want_makeable(central, self._name, self._target)
            if dump.form == "kept":
                remarks = self._bring_back(central, path, dump, keep.get("kept", ""), timeout)
                return Loaded(way="swapped" if there else "new", remarks=remarks)
            _refuse_newer(dump, central, self._target)
            remarks = list[str]()
            with self._made(central, dump, remarks, timeout) as url:
                self._load(central, url, path, dump, timeout, progress)
                with self._exchanging(central):
                    remarks += self._exchange(central, url.path, keep.get("kept", ""), dump, timeout)
        return Loaded(way="swapped" if there else "new", remarks=remarks)

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        pattern, remarks = re.compile(rf"{re.escape(beside(self._name, KEPT))}\d{{8}}_\d{{6}}"), []
        with self._told(), self._central() as central:
            for (left,) in central.run(NAMES):
                if pattern.fullmatch(str(left)) and left != keep.get("kept"):
                    try:
                        central.run(f"drop database {ident(str(left))}")
                    except pymysql.Error as error:
                        remarks.append(
                            f"{left}, which an earlier restore had kept, could not be dropped: {error.args[-1]}"
                        )
        return remarks

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self.tried(path, dump, timeout=timeout) as tried:
            yield tried.url

    @contextmanager
    def tried(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Tried]:
        """Give a database that a dump was loaded into, and that is dropped at the end, and tell what it holds."""
        with self._told(), self._central(timeout) as central:
            _refuse_newer(dump, central, self._target)
            remarks = list[str]()
            with self._made(central, dump, remarks, timeout) as url:
                proof = self._load(central, url, path, dump, timeout, silent)
                yield Tried(url=url, proof=proof, remarks=remarks)

    def _load(
        self, central: Session, url: Url, path: Path, dump: Dump, timeout: float, progress: Progress
    ) -> Proof:
        """Load a dump into a new database, and compare its rows, as the user of ``url``."""
        new = url.path
        try:
            feed(
                path,
                url,
                central.server,
                self._target,
                database=dump.facts.get("database", ""),
                tables=dump.tables,
                timeout=timeout,
                progress=progress,
                change=partial(foreign.without_definers, target=self._target) if dump.foreign else iter,
            )
            with closing(MySQLReader(url, self._target, timeout=timeout)) as reader:
                tables = stored_code.names(central, TABLES, new)
                versioned = stored_code.names(central, VERSIONED, new)
                found = {name: reader.count(name) for name in tables if name in reader.tables()}
                found |= {name: stored_code.count_versions(central, new, name) for name in versioned}
                fingerprint = reader.fingerprint()
                content = digests(reader, {name: dump.tables[name] for name in dump.digests})
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or not central.open:
                raise
            raise DumpOverreachesError(
                target=self._target, reason=error.facts["reason"], instead=UNTRUSTED
            ) from error
        if found != dict(dump.tables):
            names = sorted(
                name for name in {*found, *dump.tables} if found.get(name) != dump.tables.get(name)
            )
            raise RestoreFailedError(
                target=self._target,
                reason=f"loaded, other rows are in {', '.join(names)} than the dump holds",
                instead=UNTOUCHED,
            )
        if others := differing(content, dump.digests):
            raise RestoreFailedError(
                target=self._target,
                reason=f"loaded, other content is in {', '.join(others)} than the dump held",
                instead=UNTOUCHED,
            )
        if found:
            central.run(f"analyze table {', '.join(f'{ident(new)}.{ident(name)}' for name in found)}")
        return Proof(tables=found, schema=fingerprint, problems=(), digests=content)

    def _bring_back(
        self, central: Session, path: Path, dump: Dump, keep: str, timeout: float
    ) -> Sequence[str]:
        """Let the tables of a database that was kept take their place again."""
        kept = dump.facts["kept"]
        self._kept_one(central, dump)
        script = path.read_bytes().partition(CODES.encode())[2]
        if not stored_code.names(central, TABLES, kept) and dump.facts["tables"] != "0":
            # The restore that was to keep it did not come to its tables, at most to what is no table.
            with signals.unheard(), self._finished(None):
                self._remake(central, self._name, script, timeout)
            return ()
        try:  # there first: what cannot be made there must not be wanting here
            self._remake(central, kept, script, timeout)
        except BaseException:
            with signals.unheard():
                stored_code.drop(central, kept)
            raise
        with self._exchanging(central):
            remarks = self._exchange(central, kept, keep, dump, timeout)
        with signals.unheard():
            central.run(f"drop database {ident(kept)}")
        return remarks

    @contextmanager
    def _exchanging(self, central: Session) -> Iterator[None]:
        """Keep the next dbctl waiting until the server has ended what it is told here, should this one be killed.

        A restore that began before would take the new tables for the old ones, and drop those with all that was kept.
        """
        name = locks.exchange(locks.name_of(self._name))
        if central.run(locks.take(name)) != [(1,)]:  # who has the lock of the database has waited for it
            raise BusyError(target=self._target, holder=" by another restore", waited="0")
        try:
            yield
        finally:
            with signals.unheard(), suppress(pymysql.Error):
                central.run(locks.give_back(name))

    def _exchange(
        self, central: Session, source: str, keep: str, dump: Dump, timeout: float
    ) -> Sequence[str]:
        """Let all that is in ``source`` take the place of what is in the database, whose tables go into ``keep``.

        Raises:
            RestoreUnfinishedError: the tables have moved, or nobody knows, and what is no table is not all there.
        """
        script = b"" if dump.foreign else self._script(central, source)
        defined = self._defined(source, timeout) if dump.foreign else []
        rights = stored_code.rights(central, self._name)
        signals.check()
        if not (is_there := self._is_database(central, self._name)):
            central.run(_created(self._name, dump.facts))
        away = keep or beside(self._name, f"{NEW}{secrets.token_hex(4)}")
        before, broken = self._script(central, self._name), stored_code.broken(central, self._name)
        lost = stored_code.broken(central, source)
        ((charset, collation),) = central.run(FOUND.format(literal(self._name)))
        central.run(_created(away, {"charset": str(charset), "collation": str(collation)}))
        with signals.unheard():
            try:
                for database in (self._name, source):
                    stored_code.drop(central, database, stay=broken)  # which could not come back
                old, new = (stored_code.names(central, TABLES, one) for one in (self._name, source))
                for view in set(broken) & set(new):
                    central.run(f"drop view {ident(self._name)}.{ident(view)}")
                moves = [*_pairs(old, self._name, away), *_pairs(new, source, self._name)]
                if moves:
                    central.run(f"rename table {', '.join(moves)}")
            except BaseException as error:  # nothing was moved: what is no table comes back
                with self._finished(error):
                    self._remake(central, self._name, before, timeout, stay=broken)
                    for database in [away] if is_there else [away, self._name]:
                        central.run(f"drop database {ident(database)}")
                raise
            with self._finished(None):
                if "charset" in dump.facts:
                    central.run(f"alter database {ident(self._name)}{_sorting(dump.facts)}")
                stored_code.repoint(central, self._name, source)
                self._remake(central, self._name, script, timeout)
                of_dump = self._made_again(defined, timeout)
            remarks = [*of_dump, *(f"view {view}, which was broken, is not kept" for view in broken)]
            remarks += (f"view {view}, which nobody can read, is not restored" for view in lost)
            remarks += self._cut_loose(central, away)
            remarks += stored_code.grant(central, self._name, rights)
            if not keep:
                central.run(f"drop database {ident(away)}")
        return remarks

    def _cut_loose(self, central: Session, kept: str) -> Iterator[str]:
        """Drop the keys of what is kept that pointed to no table, and so point to a new one now; tell of each."""
        for table, key in central.run(LOOSE.format(literal(kept), literal(self._name))):
            central.run(f"alter table {ident(kept)}.{ident(str(table))} drop foreign key {ident(str(key))}")
            yield f"key {key} of {table}, which pointed to no table, is not kept"

    def _defined(self, source: str, timeout: float) -> list[foreign.Definition]:
        """Return what a foreign dump has defined besides tables."""
        with self._central(timeout) as session:
            return foreign.read(session, source)

    def _made_again(self, defined: Sequence[foreign.Definition], timeout: float) -> list[str]:
        """Make it again in the database; return what needs attention."""
        if not defined:
            return []
        with self._central(timeout) as session:
            return foreign.make(session, self._name, defined)

    def _script(self, central: Session, database: str) -> bytes:
        return stored_code.script(self._url, central, database, self._target)

    @contextmanager
    def _finished(self, first: BaseException | None) -> Iterator[None]:
        """Let a failure tell that something is wanting now; ``first`` is what went wrong before it."""
        try:
            yield
        except (DbctlError, pymysql.Error) as error:
            reason = first or error
            told = reason.args[-1] if isinstance(reason, pymysql.Error) else reason
            raise RestoreUnfinishedError(target=self._target, reason=told) from error

    def _remake(
        self, central: Session, database: str, script: bytes, timeout: float, *, stay: Sequence[str] = ()
    ) -> None:
        stored_code.drop(central, database, stay=stay)
        url = structs.replace(self._url, path=database)
        run([script], url, central.server, self._target, timeout=timeout, heard=False)

    @contextmanager
    def _made(self, central: Session, dump: Dump, remarks: list[str], timeout: float) -> Iterator[Url]:
        """Make a database, which is dropped at the end; those that a dbctl left that was killed go, too.

        A foreign dump gets a scratch user, which is dropped as well.
        """
        pattern = new_ones(self._name)
        for (left,) in central.run(NAMES):
            if pattern.fullmatch(str(left)) and central.run(locks.take(locks.name_of(str(left)))) == [(1,)]:
                remarks += scratch_role.remove(central, str(left))
        for account in list(scratch_role.abandoned(central)):
            with suppress(pymysql.Error):
                central.run(f"drop user {account}")
        name = beside(self._name, f"{NEW}{secrets.token_hex(4)}")
        central.run(locks.take(locks.name_of(name)))
        try:
            central.run(_created(name, dump.facts))
        except pymysql.Error as error:
            if number_of(error) != MAY_NOT_CREATE:
                raise
            pattern_of_all = beside(self._name, KEPT).replace("_", "\\_")
            grant = f"GRANT ALL ON `{pattern_of_all}%`.* TO {central.account};"
            reason = f"{central.account} may not create databases beside it"
            if dump.foreign:
                raise ForeignDumpRefusedError(
                    target=self._target, reason=reason, instead=f"As an administrator: {grant}"
                ) from error
            raise PrivilegeMissingError(
                target=self._target,
                reason=reason,
                instead=f"Nothing was changed. As an administrator: {grant}",
            ) from error
        url, before = structs.replace(self._url, path=name), None
        try:
            if dump.foreign:
                before = scratch_role.prepared(central)
                user, password = scratch_role.create_user(central, name, self._target)
                url = scratch_role.as_user(url, name, user, password)
                scratch_role.require_confined(url, self._target, timeout=timeout)
            yield url
        finally:
            with signals.unheard(), suppress(pymysql.Error):
                remarks += scratch_role.remove(central, name, before)

    # The way there -------------------------------------------------------------------------------------------------

    def _kept_one(self, central: Session, dump: Dump) -> None:
        if not self._is_database(central, dump.facts["kept"]):
            raise KeptMissingError(target=self._target, name=dump.facts["kept"])

    def _is_database(self, central: Session, name: str) -> bool:
        return bool(central.run(FOUND.format(literal(name))))

    def _where(self, session: Session) -> str:
        return f"database {self._name} of the server at {place(session)['at']} ({session.server.told})"

    @contextmanager
    def _central(self, timeout: float = SOON) -> Iterator[Session]:
        url = structs.replace(self._url, path=CENTRAL)
        session = open_session(url, self._target, timeout=timeout, reading=False)
        try:
            yield session
        finally:
            session.drop()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let what the driver raises be a failure of ours."""
        try:
            yield
        except pymysql.Error as error:
            signals.check()
            if number_of(error) in (0, 1040, 1045, 2002, 2003, 2006, 2013):
                raise unreachable(error, self._target) from None
            told = Place(target=self._target, timeout=SOON, database=self._name, blockers=lambda: "")
            raise translated(error, told, "", writing=True, broken=False) from error


class _Keeper(MySQLWriter):
    """A session in another database, which locks this one by its name."""

    lock_name = ""

    def _lock_name(self) -> str:
        return self.lock_name


def _created(name: str, facts: Mapping[str, str]) -> str:
    return f"create database {ident(name)}{_sorting(facts)}"


def _sorting(facts: Mapping[str, str]) -> str:
    charset, collation = facts.get("charset", ""), facts.get("collation", "")
    if not (re.fullmatch(r"\w+", charset) and re.fullmatch(r"\w+", collation)):
        return ""
    return f" character set {charset} collate {collation}"


def _pairs(tables: Sequence[str], here: str, there: str) -> list[str]:
    return [f"{ident(here)}.{ident(name)} to {ident(there)}.{ident(name)}" for name in tables]


def _renames(tables: Sequence[str], here: str, there: str) -> str:
    return f"rename table {', '.join(_pairs(tables, here, there))}" if tables else "select 'no tables'"


def _refuse_newer(dump: Dump, session: Session, target: str) -> None:
    made = server_of(dump.facts.get("server", session.server.told), target)
    here = session.server
    if made.product != here.product or made.version[:2] > here.version[:2]:
        raise RestoreFailedError(
            target=target,
            reason=f"it was made of {made.product} {made.told}, and this server is {here.product} {here.told}",
            instead=f"A server of {made.product} of that version or later takes it.",
        )
