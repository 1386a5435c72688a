"""What an admin should know of a PostgreSQL server: each look is one question, and what its answer means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs

from dbctl.engines.contract import Concern, Look, answered, left_behind
from dbctl.engines.postgresql.catalog import LEFT, SHOWN
from dbctl.engines.postgresql.monitoring.checks import PostgreSQLFlaws
from dbctl.engines.postgresql.monitoring.settings import PostgreSQLTuning
from dbctl.engines.sql import ident
from dbctl.model import Severity, counted
from dbctl.url import Url

#: The oldest and the newest version that dbctl is tried with.
OLDEST, NEWEST = 14, 18
#: The size from which WAL that a slot keeps is worth a word, in bytes.
KEPT = 1 << 30
_FROM = "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"


LOOKS = (
    Look(
        severity="warning",
        code="idle-in-transaction",
        sql="""select pid::text, coalesce(nullif(application_name, ''), 'a program'), coalesce(usename, ''),
  (extract(epoch from clock_timestamp() - xact_start) / 60)::int8
from pg_catalog.pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
  and xact_start < clock_timestamp() - interval '10 minutes'""",
        message="{1} (pid {0}, user {2}) has had a transaction open for {3} minutes and does nothing: its locks stay, and no dead row since can be cleared away",
        hint="SELECT pg_terminate_backend({0});",
    ),
    Look(
        severity="warning",
        code="prepared-transaction",
        sql="""select gid, (extract(epoch from clock_timestamp() - prepared) / 60)::int8, quote_literal(gid)
from pg_catalog.pg_prepared_xacts where database = current_database() and prepared < clock_timestamp() - interval '10 minutes'""",
        message="transaction {0} was prepared {1} minutes ago and neither committed nor rolled back: its locks stay, also after a restart",
        hint="ROLLBACK PREPARED {2};",
    ),
    Look(
        severity="error",
        code="wraparound",
        sql="""select greatest(age(datfrozenxid), mxid_age(datminmxid))::text from pg_catalog.pg_database
where datname = current_database() and greatest(age(datfrozenxid), mxid_age(datminmxid)) >= 1500000000""",
        message="the oldest row is {0} transactions old: at about 2100000000 the server takes no more writes",
        hint="VACUUM (FREEZE);",
    ),
    Look(
        severity="warning",
        code="wraparound",
        sql="""select greatest(age(datfrozenxid), mxid_age(datminmxid))::text from pg_catalog.pg_database
where datname = current_database() and greatest(age(datfrozenxid), mxid_age(datminmxid)) < 1500000000
  and greatest(age(datfrozenxid), mxid_age(datminmxid)) >= greatest(500000000, 2 * current_setting('autovacuum_freeze_max_age')::int8)""",
        message="the oldest row is {0} transactions old: autovacuum does not get to it, and at about 2100000000 the server takes no more writes",
        hint="VACUUM (FREEZE);",
    ),
    Look(
        severity="warning",
        code="index-invalid",
        sql=f"""select i.relname, c.relname, case when {LEFT} then 'DROP INDEX CONCURRENTLY' else 'REINDEX INDEX CONCURRENTLY' end,
  quote_ident(s.nspname) || '.' || quote_ident(i.relname) {_FROM}
  join pg_catalog.pg_index x on x.indrelid = c.oid and not (x.indisvalid and x.indisready)
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {SHOWN} order by 2, 1""",
        message="index {0} of {1} was never finished: it is written and never read, and keeps nothing unique",
        hint="{2} {3};",
    ),
    Look(
        severity="warning",
        code="unlogged",
        sql=f"""select c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) {_FROM}
where {SHOWN} and c.relkind = 'r' and c.relpersistence = 'u' order by 1""",
        message="table {0} is unlogged: after a crash of the server it is empty, and no standby has it",
        hint="ALTER TABLE {1} SET LOGGED;",
    ),
    Look(
        severity="warning",
        code="replication-slot",
        sql=f"""select slot_name::text, pg_size_pretty(kept), quote_literal(slot_name)
