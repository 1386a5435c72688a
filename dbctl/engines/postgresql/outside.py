"""A database on a server as a restore sees it: it may be missing, and whoever uses it is in the way.

Where this role may, a restore goes into a new database beside the old one, is proven there, and then the two change
names; the old one stays, closed, until the next restore. Else it goes into the database as it is, in one transaction.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
from msgspec import structs

from dbctl import interrupt
from dbctl.engines.dumps import Approach, Dump, Kept, Loaded, Progress, Proof, silent
from dbctl.engines.postgresql import property as properties
from dbctl.engines.postgresql.dumped import Reading, into_schemas, told
from dbctl.engines.postgresql.emptied import AGAIN, counted, emptied
from dbctl.engines.postgresql.failures import Place, translated, unreachable
from dbctl.engines.postgresql.property import Properties
from dbctl.engines.postgresql.reader import SOON, PostgreSQLReader
from dbctl.engines.postgresql.scope import scope, scope_of
from dbctl.engines.postgresql.session import LONGEST_NAME, Session, open_session
from dbctl.engines.postgresql.swap import renames, sessions, swap
from dbctl.engines.postgresql.undump import UNTOUCHED, feed, major
from dbctl.engines.postgresql.writer import PostgreSQLWriter
from dbctl.engines.sql import ident
from dbctl.errors import KeptMissingError, PrivilegeMissingError, RestoreFailedError
from dbctl.url import Url

#: Databases that every server has, to be connected to while another one is renamed.
CENTRAL = ("postgres", "template1")
RIGHTS = b"""select current_user::text, rolsuper or rolcreatedb,
  rolsuper or coalesce((select pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') from pg_catalog.pg_database d where d.datname = $1), true)
from pg_catalog.pg_roles where rolname = current_user"""
#: What a dump holds rows of; what belongs to an extension is there only where the dump says so.
TABLES = """select n.nspname, c.relname, exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
order by 1, 2"""
KEPT, NEW = "_dbctl_", "_dbctl_new_"


class PostgreSQLOutside:
    """One database of a server."""

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
                if properties.of(central, self._name) is None:
                    return False
            raise unreachable(error, self._target) from None

    def files(self) -> Sequence[Path]:
        return ()  # they are the server's

    def want_room(self, need: int) -> None:
        """Look at nothing: a server does not tell how much room it has."""

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        """Lock the database, and the name of it in another one, so that it holds where the database is missing."""
        with ExitStack() as held:
            central = self._central_url()
            if central is not None:
                keeper = held.enter_context(closing(_Keeper(central, self._target, timeout=timeout)))
                keeper.key = _key(f"{self._name}/{self._schema()}")
                held.enter_context(keeper.lock(purpose))
            if central is None or self.is_there():
                own = held.enter_context(closing(PostgreSQLWriter(self._url, self._target, timeout=timeout)))
                held.enter_context(own.lock(purpose))
            yield

    def approach(self, dump: Dump) -> Approach:
        with self._told():
            central_url = self._central_url()
            if central_url is None:
                return self._in_place(dump, "no other database of its server can be connected to")
            with self._open(central_url) as central:
                return self._approach(central, dump)

    def _approach(self, central: Session, dump: Dump) -> Approach:
        live, where = properties.of(central, self._name), _where(central, self._name)
        ((user, creates, owns),) = central.execute(RIGHTS, [self._name]).fetchall()
        held = sessions(central, self._name)
        ended = [f"end the sessions of {self._name} ({len(held)}): {', '.join(held)}"] if held else []
        if dump.form == "kept":
            _kept_one(central, dump, self._target)
            steps = [f"let {dump.facts['kept']} take the name of {where}", *ended]
            return Approach(way="swapped", keeps=True, steps=steps)
        _refuse_newer(dump, central, self._target)
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
        with self._open(self._url) as own:
            _refuse_newer(dump, own, self._target)
            where, other = _where(own, self._name), _of_another(own, dump)
        steps = [f"empty {where} and fill it in one transaction, for which everybody else waits: {why}"]
        return Approach(way="in place", steps=[*steps, *other])

    def kept(self, stamp: str) -> Kept:
        with self._told(), self._central() as central:
            live = properties.of(central, self._name)
            if live is None:
                raise KeptMissingError(target=self._target, name=self._name)
            name = _beside(self._name, f"{KEPT}{stamp}")
            facts = {**live.facts(), **properties.place(central), "kept": name}
        aside = ident(_beside(self._name, "_aside"))
        note = (
            f"-- {self._target} as it was when a restore replaced it is the database {name} of its server, until the\n"
            "-- next restore. dbctl restore undo brings it back; by hand, in another database and with nobody connected:\n"
            f"begin;\nalter database {ident(self._name)} rename to {aside};\n"
            f"alter database {ident(name)} rename to {ident(self._name)};\n"
            f"alter database {ident(self._name)} allow_connections true;\ncommit;\n"
        )
        return Kept(facts=facts, note=note)

    # Bringing back -------------------------------------------------------------------------------------------------

    def load(
        self, path: Path, dump: Dump, *, timeout: float, keep: Mapping[str, str], progress: Progress
    ) -> Loaded:
        with self._told():
            if dump.form == "kept":
                return self._bring_back(dump, keep.get("kept", ""), timeout)
            approach = self.approach(dump)
            if approach.way == "in place":
                return self._fill(path, dump, timeout, progress)
            return self._exchange(path, dump, keep.get("kept", ""), timeout, progress)

    def _fill(self, path: Path, dump: Dump, timeout: float, progress: Progress) -> Loaded:
        """Replace what the database holds, in one transaction."""
        with self._open(self._url, timeout=timeout) as own:
            _refuse_newer(dump, own, self._target)
            schema = scope_of(own)
            if schema and dump.facts.get("schema") not in ("", schema):
                raise RestoreFailedError(
                    target=self._target,
                    reason=f"it holds the schema {dump.facts['schema']}",
                    instead=UNTOUCHED,
                )
            feed(
                path,
                dump.facts,
                own,
                self._name,
                self._target,
                tables=dump.tables,
                timeout=timeout,
                head=emptied(schema),
                change=into_schemas,
                tail=_behind,
                progress=progress,
                lasting=True,
            )
            with interrupt.unheard():
                return Loaded(way="in place", remarks=_analyzed(own))

    def _exchange(self, path: Path, dump: Dump, keep: str, timeout: float, progress: Progress) -> Loaded:
        """Load into a new database, prove it there, and let it take the name."""
        with self._central(timeout) as central, self._central(timeout) as other:
            _refuse_newer(dump, central, self._target)
            live = properties.of(central, self._name)
            like = live or structs.replace(properties.from_facts(dump.facts), name=self._name)
            with self._made(central, like) as new:
                self._load(central, new, path, dump, timeout, progress)
                properties.give(central, new, like)
                found = properties.of(central, new)
                lacks = properties.differing(like, found) if found else ["everything"]
                lacks = [name for name in lacks if live or name not in ("comment", "grants", "settings")]
                if lacks:
                    raise RestoreFailedError(
                        target=self._target,
                        reason=f"a new database cannot be made like it: {', '.join(lacks)}",
                        instead=UNTOUCHED,
                    )
                away = keep or _beside(self._name, f"{NEW}{secrets.token_hex(4)}")
                statements = renames(self._name, new, away, is_there=live is not None)
                swap(central, other, statements, self._name, self._target, timeout=timeout)
            if not keep:
                with interrupt.unheard(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(away)}".encode())
        return Loaded(way="swapped" if live else "new")

    def _bring_back(self, dump: Dump, keep: str, timeout: float) -> Loaded:
        """Let a database that was kept take its name again."""
        kept = dump.facts["kept"]
        with self._central(timeout) as central, self._central(timeout) as other:
            _kept_one(central, dump, self._target)
            live = properties.of(central, self._name)
            away = keep or _beside(self._name, f"{NEW}{secrets.token_hex(4)}")
            statements = renames(self._name, kept, away, is_there=live is not None)
            swap(central, other, statements, self._name, self._target, timeout=timeout)
            if not keep:
                with interrupt.unheard(), suppress(psycopg.Error):
                    central.execute(f"drop database if exists {ident(away)}".encode())
        return Loaded(way="swapped" if live else "new")

    def trial(self, path: Path, dump: Dump, *, timeout: float) -> Proof:
        """Load a dump into a database that is dropped again, and tell what it holds there."""
        with self._tried(path, dump, timeout) as (_, proof):
            return proof

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self._tried(path, dump, timeout) as (name, _):
            yield structs.replace(self._url, path=name)

    @contextmanager
    def _tried(self, path: Path, dump: Dump, timeout: float) -> Iterator[tuple[str, Proof]]:
        with self._told(), self._central(timeout) as central:
            ((user, creates, _),) = central.execute(RIGHTS, [self._name]).fetchall()
            if not creates:
                raise _may_not_create(self._target, str(user))
            _refuse_newer(dump, central, self._target)
            like = structs.replace(properties.from_facts({"database": self._name, **dump.facts}), owner="")
            with self._made(central, like) as new:
                for setting in like.settings:  # one of them may say where a name is looked for
                    with suppress(psycopg.Error):
                        own = structs.replace(like, settings=[setting], grants=None, comment="")
                        properties.give(central, new, own)
                yield new, self._load(central, new, path, dump, timeout, silent)

    def _load(
        self, central: Session, new: str, path: Path, dump: Dump, timeout: float, progress: Progress
    ) -> Proof:
        """Load a dump into a new database, compare its rows, and let the server learn how they are distributed."""
        feed(
            path,
            dump.facts,
            central,
            new,
            self._target,
            tables=dump.tables,
            timeout=timeout,
            progress=progress,
        )
        url = structs.replace(self._url, path=new)
        with closing(PostgreSQLReader(url, self._target, timeout=timeout)) as reader:
            rows = {
                (str(schema), str(table)): 0
                for schema, table, extra in reader.query(TABLES)
                if not extra or f"{schema}.{table}" in dump.tables
            }
            for schema, table in rows:
                ((number,),) = reader.query(f"select count(*) from {ident(schema)}.{ident(table)}")  # noqa: S608 - quoted
                rows[schema, table] = int(str(number))
            fingerprint = reader.fingerprint()
        found = told(rows, dump.facts.get("path", ""))
        if found != dict(dump.tables):
            names = sorted(
                name for name in {*found, *dump.tables} if found.get(name) != dump.tables.get(name)
            )
            raise RestoreFailedError(
                target=self._target,
                reason=f"loaded, other rows are in {', '.join(names)} than the dump holds",
                instead=UNTOUCHED,
            )
        with closing(open_session(url, self._target, timeout=timeout, reading=False, made=True)) as own:
            _analyzed(own)
        return Proof(tables=found, schema=fingerprint, problems=())

    @contextmanager
    def _made(self, central: Session, like: Properties) -> Iterator[str]:
        """Make a database, which is dropped at the end where it has not got another name meanwhile.

        Those that were left by a dbctl that was killed go, too: each is locked as long as somebody works on it.
        """
        pattern = f"^{re.escape(_beside(self._name, NEW))}[0-9a-f]{{8}}$"
        for (left,) in central.execute(
            b"select datname from pg_catalog.pg_database where datname ~ $1", [pattern]
        ).fetchall():
            if central.execute(b"select pg_try_advisory_lock($1)", [_key(str(left))]).fetchall() == [(True,)]:
                _drop(central, str(left))
        name = _beside(self._name, f"{NEW}{secrets.token_hex(4)}")
        central.execute(b"select pg_advisory_lock($1)", [_key(name)])
        try:
            central.execute(properties.created(name, like).encode())
            yield name
        finally:
            with interrupt.unheard(), suppress(psycopg.Error):
                _drop(central, name)

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        pattern = f"^{re.escape(_beside(self._name, KEPT))}(\\d{{8}}_\\d{{6}}|new_[0-9a-f]{{8}})$"
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

    def _scope(self, central: Session) -> str:
        """Return the schema that alone is the app's, once it is known that both sessions are of one server."""
        with self._open(self._url) as own:
            here, there = properties.place(own), properties.place(central)
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
            yield session

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let what the driver raises be a failure of ours."""
        try:
            yield
        except psycopg.Error as error:
            interrupt.check()
            if error.sqlstate is None:
                raise unreachable(error, self._target) from None
            place = Place(target=self._target, timeout=SOON, user=self._url.user, blockers=lambda _: "")
            raise translated(error, place, "", writing=True, broken=False) from error


class _Keeper(PostgreSQLWriter):
    """A session in another database, which locks this one by its name."""

    key = 0

    def _lock_key(self) -> int:
        return self.key


def _key(name: str) -> int:
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _beside(name: str, suffix: str) -> str:
    """Return a name that goes with another one, in as many bytes as a server keeps."""
    room = LONGEST_NAME - len(f"{KEPT}YYYYMMDD_HHMMSS")
    if len(name.encode()) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: room - 9].decode(errors='ignore')}_{digest}"
    return f"{name}{suffix}"


def _where(session: Session, name: str) -> str:
    told = properties.place(session)
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
    found = properties.of(central, name)
    if found is None or str(found.oid) != dump.facts["oid"]:
        raise KeptMissingError(target=target, name=name)
    return found


def _of_another(session: Session, dump: Dump) -> list[str]:
    """Return a remark on a dump of another server or database than the one that it goes into."""
    made, here = dump.facts.get("system", ""), properties.place(session).get("system", "")
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


def _drop(central: Session, name: str) -> None:
    central.execute(f"drop database if exists {ident(name)} with (force)".encode())
    central.execute(b"select pg_advisory_unlock($1)", [_key(name)])
