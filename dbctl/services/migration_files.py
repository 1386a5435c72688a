"""The folder of a database's migrations: which files count, what is in them, and what a new one is called."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dbctl.engines.base import Script
from dbctl.errors import (
    FileFailedError,
    MigrationInvalidError,
    MigrationsMissingError,
)
from dbctl.model import Value
from dbctl.services.apps import App
from dbctl.shipped import shipped

_FILE = re.compile(r"(?P<version>[0-9]{3,})[_-](?P<words>.+)\.sql")
_FOLDER = re.compile(r"(?P<version>[0-9]{14})_(?P<words>.+)")
_SCRIPT = "migration.sql"  #: in such a folder

_MARK = b"\xef\xbb\xbf"  #: the byte order mark of UTF-8

#: How an app lays its migrations out; ``profiles.model.Migrations`` says what each is.
Format = Literal["numbered", "prisma"]

#: By number, then by name: ``1000_x`` comes after ``999_x``, which its letters would not tell.
Place = tuple[int, str]


class MigrationFile(Value, frozen=True, kw_only=True):
    """One migration as it stands in its file."""

    version: str  #: the digits
    name: str  #: the file's name without ``.sql``, which is what the ledger holds
    path: Path
    raw: bytes

    @property
    def place(self) -> Place:
        """Where it comes in the order of all."""
        return place_of(self.name)

    @property
    def checksum(self) -> str:
        """SHA-256 of the file exactly as it is, line ends and byte order mark included."""
        return hashlib.sha256(self.raw).hexdigest()

    def text(self) -> str:
        """Return the text.

        Raises:
            MigrationInvalidError: it is not UTF-8.
        """
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            line = self.raw.count(b"\n", 0, error.start) + 1
            raise MigrationInvalidError(file=self.path, reason=f"line {line} is not UTF-8") from error

    def statements(self, split: Callable[[str], Script]) -> Sequence[tuple[int, str]]:
        """Return the statements, each with its line, as ``split`` of an engine tells them apart.

        Raises:
            MigrationInvalidError: it is not UTF-8, holds no statement, one that does not end, or one that would end
                the transaction around it.
        """
        try:
            statements = split(self.text()).statements
        except ValueError as error:
            raise MigrationInvalidError(file=self.path, reason=str(error)) from error
        if not statements:
            raise MigrationInvalidError(file=self.path, reason="it holds no statement")
        return statements

    def difference(self, checksum: str) -> str:
        """Say in what small thing the text that had ``checksum`` differed; empty where it is more than that."""
        plain = self.raw.removeprefix(_MARK)
        unix = plain.replace(b"\r\n", b"\n")
        for marked in (plain == self.raw, plain != self.raw):
            for body in (plain, unix, unix.replace(b"\n", b"\r\n")):
                raw = _MARK + body if marked else body
                if hashlib.sha256(raw).hexdigest() == checksum.lower():
                    mark = ["a byte order mark"] if marked == (plain == self.raw) else []
                    return " and ".join(["line ends"] * (body != plain) + mark)
        return ""


class Folder(Value, frozen=True, kw_only=True):
    """Every migration of one database, in order."""

    path: Path
    own: bool  #: the app's own, named by the admin; else the one shipped with dbctl
    files: Mapping[str, MigrationFile]  #: by name
    ignored: Sequence[str]  #: SQL files, or folders with one, whose names do not begin with a number
    format: Format = "numbered"

    @property
    def shared_numbers(self) -> Sequence[str]:
        """The names of the files that share their number with another; a moment may be shared."""
        if self.format == "prisma":
            return []
        counted = Counter(file.place[0] for file in self.files.values())
        return [name for name, file in self.files.items() if counted[file.place[0]] > 1]


def place_of(name: str) -> Place:
    """Return where a migration of that name comes; one without a number comes first."""
    digits = re.match(r"[0-9]+", name)
    return (int(digits.group()) if digits else -1, name)


def folder(app: App, database: str, given: Path | None = None) -> Folder:
    """Read the folder of a database's migrations: the one given, else the configured, else the shipped one.

    Raises:
        MigrationsMissingError: there is no such folder.
        FileFailedError: the folder or a file cannot be read.
    """
    own = given or app.configured.migrations.get(database)
    path = own or shipped_path(app.profile.name, database, app.url(database).engine)
    if not path.is_dir():
        raise MigrationsMissingError(target=app.target(database), path=path)
    told = app.database(database).migrations
    return read(path, own=own is not None, format=told.format if told else "numbered")


def shipped_path(profile: str, database: str, engine: str, shape: str = "") -> Path:
    """Return where the migrations that travel with dbctl are; those of a shape, or an engine, in a folder of its name."""
    path = shipped("migrations") / Path(profile).name / database / shape
    return path / engine if (path / engine).is_dir() else path


def read(path: Path, *, own: bool, format: Format = "numbered") -> Folder:  # noqa: A002 - the profile's word
    """Read every migration of a folder that is there; raises FileFailedError as ``folder`` does."""
    files, ignored = [], []
    look = _LOOKS[format]
    try:
        for entry in path.iterdir():
            found, stray = look(entry) if entry.name.isprintable() else (None, False)
            files += [found] if found else []
            ignored += [entry.name] if stray else []
    except OSError as error:
        raise FileFailedError(path=error.filename or path, reason=error.strerror) from error
    ordered = sorted(files, key=lambda file: file.place)
    return Folder(
        path=path,
        own=own,
        files={file.name: file for file in ordered},
        ignored=sorted(ignored),
        format=format,
    )


def _numbered(entry: Path) -> tuple[MigrationFile | None, bool]:
    """Return the migration in a file, and whether it is SQL all the same where there is none."""
    matched = _FILE.fullmatch(entry.name)
    if entry.is_dir() or not matched:
        return None, entry.suffix.lower() == ".sql" and not entry.is_dir()
    return MigrationFile(version=matched["version"], name=entry.stem, path=entry, raw=_read(entry)), False


def _prisma(entry: Path) -> tuple[MigrationFile | None, bool]:
    """Return the migration in a folder, and as above."""
    matched, script = _FOLDER.fullmatch(entry.name), entry / _SCRIPT
    if not (matched and script.is_file()):
        return None, entry.suffix.lower() == ".sql" or script.is_file()
    return MigrationFile(version=matched["version"], name=entry.name, path=script, raw=_read(script)), False


_LOOKS: Mapping[Format, Callable[[Path], tuple[MigrationFile | None, bool]]] = {
    "numbered": _numbered,
    "prisma": _prisma,
}


def path_of_new(folder: Folder, name: str) -> Path:
    """Return where a migration of that name would stand."""
    return folder.path / name / _SCRIPT if folder.format == "prisma" else folder.path / f"{name}.sql"


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise MigrationInvalidError(file=path, reason="it is no regular file")
    return path.read_bytes()
