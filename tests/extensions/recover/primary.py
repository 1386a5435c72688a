"""A server that archives its log, with rows whose commit times are known, and an app whose database is on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests import servers

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "{url}"
[apps.shop.backup]
repository = "backups"
[apps.shop.recovery.databases.main]
{source}
"""
#: Copies and log are in the repository.
STORED_CONFIGURATION = """\
[apps.shop]
profile = "plain"
databases = "{url}"
backup.repository = "backups"
"""
#: Rows whose commit times are known; the ids of deleted rows and the time of the deletion are known, too.
TABLE = "create table sales (id integer generated always as identity primary key, note text)"
TIMES = "select id, pg_xact_commit_timestamp(xmin) from sales order by id"


class Sale(NamedTuple):
    """A row, and the times of the transactions that inserted and deleted it."""

    id: int
    inserted: datetime
    deleted: datetime | None = None

    def exists(self, at: datetime) -> bool:
        """Whether the row was there before a moment."""
        return self.inserted < at and (self.deleted is None or self.deleted >= at)


class Primary:
    """A server with a table of sales."""

    def __init__(self, server: servers.Running) -> None:
        self.server, self.folder = server, server.folder
        self.sales = list[Sale]()
        self._connection = psycopg.connect(server.url, autocommit=True)
        self.execute(TABLE)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def bases(self) -> Path:
        return self.folder / "bases"

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def sell(self, count: int, *, pause: float = 0) -> None:
        """Insert rows, each in a transaction of its own, with seconds between them."""
        for _ in range(count):
            self.execute("insert into sales (note) values (repeat('x', 20))")
            time.sleep(pause)
        known = {sale.id for sale in self.sales}
        self.sales += [Sale(*row) for row in self.execute(TIMES) if row[0] not in known]

    def delete(self, condition: str) -> datetime:
        """Delete rows; return the time of the transaction."""
        ids = {number for (number,) in self.execute(f"delete from sales where {condition} returning id")}
        ((deleted,),) = self.execute("select timestamp from pg_last_committed_xact()")
        self.sales = [sale._replace(deleted=deleted) if sale.id in ids else sale for sale in self.sales]
        return deleted

    def back_up(self, name: str, *options: str) -> Path:
        """Create a physical copy of the server."""
        destination = self.bases / name
        program = servers.client("pg_basebackup", self.server.url)
        command = [program, "-d", self.server.url, "-D", destination, "-c", "fast", *options]
        subprocess.run(command, check=True, capture_output=True)
        return destination

    def archive(self) -> None:
        """Archive the log up to now."""
        ((name,),) = self.execute("select pg_walfile_name(pg_current_wal_lsn())")
        self.execute("select pg_switch_wal()")
        deadline = time.monotonic() + 30
        while not (self.log / name).exists():
            assert time.monotonic() < deadline, f"{name} was not archived"
            time.sleep(0.05)

    def reconnect(self) -> None:
        """Connect again: a restore replaces the database, and ends its sessions."""
        self.close()
        self._connection = psycopg.connect(self.server.url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def end(self) -> None:
        """End the server at once."""
        self.close()
        self.server.process.send_signal(self.server.end)
        self.server.process.wait(timeout=30)

    def kill(self) -> None:
        """End the server at once, and copy what it did not archive."""
        self.end()
        for path in (self.folder / "data/pg_wal").iterdir():
            if path.is_file() and not (self.log / path.name).exists():
                shutil.copy(path, self.log)

    def begin_timeline(self) -> None:
        """Restart the server as after a recovery."""
        self.end()
        data = self.folder / "data"
        (data / "recovery.signal").touch()
        shutil.copystat(data / "PG_VERSION", data / "recovery.signal")
        owner = data.stat()
        os.chown(data / "recovery.signal", owner.st_uid, owner.st_gid)
        process = subprocess.Popen(
            [*self.server.process.args, "-c", "restore_command=false"],  # type: ignore[misc] # a list
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
        )
        self.server = replace(self.server, process=process)
        deadline = time.monotonic() + 30
        while True:
            try:
                self._connection = psycopg.connect(self.server.url, autocommit=True)
                if self.execute("select pg_is_in_recovery()") == [(False,)]:
                    return
                self._connection.close()
            except psycopg.OperationalError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def list_sales(self, at: datetime) -> list[int]:
        """Return the ids of the rows that were there before a moment."""
        return [sale.id for sale in self.sales if sale.exists(at)]

    def configure(self, folder: Path, *, database: str = "postgres", **source: object) -> None:
        """Write the configuration of an app whose database is on this server; ``source`` replaces the keys of its archive."""
        url = self.server.url.replace("/postgres?", f"/{database}?")
        source = source or {"base": self.bases, "log": self.log}
        keys = "\n".join(f'{name} = "{value}"' for name, value in source.items())
        (folder / "dbctl.toml").write_text(CONFIGURATION.format(url=url, source=keys))


def read_sales(dump: Path) -> list[int]:
    """Return the ids of the rows in a dump."""
    pg_restore = shutil.which("pg_restore") or servers.client("pg_restore")  # any that is new enough
    plain = subprocess.run(["gzip", "-dc", dump], check=True, capture_output=True).stdout
    rows = subprocess.run(
        [pg_restore, "--data-only", "--table=sales", "--file=-"], input=plain, check=True, capture_output=True
    ).stdout.decode()
    lines = rows.partition("FROM stdin;")[2].partition("\n\\.")[0].splitlines()[1:]
    return sorted(int(line.split("\t")[0]) for line in lines)


def write_time(time: datetime) -> str:
    """Return a time as an option."""
    return time.astimezone(UTC).isoformat()


def find_leftovers() -> Sequence[str]:
    """Return the folders and the processes that remain in the temporary folder of this test."""
    home = Path(tempfile.gettempdir())
    commands = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if f"{home}/" in text:
            commands.append(text)
    return [*map(str, home.glob("dbctl-*-*")), *commands]
