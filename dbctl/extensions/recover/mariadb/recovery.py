"""Recover a database of MariaDB: load a backup into a private server, and replay the binary logs since then."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl import progress
from dbctl.engines.contract.dumps import LoadRequest, RolePolicy
from dbctl.engines.mysql.accounts import quote_name
from dbctl.engines.mysql.load import LOG_FACTS, LOG_SETTINGS, LOG_ZONE
from dbctl.engines.mysql.swap import MySQLServer, ScratchRestore, create_statement
from dbctl.engines.mysql.values import format_literal
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.recover.contract import RecoveredDatabase, RecoveryPlan, RecoveryRequest
from dbctl.extensions.recover.errors import RecoveryMissingError, RecoveryRefusedError, report_damage
from dbctl.extensions.recover.mariadb.logs import (
    LogFolder,
    LogPosition,
    LogRange,
    PositionLaterError,
    format_time,
    parse_gtids,
    split_position,
)
from dbctl.extensions.recover.mariadb.replay import Replay, copy_logs, relay_options
from dbctl.extensions.recover.mariadb.server import MariaDBServer, create_data, find_programs, start_server
from dbctl.extensions.recover.private_server import create_folder
from dbctl.files.codecs import SUFFIXES
from dbctl.model import Struct, format_count
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import open_reader
from dbctl.services.backup.sources import count_in_bytes

#: The approximate bytes of an empty server, and of rows in a server compared with their text, which may be compressed.
_SERVER_BYTES, _FACTOR, _COMPRESSED_FACTOR = 150_000_000, 3, 12
DISABLED_EVENTS = """select event_name from information_schema.events
where event_schema = {} and status = 'SLAVESIDE_DISABLED' order by 1"""
ACCOUNTS = "select user, host from mysql.user where is_role = 'N' and plugin <> ''"
_UTC = frozenset({"UTC", "GMT"})
#: A setting among the facts of a dump.
_SETTING = re.compile(r"(\w+)=(\S*)")


class _Base(Struct, frozen=True, kw_only=True):
    """A backup, and what has to be replayed after it."""

    manifest: Manifest
    member: Member
    position: LogPosition
    log_range: LogRange


def plan_recovery(request: RecoveryRequest) -> RecoveryPlan:
    """Return what would be loaded and replayed, as ``Recovery.plan``."""
    base = _find_base(request)
    find_programs(base.member.facts["server"], request.target)
    _choose_environment(base.member.facts, request.target)
    member, log_range = base.member, base.log_range
    replayed = (
        f"replay {format_count(log_range.transactions, 'transaction')} from {base.position} to {log_range.end},"
        f" which began before {format_time(int(request.at.timestamp()))} ({log_range.bytes:,} bytes of binary logs)"
    )
    return RecoveryPlan(
        steps=[f"load backup {base.manifest.id} ({member.size:,} bytes) into a private server", replayed],
        bytes=member.size + log_range.bytes,
    )


@contextmanager
def recover(request: RecoveryRequest) -> Iterator[RecoveredDatabase]:
    """Load the backup and replay the logs, as ``Recovery.recover``."""
    base, target, database = _find_base(request), request.target, request.url.path
    facts = base.member.facts
    programs = find_programs(facts["server"], target)
    environment = _choose_environment(facts, target)
    loaded = base.member.size * (
        _COMPRESSED_FACTOR if base.member.file.endswith(SUFFIXES["gzip"]) else _FACTOR
    )
    space = _SERVER_BYTES + loaded + _FACTOR * base.log_range.bytes
    options = [*relay_options(database), *_setting_options(facts)]
    with create_folder(request.staging, space) as folder, ExitStack() as stack:
        create_data(programs, folder, options, target)
        copy_logs(base.log_range.parts, folder)
        server = stack.enter_context(start_server(programs, folder, options, environment, database, target))
        progress.start_stage("loading")
        _load(request, base, server)
        progress.start_stage("replaying")
        Replay(server, base.log_range, database, target).run()
        yield RecoveredDatabase(
            url=server.url,
            facts={
                **{name: facts[name] for name in ("at", "system", "roles") if name in facts},
                "recovered_base": base.manifest.id,
                "recovered_position": base.log_range.end,
                "recovered_last_transaction": format_time(last) if (last := base.log_range.last_time) else "",
            },
            remarks=list(_describe_events(server)),
            backup=base.manifest.id,
        )


def _find_base(request: RecoveryRequest) -> _Base:
    """Return the newest backup before the moment, and the logs after it.

    Raises:
        RecoveryMissingError: there is no such backup; and as ``LogFolder.find_range``.
        NotSupportedError: the server is MySQL.
    """
    manifests, _ = request.repository.manifests()
    members = [request.copy] if request.copy else list(_list_members(manifests, request.database))
    is_recorded = False
    for manifest, member in members:
        if (position := _read_position(member)) is None:
            continue
        is_recorded = True
        if member.taken_at > request.at:
            continue
        if member.facts["database"] != request.url.path:
            raise RecoveryRefusedError(
                target=request.target,
                reason=f"backup {manifest.id} is of database {member.facts['database']}, not of {request.url.path}",
                hint="Its logs have the other name. Set the address of that database.",
            )
        try:
            log_range = LogFolder(Path(request.source.log), position, request.target).find_range(
                request.at, request.known and request.known[1]
            )
        except PositionLaterError:
            continue
        return _Base(manifest=manifest, member=member, position=position, log_range=log_range)
    if any(member.facts.get("product") == "MySQL" for _, member in members):
        raise NotSupportedError(
            feature="the recovery of a moment",
            subject="MySQL",
            hint="It is supported for MariaDB and PostgreSQL.",
        )
    reason = "no backup before that time has a position in the binary log"
    hint: Remedy | str = "Choose a later time."
    if not is_recorded:
        hint = Remedy("With log configured and log_bin on its server, this creates one: `backup create`")
    raise RecoveryMissingError(target=request.target, reason=reason, hint=hint)


def _list_members(manifests: Sequence[Manifest], database: str) -> Iterator[tuple[Manifest, Member]]:
    """Yield the complete dumps of a database, newest first."""
    members = [
        (manifest, member)
        for manifest in manifests
        for member in manifest.members
        if (member.database, member.form) == (database, "dump") and not (member.only or member.foreign)
    ]
    yield from sorted(members, key=lambda item: item[1].taken_at, reverse=True)


def _read_position(member: Member) -> LogPosition | None:
    facts = member.facts
    if any(name not in facts for name in LOG_FACTS):
        return None
    file, position = split_position(facts["binlog"])
    return LogPosition(
        file=file,
        position=position,
        gtids=parse_gtids(facts["gtid"]),
        server=int(facts["server_id"]),
        time=int(member.taken_at.timestamp()),
    )


def _parse_settings(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the server of a dump by name."""
    return {match[1]: match[2] for match in _SETTING.finditer(facts.get("settings", ""))}


