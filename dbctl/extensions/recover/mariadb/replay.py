"""Replay binary logs in a private server, as a replica does: its server applies them, for the tables of one database.

The program ``mariadb-binlog`` can select a database only by the default database of a statement, which need not be that of its
tables, and its output cannot be trusted if a statement contains its delimiter.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dbctl import progress
from dbctl.engines.mysql.accounts import quote_name
from dbctl.engines.mysql.opening import hide_values
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.statements import LEXER
from dbctl.engines.parsing.lineage import redact_statement
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.errors import RecoveryFailedError
from dbctl.extensions.recover.mariadb import events
from dbctl.extensions.recover.mariadb.events import EventReader
from dbctl.extensions.recover.mariadb.logs import PART, LogPart, LogRange, number_of
from dbctl.extensions.recover.mariadb.server import DATA, MariaDBServer
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.files import subprocesses

#: The logs of a replica, in its data folder.
RELAY = "relay"
#: Characters of a statement in a message.
_MAX_TEXT = 200
_NAME = r"(?:`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[\w$]+)"
_HOST = rf"(?:{_NAME}|'[^']*'|[\w.%-]+)"
#: Statements about code, which a server does not attribute to tables. One of another database fails, as that is missing.
_CODE = re.compile(
    rf"\s*(?:/\*.*?\*/\s*)*(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:DEFINER\s*=\s*(?:{_HOST}(?:\s*@\s*{_HOST})?|CURRENT_USER\(\))\s+)?"
    rf"(?:AGGREGATE\s+)?(?:PROCEDURE|FUNCTION|EVENT|PACKAGE(?:\s+BODY)?)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
    rf"(?:(?P<database>{_NAME})\s*\.\s*)?{_NAME}(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
#: An event can be moved to another database.
_MOVES = re.compile(r"\bRENAME\s+TO\b", re.IGNORECASE)
#: What the private server lacks if it was created after the backup, or is in the tables of the live server: an account with whose rights
#: code runs, and a time zone of a session.
_DEFINER = re.compile(
    r"The user specified as a definer \('(?P<user>[^']*)'@'(?P<host>[^']+)'\) does not exist"
)
_ZONE = re.compile(r"Unknown or incorrect time zone: '(?P<name>\w[\w+-]*(?:/\w[\w+-]*)*)'")
_ZONES, _ZONE_PROGRAM = Path("/usr/share/zoneinfo"), "mariadb-tzinfo-to-sql"
_STATEMENT = re.compile(r"^Error '(?P<message>.*?)' on query\. Default database: ", re.DOTALL)


def relay_options(database: str) -> list[str]:
    """Return the options of a server that replays the changes of one database."""
    pattern = database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return [
        f"--relay-log={RELAY}",
        "--relay-log-purge=OFF",
        "--replicate-same-server-id=ON",
        f"--replicate-wild-do-table={pattern}.%",
    ]


def copy_logs(parts: Sequence[LogPart], folder: PrivateFolder) -> None:
    """Copy logs into the data folder of a server that has not started yet, as those of a replica.

    Raises:
        FileFailedError, DiskFullError: they cannot be read or written.
    """
    names = [f"{RELAY}.{number:06}" for number, _ in enumerate(parts, 1)]
    for name, part in zip(names, parts, strict=True):
        _copy(part, folder.data / DATA / name, folder)
    index = folder.data / DATA / f"{RELAY}.index"
    index.write_text("".join(f"./{name}\n" for name in names))
    folder.give(index)


class Replay:
    """The replay of logs until their end."""

    def __init__(self, server: MariaDBServer, log_range: LogRange, database: str, target: str) -> None:
        self._server, self._range = server, log_range
        self._database, self._target = database, target
        self._end = (f"{RELAY}.{len(log_range.parts):06}", log_range.parts[-1].bytes)
        self._supplied = set[str]()

    def run(self) -> None:
        """Replay the logs.

        Raises:
            RecoveryFailedError: a statement failed, or the server ended.
        """
        if not self._range.transactions:
            return
        with self._server.open_session() as session:
            session.run(
                "change master to master_host = 'none', master_user = 'none',"
                f" relay_log_file = '{RELAY}.000001', relay_log_pos = {self._range.start}"
            )
            while not self._run_until_stop(session):
                pass
            session.run("stop slave")

    def _run_until_stop(self, session: Session) -> bool:
        """Replay until the end, or until a statement fails that can be skipped or repeated; return whether the end was reached."""
        file, position = self._end
        session.run(f"start slave sql_thread until relay_log_file = '{file}', relay_log_pos = {position}")
        done = 0
        while True:
            status = read_status(session)
            current = status["Relay_Log_File"], int(status["Relay_Log_Pos"])
            advanced = self._count_bytes(*current)
            progress.advance(max(0, advanced - done))
            done = max(done, advanced)
            if int(status["Last_SQL_Errno"]):
                if self._is_foreign_code(*current):
                    session.run("set global sql_slave_skip_counter = 1")
                    return False
                if self._supply(status["Last_SQL_Error"]):
                    return False
                raise self._create_error(status, *current)
            if current >= self._end:
                return True
            if status["Slave_SQL_Running"] == "No":
                raise self._server.create_error(f"the replay ended at {self._locate(*current)}")
            self._server.wait()

    def _supply(self, message: str) -> bool:
        """Create the account, or the time zone, that a statement lacked; return whether the statement can be repeated."""
        match = _DEFINER.search(message) or _ZONE.search(message)
        if match is None or match[0] in self._supplied:
            return False
        self._supplied.add(match[0])
        if match.re is _ZONE:
            statements = _write_zone(match["name"])
        else:
            account = quote_name(f"{match['user']}@{match['host']}")
            statements = [f"create user {account}", f"grant all on *.* to {account}"]
        with self._server.open_session() as session:
            session.run("use mysql")
            for statement in statements:
                session.run(statement)
        return bool(statements)

    def _count_bytes(self, file: str, position: int) -> int:
        number = number_of(file)
        return sum(part.bytes for part in self._range.parts[: number - 1]) + position

    def _read_statement(self, file: str, position: int) -> tuple[str, str] | None:
        """Return the default database and the text of the first statement of the transaction at a position."""
        path = self._range.parts[number_of(file) - 1].path
        with report_file_errors(path):
            for event in EventReader(path, position):
                if event.position >= position and event.kind in events.QUERIES:
                    return events.read_query(event)
                if event.position > position and event.kind in (events.GTID, *events.BETWEEN):
                    return None
        return None

    def _is_foreign_code(self, file: str, position: int) -> bool:
        """Whether a transaction consists of a statement about code of another database."""
        statement = self._read_statement(file, position)
        return statement is not None and is_foreign_code(*statement, self._database)

    def _locate(self, file: str, position: int) -> str:
        part = self._range.parts[number_of(file) - 1]
        return f"{part.path.name.partition(PART)[0]}:{position + part.shift}"

    def _create_error(self, status: dict[str, str], file: str, position: int) -> RecoveryFailedError:
        message, statement = status["Last_SQL_Error"], self._read_statement(file, position)
        match = _STATEMENT.match(message)
        reason = f"at {self._locate(file, position)}: {_describe(match['message'] if match else message)}"
        if match and statement:
            reason += (
                f" in {redact_statement(statement[1], LEXER)[:_MAX_TEXT]!r} in database {statement[0]!r}"
            )
        return RecoveryFailedError(
            target=self._target,
            reason=reason,
            hint="Choose a time before this statement, or a backup after it. A statement that reads tables of other databases cannot be replayed.",
        )


def is_foreign_code(default: str, text: str, database: str) -> bool:
    """Whether a statement creates, changes or drops a routine or an event of another database than ``database``."""
    match = _CODE.match(text)
    if match is None:
        return False
    name = match["database"] or default
    name = name[1:-1].replace(name[0] * 2, name[0]) if name[:1] in '`"' else name
    is_moved = _MOVES.search(match["rest"]) is not None and database.casefold() in match["rest"].casefold()
    return name.casefold() != database.casefold() and not is_moved


def _write_zone(name: str) -> Sequence[str]:
    """Return the statements that create a time zone of this machine; none if it lacks the zone, or the program."""
    program, path = shutil.which(_ZONE_PROGRAM), _ZONES / name
    if program is None or not path.is_file():
        return []
    process = subprocess.run(  # noqa: S603 - a constant program, without a shell
        [program, str(path), name],
        env=subprocesses.list_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    statements = process.stdout.decode(errors="replace").split(";\n")
    return [statement for statement in statements if statement.strip()] if not process.returncode else []


def _describe(message: str) -> str:
    """Return a message of the replica without values of rows, and without its positions in the copied logs."""
    return hide_values(message.partition("; the event's master log")[0])


def read_status(session: Session) -> dict[str, str]:
    """Return the state of the replica."""
    with session.cursor() as cursor:
        cursor.execute("show slave status")
        names = [column[0] for column in cursor.description]
        return {name: str(value) for name, value in zip(names, cursor.fetchone() or (), strict=True)}


def _copy(part: LogPart, destination: Path, folder: PrivateFolder) -> None:
    with report_file_errors(destination), part.path.open("rb") as source, destination.open("xb") as file:
        folder.give(destination)
        remaining = part.bytes
        while remaining and (block := source.read(min(remaining, 1 << 20))):
            file.write(block)
            remaining -= len(block)