from (select slot_name, pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
    restart_lsn) as kept from pg_catalog.pg_replication_slots where not active) s where kept >= {KEPT}""",  # noqa: S608 - as above
        message="nobody reads replication slot {0}, and the server keeps {1} of WAL for it, until the disk is full",
        hint="SELECT pg_drop_replication_slot({2});",
    ),
    Look(
        severity="warning",
        code="connections-full",
        sql="""select used::text, most::text from (select count(*) as used,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as most
  from pg_catalog.pg_stat_activity where backend_type = 'client backend') c where used > 0.8 * most""",
        message="{0} of the {1} connections that the server takes are in use; beyond them nobody gets in",
        hint="SELECT application_name, usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;",
    ),
    Look(
        severity="error",
        code="unsafe-setting",
        sql="select name from pg_catalog.pg_settings where name in ('fsync', 'full_page_writes') and setting = 'off' order by name",
        message="{0} is off: after a crash of the machine the whole server may be damaged",
        hint="ALTER SYSTEM SET {0} = on; SELECT pg_reload_conf();",
    ),
    Look(
        severity="warning",
        code="autovacuum-off",
        sql="select name from pg_catalog.pg_settings where name in ('autovacuum', 'track_counts') and setting = 'off' order by name",
        message="{0} is off: dead rows stay until somebody clears them away, and in the end the server takes no more writes",
        hint="ALTER SYSTEM SET {0} = on; SELECT pg_reload_conf();",
    ),
    Look(
        severity="info",
        code="restart-pending",
        sql="select string_agg(name, ', ' order by name) from pg_catalog.pg_settings where pending_restart having count(*) > 0",
        message="set, and waiting for a restart of the server: {0}",
    ),
    Look(
        severity="info",
        code="superuser",
        sql="select current_user where (select rolsuper from pg_catalog.pg_roles where rolname = current_user)",
        message="dbctl signs in as {0}, a superuser: whoever gets its password has the whole server, and its machine with it",
    ),
)
#: For writing only: a standby takes none.
STANDBY = "select 1 where pg_is_in_recovery()"
VERSION = "select current_setting('server_version_num')::int / 10000, current_setting('server_version')"
#: Whether this connection is encrypted, and leaves the machine: one through a socket has no address.
ENCRYPTED = """select s.ssl, a.client_addr is not null and a.client_addr <> inet_server_addr()
  and not (a.client_addr <<= '127.0.0.0/8' or a.client_addr = '::1')
from pg_catalog.pg_stat_activity a join pg_catalog.pg_stat_ssl s on s.pid = a.pid where a.pid = pg_backend_pid()"""
RIGHTS = f"""select n.nspname, c.relname, array_remove(array[
    case when not has_table_privilege(c.oid, 'SELECT') then 'SELECT' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'INSERT') then 'INSERT' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'UPDATE') then 'UPDATE' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'DELETE') then 'DELETE' end], null),
  current_user {_FROM}
where {SHOWN} and c.relkind in ('r', 'p', 'm', 'f') order by 1, 2"""
SEQUENCES = f"""select distinct s.nspname, q.relname, array['USAGE'], current_user {_FROM}
  join pg_catalog.pg_depend e on e.refclassid = 'pg_catalog.pg_class'::regclass and e.refobjid = c.oid and e.deptype = 'a'
  join pg_catalog.pg_class q on q.oid = e.objid and q.relkind = 'S' and e.classid = 'pg_catalog.pg_class'::regclass
  join pg_catalog.pg_namespace s on s.oid = q.relnamespace