def _setting_options(facts: Mapping[str, str]) -> list[str]:
    """Return the settings of the server of a backup on which the meaning of its log depends, as options."""
    settings = _parse_settings(facts)
    return [f"--{name.replace('_', '-')}={settings[name]}" for name in LOG_SETTINGS if settings.get(name)]


def _choose_environment(facts: Mapping[str, str], target: str) -> Mapping[str, str]:
    """Return the time zone of the server of a backup, in which it executed statements.

    Raises:
        RecoveryRefusedError: this machine has another one.
    """
    zone = _parse_settings(facts).get(LOG_ZONE, "")
    if zone in _UTC:
        return {"TZ": "UTC"}
    if zone not in time.tzname:
        raise RecoveryRefusedError(
            target=target,
            reason=f"the time zone of its server is {zone}, and that of this machine {time.tzname[0]}",
            hint="Times in replayed statements would differ. Set TZ to the time zone of the server, such as Europe/Berlin.",
        )
    return {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}


def _load(request: RecoveryRequest, base: _Base, server: MariaDBServer) -> None:
    """Load the dump of a backup, with the accounts that it names."""
    member, target = base.member, request.target
    request.keys.prepare(request.repository.store, base.manifest)
    with open_reader(request.repository.store, request.keys) as reader, server.open_session() as session:
        with report_damage():
            path = reader.decode_verified(base.manifest, member, target)
        load_request = LoadRequest(
            path=path,
            dump=member.dump,
            timeout=0,
            progress=count_in_bytes((member.size, progress.advance)),
            roles=RolePolicy(missing="create"),
        )
        restore = ScratchRestore(MySQLServer(server.url, target), load_request, session)
        with restore.prepare_accounts() as accounts:
            session.run(create_statement(server.url.path, member.facts))
            restore.load(server.url, accounts)
        # Replayed statements run triggers with the rights of accounts that had them on the whole server.
        for user, host in session.run(ACCOUNTS):
            session.run(f"grant all on *.* to {quote_name(f'{user}@{host}')}")


def _describe_events(server: MariaDBServer) -> Iterator[str]:
    """Yield a remark about the events that a replica disables when they are created or changed."""
    with server.open_session() as session:
        rows = session.run(DISABLED_EVENTS.format(format_literal(server.url.path)))
    if rows:
        names = ", ".join(str(name) for (name,) in rows)
        yield (
            f"disabled, since the log does not contain whether they were enabled: events {names};"
            " after a restore: ALTER EVENT NAME ENABLE"
        )
