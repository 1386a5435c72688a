"""Convert dumps of mysqldump to those that dbctl restores."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.engine import ImportedDump
from dbctl.engines.mysql.foreign import split_lines
from dbctl.engines.mysql.load import STRUCTURE, DumpScanner, decode_name
from dbctl.errors.backup import FileNotRestorableError
from dbctl.errors.connection import CorruptError
from dbctl.files.atomic import create_file
from dbctl.files.codecs import open_parallel_gzip
from dbctl.files.subprocesses import BLOCK

INSTEAD = "dbctl accepts dumps of mysqldump DATABASE, without --databases and --all-databases."
COMPLETE_FIRST = "Dump it again without --compact; or load it into an empty database with the client program, and dump that one."
#: Statements that select another database than the target; values never begin a line.
_USE = re.compile(rb"\s*(?:/\*!\d*\s*)?USE\s+(`(?:[^`]|``)+`|\w+)", re.IGNORECASE)
_CREATE = re.compile(rb"\s*(?:/\*!\d*\s*)?(?:CREATE|DROP)\s+(?:DATABASE|SCHEMA)\b", re.IGNORECASE)
#: Statements for the whole server, such as its GTID state: applied changes, replication source, and binary logging, which
#: replicas need. They extend to the end of the statement, which may be on a later line.
_WHOLE_SERVER = re.compile(
    rb"\s*SET\s+(?:@@GLOBAL\.GTID_PURGED|@@SESSION\.SQL_LOG_BIN|@MYSQLDUMP_TEMP_LOG_BIN|GLOBAL\s+gtid_slave_pos)\b"
    rb"|\s*CHANGE\s+(?:MASTER|REPLICATION\s+SOURCE)\s+TO\b",
    re.IGNORECASE,
)
#: Commands of the client at the beginning of a line.
_CLIENT_COMMAND = re.compile(rb"\s*(?:\\[!.]|(?:system|source|tee|pager|edit|connect)\s)", re.IGNORECASE)
#: Comments by the fact that they state. Defaults with a sequence, and views whose definer is missing, contain the name of the database.
_FACTS = {
    "server": re.compile(rb"-- Server version\s+(\S+)"),
    "database": re.compile(rb"-- Host: .*    Database: ([^\n]+)\n"),
}


def import_dump(copy: Path, destination: Path, target: str) -> ImportedDump:
    """Convert ``copy``, a private copy of a foreign dump, to ``destination``; the copy is consumed.

    Statements that name its database are removed, so that it can be loaded into another one. Statements for the whole
    server are removed, too: only one database is restored, and replicas must receive the changes.

    Raises:
        CorruptError: the dump is incomplete.
        FileNotRestorableError: it contains several databases, or commands for the client, or tables without their rows.
    """
    scanner, metadata, databases, is_skipping = DumpScanner(), {"format": "plain"}, set[bytes](), False
    tables = set[str]()
    with (
        copy.open("rb") as file,
        create_file(destination, temporary=True) as output,
        open_parallel_gzip() as compressor,
    ):
        for line in split_lines(iter(partial(file.read, BLOCK), b""), target):
            signals.raise_if_interrupted()
            if not scanner.in_rows:
                if is_skipping or _WHOLE_SERVER.match(line):
                    is_skipping = not line.rstrip().endswith(b";")
                    continue
                if match := _USE.match(line):
                    databases.add(match[1].strip(b"`"))
                    _require_single_database(databases, target)
                    continue
                if _CREATE.match(line) and not databases:
                    continue
                if _CLIENT_COMMAND.match(line):
                    command = line.decode(errors="replace").strip()[:40]
                    raise FileNotRestorableError(
                        path=target, reason=f"it contains a client command ({command})", hint=INSTEAD
                    )
                if line.startswith(STRUCTURE):
                    tables.add(decode_name(line[len(STRUCTURE) :].rstrip().removesuffix(b"`")))
                for name, pattern in _FACTS.items():
                    if match := pattern.match(line):
                        metadata.setdefault(name, match[1].decode(errors="replace"))
            scanner.feed(line)
            output.write(compressor.compress(line))
        scanner.finish()
        output.write(compressor.flush())
    copy.unlink()
    _require_complete(scanner, tables, target)
    return ImportedDump(metadata=metadata)


def _require_complete(scanner: DumpScanner, tables: Collection[str], target: str) -> None:
    if scanner.problem and not (scanner.has_comments or scanner.has_beginning):
        reason = "it has neither the beginning nor the end of a dump, as mysqldump --compact omits them"
        raise FileNotRestorableError(path=target, reason=reason, hint=COMPLETE_FIRST)
    if scanner.problem:
        raise CorruptError(target=target, reason=scanner.problem)
    if scanner.has_comments and (without_tables := sorted(scanner.rows.keys() - set(tables))):
        reason = f"it lacks the definitions of {', '.join(without_tables)}"
        hint = "Dump it again without --no-create-info; or load it into empty tables, and dump these."
        raise FileNotRestorableError(path=target, reason=reason, hint=hint)
    if without_rows := sorted(set(tables) - scanner.rows.keys()):
        reason = f"it lacks the rows of {', '.join(without_rows)}"
        hint = "Dump it again without --no-data, and without tables of the engine MERGE, whose rows belong to others."
        raise FileNotRestorableError(path=target, reason=reason, hint=hint)


def _require_single_database(databases: set[bytes], target: str) -> None:
    if len(databases) > 1:
        names = ", ".join(sorted(name.decode(errors="replace") for name in databases))
        raise FileNotRestorableError(
            path=target, reason=f"it contains several databases ({names})", hint=INSTEAD
        )
