"""The folder of a database's migrations: which files count, what is in them, and what a new one is called."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import structs

from dbctl.config import shipped
from dbctl.engines.contract import Effect, Language
from dbctl.errors import FileFailedError, MigrationInvalidError, MigrationsMissingError
from dbctl.model import Value
from dbctl.profiles.model import Format
from dbctl.services.app import App
from dbctl.services.migrations.files.parser import NO_TRANSACTION, Section, sections
from dbctl.services.migrations.ledger import Way

#: Apps whose files are run whole count those only that begin with three digits.
_NUMBERED = re.compile(r"(?P<version>[0-9]{3,})[_-](?P<words>.+)\.sql")
_FILE = re.compile(r"(?P<version>[0-9]+)(?:[_-](?P<words>.+))?\.sql")
_PAIRED = re.compile(r"(?P<name>.+)\.(?P<way>up|down)\.sql")
_FOLDER = re.compile(r"(?P<version>[0-9]{14})_(?P<words>.+)")
_SCRIPT, _BACK = "migration.sql", "down.sql"  #: in such a folder

_MARK = b"\xef\xbb\xbf"  #: the byte order mark of UTF-8

#: By number, then by name: ``1000_x`` comes after ``999_x``, which its letters would not tell.
Place = tuple[int, str]


class Steps(Value, frozen=True, kw_only=True):
    """What is run of a migration, one way."""

    statements: Sequence[tuple[int, str]]  #: each with its line
    section: Section  #: that they stand in
    effects: Sequence[Effect]  #: what each of them may take away
    path: Path  #: of the file

    @property
    def destroys(self) -> bool:
        """Whether it is one to keep a copy before: it says that it loses rows, or has a statement that drops or deletes."""
        return self.section.loses_rows or any(one.destroys for one in self.effects)


class MigrationFile(Value, frozen=True, kw_only=True):
    """One migration as it stands in its file."""

    version: str  #: the digits
    words: str  #: what follows them
    name: str  #: both: the file's name without its ending
    path: Path
    raw: bytes
    format: Format
    back: tuple[Path, bytes] | None = None  #: the file beside it that takes it back, where there is one

    @property
    def place(self) -> Place:
        """Where it comes in the order of all."""
        return place_of(self.name)

    @property
    def checksum(self) -> str:
        """SHA-256 of the file exactly as it is, line ends and byte order mark included."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def checksum_of_lines(self) -> str:
        """CRC-32 of the lines without their ends, as a signed number: the checksum that Flyway records."""
        from zlib import crc32

        lines = re.split(rb"\r\n|\r|\n", self.raw.removeprefix(_MARK))
        found = 0
        for line in lines:
            found = crc32(line, found)
        return str(found - (1 << 32) if found >= 1 << 31 else found)

    def text(self) -> str:
        """Return the text.

        Raises:
            MigrationInvalidError: it is not UTF-8.
        """
        return _decoded(self.path, self.raw)

    def up(self, language: Language) -> Steps:
        """Return what applies it.

        Raises:
            MigrationInvalidError: it is not UTF-8, its sections make no sense, or it holds no statement, one that does
                not end, or one that would end the transaction around it.
        """
        steps = _steps(self.path, self.text(), self.format, "up", language)
        if steps is None:
            raise MigrationInvalidError(file=self.path, reason="it holds no statement")
        return steps

    def down(self, language: Language) -> Steps | None:
        """Return what takes it back, or None where nothing in the file does; raises as ``up`` does."""
        if self.back:
            return _steps(self.back[0], _decoded(*self.back), "numbered", "up", language)
        return _steps(self.path, self.text(), self.format, "down", language)

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

    def is_known_by(self, checksum: str) -> bool:
        """Whether a ledger that holds ``checksum`` means this text; line ends and a byte order mark change nothing."""
        checksum = checksum.lower()
        return checksum in (self.checksum, self.checksum_of_lines) or bool(self.difference(checksum))


class Folder(Value, frozen=True, kw_only=True):
    """Every migration of one database, in order."""

    path: Path
    own: bool  #: the app's own, named by the admin; else the one shipped with dbctl
    is_there: bool = True  #: where there is none, the ledger alone can be told
    files: Mapping[str, MigrationFile]  #: by name
    ignored: Sequence[str]  #: SQL files, or folders with one, whose names do not begin with a number
    format: Format = "numbered"

    @property
    def shared_numbers(self) -> Sequence[str]:
        """The names of the files that share their number with another; a moment of Prisma's may be shared."""
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
        raise MigrationsMissingError(target=app.target(database), path=own)
    told = app.database(database).migrations
    return read(path, own=own is not None, format=told.format if told else "found")


def none_at_all() -> Folder:
    """Return what there is where nothing says where the files are."""
    return Folder(path=Path(), own=False, is_there=False, files={}, ignored=[])


def until(folder: Folder, last: str) -> Folder:
    """Return the migrations of a folder up to the one named ``last``."""
    place = folder.files[last].place
    files = {name: file for name, file in folder.files.items() if file.place <= place}
    return structs.replace(folder, files=files)


