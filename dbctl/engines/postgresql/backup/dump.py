"""A database on a server copied by pg_dump, at one moment that this session shares with it, and read while it comes.

What pg_dump writes goes through here: a full disk is noticed here, a signal ends it, and the text of the dump is
followed to its end mark, rows counted, so that nothing has to be read a second time.
"""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import cast

from dbctl import signals
from dbctl.engines.contract import Dumped, Proof
from dbctl.engines.postgresql.backup import client_programs, database_properties
from dbctl.engines.postgresql.backup.dump_scanner import Reading, told
from dbctl.engines.postgresql.backup.limits import describe_losses
from dbctl.engines.postgresql.describe import PostgreSQLDescribes
from dbctl.engines.postgresql.schema import scope_of
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.types import UNDECLARED
from dbctl.engines.sql import Holds, digests, ident
from dbctl.errors import BusyError, ClientFailedError, DbctlError, NotSupportedError
from dbctl.files import LEVEL, Progress, packing, silent, subprocesses
from dbctl.model import now

#: Custom: pg_restore reads it, whole or in parts, on several connections at once. Plain: psql reads it.
FORMS: Mapping[str, str] = {"custom": ".dump", "plain": ".sql.gz"}
NOTHING = "No backup was made; earlier ones are as they were."
#: Dumps are compressed to a fraction of the rows; indexes are not in them, nor what every database holds.
PACKED, EMPTY = 4, 7 << 20
#: Nothing here waits for a lock.
SIZE = """select case when :scope = '' then greatest(0, pg_catalog.pg_database_size(current_database()) - :empty)
  else (select coalesce(sum(c.relpages::int8 * current_setting('block_size')::int8), 0)::int8 from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm', 't') and n.nspname = :scope) end"""
LARGE_OBJECTS = "select exists (select from pg_catalog.pg_largeobject_metadata)"
PARTS = """select n.nspname::text, c.relname::text from pg_catalog.pg_partition_tree(cast(:table as regclass)) t
join pg_catalog.pg_class c on c.oid = t.relid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where t.level > 0 order by 1, 2"""
PATH = b"select pg_catalog.current_schemas(false)"
#: The tables whose rows a dump holds. Of a table that belongs to an extension it holds those that meet a condition, if any.
TABLES = """select n.nspname::text, c.relname::text, e.objid is not null, coalesce(x.condition, '')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'
left join (select u.id, u.condition from pg_catalog.pg_extension p,
    unnest(p.extconfig, p.extcondition) u (id, condition)) x on x.id = c.oid
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  and :scope in ('', n.nspname::text)
order by 1, 2"""
#: Parent tables, of which a query reads the rows of child tables, too, and child tables, whose columns may change places.
INHERITING = """select c.relname::text from pg_catalog.pg_class c where c.relkind = 'r' and pg_catalog.pg_table_is_visible(c.oid)
  and c.oid in (select inhparent from pg_catalog.pg_inherits union select inhrelid from pg_catalog.pg_inherits)"""


