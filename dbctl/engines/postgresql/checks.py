"""Checks of the stored data, of the server and of the rights of the role, and settings compared with required values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from typing import TypeAlias, cast
from urllib.parse import parse_qs

from dbctl.engines.contract.checks import (
    EngineFinding,
    FindingQuery,
    IndexDamage,
    OrphanedRows,
    SettingComparison,
    leftover_finding,
)
from dbctl.engines.postgresql.catalog import (
    IN_TABLES,
    IS_SPECIAL,
    LEFTOVER_INDEX,
    OWN_COLUMNS,
    REFERENCED_COLUMNS,
    RELATIONS,
    VISIBLE,
    quoted,
)
from dbctl.engines.postgresql.connection import DbctlLock, lock_key
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.errors import is_about_data, is_too_long
from dbctl.engines.postgresql.sessions import LEFTOVERS, SchemaAdvice
from dbctl.engines.servers.database import LOCK_MISSING, ForeignKey, ServerChecks, find_problems
from dbctl.engines.servers.dumps import scratch_name_pattern
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.errors.connection import CorruptError, PrivilegeMissingError, QueryFailedError
from dbctl.model import Severity, format_count

SETTINGS = """select name, setting, coalesce(unit, ''), vartype, context, pending_restart, current_setting(name)
from pg_catalog.pg_settings where name = any(:names)"""
#: The value of each unit in bytes or milliseconds.
SIZES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TIMES = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*")
#: Sizes of which -1 is no limit; of others it means that the server chooses.
_UNLIMITED = frozenset(
    {
        "max_slot_wal_keep_size",
        "temp_file_limit",
        "log_parameter_max_length",
        "log_parameter_max_length_on_error",
    }
)
_YES = ("on", "true", "yes", "1")


def _is_satisfied(name: str, setting: str, unit: str, kind: str, required: str) -> bool:
    """Return whether a setting satisfies a requirement: sizes and whole numbers are minimums, other values must be equal."""
    if name in _UNLIMITED and setting == "-1":
        return True
    if kind == "bool":
        return (setting.lower() in _YES) == (required.lower() in _YES)
    if kind in ("integer", "real"):
        actual, minimum = _parse_amount(setting, unit), _parse_amount(required, unit)
        if actual is None or minimum is None:
            return setting == required
        is_minimum = kind == "integer" and unit not in TIMES
        return actual >= minimum if is_minimum else isclose(actual, minimum)
    return setting.lower() == required.lower()


def _parse_amount(text: str, base: str) -> float | None:
    """Return bytes, milliseconds or a plain number; without a unit, ``base`` is the unit, such as ``8kB``."""
    match, base_match = _AMOUNT.fullmatch(text), _AMOUNT.fullmatch(base if base[:1].isdigit() else f"1{base}")
    if match is None or base_match is None:  # -1 means that the server chooses
        return None
    units = {**SIZES, **TIMES, "": 1}
    if match[2] not in units or base_match[2] not in units:
        return None
    factor = units[match[2]] if match[2] else float(base_match[1]) * units[base_match[2]]
    return float(match[1]) * factor


#: The oldest and the newest version that dbctl is tested with.
OLDEST, NEWEST = 14, 18
#: The size of retained WAL, in bytes, from which a replication slot is reported.
RETAINED_WAL = 1 << 30


_VERSION = "select current_setting('server_version') where current_setting('server_version_num')::int / 10000"
VERSION_CHECKS = (
    FindingQuery(
        severity="warning",
        code="version-old",
        sql=f"{_VERSION} < {OLDEST}",
        message="PostgreSQL {0} no longer gets updates, including security fixes",
        hint="Upgrade with pg_upgrade, or restore a dump on a newer server.",
    ),
    FindingQuery(
        severity="info",
        code="version-new",
        sql=f"{_VERSION} > {NEWEST}",
        message=f"PostgreSQL {{0}} is newer than the versions that this dbctl is tested with (up to {NEWEST})",
    ),
)
SERVER_CHECKS = (
    FindingQuery(
        severity="warning",
        code="idle-in-transaction",
        sql="""select pid::text, coalesce(nullif(application_name, ''), 'a program'), coalesce(usename, ''),
  (extract(epoch from clock_timestamp() - xact_start) / 60)::int8
from pg_catalog.pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
  and xact_start < clock_timestamp() - interval '10 minutes'""",
        message="{1} (pid {0}, user {2}) has been idle in a transaction for {3} minutes: it keeps its locks, and newer dead rows cannot be vacuumed",
        hint="SELECT pg_terminate_backend({0});",
    ),
    FindingQuery(
        severity="warning",
        code="prepared-transaction",
        sql="""select gid, (extract(epoch from clock_timestamp() - prepared) / 60)::int8, quote_literal(gid)
