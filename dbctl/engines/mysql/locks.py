"""SQL of the lock between dbctl processes on a server.

A server reports only which session holds a lock, and shows no text that an idle session could set. So the holder also acquires
locks whose names encode a description: one lock for each bit that is set. They end with the session, like the lock itself.

A server completes a statement even if its client was killed, and swapping the tables of a restore takes time. So the
session that swaps them has a separate lock, and every process that gets the lock waits for that one, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from dbctl.engines.mysql.types.values import format_literal

#: Maximum bytes of the description.
MAX_DESCRIPTION_BYTES = 96


def lock_name(database: str) -> str:
    """Return the name of the lock on a database; names are valid on the whole server, and have at most 64 characters."""
    return f"dbctl/{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def swap_lock_name(name: str) -> str:
    """Return the name of the lock that a session holds while it swaps tables, from the lock of the database."""
    return f"{name}/exchange"


def acquire_sql(name: str) -> str:
    """Return SQL that acquires the lock, or returns 0 immediately."""
    return f"select get_lock({format_literal(name)}, 0)"


def release_sql(name: str) -> str:
    """Return SQL that releases the lock."""
    return f"select release_lock({format_literal(name)})"


def acquire_unless_swapping_sql(name: str) -> str:
    """Return SQL that acquires the lock if it is free, and returns whether it did and no swap is running."""
    return f"{acquire_sql(name)} and is_free_lock({format_literal(swap_lock_name(name))})"


def holder_locks_sql(name: str, text: str) -> str:
    """Return SQL for the holder of the lock: it acquires the locks that encode ``text``."""
    description = text.encode()[:MAX_DESCRIPTION_BYTES]
    lock_names = [
        lock_name for lock_name, bit in zip(_bit_lock_names(name), _bits(description), strict=False) if bit
    ]
    return f"select {', '.join(f'get_lock({format_literal(lock_name)}, 0)' for lock_name in lock_names)}"


def holder_query(name: str) -> str:
    """Return SQL for a session that does not get the lock; ``decode_holder`` decodes its row."""
    return f"select {', '.join(f'is_used_lock({format_literal(lock_name)})' for lock_name in (name, *_bit_lock_names(name)))}"


def decode_holder(row: Sequence[object]) -> tuple[object, str]:
    """Return the session that has the lock, and its description; None and an empty text if it was released since then."""
    holder, *bit_holders = row
    bits = [bit_holder == holder and bit_holder is not None for bit_holder in bit_holders]
    description = bytes(
        sum(bit << position for position, bit in enumerate(bits[begin : begin + 8]))
        for begin in range(0, len(bits), 8)
    )
    return holder, description.rstrip(b"\0").decode(errors="replace")


def _bit_lock_names(name: str) -> Iterator[str]:
    return (f"{name}/{position}" for position in range(MAX_DESCRIPTION_BYTES * 8))


def _bits(description: bytes) -> Iterator[int]:
    return (byte >> position & 1 for byte in description for position in range(8))
