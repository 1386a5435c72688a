"""Detect the type of a file by its first bytes, compressed or not, and never by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract.dumps import Content
from dbctl.errors.base import Remedy
from dbctl.model import Compression, Struct

#: Bytes that are read for the detection: more than any program writes before the header of a dump.
HEAD_BYTES = 1 << 16
#: The engine that can restore such a file.
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
    "compressed": "compressed in an unsupported format",
    "marked": "text that begins with a byte order mark",
    "crlf": "a dump whose lines end with CR LF",
    "empty": "empty",
    "unknown": "of an unknown type",
}
#: What to do instead of restoring such a file.
HINTS: Mapping[Content, Remedy | str] = {
    "postgresql-directory": "Convert it: pg_restore --file=dump.sql FOLDER",
    "postgresql-cluster": "Run it with psql on an empty server, or dump a single database with pg_dump.",
    "tar": Remedy("Extract it into a new folder with: `restore files --file FILE --to DIR`"),
    "json": Remedy(
        "Import rows of a table with: `data import TABLE FILE`; or settings with: `settings apply FILE`"
    ),
    "encrypted": "Name its key with --identity FILE, or decrypt it with age -d first.",
    "compressed": "Decompress it first (xz -d, bunzip2, unzip).",
    "marked": "A shell such as PowerShell has changed its text: dump it again with the option that names the file (pg_dump -f, mysqldump -r, .output of sqlite3). If it is the only copy, convert it: iconv -f UTF-16 -t UTF-8 FILE | sed 's/\\r$//' > dump.sql; or, if it is UTF-8: tail -c +4 FILE | sed 's/\\r$//' > dump.sql; and compare letters with accents.",
    "crlf": "Convert it with: sed 's/\\r$//' FILE > dump.sql",
    "empty": "The program that wrote it probably failed.",
    "unknown": "Supported: SQLite databases, dumps of sqlite3, pg_dump and mysqldump, and tar archives of a LanceDB folder, uncompressed or compressed with gzip or zstd."
    " Load a dump of another program into an empty database with that program, and dump that one.",
}
#: xz, bzip2, zip, lz4, 7z; and gzip and zstd inside another compression.
_COMPRESSED = (b"\xfd7zXZ\0", b"BZh", b"PK\3\4", b'\4"M\x18', b"7z\xbc\xaf'\x1c", b"\x1f\x8b", b"(\xb5/\xfd")
#: The first bytes of files.
_SIGNATURES: Sequence[tuple[tuple[bytes, ...], Content]] = (
    ((b"SQLite format 3\0",), "sqlite"),
    ((b"PGDMP",), "postgresql-custom"),
    ((b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----"), "encrypted"),
    (_COMPRESSED, "compressed"),
)
#: Byte order marks of UTF-8 and UTF-16, which no dump program writes.
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
#: The first line of a dump of newer shells of SQLite, such as 3.53, if a table is virtual, such as one for full-text search.
_SQLITE_NOTE = b"/* WARNING: Script requires that SQLITE_DBCONFIG_DEFENSIVE be disabled */"
#: The first lines of a text dump. The order matters: one is the prefix of another.
_TEXT_HEADERS: Sequence[tuple[bytes, Content]] = (
    (b"-- PostgreSQL database cluster dump", "postgresql-cluster"),
    (b"-- PostgreSQL database dump", "postgresql-sql"),
    (b"-- MariaDB dump ", "mysql-sql"),
    (b"-- MySQL dump ", "mysql-sql"),
)
#: Blank lines, comments, and a command for the client before the first statement of pg_dump.
_BEFORE = rb"(?:\s*\n|--[^\n]*\n|\\restrict [^\n]*\n)*"
#: A command for the client before that of MariaDB's program. Other programs, whose dumps are read differently, write comments.
_SANDBOX = rb"(?:/\*M!999999\\-[^\n]*\s+)?"
#: How a text dump without its header begins, and what else its beginning contains: each pair is written by one program alone.
_TEXT_STATEMENTS: Sequence[tuple[bytes, bytes, Content]] = (
    (_BEFORE + rb"SET default_transaction_read_only = off;", rb"^CREATE ROLE ", "postgresql-cluster"),
    (
        _BEFORE + rb"SET statement_timeout = 0;",
        rb"^SET (?:client_encoding|lock_timeout) = ",
        "postgresql-sql",
    ),
    (_SANDBOX + rb"/\*!\d{5} SET @", rb"", "mysql-sql"),
    (_SANDBOX + rb"(?:DROP TABLE IF EXISTS|CREATE TABLE) `", rb"^\) ENGINE=\w+ ", "mysql-sql"),
)
#: Position and value of the format in an archive of pg_dump; the directory format has the value of tar, too.
_FORM_AT, _FORM_TAR = 10, b"\3"
#: The table of contents of a dump in the directory format.
TOC_FILE = "toc.dat"
_TAR_MAGIC_AT, _TAR_SIZE_AT, _TAR_NAME, _TAR_BLOCK = 257, 124, 100, 512
#: The folder of a LanceDB table in a member name.
_TABLE = rb"(?:^|/)[^/]+\.lance/"


class FileType(Struct, frozen=True, kw_only=True):
    content: Content
    compress: Compression

    @property
    def engine(self) -> str:
        """The engine that can restore it; empty: none."""
        return ENGINES.get(self.content, "")

    @property
    def description(self) -> str:
        """Its type in words, for messages."""
        title = TITLES[self.content]
        return title if self.compress == "none" else f"{title}, compressed with {self.compress}"


def detect_file_type(path: Path) -> FileType:
    """Return the type of a file from its first bytes.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    from dbctl.files import compression

    compression_form, head = compression.read_head(path, HEAD_BYTES)
    return FileType(content=detect_content(head), compress=compression_form)


