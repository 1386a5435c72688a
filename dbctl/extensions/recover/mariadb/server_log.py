"""The binary log of a MariaDB server, by ``mariadb-binlog``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

from dbctl import signals
from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.mysql import dump_programs
from dbctl.engines.mysql.database import MySQLDatabase, MySQLPart
from dbctl.engines.sql.catalog import Row
from dbctl.errors.base import Remedy
from dbctl.errors.connection import (
    ClientFailedError,
    ClientMissingError,
    PrivilegeMissingError,
    report_file_errors,
)
from dbctl.extensions.recover.contract import FetchedLog, ServerLog
from dbctl.extensions.recover.errors import LogForeignError, LogUnusableError
from dbctl.extensions.recover.log_checks import LogChecks
from dbctl.extensions.recover.mariadb import events
from dbctl.extensions.recover.mariadb.events import (
    MAGIC,
    DamagedLogError,
    EncryptedLogError,
    Event,
    EventReader,
    Gtid,
)
from dbctl.extensions.recover.mariadb.logs import (
    PART,
    format_gtids,
    format_time,
    number_of,
    parse_gtids,
    read_transactions,
    split_position,
)

_PROGRAM = "mariadb-binlog"
_INSTEAD = "Nothing was stored."
_CLOCK = "select utc_timestamp(), @@global.server_id"
#: What a server answers to a user who may not read its log, and if it does not have a position.
_DENIED = re.compile(r"Access denied; you need .*")
_NO_POSITION = re.compile(r"Could not find first log|the first event '")


class _Position(NamedTuple):
    file: str
    position: int

    def __str__(self) -> str:
        return f"{self.file}:{self.position}"


class _NoPositionError(Exception):
    """The server does not have a position; the argument is its answer."""


class _Copy:
    """The log from a position on, whose files are read in their order."""

    def __init__(self, start: _Position, gtids: Mapping[int, Gtid], server: int) -> None:
        """``gtids``: the last transaction of each domain before ``start``; at the beginning of a file, that has them."""
        self.start, self.gtids, self._server = start, gtids, server
        self.files = list[Path]()
        self.before = list[Mapping[int, Gtid]]()  #: the last transactions before each file
        self.created = list[int]()  #: when the server began each file, in seconds
        self.latest = 0  #: the latest time of a transaction, in seconds
        self.replicated = 0  #: that of another server; 0: there is none
        self.end = start  #: after the last complete transaction
        self.bytes = 0  #: of the last file up to there
        self.reached = start  #: after the last event

    def add(self, raw: Path, limit: int | None) -> None:
        """Add a file of ``mariadb-binlog``, up to the first transaction that begins at a position of the server, or later.

        Raises:
            DamagedLogError, EncryptedLogError: as ``EventReader``.
        """
        name, start = raw.name, self.start.position
        if self.files or start == len(MAGIC):
            self.files.append(raw.replace(raw.parent.parent / name))
        else:
            self.files.append(raw.parent.parent / f"{name}{PART}{start}")
            events.write_part(raw, self.files[-1], start, self.gtids)
        reader = EventReader(self.files[-1])
        for item in read_transactions(reader):
            signals.raise_if_interrupted()
            begin = item.position if isinstance(item, Event) else item.start
            if limit is not None and begin + reader.shift >= limit:
                return
            self.reached = _Position(name, item.end + reader.shift)
            if isinstance(item, Event):
                if item.kind == events.FORMAT:
                    self.created.append(item.time)
                elif item.kind == events.GTID_LIST:
                    self.gtids = events.read_gtid_list(item)
                    self.before.append(self.gtids)
            elif item.is_complete:
                self.gtids = {**self.gtids, item.gtid.domain: item.gtid}
                self.latest = max(self.latest, item.time)
                if item.gtid.server != self._server:
                    self.replicated = max(self.replicated, item.time)
            else:  # of a crash, or the server is still writing it
                continue
            self.end, self.bytes = self.reached, item.end


class MariaDBServerLog(MySQLPart, ServerLog, LogChecks):
    copy_remedy = Remedy("Create one with: `backup create`")

    def describe_fetch(self, name: str) -> Sequence[str]:
        del name  # the server remembers nothing
        return [f"fetch the binary log since the last call, up to {self._read_end()}"]

    def fetch(self, folder: Path, name: str, last: Mapping[str, str]) -> FetchedLog | None:
        """Return the log as ``ServerLog.fetch``.

        Raises:
            LogUnusableError: the server has no log, or encrypts it.
        """
        del name
        # The time is read before the position, so that the log has all that was committed before it.
        ((clock, server),) = self._connection.fetch(_CLOCK)
        if last and last["server_id"] != str(server):
            raise LogForeignError(
                target=self._connection.target,
                stored=f"with server_id {last['server_id']}",
                system=f"the one with server_id {server}",
            )
        end = self._read_end()
        ((later, _),) = self._connection.fetch(_CLOCK)
        copy, lost = None, ""
        try:
            if last:
                copy = self._continue(folder, last, end)
            if copy is None:
                file = next(iter(self._list_files())) if last else end.file
                copy = self._copy(folder, _Position(file, len(MAGIC)), end, {}, int(str(server)))
                lost = _describe_loss(last, copy) if last else ""
        except _NoPositionError as error:
            raise self._create_error(str(error)) from None
        if copy.end == copy.start:
            return None
        # a replica has the transactions of its primary up to this time, as far as its log shows
        replicated = datetime.fromtimestamp(copy.replicated, UTC)
        remarks = []
        if copy.latest > _to_utc(later).timestamp():
            remarks.append(
                f"the clock of the server was set back: its log has a transaction of {format_time(copy.latest)};"
                " a moment is recovered as of the first transaction that is not before it"
            )
        return FetchedLog(
            files=copy.files,
            finished=copy.files,
            facts={
                "server_id": str(server),
                "start": str(copy.start),
                "end": str(copy.end),
                "gtid": format_gtids(copy.gtids),
                "created": str(copy.created[-1]),
            },
            read_at=min(_to_utc(clock), replicated) if copy.replicated else _to_utc(clock),
            lost=lost,
            remarks=remarks,
        )

    def read_clock(self) -> datetime:
        return _to_utc(self._connection.fetch("select utc_timestamp(6)")[0][0])

    def find_problems(self, name: str, last: Mapping[str, str]) -> Iterator[EngineFinding]:
        del name, last  # nothing that endangers the log can be read without the privileges of ``backup log``
        yield from ()

    def _query(self, sql: str) -> list[Row]:
        try:
            return self._connection.fetch(sql)
        except PrivilegeMissingError as error:
            raise self._create_denied_error(str(error.context["reason"])) from error

    def _read_end(self) -> _Position:
        for file, position, *_ in self._query("show master status"):
            return _Position(str(file), int(str(position)))
        raise LogUnusableError(
            target=self._connection.target,
            reason="its server has none",
            hint="Set log_bin in the configuration of the server, and restart it.",
        )

    def _list_files(self) -> dict[str, int]:
        """Return the sizes of the files of the log, the oldest first."""
        return {str(file): int(str(size)) for file, size, *_ in self._query("show binary logs")}

    def _continue(self, folder: Path, last: Mapping[str, str], end: _Position) -> _Copy | None:
        """Copy the log from the end of its last part on; None: the server does not have it any more."""
        start = _Position(*split_position(last["end"]))
        if self._list_files().get(start.file, 0) < start.position:
            return None
        try:
            copy = self._copy(folder, start, end, parse_gtids(last["gtid"]), int(last["server_id"]))
        except _NoPositionError:
            return None
        return copy if copy.created[0] == int(last["created"]) else None

    def _copy(
        self, folder: Path, start: _Position, end: _Position, gtids: Mapping[int, Gtid], server: int
    ) -> _Copy:
        """Copy the log from one position to that of the server, instead of what a folder has.

        Raises:
            _NoPositionError: the server does not have the start.
            ClientFailedError: the copy is damaged, or ends before ``end``.
            LogUnusableError: the log is encrypted.
        """
        copy, raw = _Copy(start, gtids, server), folder / "raw"
        with report_file_errors(folder):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raw.mkdir(mode=0o700)
        self._run(raw, start)
        try:
            with report_file_errors(folder):
                for path in sorted(raw.iterdir(), key=lambda path: number_of(path.name)):
                    if copy.reached.file == end.file and copy.files:
                        break  # the server has begun another file since then
                    copy.add(path, end.position if path.name == end.file else None)
                if not copy.files or copy.reached.file != end.file or copy.reached < end:
                    raise self._create_error(f"it copied the log up to {copy.reached}, not to {end}")
                os.truncate(copy.files[-1], copy.bytes)
                shutil.rmtree(raw)
        except DamagedLogError as error:
            raise self._create_error(f"{path.name}: {error}") from error
        except EncryptedLogError:
            raise LogUnusableError(
                target=self._connection.target,
                reason="its server encrypts it",
                hint="Only the server has the key. Set encrypt_binlog = OFF, and restart it.",
            ) from None
        return copy

    def _run(self, folder: Path, start: _Position) -> None:
        """Let the program copy the log from a position on into a folder; raises as ``_copy``."""
        connection, session = self._connection, self._connection.session
        url, target = connection.url, connection.target
        program = shutil.which(_PROGRAM)
        if program is None:
            raise ClientMissingError(
                target=target,
                program=_PROGRAM,
                product="MariaDB",
                version=".".join(map(str, session.server.version[:2])),
                package=dump_programs.PACKAGES["MariaDB"],
            )
        arguments = [
            "--read-from-remote-server",
            "--raw",
            "--to-last-log",
            f"--result-file={folder}/",
            f"--start-position={start.position}",
            start.file,
        ]
        with dump_programs.run_client(
            dump_programs.Tool(path=Path(program), version=""),
            arguments,
            url,
            session.server,
            target,
            watch=dump_programs.create_watch(
                url, session.database, target, _INSTEAD, timeout=connection.timeout
            ),
            writes=True,
        ) as client:
            for _ in client.blocks():
                pass
            if not client.finish():
                return
            output = client.error_output()
            if match := _DENIED.search(output):
                raise self._create_denied_error(match[0])
            if _NO_POSITION.search(output):
                raise _NoPositionError(output.strip())
            raise dump_programs.to_error(client, url, target, timeout=connection.timeout, instead=_INSTEAD)

    def _create_error(self, reason: str) -> ClientFailedError:
        return ClientFailedError(
            target=self._connection.target, program=_PROGRAM, reason=reason, hint=_INSTEAD
        )

    def _create_denied_error(self, reason: str) -> PrivilegeMissingError:
        grant = f"GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {self._connection.session.account};"
        return PrivilegeMissingError(
            target=self._connection.target, reason=reason, hint=f"{_INSTEAD} As an administrator: {grant}"
        )


def _describe_loss(last: Mapping[str, str], copy: _Copy) -> str:
    """Return what is missing between the last part of a log and a new one; empty: nothing."""
    end = last["end"]
    files = number_of(copy.start.file) - number_of(split_position(end)[0])
    if files == 1 and copy.before[0] == parse_gtids(last["gtid"]):
        return ""
    return f"from {end} to {copy.start}" if files > 0 else f"from {end} on: it begins again at {copy.start}"


def _to_utc(time: object) -> datetime:
    return cast("datetime", time).replace(tzinfo=UTC)


def create_parts(db: MySQLDatabase) -> Sequence[object]:
    """Return the parts of an open database."""
    return [MariaDBServerLog(db)] if db.connection.server.is_mariadb else []
