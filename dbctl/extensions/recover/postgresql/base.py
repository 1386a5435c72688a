"""Physical copies of a server, as ``pg_basebackup`` writes them: their description, and their copy for a private server."""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from dbctl import progress, signals
from dbctl.errors.backup import BackupFailedError
from dbctl.errors.base import shorten_details
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.errors import (
    RecoveryDamagedError,
    RecoveryMissingError,
    RecoveryRefusedError,
    report_damage,
)
from dbctl.extensions.recover.postgresql.log import MAGIC_BYTES, parse_position
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.files import atomic, compression, subprocesses
from dbctl.files.atomic import create_file, hash_blocks
from dbctl.files.codecs import CHUNK, StreamDecompressor
from dbctl.model import JSON_ERRORS, Struct

LABEL, VERSION, MANIFEST, LOG_FOLDER = "backup_label", "PG_VERSION", "backup_manifest", "pg_wal"
_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file (\w+)\)", re.MULTILINE)
_TIMELINE = re.compile(r"^START TIMELINE: (\d+)", re.MULTILINE)
_INCREMENTAL = re.compile(r"^INCREMENTAL FROM", re.MULTILINE)
#: The archives of ``pg_basebackup --format=tar``; those of tablespaces have a number.
_ARCHIVE = re.compile(r"(base|pg_wal|\d+)\.tar(\.gz|\.zst)?")
#: The folder of each copy in which Barman has the files.
DATA_FOLDER = "data"
#: Bytes of a label, and of a manifest.
_MAX_LABEL, _MAX_MANIFEST = 1 << 16, 1 << 30
#: The folders of which a private server gets empty ones: it has another log, no tablespaces, and no server that follows it.
_EMPTIED = (LOG_FOLDER, "pg_tblspc", "pg_replslot", "pg_stat_tmp", "pg_dynshmem")
#: What it does not get: above all, nothing of the configuration of the live server.
_OMITTED = {
    "postgresql.auto.conf", "postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postmaster.pid", "postmaster.opts",
    "standby.signal", "recovery.signal", "tablespace_map", *_EMPTIED,
}  # fmt: skip
#: What ``pg_verifybackup`` reports of a file that a copy has besides those of the server.
_ADDED = "present on disk but not in the manifest"


class Base(Struct, frozen=True, kw_only=True):
    """One physical copy."""

    folder: Path  #: or the only archive
    archive: Path | None  #: its main archive; None: the files are in the folder
    start: int  #: the position in the log at which the replay begins
    first: str  #: the segment with that position
    end: int | None  #: the position up to which it must be replayed; None: only the log has it
    timeline: int
    started: datetime  #: a time after its start: without the log, it has no later transaction
    version: int  #: the major version of the server
    bytes: int  #: of its files

    @property
    def name(self) -> str:
        """Its name in the manifest."""
        return self.folder.parent.name if self.folder.name == DATA_FOLDER else self.folder.name

    @property
    def log_archive(self) -> Path | None:
        """Its archive of the log of the time in which it was made; None: it has none."""
        return next((path for path in self.folder.glob("pg_wal.tar*") if _ARCHIVE.fullmatch(path.name)), None)


def find_bases(folder: Path, target: str) -> Sequence[Base]:
    """Return the copies in a folder, or the one that it is, the latest first; also the one in an archive.

    Raises:
        FileMissingError, FileFailedError: it does not exist, or cannot be read.
        RecoveryMissingError: there is none.
        RecoveryRefusedError: the only one cannot be used.
    """
    bases, refused = list[Base](), list[RecoveryRefusedError]()
    with report_file_errors(folder, kind="folder"):
        places = {folder.resolve(): folder}
        if folder.is_dir():
            inner = [*sorted(folder.iterdir()), *sorted(folder.glob(f"*/{DATA_FOLDER}"))]
            places |= {path.resolve(): path for path in inner if path.is_dir()}
    for place in places.values():
        try:
            if base := _read_base(place, target):
                bases.append(base)
        except RecoveryRefusedError as error:
            refused.append(error)
    if not bases:
        if refused:
            raise refused[-1]
        raise RecoveryMissingError(
            target=target,
            reason=f"{folder} has no physical copy of a PostgreSQL server",
            hint="Check base under [apps.NAME.recovery.databases.NAME]; create one with: pg_basebackup --pgdata FOLDER",
        )
    return sorted(bases, key=lambda base: base.start, reverse=True)


