"""The index of words that a search may have, and what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from dbctl.engines.contract import (
    Capability,
    FullText,
    Gathered,
    IndexState,
    Link,
    Marked,
    Readable,
    Table,
    TextIndex,
    TextQuery,
)
from dbctl.errors import DbctlError, QueryFailedError
from dbctl.model import Value
from dbctl.profiles.model import Search, TextShape
from dbctl.services.search.compiler import lacking, links

#: What to know of an index that finds every row though it is broken.
FOR_FINDING = (
    "the index {name} is good for finding alone ({reason}); dbctl search index repair {search} mends it"
)
#: Why rows are looked for without an index, and what to do about it.
WITHOUT = "{name} {why}: every row was read, and none is ranked{remedy}"


class Finder(Readable, FullText, Protocol):
    """A database that finds words through an index."""


class Ranked(Value, frozen=True):
    """What an index is asked for."""

    index: TextIndex
    query: TextQuery
    finds: bool  #: whether it finds the rows, so that nothing else has to narrow them down


def index_of(search: Search, db: Readable) -> TextIndex | None:
    """Return the index that a search may have in a database, as it should be; None where it cannot have one."""
    told = search.text
    if told is None or Capability.FULL_TEXT not in db.capabilities:
        return None
    tables = db.tables()
    wanted = [*told.columns, *told.beside]
    if search.table not in tables or any(lacking(tables, search.table, wanted, [])):
        return None
    gathered = {name: links(one.path) for name, one in told.gather.items()}
    ways = {
        name: path
        for name, path in gathered.items()
        if not [
            *lacking(tables, search.table, [], path),
            *lacking(tables, path[-1].table, [told.gather[name].at], []),
        ]
    }
    return TextIndex(
        table=search.table,
        id=search.id,
        columns=told.columns,
        index=told.index,
        own_table=told.table,
        key=told.key,
        gathered=[
            Gathered(
                name=name,
                path=[Link(link.column, link.table, link.to) for link in path],
                column=told.gather[name].at,
            )
            for name, path in ways.items()
        ],
        beside=told.beside,
        order=[name for name in told.order if name not in told.gather or name in ways],
        tokenize=told.tokenize,
        blocks=told.blocks,
        triggers=next(
            (one.triggers for one in told.shape if _fits(one, tables[search.table])), told.triggers
        ),
        language=told.language,
        mark=Marked(table=told.mark.table, key=told.mark.key, value=told.mark.value, name=told.mark.name)
        if told.mark
        else None,
    )


def finder(db: Readable) -> Finder | None:
    """Return the database as one that finds words; None where its engine does not."""
    return db if isinstance(db, FullText) and Capability.FULL_TEXT in db.capabilities else None


def ranked_by(search: Search, db: Readable, query: TextQuery) -> Ranked | None:
    """Return what the index of a search is asked for; None where there is none of use."""
    index, able = index_of(search, db), finder(db)
    if index is None or able is None or not _serves(able.text_index(index)):
        return None
    use = able.text_index_use(index, query)
    return None if use == "none" else Ranked(index, query, use == "find")


def remark(search: Search, db: Readable) -> str:
    """Return why words are looked for without an index, or what is wrong with it; empty where there is nothing to tell."""
    index, able = index_of(search, db), finder(db)
    if index is None or able is None:
        return ""
    state: IndexState = able.text_index(index)
    if state.state == "sound":
        return ""
    if state.usable:
        return FOR_FINDING.format(name=state.name, reason=state.reason, search=search.name)
    missing = state.state == "missing"
    why = "is missing" if missing else f"is of no use ({state.reason})"
    word = "build" if missing else "repair"
    remedy = "" if state.foreign else f"; dbctl search index {word} makes it"
    return WITHOUT.format(name=f"the index {state.name}", why=why, remedy=remedy)


def _serves(state: IndexState) -> bool:
    return state.state == "sound" or state.usable


def _fits(shape: TextShape, table: Table) -> bool:
    return all(column in table.columns for column in shape.needs)


@contextmanager
def name_repair(searches: Sequence[Search], table: str, db: Readable) -> Iterator[None]:
    """Name the repair where a database refuses a change of a table whose index for searching is broken.

    Raises:
        QueryFailedError: as within; where the index of the table is broken, its hint is the command that repairs it.
    """
    try:
        yield
    except QueryFailedError as error:
        for search in searches:
            if search.table == table and _is_broken(search, db):
                instead = f"Its search index is broken, and refuses changes: dbctl search index repair {search.name}."
                facts = {name: value for name, value in error.facts.items() if name != "instead"}
                raise QueryFailedError(instead=instead, **facts) from error
        raise


def _is_broken(search: Search, db: Readable) -> bool:
    index, able = index_of(search, db), finder(db)
    try:
        return index is not None and able is not None and able.text_index(index).state == "broken"
    except DbctlError:  # a server answers nothing after a refusal
        return False
