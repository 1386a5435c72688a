"""Checks of the stored data, of a server and of the rights of an account: many are a query and a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from dbctl.engines.contract.checks import (
    EngineFinding,
    FindingQuery,
    IndexDamage,
    OrphanedRows,
    SettingComparison,
    leftover_finding,
)
from dbctl.engines.mysql.catalog import (
    MARIADB_CHECKS,
    NumberedColumn,
    read_foreign_keys,
    read_numbered_columns,
)
from dbctl.engines.mysql.connection import DbctlLock, MySQLConnection
from dbctl.engines.mysql.database import MySQLDatabase, MySQLPart
from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.mysql.grants import find_place
from dbctl.engines.mysql.opening import GLOBALLY, quote
from dbctl.engines.mysql.options import read_encryption
from dbctl.engines.mysql.values import format_literal
from dbctl.engines.servers.database import LOCK_MISSING, ForeignKey, ServerChecks, find_problems
from dbctl.engines.servers.dumps import scratch_name_pattern
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import CorruptError, PrivilegeMissingError, QueryFailedError
from dbctl.model import format_count, group


def find_lagging_sequences(connection: MySQLConnection, table: str) -> Iterator[EngineFinding]:
    """Yield the sequences whose next value a row has already; ``table``: only those of this table, empty: all.

    Values that the server holds in memory are not visible: a sequence may be behind by up to its cache without a finding.
    """
    lagging = list[NumberedColumn]()
    with suppress(PrivilegeMissingError, QueryFailedError):  # other checks report what cannot be read
        lagging += (numbered for numbered in read_numbered_columns(connection, table) if numbered.is_behind)
    for numbered in lagging:
        column = f"{numbered.table}.{numbered.column}"
        yield EngineFinding(
            severity="error",
            code="sequence-behind",
            message=f"sequence {numbered.sequence} returns {numbered.following} next, but {column} has reached {numbered.furthest}: new rows fail or get duplicate keys",
            hint=f"SELECT SETVAL({numbered.place}, {numbered.furthest});",
            column=column,
        )


#: How a table gets transactions; one of MERGE would then have the rows of its tables twice.
CONVERSION = """case engine when 'MRG_MyISAM' then concat(
  'It shows rows of other tables. Before you convert those, replace it by a view: DROP TABLE `', replace(table_name, '`', '``'),
  '`; CREATE VIEW …;') else concat('ALTER TABLE `', replace(table_name, '`', '``'), '` ENGINE=InnoDB;') end"""
SERVER_CHECKS = (
    FindingQuery(
        severity="warning",
        code="table-not-transactional",
        sql=f"""select t.table_name, engine, {CONVERSION}
from information_schema.tables t join information_schema.engines e using (engine)
where t.table_schema = database() and t.table_type <> 'VIEW' and e.transactions <> 'YES' order by 1""",
        message="table {0} uses engine {1}: changes cannot be rolled back, online backups may be inconsistent, and a crash may corrupt it",
        hint="{2}",
    ),
    FindingQuery(
        severity="warning",
        code="charset-limited",
        sql="""select distinct c.table_name, c.character_set_name, concat('`', replace(c.table_name, '`', '``'), '`')
from information_schema.columns c join information_schema.tables t on t.table_schema = c.table_schema
  and t.table_name = c.table_name and t.table_type <> 'VIEW'
where c.table_schema = database() and c.character_set_name in ('utf8', 'utf8mb3') order by 1""",
        message="table {0} stores text as {1}, which lacks emoji and rare characters: they are rejected or truncated",
        hint="ALTER TABLE {2} CONVERT TO CHARACTER SET utf8mb4;",
    ),
    FindingQuery(
        severity="warning",
        code="not-strict",
        sql="""select @@global.sql_mode, case when @@global.sql_mode = '' then 'STRICT_TRANS_TABLES'
  else concat('STRICT_TRANS_TABLES,', @@global.sql_mode) end
from dual where @@global.sql_mode not like '%STRICT%'""",
        message="the server's sql_mode is not strict: a value that does not fit is changed silently ({0})",
        hint=f"Make it strict{GLOBALLY} sql_mode = '{{1}}';",
    ),
    FindingQuery(
        severity="warning",
        code="connections-full",
        sql=f"""select count(*), @@max_connections from {PROCESSES} p having count(*) > 0.8 * @@max_connections""",
        message="{0} of the {1} available connections are in use",
        hint="SELECT user, db, command, count(*) FROM information_schema.processlist GROUP BY 1, 2, 3;",
    ),
    FindingQuery(
        severity="warning",
        code="unsafe-setting",
        sql="select @@innodb_flush_log_at_trx_commit from dual where @@innodb_flush_log_at_trx_commit <> 1",
        message="innodb_flush_log_at_trx_commit is {0}: a crash may lose the last committed changes",
        hint=f"Write each commit to the disk{GLOBALLY} innodb_flush_log_at_trx_commit = 1;",
    ),
)
#: Visible with the right PROCESS only.
IDLE_CHECK = FindingQuery(
    severity="warning",
    code="idle-in-transaction",
    sql=f"""select p.id, p.user, timestampdiff(minute, t.trx_started, utc_timestamp())
