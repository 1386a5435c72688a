"""What a file is that nobody tells anything of: by its first bytes, packed or not, and never by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.model import Compression, Value

#: What a file holds once it is unpacked.
Content: TypeAlias = Literal[
    "sqlite",
    "sqlite-sql",
    "postgresql-custom",
    "postgresql-sql",
    "mysql-sql",
    "postgresql-tar",
    "postgresql-directory",
    "postgresql-cluster",
    "lancedb",
    "tar",
    "json",
    "encrypted",
    "packed",
    "empty",
    "unknown",
]
#: Bytes from which a file is told: more than any tool writes before it says what it wrote.
HEAD = 1 << 16
#: The engine that takes such a file back.
ENGINES: Mapping[Content, str] = {
    "sqlite": "sqlite",
    "sqlite-sql": "sqlite",
    "postgresql-custom": "postgresql",
    "postgresql-sql": "postgresql",
    "postgresql-tar": "postgresql",
    "mysql-sql": "mysql",
    "lancedb": "lancedb",
}
TITLES: Mapping[Content, str] = {
    "sqlite": "a SQLite database",
    "sqlite-sql": "a SQLite dump (SQL)",
    "postgresql-custom": "a PostgreSQL dump (custom)",
    "postgresql-sql": "a PostgreSQL dump (SQL)",
    "mysql-sql": "a MySQL or MariaDB dump (SQL)",
    "postgresql-tar": "a PostgreSQL dump (tar)",
    "postgresql-directory": "the table of contents of a PostgreSQL dump (directory)",
    "postgresql-cluster": "a dump of a whole PostgreSQL server (pg_dumpall)",
    "lancedb": "an archive of LanceDB tables (tar)",
    "tar": "an archive of files (tar)",
    "json": "JSON",
    "encrypted": "encrypted by age",
    "packed": "packed in a way that is not unpacked here",
    "empty": "empty",
    "unknown": "nothing that is known here",
}
#: What serves instead of restoring from such a file.
INSTEAD: Mapping[Content, str] = {
    "postgresql-directory": "pg_restore --file=dump.sql FOLDER makes of the folder a dump that dbctl takes.",
    "postgresql-cluster": "psql runs it on an empty server; pg_dump of one database writes what dbctl takes.",
    "tar": "dbctl restore files --file unpacks it into a folder of its own.",
    "json": "dbctl data import reads rows of a table, dbctl settings apply settings; neither brings a database back.",
    "encrypted": "age -d opens it; name what comes out.",
    "packed": "Unpack it (xz -d, bunzip2, unzip), and name what comes out.",
    "empty": "Whatever wrote it did not come to its end.",
    "unknown": "dbctl takes SQLite databases, and dumps of sqlite3, pg_dump and mysqldump, and archives (tar) of a LanceDB folder, plain or packed by gzip or zstd.",
}
#: What files begin with.
_BEGIN: Sequence[tuple[tuple[bytes, ...], Content]] = (
    ((b"SQLite format 3\0",), "sqlite"),
    ((b"PGDMP",), "postgresql-custom"),
    ((b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----"), "encrypted"),
    # xz, bzip2, zip, lz4, 7z; and gzip and zstd inside of another one
    (
        (
            b"\xfd7zXZ\0",
            b"BZh",
            b"PK\x03\x04",
            b"\x04\x22\x4d\x18",
            b"7z\xbc\xaf\x27\x1c",
            b"\x1f\x8b",
            b"\x28\xb5\x2f\xfd",
        ),
        "packed",
    ),
)
#: What the text of a dump says in its first lines, and whose that is. The order counts: one is the beginning of another.
_TEXTS: Sequence[tuple[bytes, Content]] = (
    (b"-- PostgreSQL database cluster dump", "postgresql-cluster"),
    (b"-- PostgreSQL database dump", "postgresql-sql"),
    (b"-- MariaDB dump ", "mysql-sql"),
    (b"-- MySQL dump ", "mysql-sql"),
)
#: Where an archive of pg_dump has the number of its form, and that of tar, which the folder of a directory shares.
_FORM_AT, _FORM_TAR = 10, 3
#: The file in the folder of a dump in the directory form that names the others.
CONTENTS = "toc.dat"
_TAR_MAGIC_AT, _TAR_SIZE_AT, _TAR_NAME, _TAR_BLOCK = 257, 124, 100, 512
#: The folder of a table of LanceDB, as the name of a member has it.
_TABLE = rb"(?:^|/)[^/]+\.lance/"


class Recognised(Value, frozen=True, kw_only=True):
    """A file, by what it begins with."""

    content: Content
    compress: Compression

    @property
    def engine(self) -> str:
        """The engine that takes it back; empty: none does."""
        return ENGINES.get(self.content, "")

    @property
    def told(self) -> str:
        """What it is, in words."""
        packed = "" if self.compress == "none" else f", packed by {self.compress}"
        return f"{TITLES[self.content]}{packed}"


class TakenIn(Value, frozen=True, kw_only=True):
    """A file of somebody else, made into one as ``Dumps.dump`` of its engine makes them."""

    facts: Mapping[str, str]
    remarks: Sequence[str] = ()  #: what somebody has to know of it


def recognise(path: Path) -> Recognised:
    """Return what a file is; what it holds behind its beginning is not looked at.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    from dbctl.files import compression

    packed, head = compression.head_of(path, HEAD)
    return Recognised(content=content_of(head), compress=packed)


def content_of(head: bytes) -> Content:
    """Return what begins so."""
    if not head:
        return "empty"
    for begins, content in _BEGIN:
        if head.startswith(begins):
            in_folder = content == "postgresql-custom" and head[_FORM_AT : _FORM_AT + 1] == bytes([_FORM_TAR])
            return "postgresql-directory" if in_folder else content
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "postgresql-tar" if head.startswith(b"toc.dat\0") else _tar_of(head)
    return _text_of(head)


def _tar_of(head: bytes) -> Content:
    """Return what an archive is, by the names of its first members."""
    at = 0
    while len(header := head[at : at + _TAR_BLOCK]) == _TAR_BLOCK:
        if re.search(_TABLE, header[:_TAR_NAME].rstrip(b"\0")):
            return "lancedb"
        try:
            size = int(header[_TAR_SIZE_AT : _TAR_SIZE_AT + 11] or b"0", 8)
        except ValueError:
            break
        at += _TAR_BLOCK + size + -size % _TAR_BLOCK
    return "tar"


def _text_of(head: bytes) -> Content:
    lines = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if lines.startswith((b"PRAGMA foreign_keys=OFF;", b"BEGIN TRANSACTION;")):
        return "sqlite-sql"
    for line in lines.split(b"\n", 40)[:40]:
        for begin, content in _TEXTS:
            if line.startswith(begin):
                return content
    return "json" if lines[:1] in (b"{", b"[") else "unknown"