from pg_catalog.pg_prepared_xacts where database = current_database() and prepared < clock_timestamp() - interval '10 minutes'""",
        message="transaction {0} was prepared {1} minutes ago and not finished: it keeps its locks, even after a restart",
        hint="ROLLBACK PREPARED {2};",
    ),
    FindingQuery(
        severity="error",
        code="wraparound",
        sql="""select greatest(age(datfrozenxid), mxid_age(datminmxid))::text from pg_catalog.pg_database
where datname = current_database() and greatest(age(datfrozenxid), mxid_age(datminmxid)) >= 1500000000""",
        message="the oldest row is {0} transactions old: at about 2100000000 the server stops accepting writes",
        hint="VACUUM (FREEZE);",
    ),
    FindingQuery(
        severity="warning",
        code="wraparound",
        sql="""select greatest(age(datfrozenxid), mxid_age(datminmxid))::text from pg_catalog.pg_database
where datname = current_database() and greatest(age(datfrozenxid), mxid_age(datminmxid)) < 1500000000
  and greatest(age(datfrozenxid), mxid_age(datminmxid)) >= greatest(500000000, 2 * current_setting('autovacuum_freeze_max_age')::int8)""",
        message="the oldest row is {0} transactions old: autovacuum does not reach it, and at about 2100000000 the server stops accepting writes",
        hint="VACUUM (FREEZE);",
    ),
    FindingQuery(
        severity="warning",
        code="index-invalid",
        sql=f"""select i.relname, c.relname, quote_ident(s.nspname) || '.' || quote_ident(i.relname) {RELATIONS}
  join pg_catalog.pg_index x on x.indrelid = c.oid and not (x.indisvalid and x.indisready)
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {VISIBLE} and not {LEFTOVER_INDEX} order by 2, 1""",
        message="index {0} of {1} is unfinished: it is updated but not used, and enforces no uniqueness",
        hint="REINDEX INDEX CONCURRENTLY {2};",
    ),
    FindingQuery(
        severity="warning",
        code="unlogged",
        sql=f"""select c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) {RELATIONS}
where {VISIBLE} and c.relkind = 'r' and c.relpersistence = 'u' order by 1""",
        message="table {0} is unlogged: after a server crash it is empty, and standbys do not have it",
        hint="ALTER TABLE {1} SET LOGGED;",
    ),
    FindingQuery(
        severity="warning",
        code="replication-slot",
        sql=f"""select slot_name::text, pg_size_pretty(kept), quote_literal(slot_name)
from (select slot_name, pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
    restart_lsn) as kept from pg_catalog.pg_replication_slots where not active) s where kept >= {RETAINED_WAL}""",
        message="replication slot {0} is inactive and retains {1} of WAL, which can fill the disk",
        hint="SELECT pg_drop_replication_slot({2});",
    ),
    FindingQuery(
        severity="warning",
        code="connections-full",
        sql="""select used::text, most::text from (select count(*) as used,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as most
  from pg_catalog.pg_stat_activity where backend_type = 'client backend') c where used > 0.8 * most""",
        message="{0} of the {1} available connections are in use",
        hint="SELECT application_name, usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;",
    ),
    FindingQuery(
        severity="error",
        code="unsafe-setting",
        sql="select name from pg_catalog.pg_settings where name in ('fsync', 'full_page_writes') and setting = 'off' order by name",
        message="{0} is off: a crash of the machine may corrupt all databases",
        hint="ALTER SYSTEM SET {0} = on; SELECT pg_reload_conf();",
    ),
    FindingQuery(
        severity="warning",
        code="autovacuum-off",
        sql="select name from pg_catalog.pg_settings where name in ('autovacuum', 'track_counts') and setting = 'off' order by name",
        message="{0} is off: dead rows accumulate, and eventually the server stops accepting writes",
        hint="ALTER SYSTEM SET {0} = on; SELECT pg_reload_conf();",
    ),
    FindingQuery(
        severity="info",
        code="restart-pending",
        sql="select string_agg(name, ', ' order by name) from pg_catalog.pg_settings where pending_restart having count(*) > 0",
        message="settings that need a server restart: {0}",
    ),
    FindingQuery(
        severity="info",
        code="superuser",
        sql="select current_user where (select rolsuper from pg_catalog.pg_roles where rolname = current_user)",
        message="dbctl signs in as superuser {0}: its password gives access to the whole server and its machine",
    ),
)
#: Relevant for writing only.
STANDBY = FindingQuery(
    severity="error",
    code="standby",
    sql="select 1 where pg_is_in_recovery()",
    message="this server is a standby and rejects writes",
    hint="Use the URL of the primary, or name both hosts and add ?target_session_attrs=read-write",
)
#: Whether this connection is encrypted, and whether it leaves the machine; a socket has no client address.
ENCRYPTED = """select s.ssl, a.client_addr is not null and a.client_addr <> inet_server_addr()
  and not (a.client_addr <<= '127.0.0.0/8' or a.client_addr = '::1')
