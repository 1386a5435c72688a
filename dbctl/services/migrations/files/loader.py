"""Read the folder of a database's migrations: file names, layouts, statements, checksums."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from msgspec import structs

from dbctl.config.environment import bundled_folder
from dbctl.engines.contract.schema import ScriptDialect, StatementEffect
from dbctl.errors.connection import FileFailedError
from dbctl.errors.migrations import MigrationInvalidError
from dbctl.model import Struct
from dbctl.profiles.model.databases import Format
from dbctl.services.migrations.files.parser import NO_TRANSACTION, Section, parse_sections
from dbctl.services.migrations.ledger.journal import Direction

#: Files of the layout ``numbered`` begin with at least three digits.
_NUMBERED = re.compile(r"(?P<version>[0-9]{3,})[_-](?P<description>.+)\.sql")
_FILE = re.compile(r"(?P<version>[0-9]+)(?:[_-](?P<description>.+))?\.sql")
_PAIRED = re.compile(r"(?P<name>.+)\.(?P<direction>up|down)\.sql")
_FOLDER = re.compile(r"(?P<version>[0-9]+)_(?P<description>.+)")
_SCRIPT, _DOWN_SCRIPT = "migration.sql", "down.sql"  #: in such a folder

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  #: of UTF-8

#: Sort key: number, further parts of the version, name. Sorted by name alone, ``1000_x`` would come before ``999_x``, and ``6.10`` before ``6.9``.
OrderKey = tuple[int, tuple[int, ...], str]


class Steps(Struct, frozen=True, kw_only=True):
    """The statements of a migration in one direction."""

    statements: Sequence[tuple[int, str]]  #: each with its line
    section: Section  #: that contains them
    effects: Sequence[StatementEffect]  #: tables and rows that each statement may delete
    path: Path  #: of the file

    @property
    def is_destructive(self) -> bool:
        """Whether it needs a safety backup: it allows data loss, or has a statement that drops or deletes."""
        return self.section.allows_data_loss or any(effect.is_destructive for effect in self.effects)


class MigrationFile(Struct, frozen=True, kw_only=True, dict=True):
    """One migration, as read from its file."""

    version: str  #: the digits
    description: str  #: the text after the digits and the separator
    name: str  #: version and description: the file name without extension
    path: Path
    raw: bytes
    format: Format
    down_file: tuple[Path, bytes] | None = None  #: path and content of the separate down file, if any

    @cached_property
    def order_key(self) -> OrderKey:
        return order_key_of(self.name)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the file exactly as it is, line ends and byte order mark included."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def flyway_checksum(self) -> str:
        """CRC-32 of the lines without their ends, as a signed number: the checksum that Flyway records."""
        from zlib import crc32

        lines = re.split(rb"\r\n|\r|\n", self.raw.removeprefix(_BYTE_ORDER_MARK))
        checksum = 0
        for line in lines:
            checksum = crc32(line, checksum)
        return str(checksum - (1 << 32) if checksum >= 1 << 31 else checksum)

    def decode(self) -> str:
        """Return the text.

        Raises:
            MigrationInvalidError: it is not UTF-8.
        """
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            line = self.raw.count(b"\n", 0, error.start) + 1
            raise MigrationInvalidError(file=self.path, reason=f"line {line} is not UTF-8") from error

    def parse_up(self, language: ScriptDialect) -> Steps:
        """Return the up script.

        Raises:
            MigrationInvalidError: it is not UTF-8, its markers are invalid, or it contains no statement, an incomplete
                one, or one that would end the transaction.
        """
        steps = self._parse("up", language)
        if steps is None:
            raise MigrationInvalidError(file=self.path, reason="it contains no statement")
        return steps

    def parse_down(self, language: ScriptDialect) -> Steps | None:
        """Return the down script, or None; raises the errors of ``parse_up``."""
        if self.down_file:
            path, raw = self.down_file
            script = structs.replace(self, path=path, raw=raw, format="numbered")
            return script._parse("up", language)  # noqa: SLF001 - of this class
        return self._parse("down", language)

    def _parse(self, direction: Direction, language: ScriptDialect) -> Steps | None:
        """Return the statements of one direction, or None if there are none; the plan and ``apply`` parse the same text."""
        try:
            return _parse_script(self.decode(), self.format, self.path, direction, language)
        except ValueError as error:
            raise MigrationInvalidError(file=self.path, reason=str(error)) from error

    def describe_difference(self, checksum: str) -> str:
        """Return how the text with ``checksum`` differs, if only in line ends or byte order mark; otherwise ''."""
        plain = self.raw.removeprefix(_BYTE_ORDER_MARK)
        unix = plain.replace(b"\r\n", b"\n")
        for has_mark in (plain == self.raw, plain != self.raw):
            for body in (plain, unix, unix.replace(b"\n", b"\r\n")):
                raw = _BYTE_ORDER_MARK + body if has_mark else body
                if hashlib.sha256(raw).hexdigest() == checksum.lower():
                    mark = ["a byte order mark"] if has_mark == (plain == self.raw) else []
                    return " and ".join(["line ends"] * (body != plain) + mark)
        return ""

    def matches_checksum(self, checksum: str) -> bool:
        """Return whether ``checksum`` is of this text, ignoring line ends and byte order mark."""
        checksum = checksum.lower()
        return checksum in (self.checksum, self.flyway_checksum) or bool(self.describe_difference(checksum))


@lru_cache(maxsize=256)  # the instances of a fleet have the same files
def _parse_script(
    text: str, file_format: Format, path: Path, direction: Direction, language: ScriptDialect
) -> Steps | None:
    sections = parse_sections(text, file_format, language)
    section = sections.up if direction == "up" else sections.down
    statements = _split_statements(section, language) if section else []
    if not (section and statements):
        return None
    effects = [language.effect(sql) for _, sql in statements]
    return Steps(statements=statements, section=section, effects=effects, path=path)


class Folder(Struct, frozen=True, kw_only=True):
    """Every migration of one database, in order."""

    path: Path
    is_custom: bool  #: configured or set by an option; otherwise shipped with dbctl
    exists: bool = True  #: without a folder, only the ledger can be reported
    files: Mapping[str, MigrationFile]  #: by name
    ignored: Sequence[str]  #: SQL files, or folders with one, whose names do not begin with a number
    format: Format = "numbered"

    @property
    def shared_numbers(self) -> Sequence[str]:
        """The names of the files that share their number with another; timestamps of Prisma may be shared."""
        if self.format == "prisma":
            return []
        counts = Counter(file.order_key[0] for file in self.files.values())
        return [name for name, file in self.files.items() if counts[file.order_key[0]] > 1]


def order_key_of(name: str) -> OrderKey:
    """Return the sort key of a migration by its name: its number, the further parts of a version such as ``6.10``, and the name.

    Names without a number come first.
    """
    version = re.match(r"[0-9]+(?:\.[0-9]+)*", name)
    number, *parts = map(int, version.group().split(".")) if version else (-1,)
    return (number, tuple(parts), name)


#: A folder without files, of a database whose folder is unknown.
MISSING_FOLDER = Folder(path=Path(), is_custom=False, exists=False, files={}, ignored=[])


def truncate_folder(folder: Folder, last_name: str) -> Folder:
    """Return the migrations of a folder up to the one named ``last_name``."""
    order_key = folder.files[last_name].order_key
    files = {name: file for name, file in folder.files.items() if file.order_key <= order_key}
    return structs.replace(folder, files=files)


def find_shipped_path(profile: str, database: str, engine: str, variant: str = "") -> Path:
    """Return the folder of the migrations that dbctl ships, for a variant and an engine if they have their own."""
    path = bundled_folder("migrations") / Path(profile).name / database / variant
    return path / engine if (path / engine).is_dir() else path


def read_folder(path: Path, *, is_custom: bool, format: Format = "auto") -> Folder:  # noqa: A002 - the name in the profile
    """Read every migration of an existing folder.

    Raises:
        FileFailedError: a file cannot be read.
        MigrationInvalidError: a file is not a regular one, or its name has characters that cannot be shown.
    """
    files: dict[str, MigrationFile] = {}
    ignored, down_files = [], dict[str, tuple[Path, bytes]]()
    try:
        entries = list(path.iterdir())
        kind = _detect_format(entries) if format == "auto" else format
        for entry in entries:
            if not entry.name.isprintable() and _is_stray(entry):
                name = ascii(entry.name)
                raise MigrationInvalidError(
                    file=path, reason=f"the name {name} has characters that cannot be shown"
                )
            paired = _PAIRED.fullmatch(entry.name) if kind == "pairs" else None
            if paired and paired["direction"] == "down":
                down_files[paired["name"]] = entry, _read_bytes(entry)
                continue
            if migration := _read_migration_file(entry, kind):
                files[migration.name] = migration
            elif _is_stray(entry):
                ignored.append(entry.name)
    except OSError as error:
        raise FileFailedError(path=error.filename or path, reason=error.strerror) from error
    for name, down_file in down_files.items():
        if name in files:
            files[name] = structs.replace(files[name], down_file=down_file)
        else:
            ignored.append(down_file[0].name)
    ordered = sorted(files.values(), key=lambda file: file.order_key)
    return Folder(
        path=path,
        is_custom=is_custom,
        files={file.name: file for file in ordered},
        ignored=sorted(ignored),
        format=kind,
    )


def _detect_format(entries: Sequence[Path]) -> Format:
    """Return the layout of a folder, by the names of its entries."""
    if any((entry / _SCRIPT).is_file() for entry in entries):
        return "prisma"
    return "pairs" if any(_PAIRED.fullmatch(entry.name) for entry in entries) else "auto"


def _read_migration_file(entry: Path, kind: Format) -> MigrationFile | None:
    """Return the migration of a file, or of a folder that Prisma has created; None for other entries."""
    name, path, down_file = entry.stem, entry, None
    matched = (_NUMBERED if kind == "numbered" else _FILE).fullmatch(entry.name)
    if kind == "prisma":
        name, path, down_script = entry.name, entry / _SCRIPT, entry / _DOWN_SCRIPT
        matched = _FOLDER.fullmatch(entry.name)
        down_file = (down_script, _read_bytes(down_script)) if matched and down_script.is_file() else None
    if not matched or (not path.is_file() if kind == "prisma" else path.is_dir()):
        return None
    suffix = ".up" if kind == "pairs" else ""
    return MigrationFile(
        version=matched["version"],
        description=(matched["description"] or "").removesuffix(suffix),
        name=name.removesuffix(suffix),
        path=path,
        raw=_read_bytes(path),
        format=kind,
        down_file=down_file,
    )


def _is_stray(entry: Path) -> bool:
    """Return whether an entry that is not a migration is an SQL file or a folder with one."""
    return (entry.suffix.lower() == ".sql" and not entry.is_dir()) or (entry / _SCRIPT).is_file()


def build_paths(folder: Folder, name: str) -> tuple[Path, Path | None]:
    """Return the path of a new migration, and of its down file if the layout has down files."""
    if folder.format == "prisma":
        return folder.path / name / _SCRIPT, None
    if folder.format == "pairs":
        return folder.path / f"{name}.up.sql", folder.path / f"{name}.down.sql"
    return folder.path / f"{name}.sql", None


def _split_statements(section: Section, language: ScriptDialect) -> Sequence[tuple[int, str]]:
    """Split a section into statements; if one cannot run in a transaction, name the directive in the error."""
    try:
        return language.split(section.text, outside_transaction=section.outside_transaction)
    except ValueError as error:
        if section.outside_transaction:
            raise
        try:
            language.split(section.text, outside_transaction=True)
        except ValueError:
            raise error from None
        raise ValueError(
            f"{error}; a line -- dbctl: {NO_TRANSACTION} lets its statements run one by one"
        ) from None


def _read_bytes(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
        raise MigrationInvalidError(file=path, reason="it is not a regular file")
    return path.read_bytes()
