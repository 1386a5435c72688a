"""Access to the parts of a database."""

from __future__ import annotations

from typing import TypeVar

from dbctl.engines.contract.database import Readable

P = TypeVar("P")


def find_part(db: Readable, kind: type[P]) -> P:
    """Return the part with the protocol ``kind``, which the database must have."""
    part = db.part(kind)
    assert part is not None
    return part
