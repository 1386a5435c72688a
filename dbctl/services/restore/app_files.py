"""The app's own files of a backup, or any archive of files, unpacked into a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dbctl.engines.file_type import recognise
from dbctl.errors import (
    BackupUnsoundError,
    CorruptError,
    FileFailedError,
    FileMissingError,
    FileUnfitError,
    FileUnsoundError,
)
from dbctl.files import atomic, compression, tar
from dbctl.model import Done, Plan, Row, counted
from dbctl.services.app import App
from dbctl.services.backup import Keys, Manifest, Member, Repository, unpacking
from dbctl.services.backup.foreign import SMALL, TIMES, looked_at
from dbctl.stores import digest


class FilesRestored(Done, frozen=True, kw_only=True):
    """Answer of ``restore files``."""

    source: str  #: the backup, or the archive
    path: Path  #: the new folder
    files: int
    bytes: int
    left_out: Sequence[str]  #: links, which are not made: ``name -> target``

    @property
    def remarks(self) -> Sequence[str]:
        if not self.left_out:
            return ()
        return [f"{counted(len(self.left_out), 'link')} not made: {', '.join(self.left_out)}"]

    def brief(self) -> Row:
        return {"source": self.source, "path": self.path, "files": self.files, "bytes": self.bytes}


class FilesRestoring:
    """What ``restore files`` is about to do."""

    def __init__(
        self, app: App, repository: Repository, source: Manifest | Path, to: Path, keys: Keys
    ) -> None:
        """Take the files of a backup, or an archive.

        Raises:
            FileMissingError: the backup holds none, or the archive is not there.
            FileUnsafeError: others may write the archive.
        """
        if isinstance(source, Path):
            looked_at(source)
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._repository, self._source, self._to = repository, source, Path.cwd() / to
        self._keys = keys
        self._name = str(source) if isinstance(source, Path) else source.id
        self._member = None if isinstance(source, Path) else _member(source)

    def plan(self) -> Plan:
        """Return what would be unpacked where; writes nothing."""
        if self._member is None:
            what = f"unpack {self._name}"
        else:
            files = counted(int(self._member.facts.get("files", 0)), "file")
            what = (
                f"unpack {self._member.file} of {self._name} ({files}, {self._member.bytes:,} bytes packed)"
            )
        title = f"Unpack files into {self._to}"
        steps = [f"{what} into the new folder {self._to}, links left out"]
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> FilesRestored:
        """Unpack; the folder is there as a whole, or not at all.

        Raises:
            BackupUnsoundError: the backup is not what it was.
            FileUnfitError: the file is no archive.
            As ``archives.unpack``.
        """
        del seen  # nothing is destroyed, so nobody was asked
        encrypted = self._member is not None and self._member.encryption != "none"
        scratch = self._keys.aside.folder if encrypted else self._repository.store.scratch
        with self._archive() as archive, scratch(archive.stat().st_size) as place:
            plain = place / "archive.tar"
            self._unpacked(archive, plain)
            made = tar.unpack(plain, self._to, name=self._name, most=plain.stat().st_size)
        return FilesRestored(
            source=self._name, path=self._to, files=made.files, bytes=made.bytes, left_out=made.left_out
        )

    @contextmanager
    def _archive(self) -> Iterator[Path]:
        if isinstance(self._source, Path):
            yield self._source
            return
        store, one = self._repository.store, self._member or _member(self._source)
        with (
            unpacking(store, self._keys) as unpacked,
            unpacked.opened(self._source, one, self.target) as path,
        ):
            if digest(atomic.blocks(unpacked.resting(self._source.id, one))).sha256 != one.sha256:
                reason = f"{one.file}: its content is not what was written (SHA-256)"
                raise BackupUnsoundError(id=self._source.id, app=self.app, reason=reason)
            yield path

    def _unpacked(self, archive: Path, plain: Path) -> None:
        try:
            with atomic.regular(archive) as file:
                what = recognise(archive)
                if what.content not in ("tar", "lancedb", "unknown", "empty"):
                    raise FileUnfitError(
                        path=self._name, reason=f"it is {what.told}", instead="It holds no files to unpack."
                    )
                most = max(SMALL, TIMES * archive.stat().st_size)
                compression.unpack_all(file, archive, plain, what.compress, most=most, target=self._name)
        except CorruptError as error:
            raise FileUnsoundError(path=self._name, reason=error.facts["reason"]) from error
        except OSError as error:
            raise FileFailedError(path=archive, reason=error.strerror or str(error)) from error


def _member(manifest: Manifest) -> Member:
    for one in manifest.members:
        if one.form == "files":
            return one
    raise FileMissingError(what="archive of the app's own files in backup", path=manifest.id)