from pg_catalog.pg_stat_activity a join pg_catalog.pg_stat_ssl s on s.pid = a.pid where a.pid = pg_backend_pid()"""
RIGHTS = f"""select n.nspname, c.relname, array_remove(array[
    case when not has_table_privilege(c.oid, 'SELECT') then 'SELECT' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'INSERT') then 'INSERT' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'UPDATE') then 'UPDATE' end,
    case when :writing and c.relkind <> 'm' and not has_table_privilege(c.oid, 'DELETE') then 'DELETE' end], null),
  current_user {RELATIONS}
where {VISIBLE} and c.relkind in ('r', 'p', 'm', 'f') order by 1, 2"""
SEQUENCES = f"""select distinct s.nspname, q.relname, array['USAGE'], current_user {RELATIONS}
  join pg_catalog.pg_depend e on e.refclassid = 'pg_catalog.pg_class'::regclass and e.refobjid = c.oid and e.deptype = 'a'
  join pg_catalog.pg_class q on q.oid = e.objid and q.relkind = 'S' and e.classid = 'pg_catalog.pg_class'::regclass
  join pg_catalog.pg_namespace s on s.oid = q.relnamespace
where {VISIBLE} and not case when q.relkind = 'S' then has_sequence_privilege(q.oid, 'USAGE') end order by 1, 2"""
#: Scratch databases of restores and drills, and scratch roles without a database.
SCRATCH_NAMES = """select datname::text, true from pg_catalog.pg_database where datname ~ :pattern
union all select rolname::text, false from pg_catalog.pg_roles r where rolname ~ :pattern
  and not exists (select from pg_catalog.pg_database d where d.datname = r.rolname) order by 1"""
LOCKED = """select (classid::int8 << 32) | objid::int8 from pg_catalog.pg_locks
where locktype = 'advisory' and objsubid = 1 and granted"""
VERIFYING_MODES = ("verify-full", "verify-ca")
#: Filled by ``format`` with further joins.
OF_PARTS = f"from pg_catalog.pg_class c {{}} where {IN_TABLES}"
#: Indexes that CREATE INDEX CONCURRENTLY left unfinished: they are updated but not used, and enforce no uniqueness.
INVALID = (
    "select i.relname, c.relname "
    + OF_PARTS.format(
        "join pg_catalog.pg_index x on x.indrelid = c.oid join pg_catalog.pg_class i on i.oid = x.indexrelid"
    )
    + f" and not (x.indisvalid and x.indisready) and not {LEFTOVER_INDEX} order by 2, 1"
)
BTREES = (
    "select s.nspname, i.relname, x.indexrelid::int8 "
    + OF_PARTS.format(
        """join pg_catalog.pg_index x on x.indrelid = c.oid and x.indisvalid
  join pg_catalog.pg_class i on i.oid = x.indexrelid and i.relkind = 'i'
  join pg_catalog.pg_am m on m.oid = i.relam and m.amname = 'btree'
  join pg_catalog.pg_namespace s on s.oid = i.relnamespace"""
    )
    + " order by 1, 2"
)
HEAPS = "select c.oid::int8, c.relname " + OF_PARTS.format("") + " and c.relkind in ('r', 'm') order by 2"
_ROOTS = """join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class r on r.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)"""
#: Foreign tables, without a part, and tables with foreign partitions, with their own ones: rows of another server are not checked.
OWN_PARTS = (
    f"select r.relname, array_remove(array_agg(case c.relkind when 'r' then {quoted('n.nspname', 'c.relname')} end), null) "
    f"{OF_PARTS.format(_ROOTS)} group by 1 having bool_or(c.relkind = 'f')"
)
#: amcheck verifies tables since its version 1.3.
AMCHECK = """select n.nspname, exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'verify_heapam') from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'amcheck'"""
_KEYS = f"""join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0 and not {IS_SPECIAL}
  join pg_catalog.pg_class p on p.oid = f.confrelid join pg_catalog.pg_namespace s on s.oid = p.relnamespace
  {_ROOTS}"""
#: A foreign key neither covers the rows of tables that inherit its table, nor lets it refer to theirs.
_CHECKED = "case {0}.relkind when 'p' then '' else 'only ' end || " + quoted("{1}.nspname", "{0}.relname")
REFERENCES = (
    f"select r.relname, c.relname, {_CHECKED.format('c', 'n')}, p.relname, {_CHECKED.format('p', 's')}, {OWN_COLUMNS}, "
    f"{REFERENCED_COLUMNS}, f.confmatchtype = 'f' {OF_PARTS.format(_KEYS)} order by 1, 2, 4, 6"
)
_ForeignKeyRow: TypeAlias = tuple[str, str, str, str, str, list[str], list[str], bool]
#: Reads a value completely, and a binary one without its text, which is twice as long; by whether it is binary.
COMPARED = {False: "(t0.{}::text collate \"C\" < '')::int", True: "(t0.{} < '')::int"}
INDEX_LINE = re.compile(r"index (?:(.+) of .+ is invalid$|(.+?): )", re.DOTALL)


class PostgreSQLChecks(PostgreSQLPart, ServerChecks):
    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        tables = self._select_tables(table)
        parameters = {"tables": tables}
        lines = [
            f"index {index} of {name} is invalid"
            for index, name in self._connection.fetch(INVALID, parameters)
        ]
        if not quick:
            rows = self._connection.fetch(OWN_PARTS, parameters)
            own = {name: cast("list[str]", parts) for name, parts in rows}
            for name in tables:
                for source in own.get(name, [self._catalog.quote_table(name)]):
                    lines += self._find_unreadable(name, source)
            lines += self._check_indexes(tables)
        return lines

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        match = INDEX_LINE.match(line)
        # Whether duplicate rows prevent a rebuild shows only when it is tried.
        return IndexDamage(index=match[1] or match[2], has_duplicates=False) if match else None

    def _find_unreadable(self, table: str, source: str) -> Iterator[str]:
        """Read every value of every row of a table or of its partition ``source``, including TOAST data."""
        columns = self._catalog.require_table(table).columns.values()
        # The text of a valid row can be longer than 1 GB, which fails as damage does; then the values are read without it.
        for values in (
            ["octet_length(t0::text)"],
            [COMPARED[column.is_binary].format(ident(column.name)) for column in columns],
        ):
            try:
                self._connection.fetch(
                    f"select {', '.join(f'sum({value})' for value in values)} from {source} t0"
                )
            # The server has no state of its own for many kinds of damage, such as an impossible length.
            except (CorruptError, QueryFailedError) as error:
                if not (is_about_data(error.__cause__) or is_too_long(error.__cause__)):
                    raise
                reason = str(error.context["reason"])
            else:
                return
        yield f"{table}: {reason}"

    def _check_indexes(self, tables: Sequence[str]) -> Iterator[str]:
        """Compare indexes with their tables by amcheck, if it is installed and this user may use it."""
        for schema, heaps in self._connection.fetch(AMCHECK):
            if heaps:
                yield from self._check_heaps(str(schema), tables)
            for _, name, oid in self._connection.fetch(BTREES, {"tables": list(tables)}):
                sql = f"select {ident(str(schema))}.bt_index_check(cast(:index as oid)::regclass, true)"
                try:
                    self._connection.fetch(sql, {"index": oid})
                except PrivilegeMissingError:
                    return
                except CorruptError as error:
                    yield f"index {name}: {error.context['reason']}"

    def _check_heaps(self, schema: str, tables: Sequence[str]) -> Iterator[str]:
        for oid, name in self._connection.fetch(HEAPS, {"tables": list(tables)}):
            sql = f"select distinct msg from {ident(schema)}.verify_heapam(cast(:table as oid)::regclass) order by 1 limit 5"
            try:
                yield from (
                    f"{name}: {message}" for (message,) in self._connection.fetch(sql, {"table": oid})
                )
            except PrivilegeMissingError:
                return
            except CorruptError:  # reading the rows reports the same
                continue

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        return [
            orphans
            for row in self._connection.fetch(REFERENCES, {"tables": self._select_tables(table)})
            for orphans in self._find_orphans(ForeignKey(*cast("_ForeignKeyRow", row)))
        ]

    def _row_label(self, key: Sequence[str]) -> str:
        return " || ', ' || ".join(f"c.{ident(column)}::text" for column in key)

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        return SchemaAdvice(self._db).find(table)

    def compare_settings(self, required: Mapping[str, str]) -> Sequence[SettingComparison]:
        rows = {str(row[0]): row for row in self._connection.fetch(SETTINGS, {"names": list(required)})}
        comparisons = []
        for name, required_value in required.items():
            _, setting, unit, kind, context, is_pending, current = rows.get(name, (None,) * 7)
            comparisons.append(
                SettingComparison(
                    name=name,
                    required=required_value,
                    actual=cast("str | None", current),
                    is_sufficient=name in rows
                    and _is_satisfied(name, str(setting), str(unit), str(kind), required_value),
                    is_pending=bool(is_pending),
                    requires_restart=context == "postmaster",
                    statement=f"ALTER SYSTEM SET {name} = {quote_literal(required_value)};",
                )
            )
        return comparisons

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        return [
            *find_problems(self._connection, VERSION_CHECKS),
            *self._check_encryption(),
            *find_problems(self._connection, [STANDBY] if writing else []),
            *([] if DbctlLock(self._connection).is_effective() else [LOCK_MISSING]),
            *self._check_rights(writing=writing),
            *self.find_abandoned(),
            *find_problems(self._connection, SERVER_CHECKS),
            *find_problems(self._connection, [LEFTOVERS], {"tables": self._catalog.base_tables()}),
        ]

    def find_abandoned(self) -> Sequence[EngineFinding]:
        rows = self._connection.fetch(
            SCRATCH_NAMES, {"pattern": scratch_name_pattern(self._connection.url.path)}
        )
        locked_keys = {row[0] for row in self._connection.fetch(LOCKED)} if rows else set()
        abandoned = [
            (str(name), bool(database)) for name, database in rows if lock_key(str(name)) not in locked_keys
        ]
        return [
            leftover_finding(name, f"DROP DATABASE {ident(name)} WITH (FORCE);")
            if database
            else leftover_finding(name, f"DROP ROLE {ident(name)};", kind="role")
            for name, database in abandoned
        ]

    def _check_encryption(self) -> Iterator[EngineFinding]:
        rows = self._connection.fetch(ENCRYPTED)  # compatible servers may not list this session
        encrypted, is_remote = rows[0] if rows else (True, False)
        if is_remote:
            ssl_mode = parse_qs(self._connection.url.options).get("sslmode", [""])[0]
            yield from check_encryption(ssl_mode, encrypted=bool(encrypted))

    def _check_rights(self, *, writing: bool) -> Iterator[EngineFinding]:
        rows = self._connection.fetch(RIGHTS, {"writing": writing})
        yield from _describe_missing("TABLE", [row for row in rows if row[2]], table_count=len(rows))
        if writing:
            sequences = self._connection.fetch(SEQUENCES)
            yield from _describe_missing("SEQUENCE", sequences, table_count=0)


def _describe_missing(
    kind: str, rows: Sequence[tuple[object, ...]], *, table_count: int
) -> Iterator[EngineFinding]:
    """Yield one warning for each set of missing rights."""
    lacking: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for schema, name, rights, _ in rows:
        missing = tuple(map(str, rights)) if isinstance(rights, list) else ()
        lacking.setdefault(missing, []).append((str(schema), str(name)))
    for missing, qualified_names in lacking.items():
        user = str(rows[0][3])
        schemas = sorted({schema for schema, _ in qualified_names})
        objects = ", ".join(f"{ident(schema)}.{ident(name)}" for schema, name in qualified_names)
        if len(qualified_names) == table_count and len(schemas) == 1:
            objects = f"ALL TABLES IN SCHEMA {ident(schemas[0])}"
        names = ", ".join(name for _, name in qualified_names)
        yield EngineFinding(
            severity="warning",
            code="privilege-missing",
            message=f"role {user} lacks {', '.join(missing)} on {format_count(len(qualified_names), kind.lower())}: {names}",
            hint=f"GRANT {', '.join(missing)} ON {'' if objects.startswith('ALL') else kind + ' '}{objects} TO {ident(user)};",
        )


def check_encryption(ssl_mode: str, *, encrypted: bool) -> Iterator[EngineFinding]:
    """Yield warnings about a connection to another machine; ``ssl_mode`` is the ``sslmode`` of its URL."""
    if not encrypted:
        message = (
            "the connection to another machine is not encrypted: rows and credentials can be read in transit"
        )
        hint = "Enable ssl on the server, and add ?sslmode=verify-full to the URL"
        yield EngineFinding(severity="error", code="not-encrypted", message=message, hint=hint)
    elif ssl_mode not in VERIFYING_MODES:
        message = "the connection is encrypted, but the server's identity is not verified"
        hint = "Add ?sslmode=verify-full to the URL (and &sslrootcert=FILE for a private authority)."
        severity: Severity = "info" if ssl_mode == "require" else "warning"
        yield EngineFinding(severity=severity, code="server-not-verified", message=message, hint=hint)
