"""The recovery of a PostgreSQL database: choose a copy and its log, replay them in a private server, and check how far it came."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import structs

from dbctl import progress
from dbctl.engines.postgresql import dump_programs
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.errors.connection import ClientMissingError, ClientOldError, UnreachableError
from dbctl.extensions.recover.contract import RecoveredDatabase, RecoveryPlan, RecoveryRequest
from dbctl.extensions.recover.errors import (
    RecoveryFailedError,
    RecoveryMissingError,
    RecoveryRefusedError,
    RecoveryServerMissingError,
    RecoveryTimeError,
)
from dbctl.extensions.recover.postgresql.base import Base, copy_base, copy_log, find_bases, read_system
from dbctl.extensions.recover.postgresql.log import Log, Segment, Timeline, format_position, parse_position
from dbctl.extensions.recover.postgresql.pgbackrest import PgBackRest, RepositoryCopy
from dbctl.extensions.recover.postgresql.scan import Record, scan_segments
from dbctl.extensions.recover.private_server import PrivateFolder, PrivateServer, create_folder, run_server
from dbctl.extensions.recover.section import Source
from dbctl.files import mounts
from dbctl.files.atomic import create_file
from dbctl.model import Struct, format_count
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
    "recovery_target_inclusive": "off",
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
#: The time from one transaction to the next that can be named.
STEP = timedelta(microseconds=1)
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


class Choice(Struct, frozen=True, kw_only=True):
    """A copy with the log that follows it."""

    base: Base
    log: Log
    timelines: Sequence[Timeline]
    segments: Sequence[Segment]  #: from the start of the copy to the end of the log, or to a gap
    missing: str  #: the segment in the gap; empty: there is none
    earliest: datetime  #: after it, each moment can be recovered
    consistent: int  #: the position up to which the log must be replayed
    last: datetime  #: the time of the last transaction in the log; of the copy, if the log has none
    programs: Path  #: the folder of the programs of its version

    @property
    def waldump(self) -> Path:
        return self.programs / "pg_waldump"


def plan_recovery(request: RecoveryRequest) -> RecoveryPlan:
    """Return what ``recover`` would do; raises as ``Recovery.plan``."""
    if request.source.pgbackrest:
        copy = _find_copy(PgBackRest(request.source, request.target), request)
        place = _name_place(request.source)
        steps = [
            f"restore the backup {copy.label} ({copy.bytes:,} bytes) of {place} into a private folder",
            f"replay the transactions before {_show(request.at)} from {place}",
        ]
        return RecoveryPlan(steps=steps, bytes=copy.bytes)
    with create_folder(request.staging, 0) as folder:
        choice = _choose(request, folder)
    size = sum(segment.path.stat().st_size for segment in choice.segments)
    count = format_count(len(choice.segments), "segment")
    steps = [
        f"copy the base {choice.base.folder} of PostgreSQL {choice.base.version} ({choice.base.bytes:,} bytes) into a private folder",
        f"replay the transactions before {_show(request.at)} from at most {count} ({size:,} bytes) of {choice.log.place}",
        f"reachable: each moment after {_show(choice.earliest)}, up to {_show(choice.last + STEP)}",
        *_describe_timelines(choice),
    ]
    return RecoveryPlan(steps=steps, bytes=choice.base.bytes + size)


@contextmanager
def recover(request: RecoveryRequest) -> Iterator[RecoveredDatabase]:
    """Run a private server with the state of the moment; raises as ``Recovery.recover``."""
    with create_folder(request.staging, 0) as folder:
        if request.source.pgbackrest:
            request = _fetch_archive(request, folder)
        choice = _choose(request, folder)
        mounts.require_space(folder.data, choice.base.bytes + choice.log.header.size)
        copy_base(choice.base, folder, request.target)
        if (system := read_system(folder.data)) != choice.log.header.system:
            raise _foreign_error(request, choice.base, system, choice.log)
        stop, last = _stage_log(request, choice, folder)
        _configure(request, choice, folder, has_target=stop is not None)
        with run_server(
            [str(choice.programs / "postgres"), "-D", str(folder.data)], folder, end=signal.SIGQUIT
        ) as server:
            progress.start_stage("replaying")
            _await_end_of_replay(server, request)
            yield _open_recovered(request, choice, folder, last)


def _name_place(source: Source) -> str:
    """Return where a log is, for messages."""
    return f"the stanza {source.pgbackrest} of pgBackRest" if source.pgbackrest else source.log


def _find_copy(repository: PgBackRest, request: RecoveryRequest) -> RepositoryCopy:
    """Return the latest backup of a repository that ended before the moment."""
    copies = repository.list_copies()
    if copy := next((copy for copy in copies if copy.ended < request.at), None):
        return copy
    raise RecoveryTimeError(
        target=request.target,
        at=_show(request.at),
        reason=f"every backup of {_name_place(request.source)} ends later",
        hint=f"Choose a later time: --at {_write(copies[-1].ended + STEP)}",
    )


def _fetch_archive(request: RecoveryRequest, folder: PrivateFolder) -> RecoveryRequest:
    """Restore a copy of a repository, and fetch its log up to the moment; return the request for their folders.

    Raises:
        RecoveryTimeError: every copy ended later.
        RecoveryMissingError: the log of the copy is missing.
        ClientMissingError, ClientFailedError: the program is not installed, or fails.
    """
    repository = PgBackRest(request.source, request.target)
    copy = _find_copy(repository, request)
    home = folder.data.parent
    mounts.require_space(home, copy.bytes)
    place, destination = home / copy.label, home / "fetched"
    for path in (place, destination):
        path.mkdir(mode=0o700)
    repository.restore(copy, place)
    (base,) = find_bases(place, request.target)
    number = base.timeline + 1
    while repository.fetch(f"{number:08X}.history", destination):
        number += 1
    folder.give(destination)
    if not repository.fetch(base.first, destination):
        raise RecoveryMissingError(
            target=request.target,
            reason=f"the segment {base.first} is missing in {_name_place(request.source)}",
            hint="Choose a moment after a later backup.",
        )
    log = Log([destination], request.target, _name_place(request.source))
    _fetch_segments(repository, base, log, destination, request, folder)
    source = structs.replace(request.source, base=str(place), log=str(destination))
    return structs.replace(request, source=source)


def _fetch_segments(
    repository: PgBackRest,
    base: Base,
    log: Log,
    destination: Path,
    request: RecoveryRequest,
    folder: PrivateFolder,
) -> None:
    """Fetch the log from the start of a copy up to the moment, or to its end."""
    waldump = _find_programs(base, request.target) / "pg_waldump"
    timelines, number = log.find_timelines(base.timeline, base.start), log.segment_number(base.start)
    previous: Path | None = None
    while name := next(
        (
            name
            for name in log.list_names(timelines, number)
            if (destination / name).exists() or repository.fetch(name, destination)
        ),
        "",
    ):
        path = destination / name
        folder.give(path)
        pair = [previous, path] if previous and previous.name[:8] == name[:8] else [path]
        for record in scan_segments(waldump, pair, folder, request.target, is_last=True):
            if record.time and record.time >= request.at:
                return
        previous, number = path, number + 1


def _choose(request: RecoveryRequest, folder: PrivateFolder) -> Choice:
    """Return the latest copy that ended before the moment, and its log."""
    if not request.source.base:
        raise RecoveryMissingError(
            target=request.target,
            reason="no physical copy is configured",
            hint="Set base under [apps.NAME.recovery.databases.NAME].",
        )
    *others, oldest = find_bases(Path(request.source.base), request.target)
    for base in [*(base for base in others if base.started < request.at), oldest]:
        choice = _read_log(base, request, folder)
        is_known = request.known is not None and request.known[0] <= request.at <= request.known[1]
        if choice.earliest < request.at or is_known:
            choice = structs.replace(choice, last=_find_last_time(choice, folder, request))
            if request.at > choice.last + STEP and (choice.missing or not is_known):
                raise _too_late_error(choice, request)
            return choice
    raise RecoveryTimeError(
        target=request.target,
        at=_show(request.at),
        reason=f"every base in {request.source.base} ends later",
        hint=f"Choose an older base, or a later time: --at {_write(choice.earliest + STEP)}",
    )


def _too_late_error(choice: Choice, request: RecoveryRequest) -> RecoveryTimeError:
    reason = f"the log in {choice.log.place} ends with the transaction of {_show(choice.last)}"
    if choice.missing:
        reason = f"the segment {choice.missing} is missing in {choice.log.place}; the transaction before it is of {_show(choice.last)}"
    return RecoveryTimeError(
        target=request.target,
        at=_show(request.at),
        reason=reason,
        hint=f"Archive the rest of the log, or recover all that it has with: --at {_write(choice.last + STEP)}",
    )


def _read_log(base: Base, request: RecoveryRequest, folder: PrivateFolder) -> Choice:
    """Return a copy with the log that follows it, without its end."""
    own = copy_log(base, folder, request.target)
    log = Log(
        [Path(request.source.log), *([own] if own.is_dir() else [])],
        request.target,
        _name_place(request.source),
    )
    if not base.archive and (system := read_system(base.folder)) != log.header.system:
        raise _foreign_error(request, base, system, log)
    timelines = log.find_timelines(base.timeline, base.start)
    segments, missing = log.follow(timelines, log.segment_number(base.start))
    choice = Choice(
        base=base,
        log=log,
        timelines=timelines,
        segments=segments,
        missing=missing,
        earliest=base.started,
        consistent=base.start,
        last=base.started,
        programs=_find_programs(base, request.target),
    )
    return _find_end_of_base(choice, folder, request)


def _foreign_error(request: RecoveryRequest, base: Base, system: int, log: Log) -> RecoveryRefusedError:
    return RecoveryRefusedError(
        target=request.target,
        reason=f"the base {base.folder} is of the server {system}, the log in {log.place} of {log.header.system}",
        hint="Check base and log under [apps.NAME.recovery.databases.NAME].",
    )


def _find_programs(base: Base, target: str) -> Path:
    """Return the folder with the programs of the server whose version a copy has."""
    try:
        tool = dump_programs.find_program("postgres", target, min_version=base.version)
    except (ClientMissingError, ClientOldError) as error:
        raise _create_missing_error(base, target) from error
    if tool.major != base.version:
        raise _create_missing_error(base, target)
    return tool.path.parent


def _create_missing_error(base: Base, target: str) -> RecoveryServerMissingError:
    package = f"postgresql-{base.version} of apt.postgresql.org"
    return RecoveryServerMissingError(target=target, server=f"PostgreSQL {base.version}", package=package)


def _scan(
    choice: Choice, folder: PrivateFolder, staged: Sequence[tuple[Segment, Path]], target: str
) -> Iterator[Record]:
    """Yield the records of the last staged segment, and of the one before it, at whose end one may begin."""
    pair = [path for segment, path in staged[-2:] if segment.timeline == staged[-1][0].timeline]
    is_last = staged[-1][0] == choice.segments[-1]
    return scan_segments(choice.waldump, pair, folder, target, is_last=is_last)


def _stage(
    choice: Choice, segment: Segment, folder: PrivateFolder, destination: Path
) -> tuple[Segment, Path]:
    path = destination / segment.name
    if not path.exists():
        path = choice.log.stage(segment, destination)
        folder.give(path)
    return segment, path


def _create_scan_folder(folder: PrivateFolder) -> Path:
    destination = folder.data.parent / "scan"
    if not destination.exists():
        destination.mkdir(mode=0o700)
        folder.give(destination)
    return destination


def _find_end_of_base(choice: Choice, folder: PrivateFolder, request: RecoveryRequest) -> Choice:
    """Add the position at which a copy is consistent, and the time of the last transaction before it.

    Raises:
        RecoveryMissingError: the log ends before the copy.
    """
    base, destination = choice.base, _create_scan_folder(folder)
    staged, times = list[tuple[Segment, Path]](), list[datetime]()
    for segment in choice.segments:
        staged.append(_stage(choice, segment, folder, destination))
        for record in _scan(choice, folder, staged, request.target):
            if record.copy_start == base.start or (base.end is not None and record.position >= base.end):
                return structs.replace(
                    choice, consistent=record.position, earliest=max([choice.earliest, *times])
                )
            if record.time and record.position >= base.start:
                times.append(record.time)
        if base.end is not None and base.end <= (segment.number + 1) * choice.log.header.size:
            return structs.replace(choice, consistent=base.end, earliest=max([choice.earliest, *times]))
    reason = f"the log in {choice.log.place} ends before the base {base.folder}"
    if choice.missing:
        reason = f"the segment {choice.missing} is missing in {choice.log.place}, which the base {base.folder} requires"
    raise RecoveryMissingError(
        target=request.target,
        reason=reason,
        hint="Archive the log of the server, or create a base with its log: pg_basebackup --wal-method=stream",
    )


def _find_last_time(choice: Choice, folder: PrivateFolder, request: RecoveryRequest) -> datetime:
    """Return the time of the last transaction in the log."""
    destination = _create_scan_folder(folder)
    for index in range(len(choice.segments), 0, -1):
        staged = [
            _stage(choice, segment, folder, destination)
            for segment in choice.segments[max(0, index - 2) : index]
        ]
        times = [record.time for record in _scan(choice, folder, staged, request.target) if record.time]
        if times:
            return max(times)
    return choice.earliest


def _stage_log(
    request: RecoveryRequest, choice: Choice, folder: PrivateFolder
) -> tuple[Record | None, Record | None]:
    """Copy the log up to the moment into the folder of the server.

    Return the first record of that moment or later, at which the replay stops, and the last transaction before it.

    Raises:
        RecoveryRefusedError: the log creates a tablespace.
    """
    destination, last = folder.data / "pg_wal", None
    for path in choice.log.copy_histories(destination):
        folder.give(path)
    staged = list[tuple[Segment, Path]]()
    for segment in choice.segments:
        mounts.require_space(destination, choice.log.header.size)
        staged.append(_stage(choice, segment, folder, destination))
        for record in _scan(choice, folder, staged, request.target):
            if record.tablespace:
                raise RecoveryRefusedError(
                    target=request.target,
                    reason=f"the log creates a tablespace in {record.tablespace}",
                    hint="Recover from a base that was made later, or with the tools of the server.",
                )
            if record.time and record.position >= choice.consistent:
                if record.time >= request.at:
                    return record, last
                last = record
    return None, last


def _configure(request: RecoveryRequest, choice: Choice, folder: PrivateFolder, *, has_target: bool) -> None:
    """Write the configuration of the server."""
    settings = {
        **SETTINGS,
        "unix_socket_directories": f"'{folder.socket}'",
        "recovery_target_timeline": f"'{choice.timelines[-1].number}'",
    }
    if has_target:
        settings["recovery_target_time"] = f"'{request.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
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


def _await_end_of_replay(server: PrivateServer, request: RecoveryRequest) -> None:
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


def _open_recovered(
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
            reason=f"its server had no database {database} at {_show(request.at)}, but {', '.join(names)}",
            hint="Choose another time.",
        )
    replayed = datetime.fromisoformat(str(time)) if time else None
    if (replayed and replayed >= request.at) or (last and parse_position(str(position)) <= last.position):
        raise RecoveryFailedError(
            target=request.target,
            reason=f"it replayed the log up to {position} ({replayed}) instead of {format_position(last.position if last else 0)}",
            hint="Report this.",
        )
    schema = "&".join(option for option in request.url.options.split("&") if option.startswith("schema="))
    url = structs.replace(url, path=database, user=str(superuser), options=schema)
    connection = PostgreSQLConnection(url, request.target, timeout=TIMEOUT, read_only=True)
    with closing(connection):
        unlogged = [str(name) for (name,) in connection.fetch(_UNLOGGED, {})]
    facts = {
        "recovered_base": choice.base.folder.name,
        "recovered_position": str(position),
        "recovered_timeline": str(choice.timelines[-1].number),
        "recovered_last_transaction": _write(replayed) if replayed else "",
    }
    remarks = (
        [f"the log does not contain unlogged tables, which are empty: {', '.join(unlogged)}"]
        if unlogged
        else []
    )
    return RecoveredDatabase(url=url, facts=facts, remarks=[*_describe_timelines(choice), *remarks])


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


def _describe_timelines(choice: Choice) -> Sequence[str]:
    numbers = choice.log.list_timelines()
    if len(numbers) == 1:
        return []
    return [f"of the timelines {', '.join(map(str, numbers))}, {choice.timelines[-1].number} is followed"]


def _show(time: datetime) -> str:
    """Return a time for messages."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + " UTC"


def _write(time: datetime) -> str:
    """Return a time as an option accepts it."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
