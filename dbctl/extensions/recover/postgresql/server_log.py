"""Copies of a PostgreSQL server by ``pg_basebackup``, its log by ``pg_receivewal``, and the checks of its slot and timeline."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO, cast

from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.postgresql import dump_programs
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import BackupFailedError
from dbctl.errors.base import Remedy
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.extensions.recover.contract import CopiedServer, FetchedLog, ServerCopy, ServerLog
from dbctl.extensions.recover.errors import LogForeignError
from dbctl.extensions.recover.log_checks import LogChecks
from dbctl.extensions.recover.postgresql.base import Manifest, check_archive
from dbctl.extensions.recover.postgresql.log import SEGMENT, format_position, locate, parse_position
from dbctl.files.codecs import CHUNK
from dbctl.files.subprocesses import ClientProgram
from dbctl.files.temp import run_in_parallel
from dbctl.services.backup.manifest import Member
from dbctl.units import format_size

#: The time before which all transactions are in the log: that of the server; of a standby, that of the last one that it replayed. And
#: whether the log of that time is on disk.
_TIME = """select case when r.is_standby then interval '1 microsecond' + coalesce(pg_catalog.pg_last_xact_replay_timestamp(),
    (select checkpoint_time from pg_catalog.pg_control_checkpoint())) else pg_catalog.clock_timestamp() end,
  case when r.is_standby then true else pg_catalog.pg_current_wal_insert_lsn() <= pg_catalog.pg_current_wal_flush_lsn() end
