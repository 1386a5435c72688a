"""A database on a server as a restore sees it: it may be missing, and whoever uses it is in the way.

Where this role may, a restore goes into a new database beside the old one, is proven there, and then the two change
names; the old one stays, closed, until the next restore. Else it goes into the database as it is, in one transaction.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import psycopg
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract import Approach, Dump, Kept, Loaded, Proof, Tried
from dbctl.engines.postgresql.backup import database_properties, partial
from dbctl.engines.postgresql.backup.database_properties import Properties
from dbctl.engines.postgresql.backup.dump_scanner import Reading, into_schemas
from dbctl.engines.postgresql.backup.empty_schemas import AGAIN, counted, emptied
from dbctl.engines.postgresql.backup.foreign import as_scratch_role, scratch_role
from dbctl.engines.postgresql.backup.load import UNTOUCHED, Psql, feed, holding, major
from dbctl.engines.postgresql.backup.names import KEPT, NEW, beside, new_ones
from dbctl.engines.postgresql.backup.rename_swap import exchange, renames, sessions, swap
from dbctl.engines.postgresql.errors import Place, translated, unreachable
from dbctl.engines.postgresql.locks import key_of
from dbctl.engines.postgresql.reader import SOON, PostgreSQLReader
from dbctl.engines.postgresql.schema import PUBLIC, scope, scope_of
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.writer import PostgreSQLWriter
from dbctl.engines.sql import differing, digests, ident
from dbctl.errors import (
    DbctlError,
    DumpOverreachesError,
    ForeignDumpRefusedError,
    KeptMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    RestoreFailedError,
    UnreachableError,
)
from dbctl.files import Progress, at_once, silent
from dbctl.url import Url

#: Databases that every server has, to be connected to while another one is renamed.
CENTRAL = ("postgres", "template1")
#: What every new database is made from.
TEMPLATES = ("template0", "template1")
RIGHTS = b"""select current_user::text, rolsuper or rolcreatedb,
  rolsuper or coalesce((select pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') from pg_catalog.pg_database d where d.datname = $1), true)
from pg_catalog.pg_roles where rolname = current_user"""
#: What restores and trials leave when they are killed: databases, and the roles that loaded them.
LEFT = b"""select datname::text from pg_catalog.pg_database where datname ~ $1
union select rolname::text from pg_catalog.pg_roles where rolname ~ $1"""
UNTRUSTED = "Look at what it does. An extension that the server does not trust has to be in the live database already."
#: The database and its oldest table: what is emptied and filled again has new ones.
FIRST = """select (select oid from pg_catalog.pg_database where datname = current_database()), min(c.oid)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
and $1::text in ('', n.nspname::text) and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')"""
#: What is about to be replaced, and may be written until then; of one schema, or of all.
WRITTEN = b"""select format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and (n.nspname = $1 or $1 = '') and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by 1"""
#: Whatever somebody has put into a database; every new one holds what belongs to extensions of its template.
HELD = """select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'))
or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'))
or exists (select from pg_catalog.pg_largeobject_metadata)"""


class PostgreSQLOutside:
    """One database of a server."""

    loads = True

    def __init__(self, url: Url, target: str) -> None:
        self._url, self._target, self._name = url, target, url.path

    # What there is -------------------------------------------------------------------------------------------------

    def is_there(self) -> bool:
        try:
            with closing(open_session(self._url, self._target, timeout=SOON, reading=True)) as own:
                asked = own.asked_schema
                return not asked or bool(
                    own.execute(b"select to_regnamespace($1)", [ident(asked)]).fetchall()[0][0]
                )
        except psycopg.Error as error:
            with suppress(psycopg.Error), self._central() as central:
                if database_properties.of(central, self._name) is None:
                    return False
            raise unreachable(error, self._target) from None

    def identity(self) -> str:
        with self._told(), self._central() as central:
            told = database_properties.place(central)
        return f"{told.get('system', told['at'])}/{self._name}"

    def address(self, dump: Dump) -> str:
        schema = self._schema() or quote(dump.facts.get("schema", ""))
        return f"{self._url}?schema={schema}" if schema else str(self._url)

    def holds(self) -> bool:
        url = self._elsewhere(self._name)  # the whole database, which is what makes room
        with self._told(), self._open(url) as own:
            return own.execute(HELD.encode()).fetchall() == [(True,)]

    def files(self) -> Sequence[Path]:
        return ()  # they are the server's

    @contextmanager
    def still(self, dump: Dump, *, timeout: float) -> Iterator[Callable[[], None]]:
        """Hold up who would write what is replaced in place; what stays under another name keeps all that comes meanwhile.

        The lock is one of the very transaction that replaces their rows. It is on the tables that there are: what
        becomes of large objects and of tables that are made meanwhile is not in the copy.
        """
        with ExitStack() as held:
            go: Callable[[], None] = at_once
            with self._told():
                if self.approach(dump).way == "in place":
                    own = held.enter_context(self._open(self._url, timeout=timeout))
                    tables = [str(one) for (one,) in own.execute(WRITTEN, [scope_of(own)]).fetchall()]
                    go = held.enter_context(
                        holding(tables, own, self._name, self._target, dump.facts, timeout=timeout)
                    )
            yield go

    def want_room(self, need: int) -> None:
        """Look at nothing: a server does not tell how much room it has."""

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        """Lock the database, and the name of it in another one, so that it holds where the database is missing."""
        with ExitStack() as held:
            central = self._central_url()
            if central is not None:
                keeper = held.enter_context(closing(_Keeper(central, self._target, timeout=timeout)))
                keeper.key = key_of(f"{self._name}/{self._schema()}")
                held.enter_context(keeper.lock(purpose))
                keeper.wait_for(exchange(self._name))
            if central is None or self.is_there():
                own = held.enter_context(closing(PostgreSQLWriter(self._url, self._target, timeout=timeout)))
                held.enter_context(own.lock(purpose))
            yield

    def approach(self, dump: Dump) -> Approach:
        if self._name in TEMPLATES:
            raise NotSupportedError(
                what="bringing a backup back",
                by=f"{self._target}, which new databases are made from",
                instead="Nothing was changed. Name a database of your own.",
            )
        if dump.form != "kept":
            self._want_schema(dump)
        with self._told():
            central_url = self._central_url()
            if central_url is None:
                return self._in_place(dump, "no other database of its server can be connected to")
            with self._open(central_url) as central:
                return self._approach(central, dump)

    def _approach(self, central: Session, dump: Dump) -> Approach:
        live, where = database_properties.of(central, self._name), _where(central, self._name)
        ((user, creates, owns),) = central.execute(RIGHTS, [self._name]).fetchall()
        held = sessions(central, self._name)
        ended = [f"end the sessions of {self._name} ({len(held)}): {', '.join(held)}"] if held else []
        if dump.form == "kept":
            _kept_one(central, dump, self._target)
            steps = [f"let {dump.facts['kept']} take the name of {where}", *ended]
            return Approach(way="swapped", keeps=True, steps=steps)
        _refuse_newer(dump, central, self._target)
        if dump.foreign:
            scratch_role.require_rights(central, self._target)
        other = _of_another(central, dump)
        if live is None:
            if not creates:
                raise _may_not_create(self._target, str(user))
            return Approach(way="new", steps=[f"make {where} anew", *other])
        asked = self._scope(central)
        if asked:
            return self._in_place(dump, f"what is not in its schema {asked} is not replaced")
        if not (creates and owns):
            missing = f"ALTER ROLE {ident(str(user))} CREATEDB" if owns else f"its owner is {live.owner}"
            return self._in_place(dump, f"{user} may not rename it ({missing})")
        steps = [f"load into a new database beside {where}, prove it there, and let the two change names"]
        return Approach(way="swapped", keeps=True, steps=[*steps, *ended, *other])

    def _in_place(self, dump: Dump, why: str) -> Approach:
        if dump.foreign:
            raise ForeignDumpRefusedError(
                target=self._target,
                reason=f"that needs a database of its own, while here {why}",
                instead="restore apply --to NEW-DATABASE loads it beside; --table NAME --merge missing takes its rows.",
            )
        with self._open(self._url) as own:
            _refuse_newer(dump, own, self._target)
            where, other = _where(own, self._name), _of_another(own, dump)
        steps = [f"empty {where} and fill it in one transaction, for which everybody else waits: {why}"]
        return Approach(way="in place", steps=[*steps, *other])

    def kept(self, stamp: str) -> Kept:
        with self._told(), self._central() as central:
            live = database_properties.of(central, self._name)
            if live is None:
                raise KeptMissingError(target=self._target, name=self._name)
            name = beside(self._name, f"{KEPT}{stamp}")
            facts = {**live.facts(), **database_properties.place(central), "kept": name}
        aside = ident(beside(self._name, "_aside"))
        note = (
            f"-- {self._target} as it was when a restore replaced it is the database {name} of its server, until the\n"
            "-- next restore. dbctl restore undo brings it back; by hand, in another database and with nobody connected:\n"
            f"begin;\nalter database {ident(self._name)} rename to {aside};\n"
            f"alter database {ident(name)} rename to {ident(self._name)};\n"
            f"alter database {ident(self._name)} allow_connections true;\ncommit;\n"
        )
        return Kept(facts=facts, note=note)

    def find_missing(self, kept: Sequence[Dump]) -> Sequence[str]:
        with self._told(), self._central() as central:
            there = set(central.execute(b"select datname, oid::text from pg_catalog.pg_database").fetchall())
        names = [(dump.facts["kept"], dump.facts["oid"]) for dump in kept]
        return [name for name, oid in names if (name, oid) not in there]

    def standing(self) -> Mapping[str, str]:
        asked = unquote(self._schema())
        with self._told(), self._open(self._url) as own:
            ((database, table),) = own.execute(FIRST.encode(), [asked]).fetchall()
        return {"database_oid": str(database), "table_oid": str(table)} if table else {}

    # Bringing back -------------------------------------------------------------------------------------------------

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
        del spare  # a dump is read
        with self._told():
            if dump.form == "kept":
                return self._bring_back(dump, keep.get("kept", ""), timeout)
            approach = self.approach(dump)
            if approach.way == "in place":
                return self._fill(path, dump, timeout, progress, let_go if isinstance(let_go, Psql) else None)
            return self._exchange(path, dump, keep.get("kept", ""), timeout, progress)

    def _fill(
        self, path: Path, dump: Dump, timeout: float, progress: Progress, within: Psql | None
    ) -> Loaded:
        """Replace what the database holds, in one transaction: that which holds everybody up, where one does."""
        with self._open(self._url, timeout=timeout) as own:
            _refuse_newer(dump, own, self._target)
            schema = scope_of(own)
            feed(
                path,
                dump.facts,
                own,
                self._name,
                self._target,
                tables=dump.tables,
                timeout=timeout,
                within=within,
                head=emptied(schema),
                change=into_schemas,
                tail=_behind,
                progress=progress,
                lasting=True,
            )
            with signals.unheard():
                return Loaded(way="in place", remarks=_analyzed(own))

    def _exchange(self, path: Path, dump: Dump, keep: str, timeout: float, progress: Progress) -> Loaded:
        """Load into a new database, prove it there, and let it take the name."""
        with self._central(timeout) as central, self._central(timeout) as other:
            _refuse_newer(dump, central, self._target)
            live = database_properties.of(central, self._name)
            like = live or structs.replace(_like(dump, self._name), name=self._name)
            remarks = list[str]()
            with self._made(central, like, dump, remarks, timeout) as url:
                new = url.path
                _give_settings(central, new, like)
                self._load(central, url, path, dump, timeout, progress, remarks)
                if dump.foreign:
                    remarks += self._hand_over(central, new, live=live is not None)
                    owner = ident(like.owner or central.info.user)
                    central.execute(f"alter database {ident(new)} owner to {owner}".encode())
                database_properties.give(central, new, like)
                found = database_properties.of(central, new)
                lacks = database_properties.differing(like, found) if found else ["everything"]
                # Of a foreign dump most properties are unknown, and those of the server's roles may be missing.
                known = [name for name, text in like.lasting().items() if text]
                optional = ("comment", "grants", "settings")
                lacks = [name for name in lacks if live or (name in known and name not in optional)]
                if lacks:
                    raise RestoreFailedError(
                        target=self._target,
                        reason=f"a new database cannot be made like it: {', '.join(lacks)}",
                        instead=UNTOUCHED,
                    )
                away = keep or beside(self._name, f"{NEW}{secrets.token_hex(4)}")
                statements = renames(self._name, new, away, is_there=live is not None)
                swap(central, other, statements, self._name, self._target, timeout=timeout)
            if not keep:
                with signals.unheard(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(away)}".encode())
        return Loaded(way="swapped" if live else "new", remarks=remarks)

    def _hand_over(self, central: Session, new: str, *, live: bool) -> list[str]:
        with ExitStack() as held:
            scratch = held.enter_context(self._by_catalogue(new))
            old = held.enter_context(self._by_catalogue(self._name)) if live else None
            return scratch_role.hand_over(central, scratch, old, new)

    def _bring_back(self, dump: Dump, keep: str, timeout: float) -> Loaded:
        """Let a database that was kept take its name again."""
        kept = dump.facts["kept"]
        with self._central(timeout) as central, self._central(timeout) as other:
            _kept_one(central, dump, self._target)
            live = database_properties.of(central, self._name)
            away = keep or beside(self._name, f"{NEW}{secrets.token_hex(4)}")
            statements = renames(self._name, kept, away, is_there=live is not None)
            swap(central, other, statements, self._name, self._target, timeout=timeout)
            if not keep:
                with signals.unheard(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(away)}".encode())
        return Loaded(way="swapped" if live else "new")

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self.tried(path, dump, timeout=timeout) as tried:
            yield tried.url

    @contextmanager
    def tried(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Tried]:
        """Give a database that a dump was loaded into, and that is dropped at the end, and tell what it holds."""
        with self._told(), self._central(timeout) as central:
            ((user, creates, _),) = central.execute(RIGHTS, [self._name]).fetchall()
            if not creates:
                raise _may_not_create(self._target, str(user))
            _refuse_newer(dump, central, self._target)
            if dump.foreign:
                scratch_role.require_rights(central, self._target)
            like, remarks = structs.replace(_like(dump, self._name), owner=""), list[str]()
            with self._made(central, like, dump, remarks, timeout) as url:
                new = url.path
                _give_settings(central, new, like)
                head = ""
                if dump.part:
                    with self._open(self._url) as live:
                        head = partial.needs(live)
                proof = self._load(central, url, path, dump, timeout, silent, remarks, head=head)
                yield Tried(url=url, proof=proof, remarks=remarks)

    def _load(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        *,
        head: str = "",
    ) -> Proof:
        """Load a dump into a new database, compare its rows, and let the server learn how they are distributed.

        All of that is done by the role of ``url``: of a foreign dump by a scratch role.
        """
        try:
            return self._loaded(central, url, path, dump, timeout, progress, remarks, head)
        except (PrivilegeMissingError, UnreachableError) as error:
            if not dump.foreign or central.broken:
                raise
            raise DumpOverreachesError(
                target=self._target, reason=error.facts["reason"], instead=UNTRUSTED
            ) from error

    def _loaded(
        self,
        central: Session,
        url: Url,
        path: Path,
        dump: Dump,
        timeout: float,
        progress: Progress,
        remarks: list[str],
        head: str,
    ) -> Proof:
        change = partial.unlinked if dump.part else iter
        with ExitStack() as held:
            session = held.enter_context(self._open(url, timeout=timeout)) if dump.foreign else central
            feed(
                path,
                dump.facts,
                session,
                url.path,
                self._target,
                tables=dump.tables,
                timeout=timeout,
                head=head,
                change=as_scratch_role(self._target, remarks, change) if dump.foreign else change,
                progress=progress,
                atomic=dump.foreign,
            )
        with closing(PostgreSQLReader(url, self._target, timeout=timeout)) as reader:
            counts = reader.count_dumped(dump.tables, path=dump.facts.get("path", ""))
            # A dump may leave out the rows of a table: on a standby, of one that is unlogged.
            found = {name: rows for name, rows in counts.items() if rows or name in dump.tables}
            fingerprint = reader.fingerprint()
            content = digests(reader, {name: dump.tables[name] for name in dump.digests})
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
        with closing(open_session(url, self._target, timeout=timeout, reading=False, made=True)) as own:
            _analyzed(own)
        return Proof(tables=found, schema=fingerprint, problems=(), digests=content)

    @contextmanager
    def _made(
        self, central: Session, like: Properties, dump: Dump, remarks: list[str], timeout: float
    ) -> Iterator[Url]:
        """Make a database, which is dropped at the end where it has not got another name meanwhile.

        Those that were left by a dbctl that was killed go, too: each is locked as long as somebody works on it. For a
        foreign dump it belongs to a scratch role of its name, which is dropped as well.
        """
        for (left,) in central.execute(LEFT, [new_ones(self._name)]).fetchall():
            taken = central.execute(b"select pg_try_advisory_lock($1)", [key_of(str(left))]).fetchall()
            if taken == [(True,)]:
                remarks += self._drop(central, str(left))
        name = beside(self._name, f"{NEW}{secrets.token_hex(4)}")
        central.execute(b"select pg_advisory_lock($1)", [key_of(name)])
        url = structs.replace(self._url, path=name)
        try:
            if dump.foreign:
                password = scratch_role.create_role(central, name)
                url, like = scratch_role.as_role(url, name, password), structs.replace(like, owner=name)
            central.execute(database_properties.created(name, like).encode())
            if dump.foreign:
                scratch_role.require_sign_in(url, self._target, timeout=timeout)
                with suppress(psycopg.Error, DbctlError), ExitStack() as held:  # there may be no live one
                    live = held.enter_context(self._by_catalogue(self._name))
                    scratch_role.install_extensions(live, held.enter_context(self._by_catalogue(name)))
            yield url
        finally:
            with signals.unheard(), suppress(psycopg.Error):
                remarks += self._drop(central, name)

    def _drop(self, central: Session, name: str) -> Sequence[str]:
        left = scratch_role.remove(central, self._by_catalogue, name)
        central.execute(b"select pg_advisory_unlock($1)", [key_of(name)])
        return left

    @contextmanager
    def _by_catalogue(self, name: str) -> Iterator[Session]:
        """Connect to a database in which a dump may have defined what has the name of something of the server's own."""
        with self._open(scratch_role.by_catalogue(self._elsewhere(name))) as session:
            yield session

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        pattern = f"^{re.escape(beside(self._name, KEPT))}(\\d{{8}}_\\d{{6}}|new_[0-9a-f]{{8}})$"
        remarks = []
        with self._told(), self._central() as central:
            for (left,) in central.execute(
                b"select datname from pg_catalog.pg_database where datname ~ $1 and datname <> $2 and not datallowconn",
                [pattern, keep.get("kept", "")],
            ).fetchall():
                try:
                    central.execute(f"drop database {ident(str(left))}".encode())
                except psycopg.Error as error:
                    why = error.diag.message_primary
                    remarks.append(f"{left}, which an earlier restore had kept, could not be dropped: {why}")
        return remarks

    # The way there -------------------------------------------------------------------------------------------------

    def _schema(self) -> str:
        found = re.search(r"(?:^|&)schema=([^&]*)", self._url.options)
        return found[1] if found else ""

    def _want_schema(self, dump: Dump) -> None:
        """Refuse to empty the schema that the URL names and then to fill another one.

        What was dumped whole is taken for ``public``, which stands for the whole until somebody else is there, too.
        """
        asked, held = unquote(self._schema()), dump.facts.get("schema", "")
        if asked and asked != (held or PUBLIC):
            raise NotSupportedError(
                what=f"bringing back {f'schema {held}' if held else 'a whole database'}",
                by=f"{self._target}, whose URL names schema {asked}",
                instead="Nothing was changed. A schema comes back under its own name alone: leave schema= out of the URL, and name another database.",
            )

    def _scope(self, central: Session) -> str:
        """Return the schema that alone is the app's, once it is known that both sessions are of one server."""
        with self._open(self._url) as own:
            here, there = database_properties.place(own), database_properties.place(central)
            if here.get("system") != there.get(
                "system"
            ):  # where a name stands for several, or behind a pooler
                raise RestoreFailedError(
                    target=self._target,
                    reason=f"two servers answer at its address: {here['at']} and {there['at']}",
                    instead="Give the address of one.",
                )
            return scope(own, own.asked_schema)

    def _elsewhere(self, name: str) -> Url:
        options = "&".join(
            one for one in self._url.options.split("&") if one and not one.startswith("schema=")
        )
        return structs.replace(self._url, path=name, options=options)

    def _central_url(self) -> Url | None:
        for name in CENTRAL:
            if name != self._name:
                url = self._elsewhere(name)
                with suppress(psycopg.Error):
                    open_session(url, self._target, timeout=SOON, reading=True).close()
                    return url
        return None

    @contextmanager
    def _central(self, timeout: float = SOON) -> Iterator[Session]:
        url = self._central_url() or self._elsewhere(CENTRAL[0])
        with self._open(url, timeout=timeout) as session:
            yield session

    @contextmanager
    def _open(self, url: Url, *, timeout: float = SOON) -> Iterator[Session]:
        with closing(open_session(url, self._target, timeout=timeout, reading=False)) as session:
            session.execute(b"set statement_timeout = 0")  # what the database or the role sets is for its app
            yield session

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let what the driver raises be a failure of ours."""
        try:
            yield
        except psycopg.Error as error:
            signals.check()
            if error.sqlstate is None:
                raise unreachable(error, self._target) from None
            place = Place(target=self._target, timeout=SOON, user=self._url.user, blockers=lambda _: "")
            raise translated(error, place, "", writing=True, broken=False) from error


class _Keeper(PostgreSQLWriter):
    """A session in another database, which locks this one by its name."""

    key = 0

    def _lock_key(self) -> int:
        return self.key

    def wait_for(self, key: int) -> None:
        """Wait until nobody has another lock.

        Raises:
            BusyError: somebody had it for too long.
        """
        self._wait_for_lock(
            lambda: self._rows("select pg_try_advisory_lock(:key)", {"key": key}) == [(True,)],
            lambda: f"{self._holder(key)}, a restore that was killed and has yet to end",
        )
        self._rows("select pg_advisory_unlock(:key)", {"key": key})


def _where(session: Session, name: str) -> str:
    told = database_properties.place(session)
    system = f", system {told['system']}" if "system" in told else ""
    return f"database {name} of the server at {told['at']} (PostgreSQL {major(told['server'])}{system})"


def _may_not_create(target: str, user: str) -> PrivilegeMissingError:
    return PrivilegeMissingError(
        target=target,
        reason=f"role {user} may not create databases",
        instead=f"Nothing was changed. As a superuser: ALTER ROLE {ident(user)} CREATEDB;",
    )


def _kept_one(central: Session, dump: Dump, target: str) -> Properties:
    name = dump.facts["kept"]
    found = database_properties.of(central, name)
    if found is None or str(found.oid) != dump.facts["oid"]:
        raise KeptMissingError(target=target, name=name)
    return found


def _of_another(session: Session, dump: Dump) -> list[str]:
    """Return a remark on a dump of another server or database than the one that it goes into."""
    made, here = dump.facts.get("system", ""), database_properties.place(session).get("system", "")
    if made in ("", here) or not here:
        return []
    return [
        f"note that it is of another server: database {dump.facts['database']} at {dump.facts['at']}, system {made}"
    ]


def _refuse_newer(dump: Dump, session: Session, target: str) -> None:
    made, here = major(dump.facts.get("server", "")), session.info.server_version // 10000
    if made > here:
        raise RestoreFailedError(
            target=target,
            reason=f"it was made of PostgreSQL {made}, and this server is of version {here}",
            instead=f"A server of version {made} or later takes it.",
        )


def _give_settings(central: Session, new: str, like: Properties) -> None:
    """Give a new database the settings of another, as far as this role may.

    Some decide what the text of a dump means: where names are looked up, and how an amount of money is written.
    """
    for setting in like.settings:
        with suppress(psycopg.Error):
            database_properties.give(
                central, new, structs.replace(like, settings=[setting], grants=None, comment="")
            )


def _behind(reading: Reading) -> str:
    return "\n".join(
        [AGAIN, *(counted(schema, table, rows) for (schema, table), rows in reading.rows.items())]
    )


def _analyzed(session: Session) -> list[str]:
    try:
        session.execute(b"set statement_timeout = 0")
        session.execute(b"analyze")
    except psycopg.Error as error:
        return [f"how its rows are distributed could not be learned: {error.diag.message_primary}"]
    return []


def _like(dump: Dump, name: str) -> Properties:
    """Return what a new database is to be like; a foreign dump only says how its text is encoded and sorted."""
    facts = {"database": name, **dump.facts}
    if dump.foreign:
        kept = ("encoding", "collation", "ctype", "provider", "locale")
        facts = {"database": name, **{key: text for key, text in dump.facts.items() if key in kept}}
    return database_properties.from_facts(facts)
