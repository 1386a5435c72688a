"""The app's own files in a backup, such as keys and logins: one compressed archive; and the base of operations on backups."""

from __future__ import annotations

import os
import shlex
import stat
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile

from msgspec import structs

from dbctl import progress
from dbctl.engines import registry
from dbctl.errors.base import DbctlError, Exit, Remedy, worst_status
from dbctl.errors.connection import DiskFullError, FileFailedError, FileMissingError
from dbctl.files.atomic import create_file, expand_home, is_full
from dbctl.files.temp import RateLimiter
from dbctl.model import Finding, Struct, format_count, now
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import BackupWriter
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import MemberSource
from dbctl.signals import Interrupted

#: Bytes; a larger file is copied to a temporary file on disk before it is archived.
MAX_IN_MEMORY = 4 << 20
_NO_DIRECTORY = Remedy(
    "Mount it, or correct the key directory of the app. Without files, one database is backed up by: `backup create --db NAME`"
)


class AppFiles(MemberSource):
    """The files of an app that its profile includes in backups, as one archive."""

    def __init__(self, repository: Repository, rate_limit: RateLimiter | None) -> None:
        """Find the files.

        Raises:
            FileMissingError: the app's directory does not exist.
            FileFailedError: as ``find_files``.
        """
        app = repository.app
        self._app, self._rate_limit, patterns = app, rate_limit, app.profile.backup.extra
        directory = app.configured.directory
        if patterns and not directory.is_dir():  # a disk may not be mounted
            raise FileMissingError(kind="the app's directory", path=directory, hint=_NO_DIRECTORY)
        repositories = list(_list_repositories(repository)) if patterns else ()
        self._files = dict(find_files(directory, patterns, without=repositories))
        database_identities = find_database_identities(app) if self._files else ()
        for name, path in list(self._files.items()):
            if find_identity(path) in database_identities:
                del self._files[name]

    def __bool__(self) -> bool:
        return bool(self._files)

    def size(self) -> int:
        return sum(map(_size, self._files.values()))

    def plan_steps(self) -> Iterator[str]:
        top_names = sorted({_top_level_name(name) for name in self._files})
        description = f"{format_count(len(self._files), 'file')} of the app ({', '.join(top_names)}; {self.size():,} bytes)"
        yield f"archive {description} as {archive_name('TIME')}"

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Archive the files in the folder of a backup.

        A file that is deleted concurrently is omitted. Links in folders are archived as links.

        Raises:
            FileFailedError: a file cannot be read.
            DiskFullError: the archive, or the copy of a large file in the system's temporary folder, does not fit.
        """
        file = archive_name(folder.name)
        file_count = 0
        read_at = now()
        with (
            create_file(folder.path_for(file)) as output,
            tarfile.open(fileobj=output, mode="w:gz") as archive,  # type: ignore[call-overload] # it only writes
        ):
            for name, path in self._files.items():
                size = _add_to_archive(archive, path, name)
                file_count += size is not None
                progress.advance(size or 0)
                if self._rate_limit:
                    self._rate_limit(size or 0)
        facts = {"files": str(file_count)}
        stored = folder.store(file, output.counter.digest.sha256)
        return [structs.replace(stored, form="files", taken_at=read_at, facts=facts)]


def archive_name(time: str) -> str:
    return f"files_{time}.tar.gz"


def report_unchanged_files(app: App, manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding if the backup has files of the app: restoring databases does not change them."""
    for member in manifest.members:
        if member.form == "files" and not app.only:
            selection = ["--file", manifest.id] if "/" in manifest.id else [manifest.id]
            command = shlex.join(["dbctl", "restore", "files", *selection, "--to", "DIR"])
            yield Finding(
                app.name,
                "info",
                "app-files-unchanged",
                f"the app's own files are unchanged; the backup has its copies in {member.file}",
                f"Extract the copies into a new folder: {command}",
            )


def _list_repositories(repository: Repository) -> Iterator[Path]:
    """Yield the folder of the backups and the configured one, in which all others would be part of each new backup."""
    yield Path(repository.store.location).parent
    if configured := repository.app.configured.backup_settings.repository:
        yield repository.app.configured.folder / expand_home(configured)


