"""The index that a search of a read-only database may have: in a file of its own, good until the owner changes the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbctl import config
from dbctl.engines.base import Capability, Order, Readable, Where
from dbctl.engines.sidecar import Sidecar, Sidecars, SidecarState
from dbctl.model import Value
from dbctl.profiles.model import Profile
from dbctl.profiles.search_model import Search
from dbctl.services.apps import App
from dbctl.services.search_terms import Compiler, present

#: Why rows are looked for without such an index, and what makes it.
WITHOUT = "the search index {path} {why}: every row was read; dbctl search index build {search} makes it"
#: What it is, by how it stands.
WHY = {
    "missing": "is missing",
    "stale": "is not used ({reason})",
    "broken": "is of no use ({reason})",
}


class Through(Value, frozen=True):
    """What such an index is asked for."""

    of: Sidecar
    words: Sequence[str]  #: none: every row counts as found


class Asked(Value, frozen=True):
    """What is left to such an index, and what to know where nothing is."""

    through: Through | None
    remark: str = ""


def is_aside(search: Search, profile: Profile) -> bool:
    """Whether a search is to have such an index: only its owner writes the database, and it has no index of words.

    A table that a deployment may lack is small: every row is read.
    """
    read_only = profile.databases[search.database].mode == "read-only"
    return search.text is None and read_only and not search.optional


def able(db: Readable) -> Sidecars | None:
    """Return the database as one that finds text through such an index; None where its engine does not."""
    return db if Capability.SIDECAR in db.capabilities and isinstance(db, Sidecars) else None


def index_of(compiler: Compiler) -> Sidecar:
    """Return the index that a search should have in a database: in the order that pages have, hidden rows marked."""
    search = compiler.search
    first = search.sort[0]
    order = [] if first.kind == "random" else [compiler.order(first, descending=first.descending)]
    return Sidecar(
        table=search.table,
        columns=present(compiler.tables, search.table, search.words),
        order=order,
        kept=compiler.hidden(frozenset()),
    )


def places(app: App, search: Search, db: Sidecars) -> Sequence[Path]:
    """Return where its file may be, the place first where one would rather be made."""
    name = search.name
    if app.configured.search is not None:
        return [db.sidecar_place(app.configured.search, name)]
    cache = config.caches()
    return [db.sidecar_place(None, name), *([db.sidecar_place(cache, name)] if cache else [])]


def asked(
    app: App, compiler: Compiler, words: Sequence[str], where: Sequence[Where], order: Sequence[Order]
) -> Asked:
    """Return what is left to the index.

    Args:
        app: the app.
        compiler: of the search.
        words: texts that a row has to hold.
        where: the conditions that the index need not meet.
        order: that of the rows.
    """
    db, search = able(compiler.db), compiler.search
    if db is None or not is_aside(search, app.profile):
        return Asked(None)
    words = [word for word in words if db.sidecar_finds(word)]
    index = index_of(compiler)
    if not words and (list(order) != list(index.order) or any(one not in index.kept for one in where)):
        return Asked(None)  # it would tell every row, to be looked at one by one
    found = db.sidecar(index, places(app, search, db))
    if found.state == "fresh":
        return Asked(Through(index, words))
    return Asked(None, without(search, found) if words else "")


def left(through: Through | None, words: Sequence[str]) -> list[str]:
    """Return the words that the index does not answer."""
    return [word for word in words if not (through and word in through.words)]


def without(search: Search, found: SidecarState) -> str:
    """Return why rows are looked for without the index; empty where there cannot be one."""
    if found.state == "missing" and found.reason:
        return ""
    why = WHY[found.state].format(reason=found.reason)
    return WITHOUT.format(path=found.path, why=why, search=search.name)
