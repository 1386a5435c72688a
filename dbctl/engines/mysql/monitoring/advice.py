"""What an admin should know of a MySQL or MariaDB server: each look is one question, and what its answer means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract import Concern, Look, Tuning, answered, left_behind
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.errors import quoted
from dbctl.engines.mysql.options import encryption
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.types import literal
from dbctl.errors import PrivilegeMissingError, QueryFailedError
from dbctl.model import counted
from dbctl.url import Url

LOOKS = (
    Look(
        severity="warning",
        code="not-transactional",
        sql="""select t.table_name, t.engine, concat('`', replace(t.table_name, '`', '``'), '`')
from information_schema.tables t join information_schema.engines e on e.engine = t.engine
where t.table_schema = database() and t.table_type <> 'VIEW' and e.transactions <> 'YES' order by 1""",
        message="table {0} is kept by {1}: no change of it can be taken back, no backup of the running server has it whole, and a crash may damage it",
        hint="ALTER TABLE {2} ENGINE=InnoDB;",
    ),
    Look(
        severity="warning",
        code="not-every-text",
        sql="""select distinct c.table_name, c.character_set_name, concat('`', replace(c.table_name, '`', '``'), '`')
from information_schema.columns c join information_schema.tables t on t.table_schema = c.table_schema
  and t.table_name = c.table_name and t.table_type <> 'VIEW'
where c.table_schema = database() and c.character_set_name in ('utf8', 'utf8mb3') order by 1""",
        message="table {0} keeps text as {1}, which has no emoji and no rare letters: they are refused, or cut off",
        hint="ALTER TABLE {2} CONVERT TO CHARACTER SET utf8mb4;",
    ),
    Look(
        severity="warning",
        code="not-strict",
        sql="""select @@global.sql_mode, case when @@global.sql_mode = '' then 'STRICT_TRANS_TABLES'
  else concat('STRICT_TRANS_TABLES,', @@global.sql_mode) end
from dual where @@global.sql_mode not like '%STRICT%'""",
        message="the server's sql_mode is not strict: a value that does not fit is changed without a word ({0})",
        hint="SET GLOBAL sql_mode = '{1}';",
    ),
    Look(
        severity="warning",
        code="connections-full",
        sql="""select count(*), @@max_connections from information_schema.processlist having count(*) > 0.8 * @@max_connections""",
        message="{0} of the {1} connections that the server takes are in use; beyond them nobody gets in",
        hint="SELECT user, db, command, count(*) FROM information_schema.processlist GROUP BY 1, 2, 3;",
    ),
    Look(
        severity="warning",
        code="unsafe-setting",
        sql="select @@innodb_flush_log_at_trx_commit from dual where @@innodb_flush_log_at_trx_commit <> 1",
        message="innodb_flush_log_at_trx_commit is {0}: after a crash the last changes are gone, though they were committed",
        hint="SET GLOBAL innodb_flush_log_at_trx_commit = 1;",
    ),
)
#: Told to those alone who have the right PROCESS.
IDLE = Look(
    severity="warning",
    code="idle-in-transaction",
    sql="""select p.id, p.user, timestampdiff(minute, t.trx_started, utc_timestamp())
from information_schema.innodb_trx t join information_schema.processlist p on p.id = t.trx_mysql_thread_id
where p.command = 'Sleep' and p.db = database() and t.trx_started < utc_timestamp() - interval 10 minute""",
    message="session {0} of {1} has had a transaction open for {2} minutes and does nothing: its locks stay, and old rows are kept for it",
    hint="KILL {0};",
)
CIPHER = "show session status like 'Ssl_cipher'"
HERE = frozenset({"", "localhost", "127.0.0.1", "[::1]", "::1"})
#: What an account may do everywhere, in this database, and to its tables; what comes by a role is not among it.
RIGHTS = """select privilege_type, '' from information_schema.user_privileges where grantee = :account
union all select privilege_type, '' from information_schema.schema_privileges
  where grantee = :account and database() like table_schema
