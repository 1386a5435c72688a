"""What belongs to a backup beside the databases: the app's own files, such as keys and logins, packed as one."""

from __future__ import annotations

import os
import shlex
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile

from msgspec import structs

from dbctl.engines import registry
from dbctl.errors import FileFailedError
from dbctl.model import Finding, counted, now
from dbctl.services.app import App
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.writer import Laying

#: A file that is larger is copied aside on disk while it is packed.
IN_MEMORY = 4 << 20


class Extras:
    """The files of an app that its profile calls part of a backup, as one more file of it."""

    def __init__(self, app: App, advance: Callable[[int], None]) -> None:
        self._app, self._advance = app, advance
        kept = _databases(app)
        self._found = [
            path
            for path in _found(app.configured.directory, app.profile.backup.extra)
            if _identity(path) not in kept
        ]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def pin(self) -> bool:
        """Hold nothing: each is packed as it is by then."""
        return False

    def size(self) -> int:
        """Return how many bytes they take unpacked."""
        return sum(_size(path) for path in self._found)

    def kept_size(self) -> int:
        """Return how many bytes they take in the backup, at most about."""
        return self.size()

    def told(self) -> str:
        """Return what would be done, as a plan tells it."""
        tops = sorted({_top(path, self._app.configured.directory) for path in self._found})
        what = f"{counted(len(self._found), 'file')} of the app ({', '.join(tops)}; {self.size():,} bytes)"
        return f"pack {what} as {file_name('TIME')}"

    def members(self, folder: Laying) -> list[Member]:
        """Pack them into the folder of a backup.

        A file that goes away meanwhile is left out. Links are packed as links.

        Raises:
            FileFailedError: one of them cannot be read.
        """
        file = file_name(folder.name)
        packed = 0
        taken_at = now()
        private = os.open(folder.place(file), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(private, "wb") as made, tarfile.open(fileobj=made, mode="w:gz") as archive:
            for path in self._found:
                size = _pack(archive, path, self._app.configured.directory)
                packed += size is not None
                self._advance(size or 0)
        kept = folder.keep(file)
        return [
            Member(
                **structs.asdict(kept),
                database="",
                form="files",
                engine="",
                taken_at=taken_at,
                rows={},
                schema="",
                facts={"files": str(packed)},
            )
        ]


def file_name(time: str) -> str:
    """Return how the app's files are called in a backup."""
    return f"files_{time}.tar.gz"


def left_alone(app: App, manifest: Manifest) -> Iterator[Finding]:
    """Yield that a restore has not touched the app's own files, where the backup holds some."""
    for one in manifest.members:
        if one.form == "files" and not app.only:
            which = ["--file", manifest.id] if "/" in manifest.id else [manifest.id]
            unpack = shlex.join(["dbctl", "restore", "files", *which, "--to", "DIR"])
            yield Finding(
                target=app.name,
                severity="info",
                code="files-left",
                message=f"the app's own files stay as they are; those of the backup are in {one.file}",
                hint=f"{unpack} unpacks them into a folder of their own.",
            )


def _found(directory: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Yield the files that the patterns mean, each once; a pattern that ends in ``/`` means all below a folder."""
    seen = set[Path]()
    for pattern in patterns:
        for top in sorted(directory.glob(pattern.rstrip("/"))):
            below = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
            for path in below:
                if path not in seen and _is_packed(path):
                    seen.add(path)
                    yield path


def _databases(app: App) -> set[tuple[int, int] | None]:
    """Return what the files of the app's databases are known by.

    They are copied by their engine. Opening one here would end the locks that this process has on it.
    """
    found = [housing for url in app.configured.databases.values() if (housing := registry.housing(url))]
    return {_identity(path) for one in found for path in (one.file, *one.beside)} - {None}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except OSError:  # a link that leads nowhere, or no right to look
        return None
    return told.st_dev, told.st_ino


def _is_packed(path: Path) -> bool:
    """Whether it is a file or a link: a socket or a pipe holds nothing, and folders come with what is in them."""
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


def _top(path: Path, directory: Path) -> str:
    inside = path.relative_to(directory).parts
    return inside[0] + ("/" if len(inside) > 1 else "")


def _pack(archive: tarfile.TarFile, path: Path, directory: Path) -> int | None:
    """Add one file as it is at this moment; return its size, or None where it has gone."""
    name = str(path.relative_to(directory))
    try:
        told = archive.gettarinfo(str(path), arcname=name)
        if not told.isreg():
            archive.addfile(told)
            return 0
        # The app may write it meanwhile: what was read is what is packed, of whatever length it is by then.
        with path.open("rb") as source, SpooledTemporaryFile(IN_MEMORY) as copy:
            copy.writelines(iter(partial(source.read, IN_MEMORY), b""))
            told.size, told.type, told.linkname = copy.tell(), tarfile.REGTYPE, ""
            copy.seek(0)
            archive.addfile(told, copy)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
    return told.size
