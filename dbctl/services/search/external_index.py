"""Build, check and drop external indexes: search indexes in separate files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.config import paths
from dbctl.engines.contract import (
    ExternalIndexes,
    ExternalIndexSpec,
    ExternalIndexState,
    Order,
    Where,
    require_part,
)
from dbctl.errors import PlanChangedError, UsageError
from dbctl.model import ChangeResult, Finding, Plan, Row, Struct, format_count
from dbctl.profiles.model import Profile, Search
from dbctl.services.app import App
from dbctl.services.search.compiler import QueryCompiler, select_existing

IndexAction: TypeAlias = Literal["build", "repair", "drop"]

#: Rows that a check compares with the index, unless it is a full check.
SAMPLE = 1_000
HINT = "Rebuild it with: dbctl search index build {search}"
FAULTS = {
    "missing": "of {table} are missing in it",
    "stale": "of {table} have other values in it",
    "duplicate": "of {table} are in it more than once",
    "stray": "of it have no row in {table}",
}


class IndexChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of building, replacing or dropping an index."""

    search: str
    index: str
    changed: bool
    steps: Sequence[str]

    def summary(self) -> Row:
        return {"search": self.search, "index": self.index, "changed": self.changed}


class ExternalIndex:
    """The external index of one search, with its open database."""

    def __init__(self, app: App, search: Search) -> None:
        """Open the database of the search.

        Raises:
            NotSupportedError: its engine has no external indexes.
        """
        reader = app.reader(search.database)
        feature = f"an external index for {search.name}"
        self.db = db = require_part(reader, ExternalIndexes, feature, "Its engine has none.")
        self.search, self.target = search, reader.target
        self.index: ExternalIndexSpec = define_index(QueryCompiler(app.profile, search, reader))
        self._reader = reader
        self.locations = list_locations(app, search, db)

    def count_rows(self) -> int:
        """Return the number of rows that the index should contain."""
        return self._reader.count(self.search.table)

    def read_state(self) -> ExternalIndexState:
        return self.db.open_external_index(self.index, self.locations)

    def check_state(self) -> Iterator[Finding]:
        """Yield a warning if the index exists but is not used; compares no rows."""
        state = self.read_state()
        if state.state in ("stale", "broken"):
            message = f"{state.path} is not used: {state.reason}"
            yield self._finding("warning", f"search-index-{state.state}", message, "")

    def check(self, *, full: bool) -> Iterator[Finding]:
        """Yield the problems of the index; compares all rows with ``full``, otherwise a sample."""
        state, hint = self.read_state(), HINT.format(search=self.search.name)
        if state.state == "missing":
            message = f"{state.path} does not exist: searches of {self.search.table} read every row"
            if state.reason:
                message, hint = f"no index is possible: {state.reason}", ""
            yield self._finding("info", "search-index-missing", message, hint)
        elif state.state != "fresh":
            message = f"{state.path} is not used: {state.reason}"
            code = f"search-index-{state.state}"
            yield self._finding("error" if state.state == "broken" else "warning", code, message, hint)
        else:
            for reason in self.find_faults(full=full):
                yield self._finding("error", "search-index-wrong", f"{state.path}: {reason}", hint)

    def find_faults(self, *, full: bool) -> list[str]:
        """Compare a usable index with the database; return the differences."""
        faults = [
            f"{format_count(fault.count, 'row')} {FAULTS[fault.kind].format(table=self.search.table)} (the first: {fault.example})"
            for fault in self.db.find_external_index_faults(self.index, rows=SAMPLE)
        ]
        if full and not faults and self.db.external_index_differs(self.index):
            return ["a rebuilt index has other entries"]
        return faults

    def _finding(
        self, severity: Literal["info", "warning", "error"], code: str, message: str, hint: str
    ) -> Finding:
        return Finding(target=self.target, severity=severity, code=code, message=message, hint=hint)


def list_external_indexes(app: App, database: str) -> Iterator[ExternalIndex]:
    """Yield the external indexes of one database."""
    reader = app.reader(database)
    for search in app.profile.search:
        is_external = search.database == database and has_external_index(search, app.profile)
        if is_external and reader.part(ExternalIndexes) is not None and search.table in reader.tables():
            yield ExternalIndex(app, search)