class PostgreSQLDumps(PostgreSQLDescribes):
    """Capability.DUMP."""

    forms = FORMS
    parts = True
    packed = True
    target: str
    _timeout: float

    @abstractmethod
    def _current(self) -> Session:
        """Return the session."""

    @abstractmethod
    def _blockers(self, told: str, own: int) -> str:
        """Return who holds what was waited for."""

    @abstractmethod
    def _told(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Let what the driver raises be a failure of ours."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin a transaction that can write nothing, and end it without a trace."""

    def dump_size(self) -> int:
        rows = self._fetch(SIZE, {"scope": scope_of(self._current()), "empty": EMPTY})
        return cast("int", rows[0][0]) // PACKED

    def holds_up(self) -> bool:
        return False

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        form, session = form or "custom", self._current()
        server = session.info.server_version // 10000
        tool = client_programs.find("pg_dump", self.target, least=server)
        reader = client_programs.find("pg_restore", self.target, least=server) if form == "custom" else None
        expected = max(1, self.dump_size())
        with self._asking():
            ((snapshot,),) = self._fetch("select pg_export_snapshot()", {})
            taken, scope = now(), scope_of(session)
            with self._told(""):
                losses = [] if tables else describe_losses(session, scope, self.target)
            if form == "plain" and self._fetch(LARGE_OBJECTS, {}) == [(True,)]:
                raise NotSupportedError(
                    what="a plain dump of large objects",
                    by=self.target,
                    instead="Nothing was made. --format custom takes them.",
                )
            words = [
                f"--lock-wait-timeout={max(1, round(self._timeout * 1000))}",
                f"--snapshot={snapshot}",
                f"--format={form}",
                f"--compress={LEVEL if form == 'custom' else 0}",
            ]
            if session.settings.get("client_encoding") != UNDECLARED:
                words.append("--encoding=UTF8")
            words += [f"--schema={_quoted(scope)}"] if scope and not tables else []
            words += [
                f"--table={_quoted(schema)}.{_quoted(name)}" for schema, name in self._with_parts(tables)
            ]
            with (
                client_programs.at(session, session.info.dbname, tool) as (where, environment),
                subprocesses.new_file(destination) as file,
                subprocesses.running(
                    [str(tool.path), "--no-password", f"--dbname={where}", *words],
                    environment,
                    watch=client_programs.watch(session, environment, self.target, NOTHING),
                    writes=True,
                ) as client,
                through(reader, self.target) as reading,
                packing() if form == "plain" else nullcontext() as packed,
            ):
                # Of the same snapshot, while pg_dump connects and reads the catalogue for itself.
                schema = "" if tables else self.fingerprint()
                with self._told(PATH.decode()):  # the server may end this session, as any
                    facts = self._facts(session, scope)
                facts |= {"client": client_programs.version_of(tool.path), "format": form}
                facts |= {"remarks": "; ".join(losses)} if losses else {}
                written = 0
                for block in client.blocks():
                    reading.feed(block)
                    written += file.write(packed.feed(block) if packed else block)
                    progress(min(1.0, written / expected))
                if packed:
                    file.write(packed.rest())
                if client.finish():
                    error = client_programs.failed(
                        client, session, self.target, timeout=self._timeout, instead=NOTHING
                    )
                    raise self._named(error, session)
                if problem := reading.problem():
                    raise ClientFailedError(
                        target=self.target, program=tool.path.name, reason=problem, instead=NOTHING
                    )
                rows = told(reading.reading.rows, facts["path"])
                inheriting = {name for (name,) in self._fetch(INHERITING, {})}
                own = {name: number for name, number in rows.items() if name not in inheriting}
                content = digests(cast("Holds", self), own)
        progress(1.0)
        proof = Proof(tables=rows, schema=schema, problems=(), digests=content)
        return Dumped(taken_at=taken, facts=facts, proof=proof, sha256=file.sha256)

    def list_dumped(self) -> Collection[str]:
        with self._asking():
            return told(dict.fromkeys(self._conditions(), 0), self._path())

    def count_dumped(self, extra: Collection[str] = (), *, path: str = "") -> dict[str, int]:
        with self._asking():
            rows = dict[tuple[str, str], int]()
            for (schema, table), condition in self._conditions(extra).items():
                # Child tables have rows of their own.
                sql = f"select count(*) from only {ident(schema)}.{ident(table)} {condition}"  # noqa: S608 - as its extension says
                with self._told(sql):
                    ((number,),) = self._current().execute(sql.encode()).fetchall()
                rows[schema, table] = cast("int", number)
            return told(rows, path or self._path())

    def _conditions(self, extra: Collection[str] = ()) -> dict[tuple[str, str], str]:
        """Return the tables whose rows a dump holds, by schema and name, each with the condition that its rows meet."""
        found = cast(
            "list[tuple[str, str, bool, str]]", self._fetch(TABLES, {"scope": scope_of(self._current())})
        )
        return {
            (schema, table): condition
            for schema, table, of_extension, condition in found
            if not of_extension or f"{schema}.{table}" in extra or table in extra
        }

    def _path(self) -> str:
        return json.dumps(self._current().execute(PATH).fetchall()[0][0])

    def _with_parts(self, tables: Sequence[str]) -> list[tuple[str, str]]:
        """Return tables with the partitions that hold their rows, each by its schema."""
        schema, found = self._current().schema, list[tuple[str, str]]()
        for name in tables:
            rows = self._fetch(PARTS, {"table": f"{ident(schema)}.{ident(name)}"})
            found += [(schema, name), *cast("list[tuple[str, str]]", rows)]
        return found

    def _named(self, error: DbctlError, session: Session) -> DbctlError:
        """Name those who are waited for."""
        if not isinstance(error, BusyError):
            return error
        holder = self._blockers("", session.pgconn.backend_pid)
        return BusyError(target=self.target, holder=holder, waited=f"{self._timeout:g}")

    def _facts(self, session: Session, scope: str) -> dict[str, str]:
        own = database_properties.of(session, session.info.dbname)
        return {
            **(own.facts() if own else {}),
            **database_properties.place(session),
            "extensions": database_properties.extensions(session),
            "schema": scope,
            "path": self._path(),
        }


def _quoted(name: str) -> str:
    """Return a name as the patterns of pg_dump take it, which means this one alone."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def through(reader: client_programs.Tool | None, target: str) -> Iterator[Through]:
    """Give what reads a dump of the custom form by pg_restore, or, without one, its text as it is."""
    if reader is None:
        yield Through(None)
        return
    watch = subprocesses.Watch(target, NOTHING)
    with subprocesses.running(
        [str(reader.path), "--file=-"], {}, watch=watch, reads=True, writes=True
    ) as client:
        made = Through(client)
        try:
            yield made
        finally:
            made.end()


class Through:
    """What reads a dump while it is written."""

    def __init__(self, client: subprocesses.Client | None) -> None:
        self.reading, self._client, self._early = Reading(), client, False
        if client:
            self._thread = threading.Thread(target=self._follow, args=[client])
            with signals.held():  # threads have locks
                self._thread.start()

    def _follow(self, client: subprocesses.Client) -> None:
        for block in client.blocks(heard=False, watched=False):  # pg_dump is
            self.reading.feed(block)

    def feed(self, block: bytes) -> None:
        """Let the next piece of the dump through."""
        if self._client is None:
            self.reading.feed(block)
        elif not self._early:
            self._early = not self._client.write(block)

    def problem(self) -> str:
        """Return what is wrong with the dump, once all of it went through; empty: it is whole."""
        if self._client is not None:
            status = self._client.finish()
            with signals.held():
                self._thread.join()
            if status:
                said = self._client.complaint().splitlines() or [f"it ended with {status}"]
                return f"pg_restore cannot read it: {said[0].rpartition('error: ')[2]}"
        return "" if self.reading.whole and not self._early else "its end is missing"

    def end(self) -> None:
        """Let nothing run on."""
        if self._client is not None:
            self._client.kill()
            with signals.held():
                self._thread.join()
