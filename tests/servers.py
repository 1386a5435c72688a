"""Servers for tests: the server that the environment names, a private server, or the server of this machine.

All workers of a run share the private server. Its data is in memory if enough is free: a server with its data on disk waits
for the disk whenever a test creates a table, schema or database.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import psycopg
import pymysql
import pytest
from msgspec import structs

from dbctl.engines.mysql.dialect import Server, parse_server
from dbctl.engines.mysql.opening import check_socket
from dbctl.engines.mysql.options import connection_arguments
from dbctl.engines.mysql.session import Session
from dbctl.engines.postgresql import dump_programs
from dbctl.engines.sql.catalog import ident
from dbctl.url import Url, parse_url

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
BINARIES = "/usr/lib/postgresql/*/bin"
LOCAL_MYSQL = "mysql://root@127.0.0.1:3306/mysql"
#: The value of ``DBCTL_TEST_MYSQL`` for private servers of the ``mysqld`` on the ``PATH``.
PRIVATE = "mysqld"
#: The default settings of distributions.
SHARED_MYSQL = (
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--innodb-flush-log-at-trx-commit=1",
)
#: Options that disable the second port, synced writes, and a folder that only the distribution package creates; MySQL has a
#: binary log by default, with which users would require SUPER to create functions and triggers.
MYSQL_SETTINGS = (
    "--mysqlx=OFF",
    "--sync-binlog=0",
    "--secure-file-priv=NULL",
    "--gtid-mode=ON",  # its dump program then writes GTID statements
    "--enforce-gtid-consistency=ON",
    "--log-bin-trust-function-creators=1",
)
#: A file system in memory, and the bytes that must be free in it.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - of tests
#: Default settings, except for background work at unpredictable times; ``doctor`` warns of ``fsync = off``.
SHARED_POSTGRESQL = ("-c", "fsync=on", "-c", "autovacuum=off", "-c", "max_wal_size=256MB")
#: Settings that change how values and definitions are read and written.
UNUSUAL_POSTGRESQL = {
    "quote_all_identifiers": "on",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "standard_conforming_strings": "off",
    "xmloption": "document",
    "xmlbinary": "hex",
    "TimeZone": "'Asia/Kathmandu'",
    "statement_timeout": "600000",  # a server would write 10min
    "array_nulls": "off",
    "transform_null_equals": "on",
}
UNUSUAL_MYSQL = (
    "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,NO_ZERO_DATE,NO_ZERO_IN_DATE,STRICT_ALL_TABLES,IGNORE_SPACE",
    "--default-time-zone=+05:45",
    "--character-set-server=latin1",
)
#: Environment variable with the folder in which the workers of a run find their shared servers.
SHARED = "DBCTL_TEST_SHARED"
#: Number of schemas after which the catalogs are vacuumed: dropped schemas leave dead tuples, which slow down queries.
SCHEMAS_PER_VACUUM = 50
_number, _schemas = count(), count(1)


@dataclass(frozen=True)
class Running:
    """A private server; ``folder`` contains its data, and the signal ``end`` stops it without a checkpoint."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    end: signal.Signals

    def stop(self) -> None:
        self.process.send_signal(self.end)
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def postgresql() -> Url:
    """Return a server whose user may create schemas, roles and databases; without one, skip the test, or fail in CI."""
    if url_text := os.environ.get("DBCTL_TEST_POSTGRESQL"):
        return parse_url(url_text)  # never replaced by another server
    if SHARED in os.environ and _postgresql_binaries():
        return parse_url(
            share("postgresql", lambda: _start("", None, listening=True, more=SHARED_POSTGRESQL))
        )
    reason = _check_postgresql(LOCAL)
    if not reason:
        return parse_url(LOCAL)
    return parse_url(private_postgresql(why=reason))


