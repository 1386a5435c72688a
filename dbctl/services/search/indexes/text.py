"""Full-text indexes of searches in their databases: status, check, build, repair and drop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable, require_supported
from dbctl.engines.contract.fulltext import IndexFault, IndexState
from dbctl.engines.contract.schema import ScriptRunner
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.databases import AlreadyExistsError, TextIndexForeignError, TextIndexInvalidError
from dbctl.errors.usage import NotSupportedError, PlanChangedError
from dbctl.model import Finding, format_count
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.fulltext import define_index
from dbctl.services.search.indexes.base import FAULTS, IndexAction, IndexStatus, SearchIndex
from dbctl.spec import Write

REBUILD_HINT = Remedy("Rebuild it with: `search index repair {search}`")
#: Hints about an unusable index, and about another table with the name of the index.
REPLACE_HINT = Remedy("Replace it with: `search index repair {search}`")
RENAME_HINT = Remedy("Rename that table, then run: `search index build {search}`")
#: A full-text index is checked by a statement that only a writer may run.
INDEX_CHECK = Write(source="schema", audited=False)
TEXT_INDEX_HINT = "Rebuild it from its rows with the program that created it."


class OpenTextIndex:
    """The full-text index of a search in an open database."""

    def __init__(self, search: Search, db: Readable) -> None:
        """Find the columns of the index.

        Raises:
            NotSupportedError: the engine has no full-text indexes, or the columns are missing.
        """
        spec, fulltext = define_index(search, db), db.fulltext
        if spec is None or fulltext is None:
            raise NotSupportedError(
                feature=f"a full-text index for {search.name}",
                subject=db.target,
                hint="Its engine has none, or the columns for it are missing.",
            )
        self.spec, self.db, self._fulltext = spec, db, fulltext

    def read_state(self) -> IndexState:
        """Return the state by the definition; see ``check_data``."""
        return self._fulltext.text_index_state(self.spec)

    def find_faults(self) -> Sequence[IndexFault]:
        """Compare the entries of a valid index with the rows."""
        return self._fulltext.find_text_index_faults(self.spec)

    def describe_fault(self, fault: IndexFault) -> str:
        difference = FAULTS[fault.kind].format(table=self.spec.table, content="texts")
        return f"{format_count(fault.count, 'row')} {difference} (the first: {fault.example})"

    def can_be_damaged(self, state: IndexState) -> bool:
        """Whether the index is stored as a separate table, which ``check_data`` checks."""
        return self.db.checks is not None and state.name in self.db.checks.list_text_indexes()

    def check_data(self, state: IndexState) -> IndexState:
        """Check the stored data of an index with a valid definition; requires a writer."""
        reason = self.db.checks.check_text_index(state.name) if self.db.checks else ""
        return structs.replace(state, state="broken", reason=reason) if reason else state

    def transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that may change the schema."""
        return self._scripts.schema_transaction()

    def drop(self) -> list[str]:
        """Drop the index, if any; return the steps as text."""
        return self._run(self._fulltext.text_index_drop_statements(self.spec))

    def build(self) -> list[str]:
        """Build the index and verify it; return the steps as text.

        Raises:
            TextIndexInvalidError: the new index is not valid.
        """
        steps = self._run(self._fulltext.text_index_create_statements(self.spec))
        self._fulltext.mark_text_index(self.spec)
        self._fulltext.probe_text_index(self.spec)
        state, faults = self.read_state(), self.find_faults()
        if state.state != "valid" or faults:
            reason = state.reason or ", ".join(map(self.describe_fault, faults)) or state.state
            raise TextIndexInvalidError(target=self.db.target, name=state.name, reason=reason)
        return steps

    @property
    def _scripts(self) -> ScriptRunner:
        return require_supported(self.db, self.db.scripts, "a full-text index", "Its engine has none.")

    def _run(self, statements: Mapping[str, str]) -> list[str]:
        for sql in statements.values():
            self._scripts.run_statement(sql)
        return list(statements)


