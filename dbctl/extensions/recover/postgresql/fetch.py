"""Restore a copy of a repository of pgBackRest, and fetch its log up to the moment."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from dbctl.extensions.recover.contract import RecoveryRequest, show_time, write_time
from dbctl.extensions.recover.errors import RecoveryMissingError, RecoveryTimeError
from dbctl.extensions.recover.postgresql.base import Base, find_bases
from dbctl.extensions.recover.postgresql.choice import STEP, find_programs, name_place
from dbctl.extensions.recover.postgresql.log import Log
from dbctl.extensions.recover.postgresql.pgbackrest import PgBackRest, RepositoryCopy
from dbctl.extensions.recover.postgresql.scan import scan_segments
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.files import mounts


def find_copy(repository: PgBackRest, request: RecoveryRequest) -> RepositoryCopy:
    """Return the latest backup of a repository that ended before the moment."""
    copies = repository.list_copies()
    if copy := next((copy for copy in copies if copy.ended < request.at), None):
        return copy
    raise RecoveryTimeError(
        target=request.target,
        at=show_time(request.at),
        reason=f"every backup of {name_place(request.source)} ends later",
        hint=f"Choose a later time: --at {write_time(copies[-1].ended + STEP)}",
    )


def fetch_archive(request: RecoveryRequest, folder: PrivateFolder) -> RecoveryRequest:
    """Restore a copy of a repository, and fetch its log up to the moment; return the request for their folders.

    Raises:
        RecoveryTimeError: every copy ended later.
        RecoveryMissingError: the log of the copy is missing.
        ClientMissingError, ClientFailedError: the program is not installed, or fails.
    """
    repository = PgBackRest(request.source, request.target)
    copy = find_copy(repository, request)
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
            reason=f"the segment {base.first} is missing in {name_place(request.source)}",
            hint="Choose a moment after a later backup.",
        )
    log = Log([destination], request.target, name_place(request.source))
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
    waldump = find_programs(base, request.target) / "pg_waldump"
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