union all select privilege_type, table_name from information_schema.table_privileges
  where grantee = :account and table_schema = database()"""
#: Where a server of either kind tells a role, or an account without a name, more than these tables do.
ROLE = "select current_role()"
VARIABLES = "show global variables where variable_name in :names"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: Only MariaDB says what takes a restart.
READ_ONLY = "select lower(variable_name) from information_schema.system_variables where read_only = 'YES' and lower(variable_name) in :names"
UNENFORCED = """select table_name, constraint_name from information_schema.table_constraints
where table_schema = database() and constraint_type = 'CHECK' and enforced = 'NO' order by 1, 2"""


class MySQLAdvice(MySQLDialect):
    """Capability.ADVISE."""

    @abstractmethod
    def _current(self) -> Session: ...

    @property
    @abstractmethod
    def url(self) -> Url:
        """Where the database is."""

    def concerns(self, *, writing: bool) -> Sequence[Concern]:
        found = [*self._encryption(), *self._missing(writing=writing), *self.abandoned()]
        for look in LOOKS:
            found += answered(look, self._fetch(look.sql, {}))
        try:
            found += answered(IDLE, self._fetch(IDLE.sql, {}))
        except PrivilegeMissingError:
            message = "whether transactions are left open is not shown to this account"
            hint = f"GRANT PROCESS ON *.* TO {self._current().account};"
            found.append(Concern(severity="info", code="not-shown", message=message, hint=hint))
        return found

    def abandoned(self) -> Sequence[Concern]:
        from dbctl.engines.mysql import locks
        from dbctl.engines.mysql.backup import names as beside
        from dbctl.engines.mysql.backup.foreign import scratch_role

        pattern = beside.new_ones(self.url.path)
        databases = [
            left_behind(str(name), f"DROP DATABASE {quoted(str(name))};")
            for (name,) in self._fetch(beside.NAMES, {})
            if pattern.fullmatch(str(name))
            and self._fetch(f"select is_free_lock({literal(locks.name_of(str(name)))})", {}) == [(1,)]
        ]
        users = scratch_role.abandoned(self._current())
        return [*databases, *(left_behind(user, f"DROP USER {user};", what="user") for user in users)]

    def _encryption(self) -> Iterator[Concern]:
        ((_, cipher),) = self._fetch(CIPHER, {})
        if self.url.host in HERE or self.url.host.startswith("/"):
            return
        if not cipher:
            message = "the connection leaves this machine and is not encrypted: who listens reads every row, and what is signed in with"
            hint = "Switch ssl on at the server, and end the URL with ?ssl-mode=verify_identity"
            yield Concern(severity="error", code="not-encrypted", message=message, hint=hint)
        elif encryption(self.url).mode != "verify_identity":
            message = "the connection is encrypted, but nobody proves that it leads to the right server"
            hint = "End the URL with ?ssl-mode=verify_identity&ssl-ca=FILE"
            yield Concern(severity="warning", code="server-not-proven", message=message, hint=hint)

    def _missing(self, *, writing: bool) -> Iterator[Concern]:
        """Yield which rights are missing, once for all tables that lack the same ones."""
        if self._has_role():
            return
        needed = {"SELECT", "INSERT", "UPDATE", "DELETE"} if writing else {"SELECT"}
        session = self._current()
        rights = [
            (str(right), str(table)) for right, table in self._fetch(RIGHTS, {"account": session.account})
        ]
        lacking: dict[tuple[str, ...], list[str]] = {}
        tables = [name for name, one in self.tables().items() if not one.view]
        for table in tables:
            held = {right for right, of in rights if of in ("", table)}
            if missing := tuple(sorted(needed - held)):
                lacking.setdefault(missing, []).append(table)
        for missing, of in lacking.items():
            places = ["*"] if of == tables else [quoted(table) for table in of]
            lines = [
                f"GRANT {', '.join(missing)} ON {quoted(session.database)}.{place} TO {session.account};"
                for place in places
            ]
            message = f"account {session.account} lacks {', '.join(missing)} on {counted(len(of), 'table')}: {', '.join(of)}"
            yield Concern(severity="warning", code="privilege-missing", message=message, hint=" ".join(lines))

    def _has_role(self) -> bool:
        try:
            return self._fetch(ROLE, {}) not in ([(None,)], [("NONE",)])
        except QueryFailedError:
            return False

    def flaws(self, table: str = "") -> Sequence[Concern]:
        if self._current().server.is_mariadb:
            return []  # where a rule that is there is kept
        return [
            Concern(
                severity="warning",
                code="not-enforced",
                message=f"check {rule} of {name} is there and is not kept",
                hint=f"ALTER TABLE {quoted(str(name))} ALTER CHECK {quoted(str(rule))} ENFORCED;",
            )
            for name, rule in self._fetch(UNENFORCED, {})
            if table in ("", name)
        ]

    def tuned(self, wanted: Mapping[str, str]) -> Sequence[Tuning]:
        if not wanted:
            return []
        names = [name.lower() for name in wanted]
        actual = {str(name): str(value) for name, value in self._fetch(VARIABLES, {"names": names})}
        mariadb = self._current().server.is_mariadb
        fixed = {str(name) for (name,) in self._fetch(READ_ONLY, {"names": names})} if mariadb else set()
        return [
            Tuning(
                name=name,
                wanted=text,
                actual=actual.get(name.lower()),
                fits=name.lower() in actual and _fits(actual[name.lower()], text),
                waiting=False,
                restart=name.lower() in fixed,
                change=f"{name} = {text}"
                if name.lower() in fixed
                else f"SET {'GLOBAL' if mariadb else 'PERSIST'} {name} = {_value(text)};",
            )
            for name, text in wanted.items()
        ]


def _amount(text: str) -> float | None:
    number, factor = (text[:-1], _UNITS[text[-1:].upper()]) if text[-1:].upper() in _UNITS else (text, 1)
    try:
        return float(number) * factor
    except ValueError:
        return None


def _value(text: str) -> str:
    amount = _amount(text)
    return literal(text) if amount is None else f"{amount:.15g}"


def _fits(actual: str, wanted: str) -> bool:
    """Whether a setting is what is wanted: a number or a size at least so large, anything else the same."""
    held, least = _amount(actual), _amount(wanted)
    if held is not None and least is not None:
        return held >= least
    return actual.lower() == wanted.lower()
