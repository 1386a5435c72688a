"""Full-text indexes of searches: status, check, build, repair and drop; also dispatches to external indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import structs

from dbctl.engines.contract import (
    Checks,
    FullText,
    IndexFault,
    IndexState,
    Readable,
    ScriptRunner,
    TextIndexes,
    TextIndexSpec,
    Writable,
    require_part,
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
from dbctl.services.search.fulltext import define_index

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


P = TypeVar("P")


class _IndexBuilder:
    """Builds full-text indexes in a writable database."""

    def __init__(self, db: Writable) -> None:
        """Find the parts of the database.

        Raises:
            NotSupportedError: its engine builds no full-text indexes.
        """
        self.db = db
        self.fulltext = _require_part(db, FullText)
        self._indexes, self._scripts = _require_part(db, TextIndexes), _require_part(db, ScriptRunner)

    def transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that may change the schema."""
        return self._scripts.schema_transaction()

    def drop(self, index: TextIndexSpec) -> list[str]:
        """Drop the index, if any; return the steps as text."""
        return self._run(self._indexes.text_index_drop_statements(index))

    def build(self, index: TextIndexSpec) -> list[str]:
        """Build the index and verify it; return the steps as text.

        Raises:
            TextIndexInvalidError: the new index is not valid.
        """
        steps = self._run(self._indexes.text_index_create_statements(index))
        self._indexes.mark_text_index(index)
        self._indexes.probe_text_index(index)
        state, faults = self.fulltext.text_index_state(index), self.fulltext.find_text_index_faults(index)
        if state.state != "valid" or faults:
            reason = (
                state.reason or ", ".join(_describe_fault(fault, index) for fault in faults) or state.state
            )
            raise TextIndexInvalidError(target=self.db.target, name=state.name, reason=reason)
        return steps

    def _run(self, statements: Mapping[str, str]) -> list[str]:
        for sql in statements.values():
            self._scripts.run_statement(sql)
        return list(statements)


def _require_part(db: Writable, kind: type[P]) -> P:
    return require_part(db, kind, "a full-text index", "Its engine has none.")


def read_statuses(app: App, name: str = "") -> Page[IndexStatus]:
    """Return the status of the index of one search, or of all."""
    items = []
    for search in _select_searches(app, name):
        if has_external_index(search, app.profile):
            items.append(_read_external_status(app, search))
            continue
        index, _, fulltext = _open_index(app, search)
        state = fulltext.text_index_state(index)
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
        index, db, fulltext = _open_index(app, search)
        index_findings = list(_check_index(app.target(search.database), index, fulltext))
        if not index_findings and (name := fulltext.text_index_state(index).name) in _list_damageable(db):
            index_findings = list(
                check_text_indexes(app, search.database, [name], "search index check", REBUILD_HINT)
            )
        findings += index_findings
    return Findings(checked=len(searches), findings=findings)


def _list_damageable(db: Readable) -> Sequence[str]:
    """Return the indexes that are stored as separate tables and can be damaged."""
    checks = db.part(Checks)
    return checks.list_text_indexes() if checks else ()


def find_broken(app: App, database: str) -> Iterator[tuple[Search, IndexState, str]]:
    """Yield searches with a broken index, its state and the reason; compares only definitions."""
    db = app.reader(database)
    fulltext = db.part(FullText)
    for search in app.profile.search:
        index = define_index(search, db) if search.database == database else None
        if index and fulltext and (state := fulltext.text_index_state(index)).state == "broken":
            yield search, state, _describe_problem(state)


def _check_index(target: str, index: TextIndexSpec, fulltext: FullText) -> Iterator[Finding]:
    state = fulltext.text_index_state(index)
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
        for fault in fulltext.find_text_index_faults(index):
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
        index, db, fulltext = _open_index(self._app, self._search)
        state, faults = self._inspect(index, fulltext)
        if self._may_be_damaged(state, faults, db):
            with suppress(DbctlError), self._app.writer(self._search.database, PLAN_OPERATION) as writer:
                state = _detect_damage(state, writer)
            _, db, _ = _open_index(self._app, self._search)  # the writer has closed the reader
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
            builder = _IndexBuilder(writer)
            index = _require_definition(self._search, writer)
            state, faults = self._inspect(index, builder.fulltext)
            if self._may_be_damaged(state, faults, writer):
                state = _detect_damage(state, writer)
            unchanged = IndexChangeResult(search=self._search.name, index=state.name, changed=False, steps=[])
            if not self._is_due(state, faults):
                return unchanged
            with builder.transaction():
                steps = builder.drop(index)
                if self._action != "drop":
                    steps += builder.build(index)
            return IndexChangeResult(search=self._search.name, index=state.name, changed=True, steps=steps)

    def _inspect(self, index: TextIndexSpec, fulltext: FullText) -> tuple[IndexState, Sequence[IndexFault]]:
        state = fulltext.text_index_state(index)
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
        return state, fulltext.find_text_index_faults(index) if is_comparison_needed else ()

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

    def _list_steps(self, index: TextIndexSpec, db: Readable, current: IndexState) -> list[str]:
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


def _detect_damage(state: IndexState, db: Writable) -> IndexState:
    """Check the stored data of an index with a valid definition; return its state."""
    checks = db.part(Checks)
    reason = checks.check_text_index(state.name) if checks else ""
    return structs.replace(state, state="broken", reason=reason) if reason else state


def build_index(search: Search, writer: Writable) -> None:
    """Build the index of a search if it is missing; the caller opens the database."""
    index = define_index(search, writer)
    if index is None:
        return
    builder = _IndexBuilder(writer)
    if builder.fulltext.text_index_state(index).state == "missing":
        with builder.transaction():
            builder.build(index)


def rebuild_index(search: Search, writer: Writable) -> None:
    """Replace the index of a search with a new one; the caller opens the database."""
    index = define_index(search, writer)
    if index is None:
        return
    builder = _IndexBuilder(writer)
    if not builder.fulltext.text_index_state(index).is_foreign:
        with builder.transaction():
            builder.drop(index)
            builder.build(index)


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


def _open_index(app: App, search: Search) -> tuple[TextIndexSpec, Readable, FullText]:
    db = app.reader(search.database)
    index, fulltext = define_index(search, db), db.part(FullText)
    if index is None or fulltext is None:
        raise NotSupportedError(
            feature=f"a full-text index for {search.name}",
            subject=db.target,
            hint="Its engine has none, or the columns for it are missing.",
        )
    return index, db, fulltext


def _require_definition(search: Search, db: Writable) -> TextIndexSpec:
    index = define_index(search, db)
    if index is None:  # its columns existed when the plan was created
        raise PlanChangedError(target=db.target)
    return index
