"""Bytes moved out of a database and into one: what every engine answers that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.model import Value

#: Told how much of the whole is done: a share from 0 to 1.
Progress: TypeAlias = Callable[[float], None]


def silent(_share: float) -> None:
    """Tell nobody."""


class Dumped(Value, frozen=True, kw_only=True):
    """A file that holds one moment of a database, whole, synced, and usable without anything beside it."""

    taken_at: datetime  #: the moment: what was committed before is in it, what came later is not
    facts: Mapping[str, str]  #: what the file alone does not tell of the database: by the engine's own words


class Proof(Value, frozen=True, kw_only=True):
    """What a dump holds, and what is wrong with it."""

    tables: Mapping[str, int]  #: rows
    schema: str  #: the fingerprint of its schema
    problems: Sequence[str]  #: in the engine's words; empty: it can be loaded


class Loaded(Value, frozen=True, kw_only=True):
    """How a dump came into the place of a database."""

    #: ``in place``: one transaction of the database; ``new``: there was none; ``replaced``: there was a file that
    #: could not be opened as a database, which made room for the new one.
    way: Literal["in place", "new", "replaced"]


@runtime_checkable
class Dumps(Protocol):
    """Capability.DUMP."""

    def dump(self, destination: Path, *, progress: Progress = silent) -> Dumped:
        """Copy one moment of the database into the new file ``destination``, mode 0600.

        Nothing is left of it when that fails.

        Raises:
            DiskFullError, FileFailedError: it cannot be written; nothing of the database was changed.
        """
        ...

    def dump_size(self) -> int:
        """Return how many bytes ``dump`` will write, about."""
        ...
