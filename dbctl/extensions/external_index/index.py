"""External indexes: search indexes in separate files, which are built, checked and dropped without changes of the database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dbctl.config import environment
from dbctl.engines.contract.database import require_supported
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ExternalIndexInvalidError
from dbctl.errors.usage import UsageError
from dbctl.extensions.external_index.build import ExternalIndexes, require_replaceable
from dbctl.extensions.external_index.contract import ExternalIndexSpec, ExternalIndexState
from dbctl.extensions.external_index.lookup import STATE_REASONS, define_index, list_locations
from dbctl.model import Finding, format_count
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler
from dbctl.services.search.indexes.base import FAULTS, IndexAction, IndexStatus, SearchIndex

#: Rows that a check compares with the index, unless it is a full check.
SAMPLE = 1_000
HINT = Remedy("Rebuild it with: `search index build {search}`")


class ExternalIndex(SearchIndex):
    """The external index of a search: a separate file; its change only reads the database."""

    def __init__(self, app: App, search: Search) -> None:
        super().__init__(app, search.name, search.database)
        self.protected = False  # an index can always be rebuilt
        self.search, self._use_cache = search, False

    def use_cache(self) -> None:
        """Store a new index in the cache directory of the user.

        Raises:
            UsageError: the configuration sets another directory, or the user has no cache directory.
        """
        if self.app.configured.search is not None:
            raise UsageError(detail="--cache: [apps.NAME.search] configures the location of search indexes")
        if environment.cache_folder() is None:
            raise UsageError(detail="--cache: this user has no cache directory; set XDG_CACHE_HOME")
        self._use_cache = True

    @property
    def _db(self) -> ExternalIndexes:
        reader = self.app.reader(self.database)
        feature = f"an external index for {self.name}"
        return require_supported(
            reader, reader.extension_part(ExternalIndexes), feature, "Its engine has none."
        )

    @property
    def _spec(self) -> ExternalIndexSpec:
        return define_index(QueryCompiler(self.app.profile, self.search, self.app.reader(self.database)))

    @property
    def _locations(self) -> Sequence[Path]:
        return list_locations(self.app, self.search, self._db)

    def _read_state(self) -> ExternalIndexState:
        return self._db.open_external_index(self._spec, self._locations)

    def read_status(self) -> IndexStatus:
        state = self._read_state()
        return IndexStatus(
            search=self.name,
            table=self.search.table,
            index=state.path.name,
            state="valid" if state.state == "fresh" else state.state,
            reason=state.reason or None,
            path=str(state.path),
            bytes=state.bytes,
            created_at=state.created_at,
        )

    def check_state(self) -> Iterator[Finding]:
        """Yield a warning if the index exists but is not used; compares no rows."""
        if self.app.reader(self.database).extension_part(ExternalIndexes) is None:
            return
        state = self._read_state()
        if state.state in ("stale", "broken"):
            message = f"{state.path} is not used: {state.reason}"
            yield self.finding("warning", f"search-index-{state.state}", message)

    def check(self, *, full: bool) -> Iterator[Finding]:
        state, hint = self._read_state(), HINT.write(self.app.name, {"search": self.name})
        if state.state == "missing":
            message = f"{state.path} does not exist: searches of {self.search.table} read every row"
            if state.reason:
                message, hint = f"no index is possible: {state.reason}", ""
            yield self.finding("info", "search-index-missing", message, hint)
        elif state.state != "fresh":
            message = f"{state.path} is not used: {state.reason}"
            code = f"search-index-{state.state}"
            yield self.finding("error" if state.state == "broken" else "warning", code, message, hint)
        else:
            for reason in self._find_faults(full=full):
                yield self.finding("error", "search-index-wrong", f"{state.path}: {reason}", hint)

    def _find_faults(self, *, full: bool) -> list[str]:
        """Compare a usable index with the database; return the differences, or why the index cannot be read.

        Raises:
            ExternalIndexInvalidError: the index or the database was changed during the comparison.
        """
        try:
            return self._compare(full=full)
        except ExternalIndexInvalidError as error:
            if self._read_state().state != "fresh":
                raise
            return [f"it cannot be read: {error.context['reason']}"]

    def _compare(self, *, full: bool) -> list[str]:
        faults = []
        for fault in self._db.find_external_index_faults(self._spec, rows=SAMPLE):
            difference = FAULTS[fault.kind].format(table=self.search.table, content="values")
            faults.append(f"{format_count(fault.count, 'row')} {difference} (the first: {fault.example})")
        if full and not faults and self._db.external_index_differs(self._spec):
            return ["a rebuilt index has other entries"]
        return faults

    def plan(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        subject = f"the search index of {self.name}"
        if action == "drop":
            existing = [path for path in self._locations if os.path.lexists(path)]
            for path in existing:
                require_replaceable(path)
            return subject, [f"remove {path}" for path in existing]
        path = self._select_location()
        if reasons := self._list_reasons(action, path):
            require_replaceable(path)
            rows = format_count(self.app.reader(self.database).count(self.search.table), "row")
            reasons.append(f"index {rows} of {self.search.table} in {path}")
        return subject, reasons

    def change(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        _, steps = self.plan(action)
        path = self._select_location()
        if steps and action == "drop":
            for location in self._locations:
                self._db.drop_external_index(location)
        elif steps:
            self._db.create_external_index(self._spec, path)
        return str(path), steps

    def _list_reasons(self, action: IndexAction, path: Path) -> list[str]:
        """Return the reasons to build the index; none for a valid index."""
        state = self._read_state()
        if state.state != "fresh":
            return [f"{state.path} {STATE_REASONS[state.state].format(reason=state.reason)}"]
        if self._use_cache and state.path != path:
            return [f"{state.path} belongs in {path.parent}"]
        return self._find_faults(full=False) if action == "repair" else []

    def _select_location(self) -> Path:
        """Return the path for a new index: next to the database if that folder is writable, otherwise in the cache."""
        *preferred, last = self._locations
        writable = (path for path in preferred if os.access(path.parent, os.W_OK | os.X_OK))
        return last if self._use_cache else next(writable, last)