where {SHOWN} and not case when q.relkind = 'S' then has_sequence_privilege(q.oid, 'USAGE') end order by 1, 2"""
#: Databases that a restore or a drill makes, and the keys of the advisory locks that are held, whatever database they are in.
#: Databases that were being loaded, and roles that have none any more.
BESIDE = """select datname::text, true from pg_catalog.pg_database where datname ~ :pattern
union all select rolname::text, false from pg_catalog.pg_roles r where rolname ~ :pattern
  and not exists (select from pg_catalog.pg_database d where d.datname = r.rolname) order by 1"""
LOCKED = """select (classid::int8 << 32) | objid::int8 from pg_catalog.pg_locks
where locktype = 'advisory' and objsubid = 1 and granted"""
VERIFYING = ("verify-full", "verify-ca")


class PostgreSQLAdvice(PostgreSQLFlaws, PostgreSQLTuning):
    """Capability.ADVISE, what it tells of the server and of this role."""

    @property
    @abstractmethod
    def url(self) -> Url:
        """Where the database is."""

    def concerns(self, *, writing: bool) -> Sequence[Concern]:
        return [
            *self._version(),
            *self._encryption(),
            *(self._standby() if writing else ()),
            *self._rights(writing=writing),
            *self.abandoned(),
            *(one for look in LOOKS for one in answered(look, self._fetch(look.sql, {}))),
        ]

    def abandoned(self) -> Sequence[Concern]:
        from dbctl.engines.postgresql import locks
        from dbctl.engines.postgresql.backup import new_ones

        found = self._fetch(BESIDE, {"pattern": new_ones(self.url.path)})
        held = {row[0] for row in self._fetch(LOCKED, {})} if found else set()
        left = [
            (str(name), bool(database)) for name, database in found if locks.key_of(str(name)) not in held
        ]
        return [
            left_behind(name, f"DROP DATABASE {ident(name)} WITH (FORCE);")
            if database
            else left_behind(name, f"DROP ROLE {ident(name)};", what="role")
            for name, database in left
        ]

    def _version(self) -> Iterator[Concern]:
        ((major, told),) = self._fetch(VERSION, {})
        if int(str(major)) < OLDEST:
            message = f"PostgreSQL {told} gets no more corrections, not of holes in its security either"
            hint = "Move to a newer one: pg_upgrade, or a dump that is loaded there."
            yield Concern(severity="warning", code="version-old", message=message, hint=hint)
        elif int(str(major)) > NEWEST:
            message = f"PostgreSQL {told} is newer than what this dbctl was tried with ({NEWEST})"
            yield Concern(severity="info", code="version-new", message=message)

    def _encryption(self) -> Iterator[Concern]:
        ((encrypted, far),) = self._fetch(ENCRYPTED, {})
        if far:
            asked = parse_qs(self.url.options).get("sslmode", [""])[0]
            yield from encryption(asked, encrypted=bool(encrypted))

    def _standby(self) -> Iterator[Concern]:
        if self._fetch(STANDBY, {}):
            message = "this server is a standby: nothing can be written here"
            hint = "Let the URL lead to the primary, or name both and end it with ?target_session_attrs=read-write"
            yield Concern(severity="warning", code="standby", message=message, hint=hint)

    def _rights(self, *, writing: bool) -> Iterator[Concern]:
        rows = self._fetch(RIGHTS, {"writing": writing})
        yield from _missing("TABLE", [row for row in rows if row[2]], whole=len(rows))
        if writing:
            found = self._fetch(SEQUENCES, {})
            yield from _missing("SEQUENCE", found, whole=0)


def _missing(kind: str, rows: Sequence[tuple[object, ...]], *, whole: int) -> Iterator[Concern]:
    """Yield which rights are missing, once for all things that lack the same ones."""
    lacking: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for schema, name, rights, _ in rows:
        told = tuple(map(str, rights)) if isinstance(rights, list) else ()
        lacking.setdefault(told, []).append((str(schema), str(name)))
    for told, things in lacking.items():
        user = str(rows[0][3])
        schemas = sorted({schema for schema, _ in things})
        of = ", ".join(f"{ident(schema)}.{ident(name)}" for schema, name in things)
        if len(things) == whole and len(schemas) == 1:
            of = f"ALL TABLES IN SCHEMA {ident(schemas[0])}"
        names = ", ".join(name for _, name in things)
        yield Concern(
            severity="warning",
            code="privilege-missing",
            message=f"role {user} lacks {', '.join(told)} on {counted(len(things), kind.lower())}: {names}",
            hint=f"GRANT {', '.join(told)} ON {'' if of.startswith('ALL') else kind + ' '}{of} TO {ident(user)};",
        )


def encryption(asked: str, *, encrypted: bool) -> Iterator[Concern]:
    """Yield what is wrong with a connection to another machine; ``asked`` is the ``sslmode`` of its URL."""
    if not encrypted:
        message = "the connection leaves this machine and is not encrypted: who listens reads every row, and what is signed in with"
        hint = "Switch ssl on at the server, and end the URL with ?sslmode=verify-full"
        yield Concern(severity="error", code="not-encrypted", message=message, hint=hint)
    elif asked not in VERIFYING:
        message = "the connection is encrypted, but nobody proves that it leads to the right server"
        hint = "End the URL with ?sslmode=verify-full (and &sslrootcert=FILE for an authority of your own)."
        severity: Severity = "info" if asked == "require" else "warning"
        yield Concern(severity=severity, code="server-not-proven", message=message, hint=hint)
