"""Choose a physical copy of a server for a moment, and read the log that follows it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import structs

from dbctl.engines.postgresql import dump_programs
from dbctl.errors.connection import ClientMissingError, ClientOldError
from dbctl.extensions.recover.contract import RecoveryRequest, show_time, write_time
from dbctl.extensions.recover.errors import (
    RecoveryMissingError,
    RecoveryRefusedError,
    RecoveryServerMissingError,
    RecoveryTimeError,
)
from dbctl.extensions.recover.postgresql.base import Base, copy_log, find_bases, read_system
from dbctl.extensions.recover.postgresql.log import TIMELINE_LENGTH, Log, Segment, Timeline, parse_position
from dbctl.extensions.recover.postgresql.scan import Record, scan_segments
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.extensions.recover.section import Source
from dbctl.files import mounts
from dbctl.model import Struct

#: The time from one transaction to the next that can be named.
STEP = timedelta(microseconds=1)


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


def choose(request: RecoveryRequest, folder: PrivateFolder) -> Choice:
    """Return the latest copy that ended before the moment, and its log."""
    if not request.source.base:
        raise RecoveryMissingError(
            target=request.target,
            reason="no physical copy is configured",
            hint="Set base under [apps.NAME.recovery.databases.NAME].",
        )
    *others, oldest = find_bases(Path(request.source.base), request.target)
    if request.copy:  # its end is in the manifest of the archive; that of a standby is not in the log
        oldest = structs.replace(oldest, end=parse_position(request.copy[1].facts["end"]))
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
        at=show_time(request.at),
        reason=f"every base in {request.source.base} ends later",
        hint=f"Choose an older base, or a later time: --at {write_time(choice.earliest + STEP)}",
    )


def _too_late_error(choice: Choice, request: RecoveryRequest) -> RecoveryTimeError:
    reason = f"the log in {choice.log.place} ends with the transaction of {show_time(choice.last)}"
    if choice.missing:
        reason = f"the segment {choice.missing} is missing in {choice.log.place}; the transaction before it is of {show_time(choice.last)}"
    return RecoveryTimeError(
        target=request.target,
        at=show_time(request.at),
        reason=reason,
        hint=f"Archive the rest of the log, or recover all that it has with: --at {write_time(choice.last + STEP)}",
    )


def _read_log(base: Base, request: RecoveryRequest, folder: PrivateFolder) -> Choice:
    """Return a copy with the log that follows it, without its end."""
    own = copy_log(base, folder, request.target)
    log = Log(
        [Path(request.source.log), *([own] if own.is_dir() else [])],
        request.target,
        name_place(request.source),
    )
    if not base.archive and (system := read_system(base.folder)) != log.header.system:
        raise foreign_error(request, base, system, log)
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
        programs=find_programs(base, request.target),
    )
    return _find_end_of_base(choice, folder, request)


def foreign_error(request: RecoveryRequest, base: Base, system: int, log: Log) -> RecoveryRefusedError:
    return RecoveryRefusedError(
        target=request.target,
        reason=f"the base {base.folder} is of the server {system}, the log in {log.place} of {log.header.system}",
        hint="Check base and log under [apps.NAME.recovery.databases.NAME].",
    )


def find_programs(base: Base, target: str) -> Path:
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


def scan(
    choice: Choice, folder: PrivateFolder, staged: Sequence[tuple[Segment, Path]], target: str
) -> Iterator[Record]:
    """Yield the records of the last staged segment, and of the one before it, at whose end one may begin."""
    pair, is_last = [path for _, path in staged[-2:]], staged[-1][0] == choice.segments[-1]
    with ExitStack() as stack:
        if len({segment.timeline for segment, _ in staged[-2:]}) > 1:
            # A timeline begins with a copy of the segment in which it leaves the one before: with the end of such a record.
            first, last = pair
            name = f"{first.name[:TIMELINE_LENGTH]}{last.name[TIMELINE_LENGTH:]}"
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder.data.parent)))
            folder.give(place)
            pair = [place / first.name, place / name]
            for path, link in zip((first, last), pair, strict=True):
                os.link(path, link)
        yield from scan_segments(choice.waldump, pair, folder, target, is_last=is_last)


def stage(choice: Choice, segment: Segment, folder: PrivateFolder, destination: Path) -> tuple[Segment, Path]:
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
        staged.append(stage(choice, segment, folder, destination))
        for record in scan(choice, folder, staged, request.target):
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
            stage(choice, segment, folder, destination)
            for segment in choice.segments[max(0, index - 2) : index]
        ]
        times = [record.time for record in scan(choice, folder, staged, request.target) if record.time]
        if times:
            return max(times)
    return choice.earliest


def stage_log(request: RecoveryRequest, choice: Choice, folder: PrivateFolder) -> Record | None:
    """Copy the log up to the moment into the folder of the server; return the last transaction before it.

    Raises:
        RecoveryRefusedError: the log creates a tablespace.
    """
    destination, last = folder.data / "pg_wal", None
    for path in choice.log.copy_histories(destination):
        folder.give(path)
    staged = list[tuple[Segment, Path]]()
    for segment in choice.segments:
        mounts.require_space(destination, choice.log.header.size)
        staged.append(stage(choice, segment, folder, destination))
        for record in scan(choice, folder, staged, request.target):
            if record.tablespace:
                raise RecoveryRefusedError(
                    target=request.target,
                    reason=f"the log creates a tablespace in {record.tablespace}",
                    hint="Recover from a base that was made later, or with the tools of the server.",
                )
            if record.time and record.position >= choice.consistent:
                if record.time >= request.at:
                    return last
                last = record
    return last


def name_place(source: Source) -> str:
    """Return where a log is, for messages."""
    return f"the stanza {source.pgbackrest} of pgBackRest" if source.pgbackrest else source.log


def describe_timelines(choice: Choice) -> Sequence[str]:
    numbers = choice.log.list_timelines()
    if len(numbers) == 1:
        return []
    return [f"of the timelines {', '.join(map(str, numbers))}, {choice.timelines[-1].number} is followed"]
