"""Convert dumps of other programs to those of PostgreSQL that dbctl restores."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

from dbctl.engines.contract.dumps import Content
from dbctl.engines.contract.engine import ImportedDump
from dbctl.engines.postgresql.dump_programs import END, DumpScanner
from dbctl.engines.postgresql.dump_statements import PsqlCommandError, PsqlScanner
from dbctl.engines.postgresql.load import open_text
from dbctl.errors.backup import FileNotRestorableError
from dbctl.errors.connection import CorruptError
from dbctl.files import compression
from dbctl.files.atomic import create_file

#: The first version that reads an archive, by the minor number of the archive format.
_ARCHIVE_VERSIONS = {12: 9, 13: 10, 14: 12, 15: 16, 16: 17}
NEWEST = 17
#: The offset of that number in an archive, and the size of the header of the first member of a tar file.
_VERSION_AT, TAR_BLOCK = 6, 512
TAR_END = bytes(2 * TAR_BLOCK)
_SERVER = re.compile(rb"^-- Dumped from database version (\S+)", re.MULTILINE)
_CLIENT = re.compile(rb"^-- Dumped by pg_dump version (\S+)", re.MULTILINE)
#: The comments before its first object.
_COMMENT = re.compile(rb"^-- (?:PostgreSQL database dump|Dumped |Name: )", re.MULTILINE)
#: Lines with which newer programs disable psql meta-commands; older programs do not recognise them.
_RESTRICT = re.compile(rb"^\\(?:un)?restrict \w+$\n?", re.MULTILINE)
#: Bytes at either end of a dump that contain its first and last lines.
HEAD = 1 << 14
DUMP_AGAIN = "Dump it again without a filter for comments; or load it into an empty database with psql, and dump that one."
WITH_TABLES = "Dump it again without --data-only; or load it with psql into a database with empty tables, and dump that."
WITH_ROWS = "Dump it again without --schema-only. Partitioned tables without a partition have no rows."
UNCOUNTED = "its rows cannot be counted: pg_dump writes a comment, then COPY with the schema"
INSTEAD = "dbctl accepts dumps of pg_dump -Fc without --create and --inserts."


def import_dump(copy: Path, destination: Path, content: Content, target: str) -> ImportedDump:
    """Convert ``copy``, a private copy of a foreign dump, to ``destination``; the copy is consumed.

    Raises:
        CorruptError: the dump is incomplete.
        FileNotRestorableError: it contains psql meta-commands, or no rows, or some that cannot be counted, such as INSERT statements.
        ClientMissingError, ClientOldError: no installed pg_restore can read it.
    """
    metadata = {"format": "custom" if content == "postgresql-custom" else "plain"}
    if content == "postgresql-custom":
        metadata["client"] = str(_required_version(copy, 0))
        copy.rename(destination)
    else:
        if content == "postgresql-tar":
            _convert_to_text(copy, target)
        _blank_restrict(copy)
        compression.compress_file(copy, destination, "gzip")
        copy.unlink()
    scanner, psql_scanner, head, text = DumpScanner(), PsqlScanner(), b"", b""
    inserts = creates = False
    try:
        with open_text(destination, metadata, target) as blocks:
            for block in blocks:
                head = head if len(head) > HEAD else head + block[:HEAD]
                text = text[-64:] + block  # a statement may begin in the previous block
                inserts = inserts or b"\nINSERT INTO " in text
                creates = creates or b"\nCREATE TABLE " in text or b"\nCREATE UNLOGGED TABLE " in text
                psql_scanner.feed(block)
                scanner.feed(block)
        _require_complete(scanner, head, target)
        psql_scanner.finish()
    except PsqlCommandError as error:
        raise FileNotRestorableError(path=target, reason=f"it contains {error}", hint=INSTEAD) from error
    rows = scanner.rows
    for is_present, reason, hint in (
        (psql_scanner.copies != len(rows), UNCOUNTED, INSTEAD),
        (inserts and not rows, "it contains rows as INSERT statements", INSTEAD),
        # an extension may have created the tables
        (
            rows and not (creates or b"\nCREATE EXTENSION " in head),
            "it lacks the tables of its rows",
            WITH_TABLES,
        ),
        (creates and not rows, "it lacks the rows of its tables", WITH_ROWS),
    ):
        if is_present:
            raise FileNotRestorableError(path=target, reason=reason, hint=hint)
    for name, pattern in {"server": _SERVER, "client": _CLIENT}.items():
        if match := pattern.search(head):
            metadata[name] = match[1].decode(errors="replace")
    schemas = {schema for schema, _table in rows}
    metadata["path"] = json.dumps(sorted(schemas) if len(schemas) == 1 else ["public"])
    return ImportedDump(metadata=metadata)


def _require_complete(scanner: DumpScanner, head: bytes, target: str) -> None:
    if not (scanner.is_complete or _COMMENT.search(head)):
        reason = "its comments were removed, so that nothing shows where its rows and it end"
        raise FileNotRestorableError(path=target, reason=reason, hint=DUMP_AGAIN)
    if not scanner.is_complete:  # also if it ends inside a string
        raise CorruptError(target=target, reason="its end is missing")


def _required_version(path: Path, begin: int) -> int:
    """Return the first version that reads an archive whose header begins at byte ``begin``."""
    with path.open("rb") as file:
        file.seek(begin)
        head = file.read(_VERSION_AT + 1)
    return _ARCHIVE_VERSIONS.get(head[_VERSION_AT], NEWEST) if len(head) > _VERSION_AT else 0


def _convert_to_text(archive: Path, target: str) -> None:
    """Replace a tar archive of pg_dump by its text, as one transaction.

    pg_restore finds the rows by the names of the members of the archive, and opens no other file.

    Raises:
        CorruptError: the archive is truncated, or pg_restore cannot read it.
        ClientMissingError, ClientOldError: no installed pg_restore can read it.
    """
    _require_complete_archive(archive, target)
    text = archive.with_name(f"{archive.name}.sql")
    metadata = {"format": "tar", "client": str(_required_version(archive, TAR_BLOCK))}
    with open_text(archive, metadata, target) as blocks, create_file(text, temporary=True) as file:
        for block in blocks:
            file.write(block)
    text.replace(archive)


def _require_complete_archive(archive: Path, target: str) -> None:
    """Refuse a truncated tar archive, since pg_restore may never finish reading it.

    Raises:
        CorruptError: the archive is truncated, or contains anything but files.
    """
    size, end = archive.stat().st_size, 0
    try:
        with tarfile.open(archive, "r:") as members:
            for member in members:
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise CorruptError(target=target, reason=f"member {member.name} is not a file")
                end = member.offset_data + -(-member.size // TAR_BLOCK) * TAR_BLOCK
    except tarfile.TarError as error:
        raise CorruptError(target=target, reason=f"invalid archive: {error}") from error
    with archive.open("rb") as file:
        file.seek(end)
        if end + len(TAR_END) > size or file.read(len(TAR_END)) != TAR_END:
            raise CorruptError(target=target, reason="its end is missing")


def _blank_restrict(path: Path) -> None:
    """Replace the lines that restrict psql by comments, in the private copy; the text is scanned for meta-commands anyway."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(HEAD).partition(b"\nSET ")[0]
        file.seek(max(0, size - HEAD))
        _, mark, end = file.read(HEAD).rpartition(END)
        for offset, text in ((0, head), *([(size - len(end), end)] if mark else [])):
            file.seek(offset)
            file.write(_RESTRICT.sub(lambda match: b"--" + b" " * (len(match[0]) - 3) + b"\n", text))