def _read_base(folder: Path, target: str) -> Base | None:
    """Describe the copy in a folder; None: there is none."""
    with report_file_errors(folder):
        archives = {"base": folder}
        if folder.is_dir():
            archives = {
                match[1]: path for path in folder.iterdir() if (match := _ARCHIVE.fullmatch(path.name))
            }
        archive = archives.get("base")
        if archive is None and not (folder / LABEL).is_file():
            return None
        tablespaces = sorted({*archives} - {"base", LOG_FOLDER})
        if archive:
            label, version, modified = _read_archive(archive, target)
            size = sum(path.stat().st_size for path in archives.values())
        else:
            label, version = ((folder / name).read_text(errors="replace") for name in (LABEL, VERSION))
            modified = (folder / LABEL).stat().st_mtime
            tablespaces = [path.name for path in (folder / "pg_tblspc").glob("*")]
            size = sum(path.lstat().st_size for path in _list_files(folder))
        manifest = _read_manifest(folder / MANIFEST, target)
    start, timeline = _START.search(label), _TIMELINE.search(label)
    if not (start and version.strip().isdigit()):
        raise RecoveryDamagedError(target=target, reason=f"{folder}: its {LABEL} or {VERSION} is damaged")
    if tablespaces:
        raise RecoveryRefusedError(
            target=target,
            reason=f"{folder} has the tablespace {', '.join(tablespaces)}",
            hint="Bases with tablespaces are not supported. Recover the server with its own tools, and adopt a dump with: `backup adopt FILE`",
        )
    if _INCREMENTAL.search(label):
        raise RecoveryRefusedError(
            target=target,
            reason=f"{folder} is an incremental copy",
            hint="Combine it with the copies before it: pg_combinebackup --output FOLDER FULL INCREMENTAL",
        )
    return Base(
        folder=folder,
        archive=archive,
        start=parse_position(start[1]),
        first=start[2],
        end=parse_position(manifest.ranges[-1].end) if manifest.ranges else None,
        timeline=int(timeline[1]) if timeline else 1,
        # Whole seconds, rounded down; the files may have transactions of the rest of that second.
        started=(manifest.label_time or datetime.fromtimestamp(modified, UTC)) + timedelta(seconds=1),
        version=int(version),
        bytes=sum(file.size for file in manifest.files) or size,
    )


class _File(msgspec.Struct, frozen=True):
    size: int = msgspec.field(name="Size")
    path: str = msgspec.field(name="Path", default="")
    modified: str = msgspec.field(name="Last-Modified", default="")
    checksum: str = msgspec.field(name="Checksum", default="")


class _Range(msgspec.Struct, frozen=True):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class Manifest(msgspec.Struct, frozen=True):
    """What is read of the manifest of ``pg_basebackup``."""

    files: Sequence[_File] = msgspec.field(name="Files", default=())
    ranges: Sequence[_Range] = msgspec.field(name="WAL-Ranges", default=())
    checksum: str = msgspec.field(name="Manifest-Checksum", default="")  #: of its text before

    @property
    def label_time(self) -> datetime | None:
        """The time of the label, which the server writes when it begins a copy."""
        text = next((file.modified for file in self.files if file.path == LABEL), "")
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S GMT").replace(tzinfo=UTC) if text else None


def _read_manifest(path: Path, target: str) -> Manifest:
    if not path.exists():  # pg_basebackup --no-manifest
        return Manifest()
    try:
        return msgspec.json.decode(atomic.read_whole(path, _MAX_MANIFEST), type=Manifest)
    except JSON_ERRORS as error:
        raise RecoveryDamagedError(target=target, reason=f"{path}: {error}") from error