from (select pg_catalog.pg_is_in_recovery() as is_standby) r"""
#: A transaction whose end is on disk, and with it those that ended before without waiting for the disk (``synchronous_commit = off``).
_FLUSH = "select pg_catalog.set_config('synchronous_commit', 'local', true), pg_catalog.pg_logical_emit_message(true, 'dbctl', '')::text"
#: The end of the log that is on disk.
_END = """select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_flush_lsn() end::text,
  (select system_identifier from pg_catalog.pg_control_system())::text, pg_catalog.pg_size_bytes(current_setting('wal_segment_size'))"""
#: What the server answers to a user who may not copy its files or read its log.
_NO_REPLICATION = re.compile(
    r"no pg_hba.conf entry for replication.*|(?:must be superuser or replication role|permission denied) to start .*"
)
_SIZE = "select sum(pg_catalog.pg_database_size(oid))::int8, count(*) from pg_catalog.pg_database"
_SLOT = "select wal_status::text from pg_catalog.pg_replication_slots where slot_name = :name"
_LIMIT = "select current_setting('max_slot_wal_keep_size')"
_DROP = "select pg_catalog.pg_drop_replication_slot(:name)"
#: The end of the name of a segment to which the server adds.
PARTIAL = ".partial"
_INSTEAD = "No backup was created."


class PostgreSQLServerLog(PostgreSQLPart, ServerCopy, ServerLog):
    copy_remedy = Remedy("Create one with: `backup create --physical`")

    def estimate_size(self) -> int:
        return cast("int", self._connection.fetch(_SIZE)[0][0])

    def describe_copy(self) -> str:
        count = self._connection.fetch(_SIZE)[0][1]
        return f"the files of the whole server, with all its {count} databases and the password hashes of its roles"

    def copy(self, store: Callable[[Iterator[bytes]], Member]) -> CopiedServer:
        arguments = [
            "--pgdata=-",
            "--format=tar",
            "--wal-method=none",
            "--checkpoint=fast",
            "--manifest-checksums=SHA256",
        ]
        with self._run("pg_basebackup", arguments) as client:
            read, write = os.pipe()

            def store_archive() -> Member:
                with os.fdopen(write, "wb") as pipe:
                    return store(_write_also(client.blocks(), pipe))

            def check() -> Manifest:
                with os.fdopen(read, "rb") as pipe:
                    try:
                        return check_archive(pipe, self._connection.target)
                    finally:
                        while pipe.read(CHUNK):  # otherwise the other thread would wait
                            pass

            try:
                manifest, member = run_in_parallel(check, store_archive)
            except BackupFailedError:
                self._require_success(client)
                raise
            self._require_success(client)
        ((ended_at, _),) = self._connection.fetch(_TIME)
        ((_, system, _),) = self._connection.fetch(_END)
        facts = {
            "system": str(system),
            "version": str(self._version),
            "timeline": str(manifest.ranges[-1].timeline),
            "start": manifest.ranges[0].start,
            "end": manifest.ranges[-1].end,
        }
        return CopiedServer(member=member, facts=facts, ended_at=cast("datetime", ended_at))

    def begins_within(self, copy: Mapping[str, str], log: Mapping[str, str]) -> bool:
        return parse_position(copy["start"]) < parse_position(log["end"])

    def describe_fetch(self, name: str) -> Sequence[str]:
        if self._connection.fetch(_SLOT, {"name": name}):
            return ["fetch the log since the last call"]
        ((limit,),) = self._connection.fetch(_LIMIT)
        log = f"keeps up to {limit} of its log" if limit != "-1" else "keeps all of its log"
        return [
            f"create the replication slot {name}: from then on the server {log} until it was fetched (max_slot_wal_keep_size)",
            "begin with the log of this moment",
        ]

    def fetch(self, folder: Path, name: str, last: Mapping[str, str]) -> FetchedLog | None:
        ((read_at, is_on_disk),) = self._connection.fetch(_TIME)
        if not is_on_disk:
            self._connection.fetch(_FLUSH)
        ((position, system, size),) = self._connection.fetch(_END)
        if last and last["system"] != system:
            raise LogForeignError(target=self._connection.target, stored=last["system"], system=system)
        earlier = folder / "earlier"
        if self._create_slot(name):  # the program would continue after the files of the slot that was lost
            earlier.mkdir(mode=0o700, exist_ok=True)
            for path in _list_files(folder):
                path.replace(earlier / path.name)
        end = parse_position(str(position))
        fetched = [*(_list_files(earlier) if earlier.is_dir() else ()), *_list_files(folder)]
        if last.get("end") == position and all(path.suffix == PARTIAL for path in fetched):
            return None
        # The program ends once it has received more than this position.
        arguments = [
            f"--directory={folder}",
            f"--slot={name}",
            f"--endpos={format_position(end - 1)}",
            "--no-loop",
        ]
        self._receive(arguments)
        files = [*(_list_files(earlier) if earlier.is_dir() else ()), *_list_files(folder)]
        own = [path.name for path in _list_files(folder) if SEGMENT.fullmatch(path.name)]
        start = locate(own[0], cast("int", size))
        lost = ""
        if last and parse_position(last["end"]) < start:
            lost = f"from {last['end']} to {format_position(start)}"
        return FetchedLog(
            files=files,
            finished=[path for path in files if path.suffix != PARTIAL or path.parent == earlier],
            facts={
                "system": str(system),
                "timeline": str(int(own[-1][:8], 16)),
                "start": format_position(start),
                "end": str(position),
            },
            read_at=cast("datetime", read_at),
            lost=lost,
        )

    @property
    def _version(self) -> int:
        return self._connection.session.info.server_version // 10000

    def _run(self, program: str, arguments: Sequence[str]) -> AbstractContextManager[ClientProgram]:
        session, target = self._connection.session, self._connection.target
        tool = dump_programs.find_program(program, target, min_version=self._version)
        return dump_programs.run_client(
            tool, arguments, session, session.info.dbname, target, instead=_INSTEAD, writes=True
        )

    def _receive(self, arguments: Sequence[str]) -> None:
        with self._run("pg_receivewal", arguments) as client:
            for _ in client.blocks():
                pass
            self._require_success(client)

    def _require_success(self, client: ClientProgram) -> None:
        if not client.finish():
            return
        session, target = self._connection.session, self._connection.target
        if match := _NO_REPLICATION.search(client.error_output()):
            user = ident(session.info.user)
            hint = f"{_INSTEAD} Allow it: alter role {user} replication"
            if "pg_hba.conf" in match[0]:
                hint = f"{_INSTEAD} Add this line to pg_hba.conf of the server, and reload it: host replication {user} ADDRESS scram-sha-256"
            raise PrivilegeMissingError(target=target, reason=match[0], hint=hint)
        raise dump_programs.to_error(
            client, session, target, timeout=self._connection.timeout, instead=_INSTEAD
        )

    def _create_slot(self, name: str) -> bool:
        """Create the replication slot, also instead of one whose log the server has removed; return whether it did."""
        for (status,) in self._connection.fetch(_SLOT, {"name": name}):
            if status != "lost":
                return False
            self._connection.fetch(_DROP, {"name": name})
        # If the program may not read the log, the server must not retain it for a slot.
        self._receive([f"--slot={name}", "--create-slot"])
        return True


def _write_also(blocks: Iterator[bytes], pipe: IO[bytes]) -> Iterator[bytes]:
    for block in blocks:
        pipe.write(block)
        yield block


def _list_files(folder: Path) -> list[Path]:
    """Return the segments and histories in a folder, in their order."""
    return sorted(
        path for path in folder.iterdir() if SEGMENT.fullmatch(path.name) or path.suffix == ".history"
    )


def create_parts(db: PostgreSQLDatabase) -> Sequence[object]:
    """Return the parts of an open database."""
    return [PostgreSQLServerLog(db), PostgreSQLLogChecks(db)]


_CLOCK = "select pg_catalog.clock_timestamp()"
#: Whether the slot exists, its state, the bytes after the stored log, their limit (-1: none), and the timeline of the server. A short
#: call moves the slot only to where it began, so the bytes that the slot retains are also those of the last call.
_STATE = """select s.slot_name is not null, s.wal_status::text, pg_catalog.pg_wal_lsn_diff(p.position, :stored::pg_lsn)::int8,
  pg_catalog.pg_size_bytes(current_setting('max_slot_wal_keep_size')),
  case when p.is_standby then (select timeline_id from pg_catalog.pg_control_checkpoint())
    else ('x' || substr(pg_catalog.pg_walfile_name(p.position), 1, 8))::bit(32)::int4 end
