"""The recovery of a PostgreSQL database: choose a copy and its log, and replay them in a private server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from dbctl import progress
from dbctl.extensions.recover.contract import RecoveredDatabase, RecoveryPlan, RecoveryRequest, show_time
from dbctl.extensions.recover.postgresql.base import copy_base, read_system
from dbctl.extensions.recover.postgresql.choice import (
    STEP,
    choose,
    describe_timelines,
    foreign_error,
    name_place,
    stage_log,
)
from dbctl.extensions.recover.postgresql.fetch import fetch_archive, find_copy
from dbctl.extensions.recover.postgresql.pgbackrest import PgBackRest
from dbctl.extensions.recover.postgresql.replay import await_end_of_replay, configure, open_recovered
from dbctl.extensions.recover.private_server import create_folder, run_server
from dbctl.files import mounts
from dbctl.model import format_count


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
        if (system := read_system(folder.data)) != choice.log.header.system:
            raise foreign_error(request, choice.base, system, choice.log)
        stop, last = stage_log(request, choice, folder)
        configure(request, choice, folder, has_target=stop is not None)
        with run_server(
            [str(choice.programs / "postgres"), "-D", str(folder.data)], folder, end=signal.SIGQUIT
        ) as server:
            progress.start_stage("replaying")
            await_end_of_replay(server, request)
            yield open_recovered(request, choice, folder, last)