def check_archive(file: IO[bytes], target: str) -> Manifest:
    """Read an archive whose manifest has SHA-256 checksums to its end, and return the manifest.

    Raises:
        BackupFailedError: a file is missing, or does not have its checksum.
    """
    digests, text = dict[str, tuple[int, str]](), b""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                if member.isfile() and member.name == MANIFEST:
                    text = _open_member(tar, member).read()
                elif member.isfile():
                    content = _open_member(tar, member)
                    digest = hash_blocks(iter(partial(content.read, CHUNK), b""))
                    digests[member.name] = digest.bytes, digest.sha256
        manifest = msgspec.json.decode(text, type=Manifest)
    except (tarfile.TarError, *JSON_ERRORS) as error:
        raise BackupFailedError(target=target, reason=str(error)) from error
    body, _, _ = text.rpartition(b'"Manifest-Checksum"')
    wrong = [
        entry.path for entry in manifest.files if digests.get(entry.path) != (entry.size, entry.checksum)
    ]
    wrong += [MANIFEST] if not manifest.ranges or sha256(body).hexdigest() != manifest.checksum else []
    if wrong:
        raise BackupFailedError(target=target, reason=f"wrong checksum: {', '.join(shorten_details(wrong))}")
    return manifest


def _read_archive(archive: Path, target: str) -> tuple[str, str, float]:
    """Return the label and the version in an archive, and the time of the label."""
    texts, modified = dict[str, str](), 0.0
    with _open_archive(archive, target) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if name in (LABEL, VERSION) and (file := tar.extractfile(member)):
                texts[name] = file.read(_MAX_LABEL).decode(errors="replace")
                modified = member.mtime if name == LABEL else modified
            if len(texts) == 2:  # noqa: PLR2004 - both
                return texts[LABEL], texts[VERSION], modified
    raise RecoveryDamagedError(target=target, reason=f"{archive} has no {LABEL}, or no {VERSION}")


@contextmanager
def _open_archive(archive: Path, target: str) -> Iterator[tarfile.TarFile]:
    """Read an archive, which may be compressed, from its beginning to its end."""
    try:
        with report_damage(), report_file_errors(archive), atomic.open_regular(archive) as file:
            kind, _ = compression.read_head(archive, MAGIC_BYTES)
            stream = StreamDecompressor(kind, target, str(archive), several=True)
            blocks = (
                chunk
                for block in iter(lambda: file.read(CHUNK), b"")
                for chunk in stream.feed(block)
                if chunk
            )
            with tarfile.open(fileobj=_BlockReader(blocks), mode="r|") as tar:  # type: ignore[call-overload] # it reads only
                yield tar
    except (tarfile.TarError, EOFError) as error:
        raise RecoveryDamagedError(target=target, reason=f"{archive}: {error}") from error


