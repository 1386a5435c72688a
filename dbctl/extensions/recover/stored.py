"""The copies and the log of a server in the repository, from which a recovery starts."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from dbctl import signals
from dbctl.errors.base import Remedy
from dbctl.errors.connection import CorruptError, report_file_errors
from dbctl.extensions.recover.contract import Recovery, RecoveryPlan, show_time
from dbctl.extensions.recover.errors import RecoveryTimeError, report_damage
from dbctl.extensions.recover.section import Source
from dbctl.files import temp
from dbctl.files.atomic import create_file
from dbctl.files.codecs import CHUNK
from dbctl.model import Struct, format_count
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.log_range import LOST, find_copy, find_newest_log, read_sequence, read_since
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import open_reader
from dbctl.services.backup.repository import Repository

#: Of the private folders with the extracted files.
PREFIX = ".dbctl-archive-"


class StoredArchive(Struct, frozen=True, kw_only=True):
    """A copy of a server, and the backups of its log that a recovery to a moment requires."""

    target: str
    copy: tuple[Manifest, Member]
    log: Sequence[tuple[Manifest, Member]]  #: the earliest first

    @property
    def known(self) -> tuple[datetime, datetime]:
        """The end of the copy, and the moment up to which the log has all transactions."""
        return read_since(self.copy[1]), self.log[-1][1].taken_at

    def plan(self, at: datetime) -> RecoveryPlan:
        """Return what ``unpack`` and the recovery do."""
        parts = [self.copy, *self.log]
        size = sum(member.size for _, member in parts)
        first, last = (manifest.id for manifest, _ in (self.log[0], self.log[-1]))
        form = "copy of the server" if self.copy[1].form == "physical" else "backup"
        steps = [
            f"unpack the {form} {self.copy[0].id} ({self.copy[1].size:,} bytes) into a private folder",
            f"unpack {format_count(len(self.log), 'part')} of its log, {first} to {last}, and replay the transactions before {show_time(at)}",
        ]
        return RecoveryPlan(steps=steps, bytes=size)

    @contextmanager
    def unpack(self, repository: Repository, keys: DecryptionKeys, staging: Path) -> Iterator[Source]:
        """Unpack the files into a private folder, which is deleted at the end; a dump is read when it is loaded.

        Raises:
            RecoveryDamagedError: a file does not match its manifest.
            KeyMissingError, KeyWrongError: it is encrypted, and no key decrypts it.
            InsufficientSpaceError, DiskFullError: not enough disk space.
        """
        with ExitStack() as stack:
            with report_file_errors(staging):  # not of the caller's block
                folder = stack.enter_context(temp.folder(staging, PREFIX))
                log = folder / "log"
                log.mkdir(mode=0o700)
            for manifest, member in self.log:
                with report_damage(), open_reader(repository.store, keys) as reader:
                    _unpack(reader.decode_verified(manifest, member, self.target), log, self.target)
            base = ""
            if self.copy[1].form == "physical":
                reader = stack.enter_context(open_reader(repository.store, keys))
                with report_damage():
                    base = str(reader.decode_verified(*self.copy, self.target))
            yield Source(base=base, log=str(log))


def find_archive(
    repository: Repository, database: str, at: datetime, target: str, recovery: Recovery
) -> StoredArchive | None:
    """Return the latest copy that ended before a moment, with its log; None: the repository has no copy and no log.

    Raises:
        RepositoryMissingError: its directory does not exist.
        RecoveryTimeError: every copy ended later, there is none, or the log ends earlier.
    """
    manifests = repository.read_content().valid
    copies = [(manifest, member) for manifest in manifests if (member := find_copy(manifest, database))]
    log = [(manifest, member) for manifest in manifests if (member := find_newest_log([manifest], database))]
    if not copies and not log:
        return None
    copy = _choose_copy(copies, at, target)
    required, expected = list[tuple[Manifest, Member]](), read_sequence(copy[1]) + 1
    for part in reversed(log):
        number, facts = read_sequence(part[1]), part[1].facts
        if number < expected:
            continue
        is_lost = LOST in facts and (required or not recovery.reaches_back(facts, copy[1].facts))
        if number != expected or is_lost:
            last = required[-1][1].taken_at if required else read_since(copy[1])
            reason = f"a part of the log before {part[0].id} is missing"
            if is_lost:
                reason = f"the server had lost the log {facts[LOST]}, before {part[0].id}"
            hint = f"Choose a moment up to {show_time(last)}, or one after a later copy."
            raise RecoveryTimeError(target=target, at=show_time(at), reason=reason, hint=hint)
        required.append(part)
        expected += 1
        if part[1].taken_at >= at:
            return StoredArchive(target=target, copy=copy, log=required)
    until = (
        f"its log is stored up to {show_time(required[-1][1].taken_at)}"
        if required
        else "none of its log is stored"
    )
    raise RecoveryTimeError(
        target=target,
        at=show_time(at),
        reason=f"{until}, after the copy {copy[0].id}",
        hint=Remedy(
            "If the server has written nothing since, choose that moment. Otherwise store the rest of the log with: `backup log`"
        ),
    )


def _choose_copy(
    copies: Sequence[tuple[Manifest, Member]], at: datetime, target: str
) -> tuple[Manifest, Member]:
    """Return the latest copy that ended before a moment, of copies that are newest first; raises as ``find_archive``."""
    usable = [copy for copy in copies if read_sequence(copy[1])]
    if copy := next((copy for copy in usable if read_since(copy[1]) <= at), None):
        return copy
    hint: Remedy | str = "Choose a later time."
    if usable:
        reason = f"the earliest copy, {usable[-1][0].id}, ended at {show_time(read_since(usable[-1][1]))}"
    elif copies:
        reason = f"no log was stored before the copy of its server, {copies[0][0].id}"
        hint = Remedy(
            "Store the log with: `backup log`; then make another copy with: `backup create --physical`"
        )
    else:
        reason = "its log is stored, but no copy that it follows"
        hint = Remedy(
            "Copy the server of PostgreSQL with: `backup create --physical`; or back up a database of MariaDB with: `backup create`"
        )
    raise RecoveryTimeError(target=target, at=show_time(at), reason=reason, hint=hint)


def _unpack(archive: Path, folder: Path, target: str) -> None:
    """Write the files of an archive; a later part of a log has more of the file at the end of the earlier one."""
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                signals.raise_if_interrupted()
                file = tar.extractfile(entry) if entry.isfile() and "/" not in entry.name else None
                if file is None:
                    raise CorruptError(
                        target=target, reason=f"{archive.name}: {entry.name!r} is no file of a log"
                    )
                path = folder / entry.name
                path.unlink(missing_ok=True)
                with create_file(path, temporary=True) as output:
                    for block in iter(partial(file.read, CHUNK), b""):
                        output.write(block)
    except tarfile.TarError as error:
        raise CorruptError(target=target, reason=f"{archive.name}: {error}") from error