def find_files(
    directory: Path, patterns: Sequence[str], *, without: Collection[Path] = ()
) -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the path of each file that matches the patterns; a trailing ``/`` matches a folder with its content.

    What a pattern names may be a link to another place, such as a disk for uploads: its target is archived. The content of the
    folders ``without`` is omitted.

    Raises:
        FileFailedError: a folder, or the target of such a link, cannot be read.
    """
    omitted = {find_identity(folder) for folder in without}
    named = dict.fromkeys(path for pattern in patterns for path in _match(directory, pattern.rstrip("/")))
    for match in named:
        for path in _list_content(match, omitted) if match.is_dir() else [match]:
            # A link that is named itself would be in front of its content, which is not extracted through a link.
            if _is_archivable(path) and (path == match or path not in named):
                is_named_file = path == match and path.is_file()
                yield str(path.relative_to(directory)), path.resolve() if is_named_file else path


def _match(directory: Path, pattern: str) -> Sequence[Path]:
    """Return the paths that match a pattern; raises as ``find_files``."""
    path, place = directory / pattern, ""
    # Path.glob ignores folders that cannot be read, and so do Path.exists and others since Python 3.14
    try:
        if stat.S_ISLNK(path.lstat().st_mode):  # perhaps to a disk that is not mounted
            place = "its target: "
            path.stat()
    except OSError as error:
        if place or not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise FileFailedError(path=path, reason=f"{place}{error.strerror}") from error
    return sorted(directory.glob(pattern))


def _list_content(folder: Path, omitted: Collection[tuple[int, int] | None]) -> Iterator[Path]:
    """Yield what is in a folder and its subfolders, except these; raises as ``find_files``."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it was deleted concurrently
            raise FileFailedError(path=error.filename, reason=error.strerror or str(error)) from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        if find_identity(Path(parent)) in omitted:
            folders.clear()
            continue
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted([*names, *links]))
        folders.sort()


def find_database_identities(app: App) -> set[tuple[int, int] | None]:
    """Return the identities of the app's database files.

    Their engine copies them. Opening one here would release the locks that this process has on it.
    """
    return {find_identity(path) for path in list_database_files(app)} - {None}


def list_database_files(app: App) -> Iterator[Path]:
    for url in app.configured.databases.values():
        if files := registry.load_engine(url.engine).database_files(url):
            yield from (files.file, *files.side_files)


def find_identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, or None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:  # a dangling link, or no permission
        return None
    return status.st_dev, status.st_ino


def _is_archivable(path: Path) -> bool:
    """Whether the path is a file or a link; pipes and sockets have no content, and folders are implied by their files."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _top_level_name(name: str) -> str:
    top, slash, _ = name.partition("/")
    return top + slash


def _add_to_archive(archive: tarfile.TarFile, path: Path, name: str) -> int | None:
    """Add one file in its current state; return its size in bytes, or None if it no longer exists."""
    with SpooledTemporaryFile(MAX_IN_MEMORY) as copy:
        try:
            info = archive.gettarinfo(str(path), arcname=name)
            # A further name of a file is archived as a file, because no link is extracted.
            if has_content := info.isreg() or info.islnk():
                # The app may write the file concurrently: its size is that of the bytes read.
                with path.open("rb") as source:
                    copy.writelines(iter(partial(source.read, MAX_IN_MEMORY), b""))
                info.size, info.type, info.linkname = copy.tell(), tarfile.REGTYPE, ""
        except FileNotFoundError:
            return None
        except OSError as error:
            if is_full(error):
                raise DiskFullError(target=tempfile.gettempdir()) from error
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
        copy.seek(0)
        archive.addfile(info, copy if has_content else None)
    return info.size


class BackupFailure(Struct, frozen=True, kw_only=True):
    """A backup with which a command on several backups failed."""

    id: str
    code: str  #: of the error
    message: str
    exit_code: int


def describe_failure(name: str, error: DbctlError) -> BackupFailure:
    return BackupFailure(id=name, code=error.code, message=str(error), exit_code=int(error.exit_status))


def find_status(failed: Sequence[BackupFailure], done: Sequence[str]) -> Exit:
    """Return the exit code of a command on several backups, some of which are ``done``."""
    if failed and done:
        return Exit.PARTIAL
    return worst_status([Exit(failure.exit_code) for failure in failed])


@contextmanager
def name_completed(word: str, completed: Sequence[Manifest]) -> Iterator[None]:
    """Name, in the hint of a signal that ends the block, the backups that are complete by then."""
    try:
        yield
    except Interrupted as error:
        if completed:
            names = ", ".join(manifest.id for manifest in completed)
            error.hint = f"{word} before: {names}. Run it again for the others."
        raise


class BackupOperation(Operation):
    """A command on the repository of an app, which can be planned and applied."""

    def __init__(self, repository: Repository, database: str = "") -> None:
        """Set the repository, and the only database that the operation affects, if it affects only one."""
        app = repository.app
        super().__init__(app, app.target(database) if database else "")
        self._repository = repository

    def size(self) -> int:
        """Return the approximate number of bytes that it processes."""
        return 0

    def _lock(self) -> AbstractContextManager[None]:
        """Lock the repository; raises BusyError if another process holds the lock for too long."""
        return self._repository.store.lock(self._app.spec.name, timeout=self._app.timeout)
