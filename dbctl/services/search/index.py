"""Full-text indexes of searches: status, check, build, repair and drop; also dispatches to external indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal, Protocol

from msgspec import structs

from dbctl.engines.contract import (
    Capability,
    Checks,
    FullText,
    IndexFault,
    IndexState,
    Readable,
    ScriptRunner,
    TextIndexes,
    TextIndexSpec,
    Writable,
)
from dbctl.errors import (
    AlreadyExistsError,
    DbctlError,
    NotSupportedError,
    PlanChangedError,
    TextIndexForeignError,
    TextIndexInvalidError,
    UsageError,
)
from dbctl.model import Finding, Findings, Page, Plan, Row, Struct, format_count
from dbctl.profiles.model import Search
from dbctl.services.app import App
from dbctl.services.integrity import check_text_indexes
from dbctl.services.search.external_index import (
    ExternalIndex,
    ExternalIndexChange,
    IndexAction,
    IndexChangeResult,
    has_external_index,
)
from dbctl.services.search.fulltext import RankedReader, as_ranked_reader, define_index

FAULTS = {
    "missing": "of {table} are missing in it",
    "stale": "of {table} have other texts in it",
    "duplicate": "of {table} are in it more than once",
    "stray": "of it have no row in {table}",
}
#: The operation recorded in the lock while a plan checks an index for damage, which requires a writer.
PLAN_OPERATION = "search index repair --dry-run"
REBUILD_HINT = "Rebuild it with: dbctl search index repair"
#: Hints about an unusable index, and about another table with the name of the index.
REPLACE_HINT = "Replace it with: dbctl search index repair"
RENAME_HINT = "Rename that table, then run: dbctl search index build"


class IndexStatus(Struct, frozen=True, kw_only=True):
    """Status of the index of one search."""

    search: str
    table: str
    index: str
    state: Literal["valid", "missing", "broken", "stale"]
    reason: str | None = None  #: of a broken or stale index
    path: str | None = None  #: of the file of an external index
    bytes: int | None = None
    created_at: datetime | None = None

    def summary(self) -> Row:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in fields.items() if name != "path"}


class IndexWriter(Writable, FullText, TextIndexes, ScriptRunner, Protocol):
    """A writable database whose engine builds full-text indexes."""


def read_statuses(app: App, name: str = "") -> Page[IndexStatus]:
    """Return the status of the index of one search, or of all."""
    items = []
    for search in _select_searches(app, name):
        if has_external_index(search, app.profile):
            items.append(_read_external_status(app, search))
            continue
        index, db = _open_index(app, search)
        state = db.text_index_state(index)
        items.append(
            IndexStatus(
                search=search.name,
                table=index.table,
                index=state.name,
                state=state.state,
                reason=state.reason or None,
            )
        )
    return Page(items=items, total=len(items), column_names=IndexStatus.__struct_fields__)


def _read_external_status(app: App, search: Search) -> IndexStatus:
    state = ExternalIndex(app, search).read_state()
    return IndexStatus(
        search=search.name,
        table=search.table,
        index=state.path.name,
        state="valid" if state.state == "fresh" else state.state,
        reason=state.reason or None,
        path=str(state.path),
        bytes=state.bytes,
        created_at=state.created_at,
    )


def check(app: App, name: str = "", *, full: bool = False) -> Findings:
    """Compare each index with its definition, and every entry with its row.

    Of an external index, a sample of the rows is compared; with ``full``, all its entries are compared with a rebuilt index.
    """
    findings: list[Finding] = []
    searches = _select_searches(app, name)
    for search in searches:
        if has_external_index(search, app.profile):
            findings += ExternalIndex(app, search).check(full=full)
            continue
        index, db = _open_index(app, search)
        index_findings = list(_check_index(app.target(search.database), index, db))
        if not index_findings and (name := db.text_index_state(index).name) in _list_damageable(db):
            index_findings = list(
                check_text_indexes(app, search.database, [name], "search index check", REBUILD_HINT)
            )
        findings += index_findings
    return Findings(checked=len(searches), findings=findings)


def _list_damageable(db: Readable) -> Sequence[str]:
    """Return the indexes that are stored as separate tables and can be damaged."""
    return db.list_text_indexes() if Capability.CHECK in db.capabilities and isinstance(db, Checks) else ()


def find_broken(app: App, database: str) -> Iterator[tuple[Search, IndexState, str]]:
    """Yield searches with a broken index, its state and the reason; compares only definitions."""
    db = app.reader(database)
    reader = as_ranked_reader(db)
    for search in app.profile.search:
        index = define_index(search, db) if search.database == database else None
        if index and reader and (state := reader.text_index_state(index)).state == "broken":
            yield search, state, _describe_problem(state)


def _check_index(target: str, index: TextIndexSpec, db: RankedReader) -> Iterator[Finding]:
    state = db.text_index_state(index)
    if state.state == "missing":
        message = f"{state.name} does not exist: searches of {index.table} read every row"
        hint = "Build it with: dbctl search index build"
        yield Finding(
            target=target, severity="warning", code="text-index-missing", message=message, hint=hint
        )
    elif state.state == "broken":
        message = _describe_problem(state)
        hint = RENAME_HINT if state.is_foreign else REPLACE_HINT
        yield Finding(target=target, severity="error", code="text-index-broken", message=message, hint=hint)
    else:
        for fault in db.find_text_index_faults(index):
            message = f"{state.name}: {_describe_fault(fault, index)}"
            code = f"text-index-{fault.kind}"
            yield Finding(target=target, severity="error", code=code, message=message, hint=REBUILD_HINT)


def _describe_problem(state: IndexState) -> str:
    use = "finds rows, but is broken" if state.usable else "is not usable"
    return f"{state.name} {use}: {state.reason}"


def _describe_fault(fault: IndexFault, index: TextIndexSpec) -> str:
    return f"{format_count(fault.count, 'row')} {FAULTS[fault.kind].format(table=index.table)} (the first: {fault.example})"


def create_change(
    app: App, name: str, action: IndexAction, *, cache: bool = False
) -> IndexChange | ExternalIndexChange:
    """Return the operation that builds, replaces or drops the index of a search.

    Args:
        app: the app.
        name: the search; may be empty if only one search has an index.
        action: what to do.
        cache: whether an external index is created in the cache directory of the user.

    Raises:
        UsageError: several searches match.
        NotSupportedError: no search has an index, or its database supports none.
    """
    searches = _select_searches(app, name)
    if len(searches) > 1:
        raise UsageError(
            detail=f"several searches: name one of {' or '.join(search.name for search in searches)}"
        )
    if has_external_index(searches[0], app.profile):
        return ExternalIndexChange(app, searches[0], action, cache=cache)
    if cache:
        raise UsageError(detail=f"--cache: the index of {searches[0].name} is stored in its database")
    return IndexChange(app, searches[0], action)


class IndexChange:
    """Build, replace or drop a full-text index, in one transaction."""

    def __init__(self, app: App, search: Search, action: IndexAction) -> None:
        self._app, self._search, self._action = app, search, action
        self.app, self.protected = app.name, app.protected
        self.target = app.target(self._search.database)

    def plan(self) -> Plan:
        """Return the plan; writes nothing, and needs no write privileges."""
        index, db = _open_index(self._app, self._search)
        state, faults = self._inspect(index, db)
        if self._may_be_damaged(state, faults, db):
            with suppress(DbctlError), self._app.writer(self._search.database, PLAN_OPERATION) as writer:
                state = _detect_damage(state, writer)
            _, db = _open_index(self._app, self._search)  # the writer has closed the reader
        verb = {"build": "Build", "repair": "Rebuild", "drop": "Drop"}[self._action]
        steps: Sequence[str] = []
        if self._is_due(state, faults):
            steps = [*_list_reasons(state, faults, index), *self._list_steps(index, db, state)]
        return Plan(title=f"{verb} {state.name}", target=self.target, steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> IndexChangeResult:
        """Apply the plan, and verify the new index before the commit.

        Raises:
            AlreadyExistsError: ``build`` found a broken index.
            PlanChangedError: the plan differs from the confirmed one.
            TextIndexForeignError: the table with the name of the index is not a full-text index.
            TextIndexInvalidError: the new index is not valid; nothing was changed.
        """
        if confirmed is not None and self.plan().digest != confirmed:
            raise PlanChangedError(target=self.target)
        with self._app.writer(self._search.database, f"search index {self._action}") as writer:
            db = _require_index_writer(writer)
            index = _require_definition(self._search, writer)
            state, faults = self._inspect(index, db)
            if self._may_be_damaged(state, faults, db):
                state = _detect_damage(state, db)
            unchanged = IndexChangeResult(search=self._search.name, index=state.name, changed=False, steps=[])
            if not self._is_due(state, faults):
                return unchanged
            with db.schema_transaction():
                steps = self._replace(db, index)
            return IndexChangeResult(search=self._search.name, index=state.name, changed=True, steps=steps)

    def _inspect(self, index: TextIndexSpec, db: FullText) -> tuple[IndexState, Sequence[IndexFault]]:
        state = db.text_index_state(index)
        if state.is_foreign:
            raise TextIndexForeignError(target=self.target, name=state.name)
        if self._action == "build" and state.state == "broken":
            raise AlreadyExistsError(
                target=self.target,
                kind="an index",
                name=state.name,
                hint=f"{_describe_problem(state)}. dbctl search index repair replaces it.",
            )
        is_comparison_needed = self._action == "repair" and state.state == "valid"
        return state, db.find_text_index_faults(index) if is_comparison_needed else ()

    def _may_be_damaged(self, state: IndexState, faults: Sequence[IndexFault], db: Readable) -> bool:
        """Whether the definition and the rows are valid, so that the stored index must be checked for damage."""
        return (
            self._action == "repair"
            and not self._is_due(state, faults)
            and state.name in _list_damageable(db)
        )

    def _is_due(self, current: IndexState, faults: Sequence[IndexFault]) -> bool:
        if self._action == "drop":
            return current.state != "missing"
        return current.state != "valid" or bool(faults)

    def _list_steps(self, index: TextIndexSpec, db: RankedReader, current: IndexState) -> list[str]:
        """Return the steps as text; a reader cannot list the statements."""
        drops = [f"drop {current.name} and its triggers"] if current.state != "missing" else []
        if self._action == "drop":
            return drops
        row_count = db.count(index.table)
        return [
            *drops,
            f"build {current.name} of {format_count(row_count, 'row')} of {index.table}",
            "verify it with changes that are rolled back",
        ]

    def _replace(self, db: IndexWriter, index: TextIndexSpec) -> list[str]:
        work: Mapping[str, str] = db.text_index_drop_statements(index)
        _run_statements(db, work)
        return list(work) if self._action == "drop" else [*work, *_build(db, index)]


def _detect_damage(state: IndexState, db: Writable) -> IndexState:
    """Check the stored data of an index with a valid definition; return its state."""
    reason = db.check_text_index(state.name) if isinstance(db, Checks) else ""
    return structs.replace(state, state="broken", reason=reason) if reason else state


def build_index(search: Search, writer: Writable) -> None:
    """Build the index of a search if it is missing; the caller opens the database."""
    index = define_index(search, writer)
    if index is None:
        return
    db = _require_index_writer(writer)
    if db.text_index_state(index).state == "missing":
        with db.schema_transaction():
            _build(db, index)


def rebuild_index(search: Search, writer: Writable) -> None:
    """Replace the index of a search with a new one; the caller opens the database."""
    index = define_index(search, writer)
    if index is None:
        return
    db = _require_index_writer(writer)
    if not db.text_index_state(index).is_foreign:
        with db.schema_transaction():
            _run_statements(db, db.text_index_drop_statements(index))
            _build(db, index)


def _build(db: IndexWriter, index: TextIndexSpec) -> list[str]:
    """Build an index and verify it; return the steps as text."""
    work = db.text_index_create_statements(index)
    _run_statements(db, work)
    db.mark_text_index(index)
    db.probe_text_index(index)
    state, faults = db.text_index_state(index), db.find_text_index_faults(index)
    if state.state != "valid" or faults:
        reason = state.reason or ", ".join(_describe_fault(fault, index) for fault in faults) or state.state
        raise TextIndexInvalidError(target=db.target, name=state.name, reason=reason)
    return list(work)


def _run_statements(db: IndexWriter, work: Mapping[str, str]) -> None:
    for sql in work.values():
        db.run_statement(sql)


def _list_reasons(state: IndexState, faults: Sequence[IndexFault], index: TextIndexSpec) -> list[str]:
    reasons = [_describe_problem(state)] if state.state == "broken" else []
    return reasons + [f"{state.name}: {_describe_fault(fault, index)}" for fault in faults]


def _select_searches(app: App, name: str) -> list[Search]:
    searches = app.require_section(app.profile.search, "search")
    indexed = [
        search
        for search in searches
        if (search.text or has_external_index(search, app.profile)) and app.only in ("", search.database)
    ]
    selected = [search for search in indexed if name in ("", search.name)]
    if selected:
        return selected
    raise NotSupportedError(
        feature=f"a search index for {name or 'a search'}",
        subject=app.name,
        hint=f"Searches with one: {', '.join(search.name for search in indexed) or 'none'}.",
    )


def _open_index(app: App, search: Search) -> tuple[TextIndexSpec, RankedReader]:
    db = app.reader(search.database)
    index, reader = define_index(search, db), as_ranked_reader(db)
    if index is None or reader is None:
        raise NotSupportedError(
            feature=f"a full-text index for {search.name}",
            subject=db.target,
            hint="Its engine has none, or the columns for it are missing.",
        )
    return index, reader


def _require_definition(search: Search, db: Writable) -> TextIndexSpec:
    index = define_index(search, db)
    if index is None:  # its columns existed when the plan was created
        raise PlanChangedError(target=db.target)
    return index


def _require_index_writer(db: Writable) -> IndexWriter:
    """Return the writer if its engine builds full-text indexes.

    Raises:
        NotSupportedError: the engine has none.
    """
    is_capable = Capability.FULL_TEXT in db.capabilities and Capability.MIGRATE in db.capabilities
    if (
        is_capable
        and isinstance(db, FullText)
        and isinstance(db, TextIndexes)
        and isinstance(db, ScriptRunner)
    ):
        return db
    raise NotSupportedError(feature="a full-text index", subject=db.target, hint="Its engine has none.")
