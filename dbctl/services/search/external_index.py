"""Making, comparing and dropping the index of a search that stands in a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.config import paths
from dbctl.engines.contract import Capability, Order, Readable, Sidecar, Sidecars, SidecarState, Where
from dbctl.errors import NotSupportedError, PlanChangedError, UsageError
from dbctl.model import Done, Finding, Plan, Row, Value, counted
from dbctl.profiles.model import Profile, Search
from dbctl.services.app import App
from dbctl.services.search.compiler import Compiler, present

Purpose: TypeAlias = Literal["build", "repair", "drop"]

#: How many rows a check looks for in the index, where it is not to compare everything.
SAMPLE = 1_000
HINT = "dbctl search index build {search} makes it anew."
FAULTS = {
    "missing": "of {table} are not in it",
    "stale": "of {table} stand in it otherwise",
    "duplicate": "of {table} are in it more than once",
    "stray": "of it belong to nothing in {table}",
}


class IndexChanged(Done, frozen=True, kw_only=True):
    """Answer of what makes, replaces or drops an index."""

    search: str
    index: str
    changed: bool
    steps: Sequence[str]

    def brief(self) -> Row:
        return {"search": self.search, "index": self.index, "changed": self.changed}


class Aside:
    """The index of one search, on its open database."""

    def __init__(self, app: App, search: Search) -> None:
        """Look at the live schema.

        Raises:
            NotSupportedError: its engine finds no text through a file of its own.
        """
        reader = app.reader(search.database)
        db = able(reader)
        if db is None:
            raise NotSupportedError(
                what=f"a search index of {search.name}", by=reader.target, instead="Its engine has none."
            )
        self.db: Sidecars = db
        self.search, self.target = search, reader.target
        self.index: Sidecar = index_of(Compiler(app.profile, search, reader))
        self._reader = reader
        self.places = places(app, search, db)

    def rows(self) -> int:
        """Return how many rows it is to hold."""
        return self._reader.count(self.search.table)

    def stands(self) -> SidecarState:
        """Return how it stands."""
        return self.db.sidecar(self.index, self.places)

    def neglect(self) -> Iterator[Finding]:
        """Yield that it was made once, and is not used any more; without comparing anything."""
        found = self.stands()
        if found.state in ("stale", "broken"):
            message = f"{found.path} is not used: {found.reason}"
            yield self._finding("warning", f"search-index-{found.state}", message, "")

    def findings(self, *, whole: bool) -> Iterator[Finding]:
        """Yield what is wrong with it."""
        found, hint = self.stands(), HINT.format(search=self.search.name)
        if found.state == "missing":
            message = f"there is no {found.path}, so that searching {self.search.table} reads every row"
            if found.reason:
                message, hint = f"there can be no index: {found.reason}", ""
            yield self._finding("info", "search-index-missing", message, hint)
        elif found.state != "fresh":
            message = f"{found.path} is not used: {found.reason}"
            code = f"search-index-{found.state}"
            yield self._finding("error" if found.state == "broken" else "warning", code, message, hint)
        else:
            for reason in self.faults(whole=whole):
                yield self._finding("error", "search-index-wrong", f"{found.path}: {reason}", hint)

    def faults(self, *, whole: bool) -> list[str]:
        """Compare the one that is used with the database; return what is wrong with it."""
        found = [
            f"{counted(one.number, 'row')} {FAULTS[one.kind].format(table=self.search.table)} (the first: {one.example})"
            for one in self.db.sidecar_faults(self.index, rows=SAMPLE)
        ]
        if whole and not found and self.db.sidecar_differs(self.index):
            return ["one that is made anew tells something else"]
        return found

    def _finding(
        self, severity: Literal["info", "warning", "error"], code: str, message: str, hint: str
    ) -> Finding:
        return Finding(target=self.target, severity=severity, code=code, message=message, hint=hint)


def of_database(app: App, database: str) -> Iterator[Aside]:
    """Yield the indexes that the searches of one database may have in files of their own."""
    reader = app.reader(database)
    for search in app.profile.search:
        mine = search.database == database and is_aside(search, app.profile)
        if mine and able(reader) and search.table in reader.tables():
            yield Aside(app, search)


class AsideChange:
    """An index in a file of its own that is to be made, replaced or dropped; its database is only read."""

    def __init__(self, app: App, search: Search, purpose: Purpose, *, cache: bool) -> None:
        self._opened, self._search, self._purpose, self._cache = app, search, purpose, cache
        self.app, self.target = app.name, app.target(search.database)
        self.protected = False  # what is made can be made again, whatever becomes of it
        if cache and app.configured.search is not None:
            raise UsageError(detail="--cache: [apps.NAME.search] says already where search indexes are")
        if cache and paths.caches() is None:
            raise UsageError(detail="--cache: this user has no folder for caches; XDG_CACHE_HOME names one")

    def plan(self) -> Plan:
        """Return what would be done; writes nothing."""
        aside = Aside(self._opened, self._search)
        verb = {"build": "Make", "repair": "Make anew", "drop": "Drop"}[self._purpose]
        place = self._place(aside)
        if self._purpose == "drop":
            there = [str(path) for path in aside.places if os.path.lexists(path)]
            steps = [f"remove {path}" for path in there]
        else:
            steps = [
                *self._due(aside, place),
                f"index {counted(aside.rows(), 'row')} of {self._search.table} in {place}",
            ]
            steps = steps if len(steps) > 1 else []
        return Plan(
            title=f"{verb} the search index of {self._search.name}", target=self.target, steps=steps, rows={}
        )

    def apply(self, seen: str | None = None) -> IndexChanged:
        """Do it.

        Raises:
            PlanChangedError: it is not as it was when a person agreed to the plan.
        """
        plan = self.plan()
        if seen is not None and plan.digest != seen:
            raise PlanChangedError(target=self.target)
        aside = Aside(self._opened, self._search)
        place = self._place(aside)
        if not plan.empty and self._purpose == "drop":
            for path in aside.places:
                aside.db.drop_sidecar(path)
        elif not plan.empty:
            aside.db.make_sidecar(aside.index, place)
        return IndexChanged(
            search=self._search.name, index=str(place), changed=not plan.empty, steps=plan.steps
        )

    def _due(self, aside: Aside, place: Path) -> list[str]:
        """Return why it has to be made; nothing where the one that is there is as it should be."""
        found = aside.stands()
        if found.state != "fresh":
            return [f"{found.path} {WHY[found.state].format(reason=found.reason)}"]
        if self._cache and found.path != place:
            return [f"{found.path} is to be in {place.parent}"]
        return aside.faults(whole=False) if self._purpose == "repair" else []

    def _place(self, aside: Aside) -> Path:
        """Return where it is made: beside the database, unless its folder takes no files or another one is wanted."""
        if self._cache:
            return aside.places[-1]
        able = (path for path in aside.places[:-1] if os.access(path.parent, os.W_OK | os.X_OK))
        return next(able, aside.places[-1])


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
    cache = paths.caches()
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