class TextIndex(SearchIndex):
    """The full-text index of a search; it is changed in one transaction."""

    def __init__(self, app: App, search: Search) -> None:
        super().__init__(app, search.name, search.database)
        self._search = search

    def _open(self) -> OpenTextIndex:
        return OpenTextIndex(self._search, self.app.reader(self.database))

    def read_status(self) -> IndexStatus:
        state = self._open().read_state()
        return IndexStatus(
            search=self.name,
            table=self._search.table,
            index=state.name,
            state=state.state,
            reason=state.reason or None,
        )

    def check(self, *, full: bool) -> Iterator[Finding]:  # noqa: ARG002 - all entries are compared
        """Compare the index with its definition, and every entry with its row."""
        index = self._open()
        state = index.read_state()
        if state.state == "missing":
            message = f"{state.name} does not exist: searches of {self._search.table} read every row"
            yield self.finding(
                "warning",
                "text-index-missing",
                message,
                Remedy("Build it with: `search index build {search}`"),
            )
        elif state.state == "broken":
            hint = RENAME_HINT if state.is_foreign else REPLACE_HINT
            yield self.finding("error", "text-index-broken", _describe_problem(state), hint)
        elif faults := index.find_faults():
            for fault in faults:
                message = f"{state.name}: {index.describe_fault(fault)}"
                yield self.finding("error", f"text-index-{fault.kind}", message, REBUILD_HINT)
        elif index.can_be_damaged(state):
            yield from check_text_indexes(
                self.app,
                self.database,
                [state.name],
                REBUILD_HINT.write(self.app.name, {"search": self.name}),
            )

    def plan(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        index = self._open()
        state, faults = self._inspect(index, action)
        if self._may_be_damaged(index, action, state, faults):
            with suppress(DbctlError), self.app.writer(self.database, INDEX_CHECK) as writer:
                state = OpenTextIndex(self._search, writer).check_data(state)
            index = self._open()  # the writer has closed the reader
        if not _is_due(action, state, faults):
            return state.name, []
        steps = [_describe_problem(state)] if state.state == "broken" else []
        steps += [f"{state.name}: {index.describe_fault(fault)}" for fault in faults]
        if state.state != "missing":
            steps.append(f"drop {state.name} and its triggers")
        if action != "drop":
            rows = format_count(index.db.count(self._search.table), "row")
            steps.append(f"build {state.name} of {rows} of {self._search.table}")
            steps.append("verify it with changes that are rolled back")
        return state.name, steps

    def change(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        with self.app.writer(self.database) as writer:
            if define_index(self._search, writer) is None:  # its columns existed when the plan was created
                raise PlanChangedError(target=writer.target)
            index = OpenTextIndex(self._search, writer)
            state, faults = self._inspect(index, action)
            if self._may_be_damaged(index, action, state, faults):
                state = index.check_data(state)
            if not _is_due(action, state, faults):
                return state.name, []
            with index.transaction():
                steps = index.drop()
                return state.name, steps if action == "drop" else [*steps, *index.build()]

    def _inspect(self, index: OpenTextIndex, action: IndexAction) -> tuple[IndexState, Sequence[IndexFault]]:
        state = index.read_state()
        if state.is_foreign:
            raise TextIndexForeignError(target=self.target, name=state.name)
        if action == "build" and state.state == "broken":
            raise AlreadyExistsError(
                target=self.target,
                kind="an index",
                name=state.name,
                hint=Remedy("{problem}. Replace it with: `search index repair {search}`"),
                problem=_describe_problem(state),
                search=self.name,
            )
        return state, index.find_faults() if action == "repair" and state.state == "valid" else ()

    @staticmethod
    def _may_be_damaged(
        index: OpenTextIndex, action: IndexAction, state: IndexState, faults: Sequence[IndexFault]
    ) -> bool:
        """Whether the definition and the rows are valid, so that the stored index must be checked for damage."""
        return action == "repair" and not _is_due(action, state, faults) and index.can_be_damaged(state)


def _is_due(action: IndexAction, state: IndexState, faults: Sequence[IndexFault]) -> bool:
    return state.state != "missing" if action == "drop" else state.state != "valid" or bool(faults)


def _describe_problem(state: IndexState) -> str:
    use = "finds rows, but is broken" if state.usable else "is not usable"
    return f"{state.name} {use}: {state.reason}"


def find_broken(app: App, database: str) -> Iterator[tuple[Search, IndexState, str]]:
    """Yield searches with a broken index, its state and the reason; compares only definitions."""
    db = app.reader(database)
    for search in app.profile.search:
        if search.database == database and define_index(search, db) is not None:
            state = OpenTextIndex(search, db).read_state()
            if state.state == "broken":
                yield search, state, _describe_problem(state)


def build_index(search: Search, writer: Writable, *, replace: bool = False) -> None:
    """Build the index of a search if it is missing, or replace it; the caller opens the database."""
    if define_index(search, writer) is None:
        return
    index = OpenTextIndex(search, writer)
    state = index.read_state()
    if state.state == "missing" or (replace and not state.is_foreign):
        with index.transaction():
            if replace:
                index.drop()
            index.build()


def check_text_indexes(
    app: App, name: str, indexes: Sequence[str], hint: str = TEXT_INDEX_HINT
) -> Iterator[Finding]:
    """Check full-text indexes for damage; requires write privileges, but changes nothing."""
    target = app.target(name)
    try:
        with app.writer(name, INDEX_CHECK) as db:
            checks = require_supported(
                db, db.checks, "checking full-text indexes", "Its engine has no integrity check."
            )
            for index in indexes:
                if reason := checks.check_text_index(index):
                    message = f"{index}, a full-text index, differs from its rows: {reason}"
                    yield Finding(target, "error", "text-index-damaged", message, hint)
    except DbctlError as error:
        message = f"{', '.join(indexes)}: full-text indexes were not checked ({error})"
        yield Finding(target, "info", "text-index-not-checked", message)
