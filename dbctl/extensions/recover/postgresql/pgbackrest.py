"""The repository of pgBackRest: its own program restores a copy, and fetches the segments of the log up to the moment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs

from dbctl import progress, signals
from dbctl.errors.connection import ClientFailedError, ClientMissingError
from dbctl.extensions.recover.contract import RecoveryRequest, show_time, write_time
from dbctl.extensions.recover.errors import RecoveryMissingError, RecoveryTimeError
from dbctl.extensions.recover.postgresql.base import Base, find_bases
from dbctl.extensions.recover.postgresql.choice import STEP, find_programs, name_place
from dbctl.extensions.recover.postgresql.log import Log
from dbctl.extensions.recover.postgresql.scan import scan_segments
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.extensions.recover.section import Source
from dbctl.files import mounts, subprocesses
from dbctl.model import JSON_ERRORS, Struct

PROGRAM = "pgbackrest"
#: The status with which it states that a file is not in the repository.
_NOT_FOUND = 1


class _Times(msgspec.Struct, frozen=True):
    stop: int  #: seconds since the epoch


class _Size(msgspec.Struct, frozen=True):
    size: int


class _Backup(msgspec.Struct, frozen=True):
    label: str
    timestamp: _Times
    info: _Size
    error: bool | None = None  #: whether it has damaged pages


class _Stanza(msgspec.Struct, frozen=True):
    name: str
    backup: Sequence[_Backup] = ()


class RepositoryCopy(Struct, frozen=True, kw_only=True):
    """A backup of pgBackRest."""

    label: str
    ended: datetime  #: in whole seconds, rounded up
    bytes: int


class PgBackRest:
    """One stanza of a repository."""

    def __init__(self, source: Source, target: str) -> None:
        self._target, self.stanza, self._place = target, source.pgbackrest, name_place(source)
        config = [f"--config={source.pgbackrest_config}"] if source.pgbackrest_config else []
        self._options = [
            f"--stanza={self.stanza}",
            *config,
            "--log-level-console=off",
            "--log-level-stderr=error",
        ]
        self._options += ["--log-level-file=off"]

    def list_copies(self) -> Sequence[RepositoryCopy]:
        """Return the backups, the latest first.

        Raises:
            ClientMissingError, ClientFailedError: the program is not installed, or fails.
            RecoveryMissingError: there is no backup.
        """
        output, _ = self._run("info", "--output=json")
        try:
            stanzas = msgspec.json.decode(output, type=list[_Stanza])
        except JSON_ERRORS as error:
            raise self._create_error(f"its answer cannot be read: {error}") from error
        copies = [
            RepositoryCopy(
                label=backup.label,
                ended=datetime.fromtimestamp(backup.timestamp.stop + 1, UTC),
                bytes=backup.info.size,
            )
            for stanza in stanzas
            if stanza.name == self.stanza
            for backup in stanza.backup
            if not backup.error
        ]
        if not copies:
            hint = f"Check pgbackrest under [apps.NAME.recovery.databases.NAME]; list the backups with: {PROGRAM} info"
            raise RecoveryMissingError(target=self._target, reason=f"{self._place} has no backup", hint=hint)
        return sorted(copies, key=lambda copy: copy.ended, reverse=True)

    def restore(self, copy: RepositoryCopy, destination: Path) -> None:
        """Restore a backup into an empty folder; what was outside of its data folder is restored next to it.

        Raises:
            ClientFailedError: the program fails.
        """
        self._run(
            "restore",
            f"--set={copy.label}",
            f"--pg1-path={destination}",
            "--type=none",
            # Otherwise its tablespaces, and what links named, would be written to where the live server has them.
            f"--tablespace-map-all={destination}-tablespaces",
            "--reset-tablespace-map",
            "--no-link-all",
            "--reset-link-map",
        )

    def fetch(self, name: str, folder: Path, place: Path) -> bool:
        """Copy a segment, or a history, into a folder; return whether the repository has it.

        ``place`` has a restored backup, whose server the program compares with the archive: the files of the live one may be lost.

        Raises:
            ClientFailedError: the program fails.
        """
        options = [f"--pg1-path={place}", "--no-archive-async"]
        _, status = self._run("archive-get", *options, name, str(folder / name), accepted=_NOT_FOUND)
        progress.advance(0 if status else (folder / name).stat().st_size)
        return not status

    def _run(self, command: str, *words: str, accepted: int = 0) -> tuple[bytes, int]:
        """Run a command; return its output, and its status, which is 0 or ``accepted``."""
        signals.raise_if_interrupted()
        variables = {name: text for name, text in os.environ.items() if name.startswith("PGBACKREST_")}
        try:
            process = subprocess.run(  # noqa: S603 - a constant program, without a shell
                [PROGRAM, *self._options, command, *words],
                env=subprocesses.list_variables() | variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise ClientMissingError(
                target=self._target, program=PROGRAM, product="pgBackRest", version="2", package=PROGRAM
            ) from error
        if process.returncode not in (0, accepted):
            raise self._create_error(
                process.stderr.decode(errors="replace").strip() or f"status {process.returncode}"
            )
        return process.stdout, process.returncode

    def _create_error(self, reason: str) -> ClientFailedError:
        hint = f"No backup was created. Check the repository with: {PROGRAM} --stanza={self.stanza} verify"
        return ClientFailedError(target=self._target, program=PROGRAM, reason=reason, hint=hint)


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
    while repository.fetch(f"{number:08X}.history", destination, place):
        number += 1
    folder.give(destination)
    if not repository.fetch(base.first, destination, place):
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
            if (destination / name).exists() or repository.fetch(name, destination, base.folder)
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
