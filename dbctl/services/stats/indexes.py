"""What indexes cost and give, which of them nobody needs, and the room that tables take and do not use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import structs

from dbctl.engines.contract import Capability, Index, Indexes, Waste, Wastes
from dbctl.errors import NotSupportedError
from dbctl.model import Row, Value, Window
from dbctl.services.app import App, Figures, figures


class State(StrEnum):
    """What is wrong with an index."""

    INVALID = "invalid"  #: it was never finished
    DUPLICATE = "duplicate"  #: another one is its like
    REDUNDANT = "redundant"  #: another one begins with its columns
    UNUSED = "unused"  #: it was never read, and keeps nothing unique


class IndexMeasured(Value, frozen=True, kw_only=True):
    """One index, and what may be wrong with it."""

    target: str
    table: str
    index: str
    columns: Sequence[str]  #: its terms, in order
    unique: bool
    primary: bool
    constraint: bool  #: it belongs to a constraint of the table
    bytes: int | None
    scans: int | None  #: how often it was read; None where the engine does not count
    state: State | None  #: None: nothing is wrong
    instead: str | None  #: the index that does what it does
    drop: str | None  #: the statement that takes it away, where nobody seems to need it

    def brief(self) -> Row:
        told = ("target", "table", "index", "columns", "unique", "bytes", "scans", "state", "instead")
        return {word: getattr(self, word) for word in told}


class TableWasted(Value, frozen=True, kw_only=True):
    """Room that a table takes and does not use."""

    target: str
    table: str | None  #: None: pages that belong to no table
    bytes: int | None
    wasted_bytes: int | None
    dead_rows: int | None  #: rows that nobody can see any more
    rows: int | None  #: the others, about
    estimated: bool
    source: str  #: what the figures come from
    vacuumed_at: datetime | None


def indexes(app: App, window: Window, *, only: State | None = None) -> Figures[IndexMeasured]:
    """Return every index of each configured database; those that nobody seems to need are told.

    Args:
        app: the app.
        window: which part.
        only: those of this state; None: all.
    """
    since: list[str] = []

    def look(name: str) -> list[IndexMeasured]:
        db = app.reader(name)
        if Capability.INDEXES not in db.capabilities or not isinstance(db, Indexes):
            raise NotSupportedError(
                what="telling of indexes", by=db.target, instead="Its engine tells nothing of them."
            )
        found = [one for one in judged(db.target, db.indexes()) if only in (None, one.state)]
        if any(one.scans is not None for one in found):
            began = db.counted_since()
            when = f"since {began:%Y-%m-%d %H:%M} UTC" if began else "since the statistics began"
            since.append(
                f"{db.target}: scans are counted {when}, on this server alone: a standby counts its own"
            )
        return found

    told = figures(app, IndexMeasured, window, look, wide=True)
    return structs.replace(told, remarks=since)


def bloat(app: App, window: Window) -> Figures[TableWasted]:
    """Return which room the tables of each configured database take and do not use."""
    estimated: list[str] = []

    def look(name: str) -> list[TableWasted]:
        db = app.reader(name)
        if Capability.BLOAT not in db.capabilities or not isinstance(db, Wastes):
            raise NotSupportedError(
                what="telling of wasted room", by=db.target, instead="Its engine does not tell."
            )
        found = db.wasted()
        if any(one.estimated for one in found):
            estimated.append(f"{db.target}: figures from {_sources(found)} are estimates")
        return [
            TableWasted(target=db.target, **{**structs.asdict(one), "table": one.table or None})
            for one in found
        ]

    told = figures(
        app, TableWasted, structs.replace(window, sort=window.sort or "-wasted_bytes"), look, wide=True
    )
    return structs.replace(told, remarks=estimated)


def _sources(found: Sequence[Waste]) -> str:
    return ", ".join(dict.fromkeys(one.source for one in found if one.estimated))


def judged(target: str, found: Sequence[Index]) -> Iterator[IndexMeasured]:
    """Yield each index with what is wrong with it among the others."""
    by_table = dict[str, list[Index]]()
    for index in found:
        by_table.setdefault(index.table, []).append(index)
    for one in found:
        state, instead = _state(one, by_table[one.table])
        yield IndexMeasured(
            target=target,
            table=one.table,
            index=one.name,
            columns=one.columns,
            unique=one.unique,
            primary=one.primary,
            constraint=one.constraint,
            bytes=one.bytes,
            scans=one.scans,
            state=state,
            instead=instead,
            drop=one.drop if state and one.drop else None,
        )


def _state(one: Index, beside: Sequence[Index]) -> tuple[State | None, str | None]:
    """Return what is wrong with an index among those of its table, and which does its work."""
    if not one.valid:
        return State.INVALID, None
    if one.primary or one.needed:
        return None, None
    others = [other for other in beside if other is not one and other.valid and _alike(other, one)]
    for other in others:
        if list(other.columns) == list(one.columns) and _before(other, one):
            return State.DUPLICATE, other.name
    for other in others:
        begins = list(other.columns[: len(one.columns)]) == list(one.columns)
        if begins and len(other.columns) > len(one.columns) and not one.unique and one.method == "btree":
            return State.REDUNDANT, other.name
    if one.scans == 0 and not (one.unique or one.constraint):
        return State.UNUSED, None
    return None, None


def _alike(other: Index, one: Index) -> bool:
    """Whether ``other`` may do what ``one`` does: of the same rows, and as strict."""
    return (
        (other.method, other.where) == (one.method, one.where)
        and (other.unique or not one.unique)
        and (not one.constraint or other.constraint)
    )


def _before(other: Index, one: Index) -> bool:
    """Whether of two that do the same the other one stays: what more depends on, then what was there first by its name."""

    def rank(index: Index) -> tuple[bool, bool, bool, bool, int, str]:
        return (
            not index.primary,
            not index.needed,
            not index.constraint,
            not index.unique,
            len(index.name),
            index.name,
        )

    return rank(other) < rank(one)
