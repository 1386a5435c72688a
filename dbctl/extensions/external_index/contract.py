"""The definition and the state of a text index in a separate file, for a database that only its app writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from dbctl.engines.contract.database import Order, Where
from dbctl.model import Struct


class ExternalIndexSpec(Struct, frozen=True, kw_only=True):
    """The definition of an external index. An index is valid only for the state of the database that it was built from."""

    table: str  #: the indexed table
    columns: Sequence[str]  #: the indexed columns
    order: Sequence[Order]  #: orders in which it stores the rows, so a page in one of them needs no sort
    stored_conditions: Sequence[Where]  #: conditions whose result it stores for each row


class ExternalIndexState(Struct, frozen=True, kw_only=True):
    """Whether an external index can be used."""

    path: Path  #: where the index is, or would be
    state: Literal["fresh", "stale", "missing", "broken"]
    reason: str = ""  #: why it is not fresh; of a missing index: why none can be built
    bytes: int | None = None
    created_at: datetime | None = None