def shipped_path(profile: str, database: str, engine: str, shape: str = "") -> Path:
    """Return where the migrations that travel with dbctl are; those of a shape, or an engine, in a folder of its name."""
    path = shipped("migrations") / Path(profile).name / database / shape
    return path / engine if (path / engine).is_dir() else path


def read(path: Path, *, own: bool, format: Format = "found") -> Folder:  # noqa: A002 - the profile's word
    """Read every migration of a folder that is there; raises FileFailedError as ``folder`` does."""
    files: dict[str, MigrationFile] = {}
    ignored, backs = [], dict[str, tuple[Path, bytes]]()
    try:
        entries = [entry for entry in path.iterdir() if entry.name.isprintable()]
        kind = _shown(entries) if format == "found" else format
        for entry in entries:
            paired = _PAIRED.fullmatch(entry.name) if kind == "pairs" else None
            if paired and paired["way"] == "down":
                backs[paired["name"]] = entry, _read(entry)
                continue
            found = _folder(entry) if kind == "prisma" else _file(entry, kind)
            if found:
                files[found.name] = found
            elif _is_stray(entry):
                ignored.append(entry.name)
    except OSError as error:
        raise FileFailedError(path=error.filename or path, reason=error.strerror) from error
    for name, back in backs.items():
        if name in files:
            files[name] = structs.replace(files[name], back=back)
        else:
            ignored.append(back[0].name)
    ordered = sorted(files.values(), key=lambda file: file.place)
    return Folder(
        path=path,
        own=own,
        files={file.name: file for file in ordered},
        ignored=sorted(ignored),
        format=kind,
    )


def _shown(entries: Sequence[Path]) -> Format:
    """Return the layout that the entries of a folder show."""
    if any((entry / _SCRIPT).is_file() for entry in entries):
        return "prisma"
    return "pairs" if any(_PAIRED.fullmatch(entry.name) for entry in entries) else "found"


def _file(entry: Path, kind: Format) -> MigrationFile | None:
    """Return the migration in a file."""
    matched = (_NUMBERED if kind == "numbered" else _FILE).fullmatch(entry.name)
    if entry.is_dir() or not matched:
        return None
    words, name = matched["words"] or "", entry.stem
    if kind == "pairs":
        words, name = words.removesuffix(".up"), name.removesuffix(".up")
    return MigrationFile(
        version=matched["version"], words=words, name=name, path=entry, raw=_read(entry), format=kind
    )


def _folder(entry: Path) -> MigrationFile | None:
    """Return the migration in a folder of Prisma's."""
    matched, script, back = _FOLDER.fullmatch(entry.name), entry / _SCRIPT, entry / _BACK
    if not (matched and script.is_file()):
        return None
    return MigrationFile(
        version=matched["version"],
        words=matched["words"],
        name=entry.name,
        path=script,
        raw=_read(script),
        format="prisma",
        back=(back, _read(back)) if back.is_file() else None,
    )


def _is_stray(entry: Path) -> bool:
    """Whether it is SQL, or a folder with some, although it is no migration."""
    return (entry.suffix.lower() == ".sql" and not entry.is_dir()) or (entry / _SCRIPT).is_file()


def path_of_new(folder: Folder, name: str) -> Path:
    """Return where a migration of that name would stand."""
    if folder.format == "prisma":
        return folder.path / name / _SCRIPT
    return folder.path / (f"{name}.up.sql" if folder.format == "pairs" else f"{name}.sql")


def back_of_new(folder: Folder, name: str) -> Path | None:
    """Return where the file would stand that takes it back, where the layout wants one of its own."""
    return folder.path / f"{name}.down.sql" if folder.format == "pairs" else None


@cache  # a text is read for the plan, and once more under the lock
def _steps(
    path: Path,
    text: str,
    format: Format,  # noqa: A002 - the profile's word
    way: Way,
    language: Language,
) -> Steps | None:
    """Return one way of a text; None where it has none, or one without a statement."""
    try:
        both = sections(text, format, language)
        section = both.up if way == "up" else both.down
        statements = _split(section, language) if section else []
    except ValueError as error:
        raise MigrationInvalidError(file=path, reason=str(error)) from error
    if section is None or not statements:
        return None
    effects = [language.effect(sql) for _, sql in statements]
    return Steps(statements=statements, section=section, effects=effects, path=path)


def _split(section: Section, language: Language) -> Sequence[tuple[int, str]]:
    """Take a section apart; where only a transaction is in the way of a statement, say how it runs without one."""
    try:
        return language.split(section.text, outside=section.outside)
    except ValueError as error:
        if section.outside:
            raise
        try:
            language.split(section.text, outside=True)
        except ValueError:
            raise error from None
        raise ValueError(
            f"{error}; a line -- dbctl: {NO_TRANSACTION} lets its statements run one by one"
        ) from None


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise MigrationInvalidError(file=path, reason=f"line {line} is not UTF-8") from error


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise MigrationInvalidError(file=path, reason="it is no regular file")
    return path.read_bytes()