from (select pg_catalog.pg_is_in_recovery() as is_standby, case when pg_catalog.pg_is_in_recovery()
    then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_flush_lsn() end as position) p
  left join pg_catalog.pg_replication_slots s on s.slot_name = :name"""
_SET_LIMIT = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();"


class PostgreSQLLogChecks(PostgreSQLPart, LogChecks):
    """The server of a database."""

    def read_clock(self) -> datetime:
        return cast("datetime", self._connection.fetch(_CLOCK)[0][0])

    def find_problems(self, name: str, last: Mapping[str, str]) -> Iterator[EngineFinding]:
        state = {"name": name, "stored": last["end"]}
        ((exists, status, pending, limit, timeline),) = self._connection.fetch(_STATE, state)
        pending, limit = cast("int", pending), cast("int", limit)
        if not exists:
            message = (
                f"the replication slot {name} does not exist, so the server removes log that is not stored"
            )
            yield EngineFinding(severity="warning", code="log-slot-missing", message=message)
        elif status == "lost":
            message = f"the server has removed log that the replication slot {name} required; what of it is not stored is lost"
            yield EngineFinding(severity="error", code="log-slot-lost", message=message)
        elif limit >= 0 and (status == "unreserved" or 2 * pending >= limit):
            message = f"{format_size(pending)} of log are not stored yet; the server retains {format_size(limit)} for the replication slot {name} (max_slot_wal_keep_size)"
            yield EngineFinding(severity="warning", code="log-slot-behind", message=message)
        if exists and limit < 0:
            message = f"the log that the replication slot {name} retains has no limit (max_slot_wal_keep_size): if the calls of backup log end, it fills the disk of the server"
            yield EngineFinding(severity="warning", code="log-unlimited", message=message, hint=_SET_LIMIT)
        stored = int(last.get("timeline", str(timeline)))
        if stored != timeline:
            message = f"the server is on timeline {timeline}, the stored log on {stored}: a standby was promoted, or a server recovered"
            yield EngineFinding(severity="warning", code="log-timeline", message=message)
