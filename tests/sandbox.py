"""A PostgreSQL server for one test, with separate settings, whose files the test may damage while it is stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.servers import BINARIES, create_data, data_folder


class PrivateServer:
    """A server that listens only on a private socket; ``postgres`` is superuser."""

    def __init__(self, binaries: Path, place: Path, settings: Sequence[str]) -> None:
        self.data, self.binaries, self._place = place / "data", binaries, place
        self.url = f"postgresql://postgres@/postgres?host={place}"
        self._settings = [word for setting in settings for word in ("-c", setting)]
        self._as_user: Sequence[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(place, "postgres", "postgres")
            self._as_user = ["runuser", "-u", "postgres", "--"]
        self._create_data()
        self._running: subprocess.Popen[bytes] | None = None

    def _create_data(self) -> None:
        create_data(self.data, self._initialize, self.binaries, "checksums")

    def _initialize(self, data: Path) -> None:
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--data-checksums"]
        command = [*self._as_user, self.binaries / "initdb", "-D", data, *options]
        subprocess.run(command, check=True, capture_output=True)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [*self._as_user, self.binaries / program, "-D", self.data, *words],
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        where = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._place}", "-c", "fsync=off"]
        self._running = subprocess.Popen(
            [*self._as_user, self.binaries / "postgres", "-D", self.data, *where, *self._settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._running.poll() is None, "the private server ended"
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Stop the server after a checkpoint, so that its files are complete."""
        if self._running is not None:
            self._run("pg_ctl", "stop", "-m", "fast")
            self._running.wait(timeout=30)
            self._running = None

    def kill(self) -> None:
        """End the server as a power failure would; SIGKILL would leave its shared memory."""
        if self._running is not None:
            self._run("pg_ctl", "stop", "-m", "immediate")
            self._running.wait(timeout=30)
            self._running = None

    def connection(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)


class Standby(PrivateServer):
    """A server that replicates all changes of a primary."""

    def __init__(self, primary: PrivateServer, place: Path, settings: Sequence[str]) -> None:
        self._primary = primary
        super().__init__(primary.binaries, place, settings)

    def _create_data(self) -> None:
        options = ["-X", "stream", "--checkpoint=fast", "--no-sync", "--write-recovery-conf", "-D", self.data]
        command = [*self._as_user, self.binaries / "pg_basebackup", "-d", self._primary.url, *options]
        subprocess.run(command, check=True, capture_output=True)

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "--wait")

    def wait_for_replay(self) -> None:
        """Wait until every change of the primary is visible here."""
        with closing(self._primary.connection()) as connection:
            ((position,),) = connection.execute("select pg_current_wal_insert_lsn()").fetchall()
        deadline = time.monotonic() + 30
        with closing(self.connection()) as connection:
            sql = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
            while connection.execute(sql, [position]).fetchall() != [(True,)]:
                assert time.monotonic() < deadline, "the standby does not replay"
                time.sleep(0.01)


@contextmanager
def start_standby(primary: PrivateServer, *settings: str, parent: str = "") -> Iterator[Standby]:
    """Yield a running standby of ``primary`` with ``settings``, whose files are below ``parent``."""
    place = Path(tempfile.mkdtemp(prefix="dbctl-pg-", dir=parent or data_folder()))
    try:
        standby = Standby(primary, place, settings)
        try:
            standby.start()
            yield standby
        finally:
            standby.kill()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def start_private(*settings: str) -> Iterator[PrivateServer]:
    """Yield a server with ``settings`` (``name=value``); if none is installed, skip the test, or fail in CI."""
    programs = sorted(Path("/").glob(BINARIES.lstrip("/")), reverse=True)
    binaries = next((folder for folder in programs if (folder / "initdb").exists()), None)
    if binaries is None:
        reason = f"no PostgreSQL binaries ({BINARIES}/initdb)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="dbctl-pg-", dir=data_folder()))
    try:
        server = PrivateServer(binaries, place, settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)
