"""A server of MariaDB with a binary log, with rows whose times are known, and an app whose database is on it."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymysql

from dbctl.engines.mysql.opening import check_socket
from tests import servers
from tests.extensions.recover.primary import Sale

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "{url}"
[apps.shop.backup]
repository = "backups"
"""
ARCHIVE = """\
[apps.shop.recovery.databases.main]
log = "{log}"
"""
TABLE = (
    "create table shop.sales (id int auto_increment primary key, at datetime(6) not null, note varchar(40))"
)
ROWS = "select id, at from shop.sales order by id"
#: A row of a dump.
_ROW = re.compile(r"\((\d+),'\d{4}-")


class Source:
    """A server with a table of sales in the database ``shop``, and with another database."""

    def __init__(self, server: servers.Running, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.logs = server.folder / "data"
        self.sales = list[Sale]()
        self._process = server.process
        self.url = servers.parse_url(server.url)
        self._connection = servers.mysql_connection(self.url)
        self.run("create database shop", "create database other", TABLE)
        self.configure(self.logs)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; return the rows of the last one."""
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def sell(self, count: int, *, pause: float = 0) -> None:
        """Insert rows, each in a transaction of its own, with seconds between them."""
        for _ in range(count):
            self.run("insert into shop.sales (at) values (now(6))")
            time.sleep(pause)
        known = {sale.id for sale in self.sales}
        rows = [Sale(row, at.replace(tzinfo=UTC)) for row, at in self.run(ROWS) if row not in known]
        self.sales += rows

    def delete(self, condition: str) -> None:
        """Delete rows."""
        ids = {row for (row,) in self.run(f"select id from shop.sales where {condition}")}
        ((now,),) = self.run("set @at = now(6)", "select @at")
        deleted = datetime.fromisoformat(str(now)).replace(tzinfo=UTC)
        self.run(f"delete from shop.sales where {condition}")
        self.sales = [sale._replace(deleted=deleted) if sale.id in ids else sale for sale in self.sales]

    def list_sales(self, at: datetime) -> list[int]:
        """Return the ids of the rows that were there before a moment."""
        return [sale.id for sale in self.sales if sale.exists(at)]

    def configure(self, log: Path | None, folder: Path | None = None) -> None:
        """Write the configuration of the app, whose database is on this server; None: the repository has its log."""
        url = self.server.url.replace("/mysql?", "/shop?")
        archive = ARCHIVE.format(log=log) if log else ""
        ((folder or self.folder) / "dbctl.toml").write_text(CONFIGURATION.format(url=url) + archive)

    def back_up(self) -> None:
        """Create a backup of the app."""
        command = [sys.executable, "-m", "dbctl", "backup", "create"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def wait_for_next_second(self) -> datetime:
        """Return the beginning of a second that has begun."""
        ((now,),) = self.run("select now()")
        while self.run("select now()") == [(now,)]:
            time.sleep(0.02)
        return now.replace(tzinfo=UTC) + timedelta(seconds=1)

    def copy_logs(self, folder: Path) -> Path:
        """Copy the binary logs into a new folder."""
        folder.mkdir()
        for path in self.list_logs():
            shutil.copy(path, folder)
        return folder

    def list_logs(self) -> list[Path]:
        return sorted(self.logs.glob("mysql-bin.0*[0-9]"))  # without the ``.idx`` files of MariaDB 11.8

    def restart(self) -> None:
        """Start the server again after its end."""
        self._process = subprocess.Popen(
            self.server.process.args,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                check_socket(str(self.server.folder / "socket"))
            except pymysql.Error:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                break
        self._connection = servers.mysql_connection(self.url)

    def kill(self) -> None:
        """End the server at once."""
        self._connection.close()
        self._process.send_signal(self.server.end)
        self._process.wait(timeout=30)


def read_dump(path: Path) -> str:
    """Return the text of a dump."""
    return gzip.decompress(path.read_bytes()).decode()


def list_ids(dump: str) -> list[int]:
    """Return the ids of the sales in a dump."""
    return [int(match) for match in _ROW.findall(dump)]


def load(dump: str) -> list[tuple[Any, ...]]:
    """Load a dump into a new database of the server of the tests, and return the sales."""
    with servers.mysql_database() as url:
        arguments = servers.connection_arguments(url)
        where = (
            ["--socket", str(arguments["unix_socket"])]
            if "unix_socket" in arguments
            else ["--host", str(arguments["host"]), "--port", str(arguments["port"])]
        )
        command = ["mariadb", "--no-defaults", "--user", str(arguments["user"]), *where, url.path]
        subprocess.run(command, input=dump.encode(), check=True, capture_output=True)
        with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
            cursor.execute("select * from sales order by id")
            return list(cursor.fetchall())


def write_time(at: datetime) -> str:
    """Return a time as an option."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def list_processes(folder: Path) -> Sequence[str]:
    """Return the commands of the processes that use a folder."""
    commands = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if str(folder) in text:
            commands.append(text)
    return commands