def begin_sharing() -> None:
    """Share servers between this process and its child processes until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="dbctl-servers-", dir=data_folder()))
    folder.chmod(0o711)  # the users of the servers reach the copies of data folders in it
    os.environ[SHARED] = str(folder)

    def stop() -> None:
        for file in folder.glob("*.json"):
            server = json.loads(file.read_text())
            with suppress(ProcessLookupError):
                os.kill(server["pid"], server["end"])
            _await_end(server["pid"])
            shutil.rmtree(server["folder"], ignore_errors=True)
        shutil.rmtree(folder)

    atexit.register(stop)


def share(name: str, start: Callable[[], Running]) -> str:
    """Return the URL of the shared server of this run; the first worker that calls this starts it."""
    file = Path(os.environ[SHARED], f"{name}.json")
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            server = start()
            # It outlives this worker: the object must not warn of a process that is still running.
            server.process.returncode = 0
            state = {
                "url": server.url,
                "pid": server.process.pid,
                "end": server.end,
                "folder": str(server.folder),
            }
            file.write_text(json.dumps(state))
        url: str = json.loads(file.read_text())["url"]
        return url


def create_data(data: Path, create: Callable[[Path], None], *variant: object) -> None:
    """Create the data folder of a server as a copy of the first one of this run with the same ``variant``.

    Its creation takes a second, and a run starts about 40 servers.
    """
    if SHARED not in os.environ:
        create(data)
        return
    template = Path(os.environ[SHARED], sha256(repr(variant).encode()).hexdigest()[:16], "data")
    template.parent.mkdir(exist_ok=True)
    owner = data.parent.stat()  # the user of the server
    os.chown(template.parent, owner.st_uid, owner.st_gid)
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done := template.with_suffix(".done")).exists():
            create(template)
            done.touch()
    subprocess.run(["cp", "-a", template, data], check=True)


def data_folder() -> str:
    """Return the parent of temporary folders, in memory if possible; its path is short, because the length of socket paths is limited."""
    has_space = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return str(MEMORY) if has_space else "/tmp"  # noqa: S108 - a private folder is created in it


def _await_end(pid: int) -> None:
    """Wait for the end of a process, which need not be a child of this one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


@cache
def private_postgresql(*, password: str = "", certificate: Path | None = None, why: str = "") -> str:
    """Return the URL, without password, of a server that stops at the end of this process; ``postgres`` is superuser.

    With a ``certificate`` (a file that also contains its key), the server listens on a port and requires TLS.
    """
    return _start_for_this_process(password, certificate, listening=certificate is not None, why=why)


def listening_postgresql(host: str = "127.0.0.1", port: int = 0) -> Url:
    """Return a new server on a local port, which stops at the end of this process; ``postgres`` is superuser.

    ``host``: a local address; ``port``: 0: a free one.
    """
    return parse_url(_start_for_this_process("", None, listening=True, host=host, port=port))


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test without a server, or fail it in CI, where no test may be skipped for this."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def archiving_postgresql(*settings: str) -> Iterator[Running]:
    """Yield a new server whose folder ``log`` gets the segments of its log; ``settings`` are further ones, as ``name=value``."""
    archive = "archive_command=mkdir -p ../log && cp %p ../log/.%f && mv ../log/.%f ../log/%f"
    with own_postgresql("archive_mode=on", archive, *settings) as server:
        yield server


@contextmanager
def own_postgresql(*settings: str) -> Iterator[Running]:
    """Yield a new server that records the times of transactions; ``settings`` are further ones, as ``name=value``."""
    own = ("track_commit_timestamp=on", *settings)
    server = _start("", None, listening=False, more=[word for setting in own for word in ("-c", setting)])
    try:
        yield server
    finally:
        server.stop()


@cache
def postgresql_version() -> int:
    """Return the major version of the PostgreSQL server of the tests."""
    with psycopg.connect(text(postgresql())) as connection:
        return connection.info.server_version // 10_000


@cache
def client(program: str, server: str = "") -> Path:
    """Return a client program of PostgreSQL whose version matches a server; default: that of the tests."""
    with psycopg.connect(server or text(postgresql())) as connection:
        return dump_programs.find_program(
            program, "tests", min_version=connection.info.server_version // 10_000
        ).path


