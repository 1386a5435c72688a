"""Private servers with a Larder, another database and a canary folder, and the state that a dump must not change."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import closing
from functools import cache
from pathlib import Path

from msgspec import structs

from dbctl import url
from dbctl.engines.mysql import dump_programs
from tests import servers
from tests.services.larder_app import MySQLPantry, ServedPantry, fill_mysql, fill_postgresql

#: Session counters and clocks, which change by themselves.
VOLATILE = re.compile(
    r"timestamp|gtid|_now|last_insert|rand_seed|pseudo|warning|error_count|identity|skip_rep"
)
#: Seconds that a server may take to notice that a session has ended.
NOTICE_SECONDS = 20
SCRATCH = re.compile(r"dbctl_new_")
#: Queries for the state that a dump must not change, for one product only.
OUTSIDE_MARIADB = {
    "users": "select * from mysql.global_priv",
    "roles": "select * from mysql.roles_mapping",
    "events": "select db, name, definer, body from mysql.event",
}
OUTSIDE_MYSQL = {
    "users": "select * from mysql.user",
    "roles": "select * from mysql.role_edges",
    "default roles": "select * from mysql.default_roles",
    "dynamic privileges": "select * from mysql.global_grants",
    "events": "select event_schema, event_name, definer, event_definition from information_schema.events",
    "components": "select * from mysql.component",
    "resource groups": "select * from information_schema.resource_groups",
    "reference systems": "select srs_name, srs_id from information_schema.st_spatial_reference_systems",
    "tablespaces": "select name, space_type, state from information_schema.innodb_tablespaces where name not like '%/%'",
    "set by SET PERSIST": "select * from performance_schema.persisted_variables",
    "replication": "select channel_name, host from performance_schema.replication_connection_configuration",
}


class Victim(ABC):
    """A server of this process, into which hostile dumps are loaded."""

    pantry: ServedPantry | MySQLPantry

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbctl-hostile-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.canary = self.folder / "canary"
        self.canary.mkdir()
        self.canary.chmod(0o777)  # the server may run as any user
        (self.canary / "here").write_text("untouched")
        (self.folder / "app").mkdir()

    @abstractmethod
    def honest_dump(self) -> str:
        """Return the text of a dump of the Larder without hostile statements."""

    @abstractmethod
    def read_state(self) -> dict[str, object]:
        """Return the state that a dump must not change."""

    @abstractmethod
    def list_leftovers(self) -> list[str]:
        """Return the names of scratch databases, and of their roles or users."""

    @abstractmethod
    def assert_session_alive(self) -> None:
        """Run a query in a session of another program, which no dump may end."""

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in sorted(self.canary.iterdir())}


class PostgreSQLVictim(Victim):
    engine = "postgresql"
    end = "--\n-- PostgreSQL database dump complete\n"

    def __init__(self) -> None:
        super().__init__()
        self.server = url.parse_url(servers.private_postgresql())
        with closing(servers.connection(self.server)) as central:
            central.execute("create role larder_app login")
            for name in ("larder", "neighbour"):
                central.execute(f"create database {name}")
        neighbour = structs.replace(self.server, path="neighbour")
        with closing(servers.connection(neighbour)) as own:
            own.execute("create table keep (id int primary key, text text)")
            own.execute("insert into keep values (1, 'unchanged')")
        own_url = structs.replace(self.server, path="larder")
        with closing(servers.connection(own_url)) as own:
            fill_postgresql(own)
        self.pantry = ServedPantry(self.folder / "app", own_url)
        self.text = self._dump("--format=plain").decode()
        self.witness = servers.connection(self.server)

    def assert_session_alive(self) -> None:
        self.witness.execute("select 1")

    def _dump(self, *words: str) -> bytes:
        options = ["-h", self.server.options.partition("host=")[2], "-U", "postgres"]
        return subprocess.run(
            [servers.client("pg_dump"), *options, *words, "larder"], check=True, capture_output=True
        ).stdout

    def honest_dump(self) -> str:
        return self.text

    def read_state(self) -> dict[str, object]:
        queries = {
            "databases": "select datname, datdba, datacl::text, datconnlimit, datistemplate, datallowconn from pg_database",
            "roles": "select * from pg_authid",
            "members": "select * from pg_auth_members",
            "settings of roles": "select setdatabase, setrole, setconfig from pg_db_role_setting",
            "settings": "select name, setting from pg_settings where name not in ('transaction_isolation')",
            "set by ALTER SYSTEM": "select name, setting from pg_file_settings where sourcefile like '%auto.conf'",
            "tablespaces": "select oid, spcname, spcowner, spcacl::text from pg_tablespace",
            "comments": "select * from pg_shdescription",
            "subscriptions": "select subname from pg_subscription",
            "slots": "select slot_name from pg_replication_slots",
            "prepared": "select gid, database from pg_prepared_xacts",
            "start": "select pg_postmaster_start_time(), pg_is_in_recovery()",
        }
        with closing(servers.connection(self.server)) as central:
            if central.info.server_version >= 150_000:
                queries["grants on parameters"] = "select * from pg_parameter_acl"
            state = {name: sorted(map(str, central.execute(sql).fetchall())) for name, sql in queries.items()}
        with closing(servers.connection(structs.replace(self.server, path="neighbour"))) as own:
            state["neighbour"] = own.execute("select * from keep").fetchall()
            state["objects"] = own.execute(
                "select oid, relname, relowner from pg_class order by 1"
            ).fetchall()
        return {**state, "files": self.files(), "live": self.pantry.content()}

    def list_leftovers(self) -> list[str]:
        with closing(servers.connection(self.server)) as central:
            names = central.execute(
                "select datname from pg_database union all select rolname from pg_roles"
                " union all select usename from pg_stat_activity where usename is not null"
            )
            return [str(name) for (name,) in names.fetchall() if SCRATCH.search(str(name))]


class MySQLVictim(Victim):
    engine = "mysql"
    end = "-- Dump completed"

    def __init__(self) -> None:
        super().__init__()
        settings = ["--event-scheduler=ON", "--local-infile=1", "--secure-file-priv="]
        self.server = servers.private_mysql(*settings)
        self.is_mariadb = servers.server_at(self.server).is_mariadb
        with closing(servers.mysql_connection(self.server)) as central, central.cursor() as cursor:
            for name in ("larder", "neighbour"):
                cursor.execute(f"create database {name} character set utf8mb4")
            cursor.execute("create table neighbour.keep (id int primary key, text text)")
            cursor.execute("insert into neighbour.keep values (1, 'unchanged')")
            cursor.execute("create user larder_app@localhost")
            cursor.execute("grant all on larder.* to larder_app@localhost")
            cursor.execute("use larder")
            fill_mysql(cursor)
        self.pantry = MySQLPantry(self.folder / "app", structs.replace(self.server, path="larder"))
        socket = self.server.options.partition("unix_socket=")[2]
        program = dump_programs.PROGRAMS["MariaDB" if self.is_mariadb else "MySQL"]["dump"]
        words = ["--no-defaults", "-S", socket, "-u", "root", "--routines", "--events", "larder"]
        self.text = subprocess.run([program, *words], check=True, capture_output=True).stdout.decode()
        self.witness = servers.mysql_connection(self.server)

    def assert_session_alive(self) -> None:
        self.witness.ping(reconnect=False)

    def honest_dump(self) -> str:
        return self.text

    def read_state(self) -> dict[str, object]:
        queries = {
            "databases": "select * from information_schema.schemata",
            "grants": "select * from mysql.db",
            "grants on tables": "select * from mysql.tables_priv",
            "grants on routines": "select * from mysql.procs_priv",
            "plugins": "select plugin_name, plugin_status from information_schema.plugins",
            "functions": "select * from mysql.func",
            "servers": "select * from mysql.servers",
            "neighbour": "select * from neighbour.keep",
            "settings": "show global variables",
            "prepared": "xa recover",
            **(OUTSIDE_MARIADB if self.is_mariadb else OUTSIDE_MYSQL),
        }
        with closing(servers.mysql_connection(self.server)) as central, central.cursor() as cursor:
            state = dict[str, object]()
            for name, sql in queries.items():
                cursor.execute(sql)
                rows = [row for row in cursor.fetchall() if name != "settings" or not VOLATILE.search(row[0])]
                state[name] = sorted(map(str, rows))
        return {**state, "files": self.files(), "live": self.pantry.content()}

    def list_leftovers(self) -> list[str]:
        with closing(servers.mysql_connection(self.server)) as central, central.cursor() as cursor:
            cursor.execute(
                "select schema_name from information_schema.schemata union select user from mysql.user"
            )
            return [str(name) for (name,) in cursor.fetchall() if SCRATCH.search(str(name))]


@cache
def victim(engine: str) -> PostgreSQLVictim | MySQLVictim:
    """Return the server of an engine, which stops at the end of this process."""
    import atexit

    server = PostgreSQLVictim() if engine == "postgresql" else MySQLVictim()
    atexit.register(shutil.rmtree, server.folder, ignore_errors=True)
    atexit.register(server.witness.close)  # before the server stops, as it is registered after it
    return server


def write_dump(victim: PostgreSQLVictim | MySQLVictim, file: Path, statements: str) -> Path:
    """Write a dump with hostile statements at its end, before the end marker; return the file."""
    text = statements.replace("{canary}", str(victim.canary))
    head, end, rest = victim.honest_dump().rpartition(victim.end)
    file.write_text(f"{head}\n{text}\n\n{end}{rest}")
    file.chmod(0o600)
    return file


def assert_unchanged(victim: PostgreSQLVictim | MySQLVictim, before: dict[str, object]) -> None:
    """Assert that the state equals ``before``, that nothing is left over, and that other sessions continue."""
    after = victim.read_state()
    assert {name: after[name] for name in after if after[name] != before[name]} == {}
    assert_nothing_left(victim)
    victim.assert_session_alive()


def assert_nothing_left(victim: PostgreSQLVictim | MySQLVictim) -> None:
    """Assert that the load left no databases, roles and sessions; a server notices the end of a session with a delay."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while (leftovers := victim.list_leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers == []
