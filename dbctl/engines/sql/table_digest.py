"""What a table holds, told in 64 digits: equal ones are the same rows, in whatever order an engine gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dbctl.engines.contract import Readable, Streams, Table
from dbctl.errors import QueryFailedError, ValueInvalidError

#: A table that holds more, in rows or in bytes of its values as text, has none: a backup must not read all of it twice.
ROWS, BYTES = 2_000, 1 << 20


class Holds(Readable, Streams, Protocol):
    """A database whose tables can be told so."""


def digests(db: Holds, rows: Mapping[str, int]) -> dict[str, str]:
    """Return the digest of each table that is small.

    Args:
        db: the database, at the moment that counts.
        rows: how many each table holds, by name; what is no table of ``db`` is passed over.
    """
    tables = db.tables()
    small = (tables[name] for name, number in rows.items() if number <= ROWS and name in tables)
    found = ((one.name, _told(db, one)) for one in small if not one.view)
    return {name: digest for name, digest in found if digest}


def differing(found: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    """Return the tables whose digests are known on both sides, and are not the same."""
    return sorted(name for name, digest in told.items() if found.get(name, digest) != digest)


def _told(db: Holds, table: Table) -> str:
    """Return the digest of a table; empty where it has none."""
    try:
        return _digest(db, table)
    except (QueryFailedError, ValueInvalidError):  # a copy is no worse for a proof less
        return ""


def _digest(db: Holds, table: Table) -> str:
    """Return the digest of a table; empty where it turns out to be long."""
    from hashlib import sha256

    each, size = list[bytes](), 0
    # What a server computes may depend on the day, or on who asks; rows that are loaded have it computed again.
    columns = [name for name, column in table.columns.items() if not column.generated] or list(table.columns)
    with db.stream(table.name, columns) as answer:
        for batch in answer.batches:  # to the last, for a server would end the session of one who leaves
            for row in batch if size <= BYTES else ():
                text = ascii(tuple(row)).encode()  # exact and unambiguous, whichever Python writes it
                size += len(text)
                each.append(sha256(text).digest())
    if size > BYTES:
        return ""
    # By digest: keys may be missing, and collations put texts in another order elsewhere.
    return sha256(b"".join(sorted(each))).hexdigest()
