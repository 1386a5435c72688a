"""A dump of mysqldump that somebody else made: looked through, and brought into the form in which dbctl makes them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from dbctl import signals
from dbctl.engines.file_type import TakenIn
from dbctl.engines.mysql.backup.dump_reader import Reading
from dbctl.engines.mysql.backup.foreign.stored_code import lines
from dbctl.errors import CorruptError, FileUnfitError
from dbctl.files import BLOCK, new_file, packing

INSTEAD = "mysqldump DATABASE, without --databases and --all-databases, writes what dbctl takes."
#: What would lead to another database than the one that a dump is loaded into; values stand on no line of their own.
_USE = re.compile(rb"\s*(?:/\*!\d*\s*)?USE\s+(`(?:[^`]|``)+`|\w+)", re.IGNORECASE)
_CREATE = re.compile(rb"\s*(?:/\*!\d*\s*)?(?:CREATE|DROP)\s+(?:DATABASE|SCHEMA)\b", re.IGNORECASE)
#: What is said to the whole server, above all where it keeps GTIDs: which changes it has seen, whom it follows, and that
#: its replicas are to hear nothing of what comes. To the end of a statement, which may be some lines below.
_WHOLE_SERVER = re.compile(
    rb"\s*SET\s+(?:@@GLOBAL\.GTID_PURGED|@@SESSION\.SQL_LOG_BIN|@MYSQLDUMP_TEMP_LOG_BIN|GLOBAL\s+gtid_slave_pos)\b"
    rb"|\s*CHANGE\s+(?:MASTER|REPLICATION\s+SOURCE)\s+TO\b",
    re.IGNORECASE,
)
#: What a client does, where it stands at the beginning of a line.
_SPOKEN = re.compile(rb"\s*(?:\\[!.]|(?:system|source|tee|pager|edit|connect)\s)", re.IGNORECASE)
_SERVER = re.compile(rb"-- Server version\s+(\S+)")
#: Which database it was made of. Defaults with a sequence, and views whose definer is missing, name it.
_DATABASE = re.compile(rb"-- Host: .*    Database: ([^\n]+)\n")


def take_in(plain: Path, destination: Path, target: str) -> TakenIn:
    """Make ``destination`` of a private copy of what somebody else left, which is used up.

    What names the one database that it was made of is left out; it may go into another one. So is what is said to the
    whole server: one of its databases is brought back, and replicas are to follow.

    Raises:
        CorruptError: it is not whole.
        FileUnfitError: it holds several databases, or says something to the client.
    """
    reading, facts, used, skipping = Reading(), {"format": "plain"}, set[bytes](), False
    with plain.open("rb") as file, new_file(destination, brief=True) as made, packing() as packed:
        for line in lines(iter(partial(file.read, BLOCK), b""), target):
            signals.check()
            if not reading.in_rows:
                if skipping or _WHOLE_SERVER.match(line):
                    skipping = not line.rstrip().endswith(b";")
                    continue
                if found := _USE.match(line):
                    used.add(found[1].strip(b"`"))
                    _refuse_several(used, target)
                    continue
                if _CREATE.match(line) and not used:
                    continue
                if _SPOKEN.match(line):
                    told = line.decode(errors="replace").strip()[:40]
                    raise FileUnfitError(
                        path=target, reason=f"it holds a command for the client ({told})", instead=INSTEAD
                    )
                if found := _DATABASE.match(line):
                    facts.setdefault("database", found[1].decode(errors="replace"))
                if found := _SERVER.match(line):
                    facts.setdefault("server", found[1].decode(errors="replace"))
            reading.feed(line)
            made.write(packed.feed(line))
        reading.finish()
        made.write(packed.rest())
    plain.unlink()
    if reading.problem:
        raise CorruptError(target=target, reason=reading.problem)
    return TakenIn(facts=facts)


def _refuse_several(used: set[bytes], target: str) -> None:
    if len(used) > 1:
        names = ", ".join(sorted(name.decode(errors="replace") for name in used))
        raise FileUnfitError(path=target, reason=f"it holds several databases ({names})", instead=INSTEAD)
