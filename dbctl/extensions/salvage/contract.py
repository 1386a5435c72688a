"""Contract: the salvage of a damaged database into a new one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from dbctl.engines.contract.checks import EngineFinding
from dbctl.model import Struct
from dbctl.progress import Progress, no_progress


class SalvageRequest(Struct, frozen=True, kw_only=True):
    """The damaged database and the new one."""

    source: Path  #: the damaged database; it and its related files are only read
    destination: Path  #: the new database; nothing may exist there
    force: bool = False  #: salvage an undamaged database, too
    #: an undamaged database with the same schema, for definitions that the damaged one has lost
    reference: Path | None = None


class SalvagedTable(Struct, frozen=True, kw_only=True):
    """The salvaged rows of one table."""

    table: str
    saved: int  #: rows in the new database
    lost: int  #: rows that are known to be lost
    unread_ranges: int  #: ranges of keys that could not be read, with an unknown number of rows
    rejected: int  #: rows that were read, but violate constraints of the new database


class SalvageResult(Struct, frozen=True, kw_only=True):
    """The new, synced database; or the result that the old one is not damaged."""

    created: bool  #: False: the old database is not damaged, and ``force`` was not set
    tables: Sequence[SalvagedTable]
    findings: Sequence[EngineFinding]  #: the damage, and what the user has to check
    rejected_rows: Path | None  #: the database with the rejected rows; None without rejected rows


class Salvage(ABC):
    """Part of an engine: the salvage of its databases."""

    @abstractmethod
    def salvage(
        self, request: SalvageRequest, target: str, *, progress: Progress = no_progress
    ) -> SalvageResult:
        """Salvage a damaged database into a new one; the damaged one is only read.

        The caller holds ``RestoreTarget.lock``, and has checked that no program has the database open.

        Raises:
            UnrecoverableError: no table can be read.
            Others: the errors of the engine.
        """
