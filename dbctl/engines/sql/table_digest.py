"""Digests of table contents, equal for equal rows in any order."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract.dumps import Dump
from dbctl.engines.contract.reader import Readable, Table, require_part
from dbctl.engines.contract.streaming import RowStreams
from dbctl.engines.sql import codec
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.restore import RestoreFailedError
from dbctl.errors.usage import ValueInvalidError

#: Larger tables, by rows or by bytes of the values as text, get no digest, so that backups do not read them twice.
MAX_ROWS, MAX_BYTES = 2_000, 1 << 20
#: The form of the hashed values, at the start of a digest: digests of different forms cannot be compared.
FORM = "exact:"


def digest_tables(db: Readable, rows: Mapping[str, int]) -> dict[str, str]:
    """Return the digest of each table that is small.

    Args:
        db: the database.
        rows: number of rows by table; tables that ``db`` lacks are ignored.
    """
    tables = db.tables()
    small = (tables[name] for name, count in rows.items() if count <= MAX_ROWS and name in tables)
    results = ((table.name, _try_digest(db, table)) for table in small if not table.is_view)
    return {name: digest for name, digest in results if digest}


def list_comparable(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the tables whose digests are known on both sides in the same form; older versions had another one."""
    return sorted(
        name
        for name in actual.keys() & expected.keys()
        if actual[name].startswith(FORM) == expected[name].startswith(FORM)
    )


def find_differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the tables whose digests are comparable and differ."""
    return [name for name in list_comparable(actual, expected) if actual[name] != expected[name]]


def require_loaded_rows(
    dump: Dump, rows: Mapping[str, int], digests: Mapping[str, str], *, target: str, hint: str
) -> None:
    """Refuse a loaded database whose row counts or digests differ from those of its dump.

    Raises:
        RestoreFailedError: a table differs, or is missing, or is not in the dump.
    """
    if rows != dict(dump.tables):
        names = sorted(name for name in {*rows, *dump.tables} if rows.get(name) != dump.tables.get(name))
        reason = f"row counts of {', '.join(names)} differ from the dump after the load"
        raise RestoreFailedError(target=target, reason=reason, hint=hint)
    if others := find_differences(digests, dump.digests):
        reason = f"content of {', '.join(others)} differs from the dump after the load"
        raise RestoreFailedError(target=target, reason=reason, hint=hint)


def _try_digest(db: Readable, table: Table) -> str:
    """Return the digest of a table; empty if it cannot be read."""
    try:
        return _digest(db, table)
    except (QueryFailedError, ValueInvalidError):  # a backup does not fail for a missing digest
        return ""


def _digest(db: Readable, table: Table) -> str:
    """Return the digest of a table; empty if it is too large."""
    from hashlib import sha256

    row_digests, size = list[bytes](), 0
    # Generated columns may depend on the date or the role, and are computed again when rows are loaded.
    columns = [name for name, column in table.columns.items() if not column.is_generated] or list(
        table.columns
    )
    streams = require_part(db, RowStreams, "a digest", "Its engine cannot stream rows.")
    with streams.stream(table.name, columns) as stream:
        for batch in stream.batches:  # read all, because stopping would end the session on a server
            for row in batch if size <= MAX_BYTES else ():
                text = codec.encode_json([codec.to_json(value) for value in row]).encode()
                size += len(text)
                row_digests.append(sha256(text).digest())
    if size > MAX_BYTES:
        return ""
    # Sort by digest: keys may be missing, and collations differ between databases.
    return FORM + sha256(b"".join(sorted(row_digests))).hexdigest()
