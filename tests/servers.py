"""Servers for tests: the one that the environment names, a private one of installed binaries, or the one of this machine.

The private one is shared by all workers of a run. It keeps its data in memory, where there is room: a service of the machine
waits for its disk at every table, schema and database that a test makes.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
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
from itertools import count
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import psycopg
import pymysql
import pytest
from msgspec import structs

from dbctl.engines.mysql.options import connection_arguments
from dbctl.engines.mysql.session import Server, Session, check_socket, parse_server
from dbctl.engines.postgresql.backup import client_programs
from dbctl.engines.sql.query_builder import ident
from dbctl.url import Url, parse_url

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
BINARIES = "/usr/lib/postgresql/*/bin"
LOCAL_MYSQL = "mysql://root@127.0.0.1:3306/mysql"
#: As distributions set it up.
SHARED_MYSQL = (
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--innodb-flush-log-at-trx-commit=1",
)
#: Options that prevent a second port, synced writes and a missing folder of the package.
MYSQL_SETTINGS = ("--mysqlx=OFF", "--sync-binlog=0", "--secure-file-priv=NULL")
#: A file system in memory, and the bytes that must be free there.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - of tests
#: As a server is set up, apart from work that it does at moments of its own; ``doctor`` warns of ``fsync = off``.
SHARED_POSTGRESQL = ("-c", "fsync=on", "-c", "autovacuum=off", "-c", "max_wal_size=256MB")
#: Names the folder in which the workers of a run find the servers that they share.
SHARED = "DBCTL_TEST_SHARED"
#: After so many schemas the catalogue is vacuumed, which is cheaper than to search through what they left.
SCHEMAS_PER_VACUUM = 50
_number, _schemas = count(), count(1)


@dataclass(frozen=True)
class _Running:
    """A private server; ``folder`` holds all that it has stored, and ``end`` stops it without saving anything."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    end: signal.Signals

    def stop(self) -> None:
        self.process.send_signal(self.end)
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


#: Servers that outlive the worker that started them.
_shared: list[subprocess.Popen[bytes]] = []


@cache
def postgresql() -> Url:
    """Return the server that tests use, as one that may create schemas, roles and databases; else skip, or fail in CI."""
    if url_text := os.environ.get("DBCTL_TEST_POSTGRESQL"):
        return parse_url(url_text)  # what was asked for is used, or fails
    if SHARED in os.environ and _postgresql_binaries():
        return parse_url(
            _share("postgresql", lambda: _start("", None, listening=True, more=SHARED_POSTGRESQL))
        )
    reason = _reason(LOCAL)
    if not reason:
        return parse_url(LOCAL)
    return parse_url(private_postgresql(why=reason))


def begin_sharing() -> None:
    """Let this process and those that it starts share servers until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="dbctl-servers-", dir="/tmp"))
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


def _share(name: str, start: Callable[[], _Running]) -> str:
    """Return the URL of the server that the workers of this run share; the first worker that asks starts it."""
    file = Path(os.environ[SHARED], f"{name}.json")
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            server = start()
            _shared.append(server.process)
            state = {
                "url": server.url,
                "pid": server.process.pid,
                "end": server.end,
                "folder": str(server.folder),
            }
            file.write_text(json.dumps(state))
        url: str = json.loads(file.read_text())["url"]
        return url


def _place() -> str:
    """Return the folder below which servers keep their data; its path is short, as a socket's must be."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return str(MEMORY) if roomy else "/tmp"  # noqa: S108 - a private folder is created in it


def _await_end(pid: int) -> None:
    """Wait until a process has ended that this one may not have started."""
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
    """Return the URL, without the password, of a server that ends with this process; ``postgres`` may do everything.

    With a ``certificate`` (a file with its key), it listens on a port and requires encryption.
    """
    return _start_for_this_process(password, certificate, listening=certificate is not None, why=why)


def listening_postgresql() -> Url:
    """Return a new server on a port of this machine that ends with this process; ``postgres`` may do everything."""
    return parse_url(_start_for_this_process("", None, listening=True))


def missing(reason: str) -> NoReturn:
    """End a test for which there is no server: in CI nothing is left out."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def client(program: str) -> Path:
    """Return a program of PostgreSQL's that fits the server of the tests."""
    with psycopg.connect(text(postgresql())) as connection:
        return client_programs.find_program(
            program, "tests", min_version=connection.info.server_version // 10_000
        ).path