class ExternalIndexChange:
    """Build, replace or drop an external index; only reads the database."""

    def __init__(self, app: App, search: Search, action: IndexAction, *, cache: bool) -> None:
        self._app, self._search, self._action, self._cache = app, search, action, cache
        self.app, self.target = app.name, app.target(search.database)
        self.protected = False  # an index can always be rebuilt
        if cache and app.configured.search is not None:
            raise UsageError(detail="--cache: [apps.NAME.search] configures the location of search indexes")
        if cache and paths.cache_folder() is None:
            raise UsageError(detail="--cache: this user has no cache directory; set XDG_CACHE_HOME")

    def plan(self) -> Plan:
        """Return the plan; writes nothing."""
        index = ExternalIndex(self._app, self._search)
        verb = {"build": "Build", "repair": "Rebuild", "drop": "Drop"}[self._action]
        index_path = self._select_location(index)
        if self._action == "drop":
            existing = [str(path) for path in index.locations if os.path.lexists(path)]
            steps = [f"remove {path}" for path in existing]
        else:
            steps = [
                *self._list_reasons(index, index_path),
                f"index {format_count(index.count_rows(), 'row')} of {self._search.table} in {index_path}",
            ]
            steps = steps if len(steps) > 1 else []
        return Plan(
            title=f"{verb} the search index of {self._search.name}", target=self.target, steps=steps, rows={}
        )

    def apply(self, confirmed: str | None = None) -> IndexChangeResult:
        """Apply the plan.

        Raises:
            PlanChangedError: the plan differs from the confirmed one.
        """
        plan = self.plan()
        if confirmed is not None and plan.digest != confirmed:
            raise PlanChangedError(target=self.target)
        index = ExternalIndex(self._app, self._search)
        index_path = self._select_location(index)
        if not plan.is_empty and self._action == "drop":
            for path in index.locations:
                index.db.drop_external_index(path)
        elif not plan.is_empty:
            index.db.create_external_index(index.index, index_path)
        return IndexChangeResult(
            search=self._search.name, index=str(index_path), changed=not plan.is_empty, steps=plan.steps
        )

    def _list_reasons(self, index: ExternalIndex, path: Path) -> list[str]:
        """Return the reasons to build the index; none for a valid index."""
        state = index.read_state()
        if state.state != "fresh":
            return [f"{state.path} {STATE_REASONS[state.state].format(reason=state.reason)}"]
        if self._cache and state.path != path:
            return [f"{state.path} belongs in {path.parent}"]
        return index.find_faults(full=False) if self._action == "repair" else []

    def _select_location(self, index: ExternalIndex) -> Path:
        """Return the path for a new index: next to the database if that folder is writable, otherwise in the cache."""
        if self._cache:
            return index.locations[-1]
        writable = (path for path in index.locations[:-1] if os.access(path.parent, os.W_OK | os.X_OK))
        return next(writable, index.locations[-1])


#: Note about a search without its external index.
NOT_USED = (
    "the search index {path} {reason}: every row was read; build it with: dbctl search index build {search}"
)
#: By state.
STATE_REASONS = {
    "missing": "is missing",
    "stale": "is not used ({reason})",
    "broken": "is not usable ({reason})",
}


class ExternalQuery(Struct, frozen=True):
    """A query of an external index."""

    index: ExternalIndexSpec
    words: Sequence[str]  #: empty: all rows match


class ExternalLookup(Struct, frozen=True):
    """The query of the external index, or a note why it is not used."""

    query: ExternalQuery | None
    note: str = ""


def has_external_index(search: Search, profile: Profile) -> bool:
    """Whether a search has an external index: its database is read-only for dbctl, and it has no full-text index.

    Optional tables have none: they are small, so every row is read.
    """
    read_only = profile.databases[search.database].mode == "read-only"
    return search.text is None and read_only and not search.optional


def define_index(compiler: QueryCompiler) -> ExternalIndexSpec:
    """Return the definition of a search's index: in the default order, without hidden rows."""
    search = compiler.search
    sort = search.sort[0]
    order = [] if sort.kind == "random" else [compiler.compile_order(sort, descending=sort.descending)]
    return ExternalIndexSpec(
        table=search.table,
        columns=select_existing(compiler.tables, search.table, search.words),
        order=order,
        stored_conditions=compiler.exclude_hidden(frozenset()),
    )


def list_locations(app: App, search: Search, db: ExternalIndexes) -> Sequence[Path]:
    """Return the possible paths of the index file, the preferred path first."""
    name = search.name
    if app.configured.search is not None:
        return [db.external_index_path(app.configured.search, name)]
    cache = paths.cache_folder()
    return [db.external_index_path(None, name), *([db.external_index_path(cache, name)] if cache else [])]


def prepare_lookup(
    app: App, compiler: QueryCompiler, words: Sequence[str], where: Sequence[Where], order: Sequence[Order]
) -> ExternalLookup:
    """Return the part of a search for which the external index is queried.

    Args:
        app: the app.
        compiler: the compiler of the search.
        words: texts that a row must contain.
        where: further conditions, which the engine checks.
        order: the order of the rows.
    """
    db, search = compiler.db.part(ExternalIndexes), compiler.search
    if db is None or not has_external_index(search, app.profile):
        return ExternalLookup(None)
    words = [word for word in words if db.can_find_word(word)]
    index = define_index(compiler)
    if not words and (
        list(order) != list(index.order)
        or any(condition not in index.stored_conditions for condition in where)
    ):
        return ExternalLookup(None)  # every row would have to be compared anyway
    state = db.open_external_index(index, list_locations(app, search, db))
    if state.state == "fresh":
        return ExternalLookup(ExternalQuery(index, words))
    return ExternalLookup(None, describe_unused_index(search, state) if words else "")


def list_remaining_words(query: ExternalQuery | None, words: Sequence[str]) -> list[str]:
    """Return the words that the external index does not search."""
    return [word for word in words if not (query and word in query.words)]


def describe_unused_index(search: Search, state: ExternalIndexState) -> str:
    """Return why the index is not used; empty if no index is possible."""
    if state.state == "missing" and state.reason:
        return ""
    reason = STATE_REASONS[state.state].format(reason=state.reason)
    return NOT_USED.format(path=state.path, reason=reason, search=search.name)