class _BlockReader:
    """Blocks with the method by which an archive is read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def read(self, size: int) -> bytes:
        parts, missing = list[bytes](), size
        while missing and (block := self._rest or next(self._blocks, b"")):
            parts.append(block[:missing])
            self._rest = block[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def copy_base(base: Base, folder: PrivateFolder, target: str) -> None:
    """Copy the files of a server into the data folder of a private one, without its configuration and its log.

    Raises:
        RecoveryDamagedError: the copy is damaged.
        RecoveryRefusedError: it contains a link: a tablespace, which may be that of the live server.
        DiskFullError: there is not enough free space.
    """
    if base.folder.parent == folder.data.parent:  # it was restored for this server alone
        _move_files(base, folder, target)
    else:
        _write_files(_read_files(base, target), folder, folder.data)
    for name in _EMPTIED:
        (folder.data / name).mkdir(mode=0o700)
        folder.give(folder.data / name)


def verify_files(base: Base, folder: PrivateFolder, programs: Path, target: str) -> None:
    """Compare the files of the private server with the checksums of the copy, if it has any.

    The pages of a server need not have checksums: a file that is too short would be a table with fewer rows.

    Raises:
        RecoveryDamagedError: a file is missing, or differs.
    """
    if not (folder.data / MANIFEST).exists():
        return
    ignored = [f"--ignore={name}" for name in sorted(_OMITTED)]
    command = [str(programs / "pg_verifybackup"), "--no-parse-wal", "--quiet", *ignored, str(folder.data)]
    watch = subprocesses.ProgramWatch(target, hint="No backup was created.")
    with subprocesses.run_program(command, {}, watch=watch) as client:
        status, lines = client.finish(), client.error_output().splitlines()
    damages = [line.removeprefix("pg_verifybackup: error: ") for line in lines if _ADDED not in line]
    if status and (damages or not lines):
        reasons = shorten_details(damages) or [f"pg_verifybackup ended with status {status}"]
        raise RecoveryDamagedError(target=target, reason=f"{base.folder}: {', '.join(reasons)}")


def _move_files(base: Base, folder: PrivateFolder, target: str) -> None:
    for name in _OMITTED:
        path = base.folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    folder.data.rmdir()
    base.folder.rename(folder.data)
    for path in [folder.data, *_list_files(folder.data)]:
        if path.is_symlink():
            raise _link_error(base.folder, path.name, target)
        folder.give(path)


def copy_log(base: Base, folder: PrivateFolder, target: str) -> Path:
    """Return a folder with the log of the time in which a copy was made."""
    if not (archive := base.log_archive):
        return base.folder / LOG_FOLDER
    destination = folder.data.parent / f"{LOG_FOLDER}-{base.start:X}"
    if not destination.exists():
        destination.mkdir(mode=0o700)
        with _open_archive(archive, target) as tar:
            # Marks of segments that were archived, such as archive_status/NAME.done, are in it without their folder.
            segments = (entry for entry in _list_members(tar, archive, target) if "/" not in entry[0])
            _write_files(segments, folder, destination)
    return destination


#: The name of a file in a copy, and its content; None: it is a folder.
_Entry: TypeAlias = tuple[str, Callable[[], IO[bytes]] | None]


def _read_files(base: Base, target: str) -> Iterator[_Entry]:
    """Yield the files and folders of a copy."""
    if base.archive:
        with _open_archive(base.archive, target) as tar:
            yield from _list_members(tar, base.archive, target)
        if (manifest := base.folder / MANIFEST).is_file():  # next to the archive, or in it
            yield MANIFEST, partial(atomic.open_regular, manifest)
        return
    for path in _list_files(base.folder):
        name = str(path.relative_to(base.folder))
        if path.is_symlink():
            raise _link_error(base.folder, name, target)
        yield name, None if path.is_dir() else partial(atomic.open_regular, path)


def _list_members(tar: tarfile.TarFile, archive: Path, target: str) -> Iterator[_Entry]:
    for member in tar:
        name = member.name.removeprefix("./")
        if member.islnk() or member.issym():
            raise _link_error(archive, name, target)
        if not (member.isfile() or member.isdir()) or name.startswith("/") or ".." in name.split("/"):
            raise RecoveryDamagedError(target=target, reason=f"{archive}: {name!r} is no file of a server")
        yield name, None if member.isdir() else partial(_open_member, tar, member)


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if (file := tar.extractfile(member)) is None:
        raise RuntimeError(f"{member.name} is no file")
    return file


def _list_files(folder: Path) -> Iterator[Path]:
    """Yield the files and folders of a copy, except those that a private server does not use; the log may be a link."""
    for path in sorted(folder.iterdir()):
        if path.name in _OMITTED:
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _list_files(path)


def _link_error(place: Path, name: str, target: str) -> RecoveryRefusedError:
    return RecoveryRefusedError(
        target=target,
        reason=f"{place} contains the link {name}",
        hint="dbctl follows no link of a base. Copy what it names, or create another base.",
    )


def _write_files(entries: Iterator[_Entry], folder: PrivateFolder, destination: Path) -> None:
    for name, open_file in entries:
        signals.raise_if_interrupted()
        path = destination / name
        if set(Path(name).parts) & _OMITTED:
            continue
        if open_file is None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            with open_file() as source, create_file(path, temporary=True) as file:
                for block in iter(partial(source.read, CHUNK), b""):
                    file.write(block)
                    progress.advance(len(block))
        folder.give(path)


def read_system(folder: Path) -> int:
    """Return the identifier of the server, with which its control file begins."""
    with (folder / "global" / "pg_control").open("rb") as file:
        return int.from_bytes(file.read(8), sys.byteorder)