def _reason(url: str, password: str = "") -> str:
    """Return why the server at ``url`` is of no use, or nothing."""
    try:
        psycopg.connect(url, password=password or None, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return ""


def _postgresql_binaries() -> Path | None:
    """Return the folder that the environment names, or that of the newest installed server."""
    if folder := os.environ.get("DBCTL_TEST_POSTGRESQL_BINARIES"):
        return Path(folder)
    for folder in sorted(Path("/").glob(BINARIES.lstrip("/")), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _start_for_this_process(
    password: str, certificate: Path | None, *, listening: bool, why: str = ""
) -> str:
    server = _start(password, certificate, listening=listening, why=why)
    atexit.register(server.stop)
    return server.url


def _start(
    password: str, certificate: Path | None, *, listening: bool, more: Sequence[str] = (), why: str = ""
) -> _Running:
    """Start a private server; skip, or fail in CI, where none is installed."""
    folder = _postgresql_binaries() or missing(
        f"no PostgreSQL ({why or 'a private one'}; no {BINARIES}/initdb); DBCTL_TEST_POSTGRESQL may name one"
    )
    place = Path(tempfile.mkdtemp(prefix="dbctl-pg-", dir=_place()))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(place, "postgres", "postgres")
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, secret = place / "data", place / "secret"
    secret.write_text(password)
    if as_user:
        shutil.chown(secret, "postgres", "postgres")
    signing_in = ["-A", "scram-sha-256", f"--pwfile={secret}"] if password else ["-A", "trust"]
    subprocess.run(
        [folder / "initdb", "-D", data, "-U", "postgres", *signing_in, "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=place,
        **as_user,
    )
    settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={place}"]
    where = f"/postgres?host={place}"
    if listening:
        port = free_port()
        settings += ["-c", "listen_addresses=127.0.0.1", "-p", str(port)]
        where = f"127.0.0.1:{port}/postgres"
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
        start_new_session=True,  # Ctrl-C is for the tests
        **as_user,
    )
    url = f"postgresql://postgres@{where}"
    deadline = time.monotonic() + 30
    while reason := _reason(url, password):
        assert running.poll() is None, "the private server ended"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
    return _Running(url, running, place, signal.SIGQUIT)  # killed, it would leave its shared memory


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def connection(url: Url) -> psycopg.Connection:
    """Return a connection that is no part of what is tested."""
    return psycopg.connect(
        text(url, schema=False),
        autocommit=True,
        options=f"-c search_path={ident(schema_of(url))}" if schema_of(url) else None,
    )


def text(url: Url, *, schema: bool = True) -> str:
    """Return ``url`` as text, as in a configuration."""
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
def _home() -> Url:
    """Return a database in which this process may make schemas; it ends with the process.

    In one that all runs share, what they leave in the catalogue would slow down every question about it: a server for
    tests may be one that never vacuums by itself.
    """
    server = postgresql()
    name = f"t_{os.getpid()}_home_{time.time_ns():x}"
    with closing(connection(server)) as own:
        own.execute(f"create database {name} encoding 'UTF8' template template0")
        own.execute(f"alter database {name} set synchronous_commit = off")  # nothing here outlives the server

    def drop() -> None:
        with closing(connection(server)) as own:
            own.execute(f"drop database {name} with (force)")

    atexit.register(drop)
    return structs.replace(server, path=name)


@contextmanager
def postgresql_schema() -> Iterator[Url]:
    """Give an empty schema of its own to one test, and take it away again with all that is in it."""
    server = _home()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    options = "&".join(option for option in (server.options, f"schema={name}") if option)
    url = structs.replace(server, options=options)
    with closing(connection(server)) as own:
        own.execute(f"create schema {ident(name)}")
        try:
            yield url
        finally:
            own.execute(f"drop schema if exists {ident(name)} cascade")
            if next(_schemas) % SCHEMAS_PER_VACUUM == 0:
                own.execute("vacuum")


@contextmanager
def postgresql_database(*, encoding: str) -> Iterator[Url]:
    """Give an empty database of its own to one test, and take it away again."""
    server = postgresql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    with closing(connection(server)) as own:
        own.execute(f"create database {name} encoding '{encoding}' locale 'C' template template0")
        try:
            yield structs.replace(server, path=name)
        finally:
            for (leftover,) in own.execute(  # also databases that restores created
                "select datname from pg_database where datname = %s or starts_with(datname, %s)",
                [name, f"{name}_"],
            ).fetchall():
                own.execute(f"drop database {ident(leftover)} with (force)")


@cache
def mysql() -> Url:
    """Return the server that tests use, as one that may create databases and users; else skip, or fail in CI."""
    if url_text := os.environ.get("DBCTL_TEST_MYSQL"):
        return parse_url(url_text)  # what was asked for is used, or fails
    if SHARED in os.environ and all(_mariadb_binaries()):
        return parse_url(_share("mysql", lambda: _start_mysql(SHARED_MYSQL, None, listening=True)))
    reason = _mysql_reason(parse_url(LOCAL_MYSQL))
    if not reason:
        return parse_url(LOCAL_MYSQL)
    return private_mysql(why=reason)


@cache
def mysql_server() -> Server:
    """Return what the server of MySQL or MariaDB is that tests use."""
    return server_at(mysql())


def server_at(url: Url) -> Server:
    """Return what the server of MySQL or MariaDB at an address is."""
    with closing(mysql_connection(url)) as own:
        return parse_server(own.get_server_info(), "the server of tests")


@cache
def private_mysql(*settings: str, certificate: Path | None = None, why: str = "") -> Url:
    """Return a server that ends with this process; ``root`` may do everything without a password.

    It is of MySQL where ``DBCTL_TEST_MYSQL`` names a server of MySQL, else of MariaDB. With a ``certificate``, the file of
    a certificate with its key, it accepts only clients that encrypt.
    """
    server = _start_mysql(settings, certificate, why=why)
    atexit.register(server.stop)
    return parse_url(server.url)


def _mariadb_binaries() -> tuple[str | None, str | None]:
    """Return the paths of the programs that make and run a server."""
    return shutil.which("mariadb-install-db"), shutil.which("mariadbd", path="/usr/sbin:/usr/bin")


def _mariadb_programs(why: str) -> tuple[str, list[str]]:
    """Return the server program, and the words of the command that makes its data folder."""
    install, server = _mariadb_binaries()
    if not (install and server):
        missing(
            f"no MariaDB ({why or 'a private one'}; no mariadb-install-db); DBCTL_TEST_MYSQL may name one"
        )
    return server, [install, "--auth-root-authentication-method=normal", "--skip-test-db"]


def _mysql_programs(why: str) -> tuple[str, list[str]]:
    """Return the server program, and the words of the command that makes its data folder."""
    server = shutil.which("mysqld") or missing(f"no mysqld on the PATH ({why or 'for a private server'})")
    version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    if "MariaDB" in version:
        missing(f"{server} is of MariaDB, the server of DBCTL_TEST_MYSQL is of MySQL")
    return server, [server, "--initialize-insecure"]


def _start_mysql(
    settings: tuple[str, ...], certificate: Path | None, *, listening: bool = False, why: str = ""
) -> _Running:
    is_mariadb = not os.environ.get("DBCTL_TEST_MYSQL") or mysql_server().is_mariadb
    server, install = _mariadb_programs(why) if is_mariadb else _mysql_programs(why)
    place = Path(tempfile.mkdtemp(prefix="dbctl-my-", dir=_place()))
    as_user = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(place, "mysql", "mysql")
        as_user = ["--user=mysql"]
    data, socket_file = place / "data", place / "socket"
    # A starting server removes temporary tables in /tmp, also those of another server.
    basics = ["--no-defaults", f"--datadir={data}", f"--tmpdir={place}", *as_user]
    if is_mariadb:
        basics.append("--debug-no-sync")
    else:  # MySQL fixes the case of names when it makes the data folder
        install += [setting for setting in settings if setting.startswith("--lower-case-table-names")]
        settings = (*MYSQL_SETTINGS, f"--pid-file={place / 'pid'}", *settings)
    subprocess.run([install[0], *basics, *install[1:]], check=True, capture_output=True)
    if certificate:
        own = shutil.copy(certificate, place / "certificate")
        own.chmod(0o600)
        if as_user:
            shutil.chown(own, "mysql", "mysql")
        settings += (f"--ssl-cert={own}", f"--ssl-key={own}", "--require-secure-transport=on")
    where, url = ["--skip-networking"], f"mysql://root@/mysql?unix_socket={socket_file}"
    if listening:
        port = free_port()
        where = ["--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve"]
        url = f"mysql://root@127.0.0.1:{port}/mysql"
    running = subprocess.Popen(
        [
            server,
            *basics,
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
    while reason := _mysql_reason(parse_url(url)):
        assert running.poll() is None, "the private server ended"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
    return _Running(url, running, place, signal.SIGKILL)


def _mysql_reason(url: Url) -> str:
    """Return why the server at ``url`` is of no use, or nothing."""
    try:
        if socket_path := connection_arguments(url).get("unix_socket"):
            check_socket(str(socket_path))
        mysql_connection(url).close()
    except pymysql.Error as error:
        return str(error)
    return ""


class _Own(pymysql.connections.Connection):
    _create_ssl_ctx = Session._create_ssl_ctx  # the driver's takes longer than most tests


def mysql_connection(url: Url) -> pymysql.Connection:
    """Return a connection that is no part of what is tested; ``"`` quotes names on it, as everywhere."""
    connection = _Own(**connection_arguments(url), charset="utf8mb4", autocommit=True)
    modes = ["ANSI_QUOTES", "PIPES_AS_CONCAT", "STRICT_ALL_TABLES"]
    if not parse_server(connection.get_server_info(), "the server of tests").backslash_escapes:
        modes.append("NO_BACKSLASH_ESCAPES")
    with connection.cursor() as cursor:
        cursor.execute(f"set sql_mode = '{','.join(modes)}'")
    return connection


@contextmanager
def mysql_database(*, server: Url | None = None, more: str = "character set utf8mb4") -> Iterator[Url]:
    """Give an empty database of its own to one test, and take it away again with all that is in it."""
    server = server or mysql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    with closing(mysql_connection(server)) as own, own.cursor() as cursor:
        cursor.execute(f"create database {ident(name)} {more}")
        try:
            yield structs.replace(server, path=name)
        finally:
            cursor.execute("select schema_name from information_schema.schemata")
            for (leftover,) in cursor.fetchall():  # also databases that restores created
                if leftover == name or leftover.startswith(f"{name}_"):
                    cursor.execute(f"drop database {ident(leftover)}")