from information_schema.innodb_trx t join {PROCESSES} p on p.id = t.trx_mysql_thread_id
where p.command = 'Sleep' and p.db = database() and t.trx_started < utc_timestamp() - interval 10 minute""",
    message="session {0} of {1} has been idle in a transaction for {2} minutes: it keeps its locks, and old row versions cannot be purged",
    hint="KILL {0};",
)
#: Tables that consist of others. The server refuses to check them in a session that only reads; reading one opens its parts.
MERGED = "select table_name from information_schema.tables where table_schema = database() and engine = 'MRG_MYISAM'"
CIPHER = "show session status like 'Ssl_cipher'"
LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "[::1]", "::1"})
#: Rights of an account on the server, on this database, and on its tables; rights of roles are not included.
RIGHTS = """select privilege_type, '' from information_schema.user_privileges where grantee = :account
union all select privilege_type, '' from information_schema.schema_privileges
  where grantee = :account and database() like table_schema
union all select privilege_type, table_name from information_schema.table_privileges
  where grantee = :account and table_schema = database()"""
#: A role, or an anonymous account, may grant more than these tables show.
ROLE = "select current_role()"
VARIABLES = "show global variables where variable_name in :names"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: Only MariaDB shows which settings require a restart.
READ_ONLY = "select lower(variable_name) from information_schema.system_variables where read_only = 'YES' and lower(variable_name) in :names"
#: MySQL only: MariaDB enforces all constraints.
UNENFORCED = FindingQuery(
    severity="warning",
    code="not-enforced",
    sql="""select concat('`', replace(table_name, '`', '``'), '`'), concat('`', replace(constraint_name, '`', '``'), '`'),
  table_name, constraint_name from information_schema.table_constraints
where table_schema = database() and constraint_type = 'CHECK' and enforced = 'NO' and :table in ('', table_name) order by 3, 4""",
    message="check {3} of {2} is not enforced",
    hint="ALTER TABLE {0} ALTER CHECK {1} ENFORCED;",
)
#: Only rows of InnoDB are replicated, and only rows with a key are found again quickly on other nodes.
UNREPLICATED = FindingQuery(
    severity="error",
    code="table-not-replicated",
    sql=f"""select table_name, engine, {CONVERSION} from information_schema.tables