def _check_postgresql(url: str, password: str = "") -> str:
    """Return why the server at ``url`` cannot be used, or an empty text."""
    try:
        psycopg.connect(url, password=password or None, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return ""


def _postgresql_binaries() -> Path | None:
    """Return the program folder that the environment names, or that of the newest installed server."""
    if folder := os.environ.get("DBCTL_TEST_POSTGRESQL_BINARIES"):
        return Path(folder)
    for folder in sorted(Path("/").glob(BINARIES.lstrip("/")), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _start_for_this_process(
    password: str,
    certificate: Path | None,
    *,
    listening: bool,
    why: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
) -> str:
    server = _start(password, certificate, listening=listening, why=why, host=host, port=port)
    atexit.register(server.stop)
    return server.url


def _start(
    password: str,
    certificate: Path | None,
    *,
    listening: bool,
    more: Sequence[str] = (),
    why: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
) -> Running:
    """Start a private server; if none is installed, skip the test, or fail in CI."""
    folder = _postgresql_binaries() or skip_or_fail(
        f"no PostgreSQL ({why or 'a private one'}; no {BINARIES}/initdb); set DBCTL_TEST_POSTGRESQL to use another server"
    )
    place = Path(tempfile.mkdtemp(prefix="dbctl-pg-", dir=data_folder()))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "postgres", "postgres")
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, secret = place / "data", place / "secret"
    secret.write_text(password)
    if as_user:
        shutil.chown(secret, "postgres", "postgres")
    authentication = ["-A", "scram-sha-256", f"--pwfile={secret}"] if password else ["-A", "trust"]
    initialize = [folder / "initdb", "-U", "postgres", *authentication, "-E", "UTF8", "--no-sync"]

    def create(data: Path) -> None:
        subprocess.run([*initialize, "-D", data], check=True, capture_output=True, cwd=place, **as_user)

    # dbctl compares the identifiers of servers, which copies share: a server at another address has its own
    create_data(data, create, folder, password, more, host)
    settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={place}"]
    where = f"/postgres?host={place}"
    if listening:
        port = port or free_port()
        settings += ["-c", f"listen_addresses={host}", "-p", str(port)]
        where = f"{host}:{port}/postgres"
    else:
        settings += ["-c", "listen_addresses="]
    if certificate:
        own = shutil.copy(certificate, place / "certificate")
        own.chmod(0o600)
        if as_user:
            shutil.chown(own, "postgres", "postgres")
        (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
        settings += ["-c", "ssl=on", "-c", f"ssl_cert_file={own}", "-c", f"ssl_key_file={own}"]
    running = subprocess.Popen(
        [folder / "postgres", "-D", data, *settings, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place,
        start_new_session=True,  # Ctrl-C must not reach the server
        **as_user,
    )
    url = f"postgresql://postgres@{where}"
    deadline = time.monotonic() + 30
    while reason := _check_postgresql(url, password):
        assert running.poll() is None, "the private server ended"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
    return Running(url, running, place, signal.SIGQUIT)  # SIGKILL would leave its shared memory


def free_port() -> int:
    """Return a port that nothing listens on.

    It is below the ports that the system gives to outgoing connections: a connection of another test could take one
    of those before a server listens, or while the server restarts.
    """
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.SystemRandom().randrange(10_000, int(lowest))  # tests seed the shared generator
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def connection(url: Url) -> psycopg.Connection:
    """Return a connection that does not use dbctl."""
    return psycopg.connect(
        text(url, schema=False),
        autocommit=True,
        options=f"-c search_path={ident(schema_of(url))}" if schema_of(url) else None,
    )


def text(url: Url, *, schema: bool = True) -> str:
    """Return ``url`` as text, in the form of a configuration."""
    password = f":{quote(url.password.reveal(), safe='')}" if url.password else ""
    options = "&".join(
        option for option in url.options.split("&") if option and (schema or not option.startswith("schema="))
    )
    port = f":{url.port}" if url.port else ""
    return f"{url.engine}://{url.user}{password}@{url.host}{port}/{url.path}" + (
        f"?{options}" if options else ""
    )


def schema_of(url: Url) -> str:
    return next(
        (option.removeprefix("schema=") for option in url.options.split("&") if option.startswith("schema=")),
        "",
    )


@cache
def _schema_database() -> Url:
    """Return the database in which this process creates schemas; it is dropped at the end of the process.

    In a database that all runs share, dead tuples in the catalogs would slow down queries, because the test server may have
    autovacuum off.
    """
    server = postgresql()
    name = f"t_{os.getpid()}_home_{time.time_ns():x}"
    with closing(connection(server)) as own:
        own.execute(f"create database {name} encoding 'UTF8' template template0")
        own.execute(f"alter database {name} set synchronous_commit = off")  # durability is not required

    def drop() -> None:
        while _idle_connections:
            _idle_connections.pop().close()
        with closing(connection(server)) as own:
            own.execute(f"drop database {name} with (force)")

    atexit.register(drop)
    return structs.replace(server, path=name)


#: Connections to the database of the schemas that no test uses at the moment.
_idle_connections: list[psycopg.Connection] = []


@contextmanager
def _schema_connection(server: Url) -> Iterator[psycopg.Connection]:
    """Yield a connection that is used again: a new one costs the server as much as creating a schema."""
    own = _idle_connections.pop() if _idle_connections else connection(server)
    try:
        yield own
    except BaseException:
        own.close()
        raise
    _idle_connections.append(own)


@contextmanager
def postgresql_schema() -> Iterator[Url]:
    """Yield an empty schema with a unique name; drop it with all objects at the end."""
    server = _schema_database()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    options = "&".join(option for option in (server.options, f"schema={name}") if option)
    url = structs.replace(server, options=options)
    with _schema_connection(server) as own:
        own.execute(f"create schema {ident(name)}")
        try:
            yield url
        finally:
            own.execute(f"drop schema if exists {ident(name)} cascade")
            if next(_schemas) % SCHEMAS_PER_VACUUM == 0:
                own.execute("vacuum")


@contextmanager
def postgresql_database(*, encoding: str, template: str = "template0") -> Iterator[Url]:
    """Yield a database with a unique name, empty or a copy of ``template``, which must have no connections; drop it at the end."""
    server = postgresql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    with closing(connection(server)) as own:
        # copying files takes half the time of writing them to the log, the default since version 15
        strategy = "strategy file_copy" if own.info.server_version >= 150_000 else ""
        own.execute(f"create database {name} encoding '{encoding}' locale 'C' template {template} {strategy}")
        try:
            yield structs.replace(server, path=name)
        finally:
            for (leftover,) in own.execute(  # includes databases that restores created
                "select datname from pg_database where datname = %s or starts_with(datname, %s)",
                [name, f"{name}_"],
            ).fetchall():
                own.execute(f"drop database {ident(leftover)} with (force)")


@cache
def mysql() -> Url:
    """Return a server whose user may create databases and users; without one, skip the test, or fail in CI."""
    if _named_mysql() not in ("", PRIVATE):
        return parse_url(_named_mysql())  # never replaced by another server
    if SHARED in os.environ and (_named_mysql() or all(_mariadb_binaries())):
        return parse_url(share("mysql", lambda: _start_mysql(SHARED_MYSQL, None, listening=True)))
    reason = "" if _named_mysql() else _check_mysql(parse_url(LOCAL_MYSQL))
    if not (reason or _named_mysql()):
        return parse_url(LOCAL_MYSQL)
    return private_mysql(why=reason)


def _named_mysql() -> str:
    """Return the URL that the environment names, ``PRIVATE``, or an empty text."""
    return os.environ.get("DBCTL_TEST_MYSQL", "")


@cache
def mysql_server() -> Server:
    """Return product and version of the MySQL or MariaDB server of the tests."""
    return server_at(mysql())


def server_at(url: Url) -> Server:
    """Return product and version of the MySQL or MariaDB server at ``url``."""
    with closing(mysql_connection(url)) as own:
        return parse_server(own.get_server_info(), "the server of tests")


@cache
def private_mysql(*settings: str, certificate: Path | None = None, why: str = "") -> Url:
    """Return a server that stops at the end of this process; ``root`` has all privileges and no password.

    It is MySQL if ``DBCTL_TEST_MYSQL`` names a MySQL server or ``PRIVATE``, otherwise MariaDB. With a ``certificate`` (a file that also
    contains its key), the server requires TLS.
    """
    server = _start_mysql(settings, certificate, why=why)
    atexit.register(server.stop)
    return parse_url(server.url)


@contextmanager
def logging_mysql(*settings: str) -> Iterator[Running]:
    """Yield a new server of MariaDB with a binary log in its folder ``data``."""
    server = _start_mysql(("--log-bin=mysql-bin", "--server-id=7", *settings), None)
    try:
        yield server
    finally:
        server.stop()


def listening_mysql(port: int) -> Url:
    """Return a new server on a local port, which stops at the end of this process; as ``private_mysql`` without settings."""
    server = _start_mysql((), None, listening=True, port=port)
    atexit.register(server.stop)
    return parse_url(server.url)


def _mariadb_binaries() -> tuple[str | None, str | None]:
    """Return the paths of the programs that initialize and run a server."""
    return shutil.which("mariadb-install-db"), shutil.which("mariadbd", path="/usr/sbin:/usr/bin")


def _mariadb_programs(why: str) -> tuple[str, list[str]]:
    """Return the server program, and the command that creates its data folder."""
    install, server = _mariadb_binaries()
    if not (install and server):
        skip_or_fail(
            f"no MariaDB ({why or 'a private one'}; no mariadb-install-db); set DBCTL_TEST_MYSQL to use another server"
        )
    return server, [install, "--auth-root-authentication-method=normal", "--skip-test-db"]


def _mysql_programs(why: str) -> tuple[str, list[str]]:
    """Return the server program, and the command that creates its data folder."""
    server = shutil.which("mysqld") or skip_or_fail(
        f"no mysqld on the PATH ({why or 'for a private server'})"
    )
    version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    if "MariaDB" in version:
        skip_or_fail(f"{server} is MariaDB, but DBCTL_TEST_MYSQL names a MySQL server")
    return server, [server, "--initialize-insecure"]


def _start_mysql(
    settings: tuple[str, ...],
    certificate: Path | None,
    *,
    listening: bool = False,
    port: int = 0,
    why: str = "",
) -> Running:
    is_mariadb = not _named_mysql() or (_named_mysql() != PRIVATE and mysql_server().is_mariadb)
    server, install = _mariadb_programs(why) if is_mariadb else _mysql_programs(why)
    place = Path(tempfile.mkdtemp(prefix="dbctl-my-", dir=data_folder()))
    as_user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "mysql", "mysql")
        as_user = ["--user=mysql"]
    data, socket_file = place / "data", place / "socket"
    # A server deletes temporary tables in its tmpdir when it starts, including those of another server.
    base_options = ["--no-defaults", f"--tmpdir={place}", *as_user]
    if is_mariadb:
        base_options.append("--debug-no-sync")
    else:  # MySQL fixes the case of names when it creates the data folder
        install += [setting for setting in settings if setting.startswith("--lower-case-table-names")]
        settings = (*MYSQL_SETTINGS, f"--pid-file={place / 'pid'}", *settings)

    def create(data: Path) -> None:
        command = [install[0], *base_options, f"--datadir={data}", *install[1:]]
        subprocess.run(command, check=True, capture_output=True)

    create_data(data, create, install)
    if certificate:
        own = shutil.copy(certificate, place / "certificate")
        own.chmod(0o600)
        if as_user:
            shutil.chown(own, "mysql", "mysql")
        settings += (f"--ssl-cert={own}", f"--ssl-key={own}", "--require-secure-transport=on")
    where, url = ["--skip-networking"], f"mysql://root@/mysql?unix_socket={socket_file}"
    if listening:
        port = port or free_port()
        where = ["--bind-address=127.0.0.1", f"--port={port}"]
        if is_mariadb:  # the user of MySQL is root@localhost, not root@127.0.0.1
            where.append("--skip-name-resolve")
        url = f"mysql://root@127.0.0.1:{port}/mysql"
    running = subprocess.Popen(
        [
            server,
            *base_options,
            f"--datadir={data}",
            f"--socket={socket_file}",
            *where,
            "--innodb-flush-log-at-trx-commit=0",
            *settings,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while reason := _check_mysql(parse_url(url)):
        assert running.poll() is None, "the private server ended"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
    return Running(url, running, place, signal.SIGKILL)


def _check_mysql(url: Url) -> str:
    """Return why the server at ``url`` cannot be used, or an empty text."""
    try:
        if socket_path := connection_arguments(url).get("unix_socket"):
            check_socket(str(socket_path))
        mysql_connection(url).close()
    except pymysql.Error as error:
        return str(error)
    return ""


class _TestConnection(pymysql.connections.Connection):
    _create_ssl_ctx = Session._create_ssl_ctx  # the method of the driver takes longer than most tests


def mysql_connection(url: Url) -> pymysql.Connection:
    """Return a connection that does not use dbctl; ``"`` quotes names, as in standard SQL."""
    connection = _TestConnection(**connection_arguments(url), charset="utf8mb4", autocommit=True)
    modes = ["ANSI_QUOTES", "PIPES_AS_CONCAT", "STRICT_ALL_TABLES"]
    if not parse_server(connection.get_server_info(), "the server of tests").backslash_escapes:
        modes.append("NO_BACKSLASH_ESCAPES")
    with connection.cursor() as cursor:
        cursor.execute(f"set sql_mode = '{','.join(modes)}'")
    return connection


@contextmanager
def mysql_database(*, server: Url | None = None, more: str = "character set utf8mb4") -> Iterator[Url]:
    """Yield an empty database with a unique name; drop it at the end."""
    server = server or mysql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    with closing(mysql_connection(server)) as own, own.cursor() as cursor:
        cursor.execute(f"create database {ident(name)} {more}")
        try:
            yield structs.replace(server, path=name)
        finally:
            cursor.execute("select schema_name from information_schema.schemata")
            for (leftover,) in cursor.fetchall():  # includes databases that restores created
                if leftover == name or leftover.startswith(f"{name}_"):
                    cursor.execute(f"drop database {ident(leftover)}")


@contextmanager
def private_mysql_app(folder: Path, *options: str) -> Iterator[pymysql.cursors.Cursor]:
    """Configure an app in ``folder`` with a database of a private server, and yield a cursor in it."""
    with (
        mysql_database(server=private_mysql(*options)) as url,
        closing(mysql_connection(url)) as own,
        own.cursor() as cursor,
    ):
        (folder / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\ndatabases = "{text(url)}"\nbackup.repository = "backups"\n'
        )
        yield cursor
