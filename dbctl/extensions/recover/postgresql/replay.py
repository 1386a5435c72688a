"""The recovery of a PostgreSQL database: choose a copy and its log, and replay them in a private server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime

from msgspec import structs

from dbctl import progress
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.errors.connection import UnreachableError
from dbctl.extensions.recover.contract import (
    RecoveredDatabase,
    RecoveryPlan,
    RecoveryRequest,
    show_time,
    write_time,
)
from dbctl.extensions.recover.errors import RecoveryFailedError, RecoveryMissingError
from dbctl.extensions.recover.postgresql.base import copy_base, read_system, verify_files
from dbctl.extensions.recover.postgresql.choice import (
    STEP,
    Choice,
    choose,
    describe_timelines,
    foreign_error,
    name_place,
    stage_log,
)
from dbctl.extensions.recover.postgresql.log import format_position, parse_position
from dbctl.extensions.recover.postgresql.pgbackrest import PgBackRest, fetch_archive, find_copy
from dbctl.extensions.recover.postgresql.scan import Record
from dbctl.extensions.recover.private_server import PrivateFolder, PrivateServer, create_folder, run_server
from dbctl.files import mounts
from dbctl.files.atomic import create_file
from dbctl.model import format_count
from dbctl.url import Url

#: The configuration of the private server: no network, nothing of the live server, no work besides the replay.
SETTINGS = {
    "listen_addresses": "''",
    "port": "5432",
    "hba_file": "'pg_hba.conf'",
    "ident_file": "'pg_ident.conf'",
    "archive_mode": "off",
    "restore_command": "'false'",  # all segments are in pg_wal already
    "recovery_target_action": "'promote'",
    "hot_standby": "off",  # otherwise the limits of the live server would be required
    "max_prepared_transactions": "1000",
    "max_logical_replication_workers": "0",  # a subscription would fetch changes from its publisher
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "lc_messages": "'C'",
    "log_timezone": "'UTC'",
    "timezone": "'UTC'",
}
#: Seconds between two reads of the log of the server, and what it writes when it can be read.
POLL_SECONDS, READY = 0.05, "database system is ready to accept connections"
#: The user that owns the catalogs of a server, and the number of each release since which event triggers can be switched off.
SUPERUSER, EVENT_TRIGGERS_VERSION = 10, 17
#: The user that has this number on most servers.
ADMINISTRATOR = "postgres"
PORT = 5432
#: Seconds to wait for a lock; a longer time than the default would also wait for a server that refuses the user.
TIMEOUT = 5.0
_END = """select (select rolname::text from pg_catalog.pg_roles where oid = :superuser), pg_catalog.pg_last_wal_replay_lsn()::text,
pg_catalog.pg_last_xact_replay_timestamp()::text"""
_DATABASES = "select datname::text from pg_catalog.pg_database where datallowconn order by 1"
_UNLOGGED = """select c.oid::pg_catalog.regclass::text from pg_catalog.pg_class c
where c.relkind in ('r', 'm') and c.relpersistence = 'u' order by 1"""


def configure(choice: Choice, folder: PrivateFolder, last: Record | None) -> None:
    """Write the configuration of a server that replays the log up to the transaction ``last``; None: up to the end of the copy.

    What follows, up to the next transaction, is not replayed: ``drop database`` deletes the files before its own transaction ends.
    """
    settings = {
        **SETTINGS,
        "unix_socket_directories": f"'{folder.socket}'",
        "recovery_target_timeline": f"'{choice.timelines[-1].number}'",
    }
    if last:
        settings["recovery_target_lsn"] = f"'{format_position(last.position)}'"
    else:
        settings["recovery_target"] = "'immediate'"
    if choice.base.version >= EVENT_TRIGGERS_VERSION:
        settings["event_triggers"] = "off"
    files = {
        "postgresql.conf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        "pg_hba.conf": "local all all trust\n",  # only the user of the server can enter the folder of its socket
        "pg_ident.conf": "",
        "recovery.signal": "",
    }
    for name, text in files.items():
        with create_file(folder.data / name, temporary=True) as file:
            file.write(text.encode())
        folder.give(folder.data / name)


def await_end_of_replay(server: PrivateServer, request: RecoveryRequest) -> None:
    """Wait until the server has replayed the log.

    Raises:
        RecoveryFailedError: it ended instead.
    """
    while READY not in (log := server.read_log()):
        if server.has_ended:
            lines = [
                line.partition(": ")[2].strip()
                for line in log.splitlines()
                if "FATAL" in line or "PANIC" in line
            ]
            raise RecoveryFailedError(
                target=request.target,
                reason=lines[0] if lines else (log.strip().splitlines() or ["it wrote no message"])[-1],
                hint="Recover another moment, or from another base.",
            )
        server.wait(POLL_SECONDS)


def open_recovered(
    request: RecoveryRequest, choice: Choice, folder: PrivateFolder, last: Record | None
) -> RecoveredDatabase:
    """Return the database of the server, after checking that it has replayed what it should.

    Raises:
        RecoveryFailedError: it has not, or refuses connections.
        RecoveryMissingError: it does not have the database.
    """
    database = request.url.path
    url = Url(engine=request.url.engine, path="template1", host=str(folder.socket), port=PORT)
    with closing(_connect(request, url)) as connection:
        ((superuser, position, time),) = connection.fetch(_END, {"superuser": SUPERUSER})
        names = [str(name) for (name,) in connection.fetch(_DATABASES, {})]
    if database not in names:
        raise RecoveryMissingError(
            target=request.target,
            reason=f"its server had no database {database} at {show_time(request.at)}, but {', '.join(names)}",
            hint="Choose another time.",
        )
    replayed = datetime.fromisoformat(str(time)) if time else None
    if (replayed and replayed >= request.at) or (last and parse_position(str(position)) <= last.position):
        raise RecoveryFailedError(
            target=request.target,
            reason=f"it replayed the log up to {position} ({replayed}) instead of {format_position(last.position if last else 0)}",
            hint="Report this.",
        )
    schema = request.url.select_options("schema")
    url = structs.replace(url, path=database, user=str(superuser), options=schema)
    connection = PostgreSQLConnection(url, request.target, timeout=TIMEOUT, read_only=True)
    with closing(connection):
        unlogged = [str(name) for (name,) in connection.fetch(_UNLOGGED, {})]
    facts = {
        "recovered_base": choice.base.name,
        "recovered_position": str(position),
        "recovered_timeline": str(choice.timelines[-1].number),
        "recovered_last_transaction": write_time(replayed) if replayed else "",
    }
    remarks = (
        [f"the log does not contain unlogged tables, which are empty: {', '.join(unlogged)}"]
        if unlogged
        else []
    )
    return RecoveredDatabase(url=url, facts=facts, remarks=[*describe_timelines(choice), *remarks])


def _connect(request: RecoveryRequest, url: Url) -> PostgreSQLConnection:
    """Connect as a user that the server has: that of the live database, or the usual administrator.

    Raises:
        UnreachableError: it has neither.
    """
    with suppress(UnreachableError):
        url = structs.replace(url, user=request.url.user or ADMINISTRATOR)
        return PostgreSQLConnection(url, request.target, timeout=TIMEOUT, read_only=True)
    url = structs.replace(url, user=ADMINISTRATOR)
    return PostgreSQLConnection(url, request.target, timeout=TIMEOUT, read_only=True)


def plan_recovery(request: RecoveryRequest) -> RecoveryPlan:
    """Return what ``recover`` would do; raises as ``Recovery.plan``."""
    if request.source.pgbackrest:
        copy = find_copy(PgBackRest(request.source, request.target), request)
        place = name_place(request.source)
        steps = [
            f"restore the backup {copy.label} ({copy.bytes:,} bytes) of {place} into a private folder",
            f"replay the transactions before {show_time(request.at)} from {place}",
        ]
        return RecoveryPlan(steps=steps, bytes=copy.bytes)
    with create_folder(request.staging, 0) as folder:
        choice = choose(request, folder)
    size = sum(segment.path.stat().st_size for segment in choice.segments)
    count = format_count(len(choice.segments), "segment")
    steps = [
        f"copy the base {choice.base.folder} of PostgreSQL {choice.base.version} ({choice.base.bytes:,} bytes) into a private folder",
        f"replay the transactions before {show_time(request.at)} from at most {count} ({size:,} bytes) of {choice.log.place}",
        f"reachable: each moment after {show_time(choice.earliest)}, up to {show_time(choice.last + STEP)}",
        *describe_timelines(choice),
    ]
    return RecoveryPlan(steps=steps, bytes=choice.base.bytes + size)


@contextmanager
def recover(request: RecoveryRequest) -> Iterator[RecoveredDatabase]:
    """Run a private server with the state of the moment; raises as ``Recovery.recover``."""
    with create_folder(request.staging, 0) as folder:
        if request.source.pgbackrest:
            request = fetch_archive(request, folder)
        choice = choose(request, folder)
        mounts.require_space(folder.data, choice.base.bytes + choice.log.header.size)
        copy_base(choice.base, folder, request.target)
        if not request.copy:  # a stored one was compared when it was stored, and again when it was read
            verify_files(choice.base, folder, choice.programs, request.target)
        if (system := read_system(folder.data)) != choice.log.header.system:
            raise foreign_error(request, choice.base, system, choice.log)
        last = stage_log(request, choice, folder)
        configure(choice, folder, last)
        with run_server(
            [str(choice.programs / "postgres"), "-D", str(folder.data)], folder, end=signal.SIGQUIT
        ) as server:
            progress.start_stage("replaying")
            await_end_of_replay(server, request)
            yield open_recovered(request, choice, folder, last)