where table_schema = database() and table_type = 'BASE TABLE' and engine <> 'InnoDB' order by 1""",
    message="table {0} uses engine {1}, which the cluster does not replicate: each node has other rows",
    hint="{2}",
)
WITHOUT_KEY = FindingQuery(
    severity="warning",
    code="table-without-key",
    sql="""select t.table_name from information_schema.tables t where t.table_schema = database() and t.table_type = 'BASE TABLE'
  and not exists (select 1 from information_schema.table_constraints c where c.table_schema = t.table_schema
    and c.table_name = t.table_name and c.constraint_type = 'PRIMARY KEY') order by 1""",
    message="table {0} has no primary key: the cluster cannot detect every conflict, and nodes may return its rows in another order",
)
LOCK_LOCAL = EngineFinding(
    severity="info",
    code="lock-node-local",
    message="this server is a node of a cluster: the lock of dbctl excludes other dbctl processes on this node only",
    hint="Use the same node in every configuration of this database.",
)


#: The name of an index, in quotes or as one word.
INDEX_LINE = re.compile(
    r"\bindex (?:['\"`](?P<quoted>[^'\"`]+)['\"`]|(?P<plain>[^\s'\"`]+?)\.?(?:\s|$))", re.IGNORECASE
)


#: The mode in which a server writes and reads an expression of a table: with escapes, also in a session without them.
EXPRESSION_MODE = "set session sql_mode = 'ANSI_QUOTES'"
#: Begins a line about rows that violate a CHECK.
VIOLATED = "CHECK constraint failed in "
#: In place of a character that the server does not show in expressions.
LOST_CHARACTER = "????"


class MySQLChecks(MySQLPart, ServerChecks):
    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db)
        self._unchecked: Sequence[str] = ()

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        if self._connection.session.in_transaction:
            raise RuntimeError("CHECK TABLE inside a transaction would commit it")
        messages = [
            (name, text)
            for name in self._select_tables(table)
            for _, _, kind, text in self._connection.fetch(
                f"check table {ident(name)}{' quick' if quick else ''}"
            )
            if str(kind).lower() in ("error", "warning") or (kind == "status" and text != "OK")
        ]
        merged = {str(name) for (name,) in self._connection.fetch(MERGED)} if messages else set()
        damage = [f"{name}: {text}" for name, text in messages if name not in merged]
        for name in sorted(merged.intersection(name for name, _ in messages)):
            try:
                self._connection.fetch(f"select 1 from {ident(name)} limit 1")
            except (CorruptError, QueryFailedError) as error:
                damage.append(f"{name}: {error.context['reason']}")
        if quick or damage or not self._connection.server.is_mariadb:  # no setting of MySQL disables a CHECK
            return damage
        return self._find_violations(self._select_tables(table))

    def _find_violations(self, tables: Sequence[str]) -> list[str]:
        """Return the CHECK constraints that rows violate, which were written with ``check_constraint_checks = 0``."""
        violations, unchecked = list[str](), list[str]()
        checks = group(
            (str(name), str(check))
            for name, check in self._connection.fetch(MARIADB_CHECKS)
            if name in tables
        )
        self._connection.run(EXPRESSION_MODE)
        try:
            for name, clauses in checks.items():
                known = [clause for clause in clauses if LOST_CHARACTER not in clause]
                if len(known) < len(clauses):
                    unchecked.append(
                        f"a CHECK constraint of {name} is not checked: it has an unknown character"
                    )
                if known:
                    sums = ", ".join(f"coalesce(sum(not ({clause})), 0)" for clause in known)
                    try:
                        (counts,) = self._connection.fetch(f"select {sums} from {ident(name)}")
                    except QueryFailedError as error:
                        reason = error.context["reason"]
                        unchecked.append(f"the CHECK constraints of {name} are not checked: {reason}")
                        continue
                    violations += (
                        f"{VIOLATED}{name}: {format_count(int(str(count)), 'row')} without {clause}"
                        for clause, count in zip(known, counts, strict=True)
                        if count
                    )
        finally:
            if self._connection.is_usable:
                self._connection.apply_settings()
        self._unchecked = unchecked
        return violations

    def concerns_values(self, line: str) -> bool:
        return line.startswith(VIOLATED)

    def list_unchecked(self) -> Sequence[str]:
        return self._unchecked

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        match = INDEX_LINE.search(line.partition(": ")[2])
        # Whether duplicate rows prevent a rebuild shows only when it is tried.
        return IndexDamage(index=match["quoted"] or match["plain"], has_duplicates=False) if match else None

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        tables = self._select_tables(table)
        return [
            orphans
            for key in read_foreign_keys(self._connection)
            if key["owner"] in tables
            for orphans in self._find_orphans(
                ForeignKey(
                    owner=key["owner"],
                    table=key["owner"],
                    source=ident(key["owner"]),
                    referenced_table=key["table"],
                    target=f"{ident(key['schema'])}.{ident(key['table'])}",
                    columns=key["columns"],
                    to=key["to"],
                )
            )
        ]

    def _row_label(self, key: Sequence[str]) -> str:
        values = ", ', ', ".join(self._db.dialect.exact_text(f"c.{ident(name)}") for name in key)
        return f"concat({values})"

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        findings = [*self._check_encryption(), *self._check_rights(writing=writing), *self.find_abandoned()]
        findings += find_problems(self._connection, SERVER_CHECKS)
        if not DbctlLock(self._connection).is_effective():
            findings.append(LOCK_MISSING)
        if self._connection.session.is_cluster_node:
            findings += [LOCK_LOCAL, *find_problems(self._connection, [UNREPLICATED, WITHOUT_KEY])]
        try:
            findings += find_problems(self._connection, [IDLE_CHECK])
        except PrivilegeMissingError:
            message = "open transactions are not visible to this account"
            hint = f"GRANT PROCESS ON *.* TO {self._connection.session.account};"
            findings.append(
                EngineFinding(severity="info", code="transactions-hidden", message=message, hint=hint)
            )
        return findings

    def find_abandoned(self) -> Sequence[EngineFinding]:
        from dbctl.engines.mysql import connection, database, foreign

        own = scratch_name_pattern(self._connection.url.path)
        pattern = re.compile(f"{own}|^{database.PREFIX}[0-9a-f]+$")
        databases = [
            leftover_finding(str(name), f"DROP DATABASE {quote(str(name))};")
            for (name,) in self._connection.fetch(foreign.DATABASES)
            if pattern.search(str(name))
            and all(
                self._connection.fetch(f"select is_free_lock({format_literal(lock)})", {}) == [(1,)]
                for lock in (connection.scratch_lock_name(str(name)), connection.lock_name(str(name)))
            )
        ]
        users = foreign.list_abandoned(self._connection.session)
        return [*databases, *(leftover_finding(user, f"DROP USER {user};", kind="user") for user in users)]

    def _check_encryption(self) -> Iterator[EngineFinding]:
        ((_, cipher),) = self._connection.fetch(CIPHER)
        url = self._connection.url
        if url.via or url.host in LOCAL_HOSTS or url.host.startswith("/"):
            return
        if not cipher:
            message = "the connection to another machine is not encrypted: rows and credentials can be read in transit"
            hint = "Enable ssl on the server, and add ?ssl-mode=verify_identity to the URL"
            yield EngineFinding(severity="error", code="not-encrypted", message=message, hint=hint)
        elif read_encryption(self._connection.url).mode != "verify_identity":
            message = "the connection is encrypted, but the server's identity is not verified"
            hint = "Add ?ssl-mode=verify_identity&ssl-ca=FILE to the URL"
            yield EngineFinding(severity="warning", code="server-not-verified", message=message, hint=hint)

    def _check_rights(self, *, writing: bool) -> Iterator[EngineFinding]:
        """Yield one warning for each set of missing rights."""
        with suppress(QueryFailedError):
            if self._connection.fetch(ROLE) not in ([(None,)], [("NONE",)]):
                return
        needed = {"SELECT", "INSERT", "UPDATE", "DELETE"} if writing else {"SELECT"}
        session = self._connection.session
        rights = [
            (str(right), str(table))
            for right, table in self._connection.fetch(RIGHTS, {"account": session.account})
        ]
        lacking: dict[tuple[str, ...], list[str]] = {}
        tables = self._catalog.base_tables()
        for table in tables:
            granted = {right for right, scope in rights if scope in ("", table)}
            if missing := tuple(sorted(needed - granted)):
                lacking.setdefault(missing, []).append(table)
        for missing, scope in lacking.items():
            objects = [f"{quote(session.database)}.{quote(table)}" for table in scope]
            if scope == tables:
                objects = [find_place(session)]
            lines = [
                f"GRANT {', '.join(missing)} ON {object_name} TO {session.account};"
                for object_name in objects
            ]
            message = f"account {session.account} lacks {', '.join(missing)} on {format_count(len(scope), 'table')}: {', '.join(scope)}"
            yield EngineFinding(
                severity="warning", code="privilege-missing", message=message, hint=" ".join(lines)
            )

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        if self._connection.server.is_mariadb:
            return list(find_lagging_sequences(self._connection, table))
        return list(find_problems(self._connection, [UNENFORCED], {"table": table}))

    def compare_settings(self, required: Mapping[str, str]) -> Sequence[SettingComparison]:
        if not required:
            return []
        names = [name.lower() for name in required]
        actual = {
            str(name): str(value) for name, value in self._connection.fetch(VARIABLES, {"names": names})
        }
        mariadb = self._connection.server.is_mariadb
        read_only = (
            {str(name) for (name,) in self._connection.fetch(READ_ONLY, {"names": names})}
            if mariadb
            else set()
        )
        return [
            SettingComparison(
                name=name,
                required=required_value,
                actual=actual.get(name.lower()),
                is_sufficient=name.lower() in actual and _is_satisfied(actual[name.lower()], required_value),
                is_pending=False,
                requires_restart=name.lower() in read_only,
                statement=f"{name} = {required_value}"
                if name.lower() in read_only
                else f"SET {'GLOBAL' if mariadb else 'PERSIST'} {name} = {_format_value(required_value)};",
            )
            for name, required_value in required.items()
        ]


def _parse_amount(text: str) -> float | None:
    digits, factor = (text[:-1], _UNITS[text[-1:].upper()]) if text[-1:].upper() in _UNITS else (text, 1)
    try:
        return float(digits) * factor
    except ValueError:
        return None


def _format_value(text: str) -> str:
    amount = _parse_amount(text)
    return format_literal(text) if amount is None else f"{amount:.15g}"


def _is_satisfied(actual: str, required: str) -> bool:
    """Return whether a setting satisfies a requirement: sizes and numbers are minimums, other values must be equal."""
    current, minimum = _parse_amount(actual), _parse_amount(required)
    if current is not None and minimum is not None:
        return current >= minimum
    return actual.lower() == required.lower()
