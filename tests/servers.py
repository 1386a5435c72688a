"""Servers for tests: the one that the environment names, the one of this machine, or a private one of installed binaries."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
from msgspec import structs

from dbctl.engines.sql import ident
from dbctl.url import Url, parse

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
BINARIES = "/usr/lib/postgresql/*/bin"
_number = count()


@cache
def postgresql() -> Url:
    """Return the server that tests use, as one that may create schemas, roles and databases; else skip, or fail in CI."""
    if given := os.environ.get("DBCTL_TEST_POSTGRESQL"):
        return parse(given)  # what was asked for is used, or fails
    reason = _reason(LOCAL)
    if not reason:
        return parse(LOCAL)
    return parse(private_postgresql(why=reason))


@cache
def private_postgresql(*, password: str = "", certificate: Path | None = None, why: str = "") -> str:
    """Return the URL, without the password, of a server that ends with this process; ``postgres`` may do everything.

    With a ``certificate``, the file of one with its key, it listens on a port and takes nobody who does not encrypt.
    """
    return _start(password, certificate, listening=certificate is not None, why=why)


def listening_postgresql() -> Url:
    """Return a new server on a port of this machine that ends with this process; ``postgres`` may do everything."""
    return parse(_start("", None, listening=True))


def _reason(url: str, password: str = "") -> str:
    """Return why the server at ``url`` is of no use, or nothing."""
    try:
        psycopg.connect(url, password=password or None, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return ""


def _binaries(why: str) -> Path:
    """Return the folder of the newest server that is installed; else skip, or fail in CI."""
    for folder in sorted(Path("/").glob(BINARIES.lstrip("/")), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    reason = (
        f"no PostgreSQL ({why or 'a private one'}; no {BINARIES}/initdb); DBCTL_TEST_POSTGRESQL may name one"
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _start(password: str, certificate: Path | None, *, listening: bool, why: str = "") -> str:
    """Start a private server that ends with this process."""
    folder = _binaries(why)
    place = Path(tempfile.mkdtemp(prefix="dbctl-pg-", dir="/tmp"))
    as_user: Sequence[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(place, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data, secret = place / "data", place / "secret"
    secret.write_text(password)
    if as_user:
        shutil.chown(secret, "postgres", "postgres")
    signing_in = ["-A", "scram-sha-256", f"--pwfile={secret}"] if password else ["-A", "trust"]
    subprocess.run(
        [*as_user, folder / "initdb", "-D", data, "-U", "postgres", *signing_in, "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
    )
    settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={place}"]
    where = f"/postgres?host={place}"
    if listening:
        port = _free_port()
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
        [*as_user, folder / "postgres", "-D", data, *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        running.terminate()
        running.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(stop)
    url = f"postgresql://postgres@{where}"
    deadline = time.monotonic() + 30
    while reason := _reason(url, password):
        assert running.poll() is None, "the private server ended"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
    return url


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def connection(url: Url) -> psycopg.Connection:
    """Return a connection that is no part of what is tested."""
    return psycopg.connect(
        text(url, schema=False),
        autocommit=True,
        options=f"-c search_path={ident(_schema(url))}" if _schema(url) else None,
    )


def text(url: Url, *, schema: bool = True) -> str:
    """Return ``url`` with everything in it, as it stands in a configuration."""
    password = f":{url.password.reveal()}" if url.password else ""
    options = "&".join(
        one for one in url.options.split("&") if one and (schema or not one.startswith("schema="))
    )
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.user}{password}@{url.host}{port}/{url.path}" + (
        f"?{options}" if options else ""
    )


def _schema(url: Url) -> str:
    return next(
        (one.removeprefix("schema=") for one in url.options.split("&") if one.startswith("schema=")), ""
    )


@contextmanager
def postgresql_schema() -> Iterator[Url]:
    """Give an empty schema of its own to one test, and take it away again with all that is in it."""
    server = postgresql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    options = "&".join(one for one in (server.options, f"schema={name}") if one)
    url = structs.replace(server, options=options)
    with closing(connection(server)) as own:
        own.execute(f"create schema {ident(name)}")
        try:
            yield url
        finally:
            own.execute(f"drop schema {ident(name)} cascade")


@contextmanager
def postgresql_database(*, encoding: str = "", template: Url | None = None) -> Iterator[Url]:
    """Give a database of its own to one test, empty or a copy; take it away again, and those called like it."""
    server = postgresql()
    name = f"t_{os.getpid()}_{next(_number)}_{time.time_ns():x}"
    like = f"template {template.path}" if template else "template template0"
    with closing(connection(server)) as own:
        own.execute(
            f"create database {name} {like}" + (f" encoding '{encoding}' locale 'C'" if encoding else "")
        )
        try:
            yield structs.replace(server, path=name)
        finally:
            for (left,) in own.execute(
                "select datname from pg_database where starts_with(datname, %s)", [name]
            ):
                own.execute(f"drop database {ident(left)} with (force)")
