"""A dump of pg_dump that somebody else made: looked through, and brought into the form in which dbctl makes them."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

from dbctl.engines.file_type import Content, TakenIn
from dbctl.engines.postgresql.backup.dump_scanner import END, Reading
from dbctl.engines.postgresql.backup.foreign.psql_commands import Scanner, SpokenToPsqlError
from dbctl.engines.postgresql.backup.load import text_of
from dbctl.errors import CorruptError, FileUnfitError
from dbctl.files import compression, new_file

#: The first version that reads an archive, by the second number of the archive's own version.
_SINCE = {12: 9, 13: 10, 14: 12, 15: 16, 16: 17}
NEWEST = 17
#: Where that number stands in an archive, and the size of what precedes the first member of a tar file.
_VERSION_AT, TAR_BLOCK = 6, 512
TAR_END = bytes(2 * TAR_BLOCK)
_SERVER = re.compile(rb"^-- Dumped from database version (\S+)", re.MULTILINE)
_CLIENT = re.compile(rb"^-- Dumped by pg_dump version (\S+)", re.MULTILINE)
#: How newer programs forbid psql commands of its own; an older one does not know the word.
_RESTRICT = re.compile(rb"^\\(?:un)?restrict \w+$\n?", re.MULTILINE)
#: Bytes in which what begins or ends a dump stands.
HEAD = 1 << 14
INSTEAD = "pg_dump -Fc without --create, --inserts and the like writes what dbctl takes."


def take_in(plain: Path, destination: Path, content: Content, target: str) -> TakenIn:
    """Make ``destination`` of a private copy of what somebody else left, which may be used up.

    Raises:
        CorruptError: it is not whole.
        FileUnfitError: it says something to psql, or holds rows as statements, or in a form that cannot be counted.
        ClientMissingError, ClientOldError: pg_restore is wanted to read it.
    """
    facts = {"format": "custom" if content == "postgresql-custom" else "plain"}
    if content == "postgresql-custom":
        facts["client"] = str(_reader_of(plain, 0))
        plain.rename(destination)
    else:
        if content == "postgresql-tar":
            _as_text(plain, target)
        _without_restrict(plain)
        compression.pack(plain, destination, "gzip")
        plain.unlink()
    reading, scanner, head = Reading(), Scanner(), b""
    inserts = False
    try:
        with text_of(destination, facts, target) as blocks:
            for block in blocks:
                head = head if len(head) > HEAD else head + block[:HEAD]
                inserts = inserts or b"\nINSERT INTO " in block
                scanner.feed(block)
                reading.feed(block)
        if not reading.whole:  # also where the cut is inside a string
            raise CorruptError(target=target, reason="its end is missing")
        scanner.finish()
    except SpokenToPsqlError as error:
        raise FileUnfitError(path=target, reason=f"it holds {error}", instead=INSTEAD) from error
    if scanner.copies != len(reading.rows):
        reason = "it holds rows in another form than pg_dump's (a comment, then COPY with the schema), so they cannot be counted"
        raise FileUnfitError(path=target, reason=reason, instead=INSTEAD)
    if inserts and not reading.rows:
        raise FileUnfitError(path=target, reason="it holds its rows as INSERT statements", instead=INSTEAD)
    for name, pattern in {"server": _SERVER, "client": _CLIENT}.items():
        if found := pattern.search(head):
            facts[name] = found[1].decode(errors="replace")
    schemas = {schema for schema, _table in reading.rows}
    facts["path"] = json.dumps(sorted(schemas) if len(schemas) == 1 else ["public"])
    return TakenIn(facts=facts)


def _reader_of(path: Path, begin: int) -> int:
    """Return the first version that reads an archive whose table of contents begins at byte ``begin``."""
    with path.open("rb") as file:
        file.seek(begin)
        head = file.read(_VERSION_AT + 1)
    return _SINCE.get(head[_VERSION_AT], NEWEST) if len(head) > _VERSION_AT else 0


def _as_text(archive: Path, target: str) -> None:
    """Replace a tar archive of pg_dump by its text, as one transaction.

    pg_restore finds the rows in the archive by the names of its members, and opens no other file.

    Raises:
        CorruptError: it is cut off, or pg_restore cannot read it.
        ClientMissingError, ClientOldError: there is no pg_restore that can.
    """
    _require_whole(archive, target)
    text = archive.with_name(f"{archive.name}.sql")
    facts = {"format": "tar", "client": str(_reader_of(archive, TAR_BLOCK))}
    with text_of(archive, facts, target) as blocks, new_file(text, brief=True) as file:
        for block in blocks:
            file.write(block)
    text.replace(archive)


def _require_whole(archive: Path, target: str) -> None:
    """Refuse a tar archive without its end: pg_restore reads some of them for ever.

    Raises:
        CorruptError: it is cut off, or holds anything but files.
    """
    size, end = archive.stat().st_size, 0
    try:
        with tarfile.open(archive, "r:") as members:
            for member in members:
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise CorruptError(target=target, reason=f"{member.name} in it is no file")
                end = member.offset_data + -(-member.size // TAR_BLOCK) * TAR_BLOCK
    except tarfile.TarError as error:
        raise CorruptError(target=target, reason=f"it is no whole archive: {error}") from error
    with archive.open("rb") as file:
        file.seek(end)
        if end + len(TAR_END) > size or file.read(len(TAR_END)) != TAR_END:
            raise CorruptError(target=target, reason="its end is missing")


def _without_restrict(path: Path) -> None:
    """Blank out the lines by which newer programs shut psql up, in the private copy; the text is looked through anyway."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(HEAD).partition(b"\nSET ")[0]
        file.seek(max(0, size - HEAD))
        _, mark, end = file.read(HEAD).rpartition(END)
        for at, text in ((0, head), *([(size - len(end), end)] if mark else [])):
            file.seek(at)
            file.write(_RESTRICT.sub(lambda found: b"--" + b" " * (len(found[0]) - 3) + b"\n", text))