def detect_content(head: bytes) -> Content:
    """Return the type of content with these first bytes."""
    if not head:
        return "empty"
    for prefixes, content in _SIGNATURES:
        if head.startswith(prefixes):
            in_folder = content == "postgresql-custom" and head[_FORM_AT : _FORM_AT + 1] == _FORM_TAR
            return "postgresql-directory" if in_folder else content
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "postgresql-tar" if head.startswith(b"toc.dat\0") else _detect_tar(head)
    content = _detect_text(head)
    if head.startswith(_MARKS) and content != "json":
        return "marked"
    # a redirection on Windows; in these dumps, whole lines mark rows and statements
    by_lines = content in ("postgresql-sql", "mysql-sql")
    return "crlf" if by_lines and head.partition(b"\n")[0].endswith(b"\r") else content


def _detect_tar(head: bytes) -> Content:
    """Return the type of an archive from the names of its first members."""
    position = 0
    while len(header := head[position : position + _TAR_BLOCK]) == _TAR_BLOCK:
        if re.search(_TABLE, header[:_TAR_NAME].rstrip(b"\0")):
            return "lancedb"
        try:
            size = int(header[_TAR_SIZE_AT : _TAR_SIZE_AT + 11] or b"0", 8)
        except ValueError:
            break
        position += _TAR_BLOCK + size + -size % _TAR_BLOCK
    return "tar"


def _detect_text(head: bytes) -> Content:
    lines = head.removeprefix(b"\xef\xbb\xbf").removeprefix(_SQLITE_NOTE).lstrip()
    if lines.startswith((b"PRAGMA foreign_keys=OFF;", b"BEGIN TRANSACTION;")):
        return "sqlite-sql"
    for line in lines.split(b"\n", 40)[:40]:
        for prefix, content in _TEXT_HEADERS:
            if line.startswith(prefix):
                return content
    for statement, other, content in _TEXT_STATEMENTS:
        if re.match(statement, lines) and re.search(other, lines, re.MULTILINE):
            return content
    return "json" if lines[:1] in (b"{", b"[") else "unknown"
