"""The index behind a search: whether it is sound, making it, and replacing one that is not."""

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
    MakesFullText,
    Migrates,
    Readable,
    TextIndex,
    Writable,
)
from dbctl.errors import (
    AlreadyExistsError,
    DbctlError,
    NotSupportedError,
    PlanChangedError,
    TextIndexForeignError,
    TextIndexUnsoundError,
    UsageError,
)
from dbctl.model import Finding, Findings, Page, Plan, Row, Value, counted
from dbctl.profiles.model import Search
from dbctl.services.app import App
from dbctl.services.integrity import text_index_damage
from dbctl.services.search.external_index import Aside, AsideChange, IndexChanged, Purpose, is_aside
from dbctl.services.search.fulltext import Finder, finder, index_of

FAULTS = {
    "missing": "of {table} are not in it, so that nothing finds them",
    "stale": "of {table} have changed since, or got other words beside them",
    "duplicate": "of {table} are in it more than once",
    "stray": "of it belong to nothing in {table} any more",
}
#: Who holds the lock while a plan looks into an index, which takes the right to write.
PLANNING = "search index repair --dry-run"
REBUILD = "dbctl search index repair makes it anew."
#: What to do about an index that is of no use, and about a table that stands where one should.
REPLACE = "dbctl search index repair replaces it by a sound one."
RENAME = "Give that table another name; dbctl search index build then makes the index."


class Standing(Value, frozen=True, kw_only=True):
    """How the index of one search stands."""

    search: str
    table: str
    index: str
    state: Literal["sound", "missing", "broken", "stale"]
    reason: str | None = None  #: what is wrong with one that is broken, or has changed since one was made
    path: str | None = None  #: of one in a file of its own: where that is, or would be
    bytes: int | None = None
    made_at: datetime | None = None

    def brief(self) -> Row:
        told = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in told.items() if name != "path"}


class Making(Writable, FullText, MakesFullText, Migrates, Protocol):
    """A database whose indexes of words can be made."""


def standings(app: App, name: str = "") -> Page[Standing]:
    """Return how the index of each search stands, or of the one that is named."""
    items = []
    for search in _meant(app, name):
        if is_aside(search, app.profile):
            items.append(_aside(app, search))
            continue
        index, db = _index(app, search)
        found = db.text_index(index)
        items.append(
            Standing(
                search=search.name,
                table=index.table,
                index=found.name,
                state=found.state,
                reason=found.reason or None,
            )
        )
    return Page(items=items, total=len(items), names=Standing.__struct_fields__)


def _aside(app: App, search: Search) -> Standing:
    found = Aside(app, search).stands()
    return Standing(
        search=search.name,
        table=search.table,
        index=found.path.name,
        state="sound" if found.state == "fresh" else found.state,
        reason=found.reason or None,
        path=str(found.path),
        bytes=found.bytes,
        made_at=found.made_at,
    )


def check(app: App, name: str = "", *, whole: bool = False) -> Findings:
    """Compare each index with its definition, and every entry with its row.

    Of an index in a file of its own, the text of some rows, or with ``whole`` all that a new one would tell.
    """
    findings: list[Finding] = []
    searches = _meant(app, name)
    for search in searches:
        if is_aside(search, app.profile):
            findings += Aside(app, search).findings(whole=whole)
            continue
        index, db = _index(app, search)
        told = list(_found(app.target(search.database), index, db))
        if not told and (name := db.text_index(index).name) in _looked_into(db):
            told = list(text_index_damage(app, search.database, [name], "search index check", REBUILD))
        findings += told
    return Findings(checked=len(searches), findings=findings)


def _looked_into(db: Readable) -> Sequence[str]:
    """Return the indexes that can be damaged by themselves: those that are tables of their own."""
    return db.text_indexes() if Capability.CHECK in db.capabilities and isinstance(db, Checks) else ()


def broken(app: App, database: str) -> Iterator[tuple[Search, IndexState, str]]:
    """Yield the searches of a database whose index is of no use, and why, by its definition alone."""
    db = app.reader(database)
    able = finder(db)
    for search in app.profile.search:
        index = index_of(search, db) if search.database == database else None
        if index and able and (found := able.text_index(index)).state == "broken":
            yield search, found, _why(found)


def _found(target: str, index: TextIndex, db: Finder) -> Iterator[Finding]:
    found = db.text_index(index)
    if found.state == "missing":
        message = f"there is no {found.name}, so that searching {index.table} reads every row"
        hint = "dbctl search index build makes it."
        yield Finding(
            target=target, severity="warning", code="text-index-missing", message=message, hint=hint
        )
    elif found.state == "broken":
        message = _why(found)
        hint = RENAME if found.foreign else REPLACE
        yield Finding(target=target, severity="error", code="text-index-broken", message=message, hint=hint)
    else:
        for fault in db.text_index_faults(index):
            message = f"{found.name}: {_told(fault, index)}"
            code = f"text-index-{fault.kind}"
            yield Finding(target=target, severity="error", code=code, message=message, hint=REBUILD)


def _why(found: IndexState) -> str:
    use = "is good for finding alone" if found.usable else "is of no use"
    return f"{found.name} {use}: {found.reason}"


def _told(fault: IndexFault, index: TextIndex) -> str:
    return f"{counted(fault.number, 'row')} {FAULTS[fault.kind].format(table=index.table)} (the first: {fault.example})"


def change_of(app: App, name: str, purpose: Purpose, *, cache: bool = False) -> IndexChange | AsideChange:
    """Return what makes, replaces or drops the index of the search that is meant.

    Args:
        app: the app.
        name: the search; may be empty where there is but one.
        purpose: what is to be done.
        cache: whether a file of its own is made in the user's folder for caches.

    Raises:
        UsageError: several searches could be meant.
        NotSupportedError: none has an index, or its database takes none.
    """
    found = _meant(app, name)
    if len(found) > 1:
        raise UsageError(detail=f"say which search: {' or '.join(one.name for one in found)}")
    if is_aside(found[0], app.profile):
        return AsideChange(app, found[0], purpose, cache=cache)
    if cache:
        raise UsageError(detail=f"--cache: the index of {found[0].name} stands in its database")
    return IndexChange(app, found[0], purpose)


class IndexChange:
    """An index that is to be made, replaced or dropped; ready to be shown, or done in one transaction."""

    def __init__(self, app: App, search: Search, purpose: Purpose) -> None:
        self._opened, self._search, self._purpose = app, search, purpose
        self.app, self.protected = app.name, app.protected
        self.target = app.target(self._search.database)

    def plan(self) -> Plan:
        """Return what would be done; writes nothing, and needs no right to write."""
        index, db = _index(self._opened, self._search)
        found, faults = self._looked(index, db)
        if self._may_be_damaged(found, faults, db):
            with suppress(DbctlError), self._opened.writer(self._search.database, PLANNING) as writer:
                found = _damaged(found, writer)
            _, db = _index(self._opened, self._search)  # the writer has closed the reader
        verb = {"build": "Make", "repair": "Make anew", "drop": "Drop"}[self._purpose]
        steps: Sequence[str] = []
        if self._due(found, faults):
            steps = [*_reasons(found, faults, index), *self._steps(index, db, found)]
        return Plan(title=f"{verb} {found.name}", target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> IndexChanged:
        """Do it, and prove the new index before it stays.

        Raises:
            AlreadyExistsError: there is one that is of no use, and it was not asked to replace it.
            PlanChangedError: it is not as it was when a person agreed to the plan.
            TextIndexForeignError: what is there is no index of words.
            TextIndexUnsoundError: the new one does not hold what it should; nothing was changed.
        """
        if seen is not None and self.plan().digest != seen:
            raise PlanChangedError(target=self.target)
        with self._opened.writer(self._search.database, f"search index {self._purpose}") as opened:
            db = _making(opened)
            index = _wanted(self._search, opened)
            found, faults = self._looked(index, db)
            if self._may_be_damaged(found, faults, db):
                found = _damaged(found, db)
            done = IndexChanged(search=self._search.name, index=found.name, changed=False, steps=[])
            if not self._due(found, faults):
                return done
            with db.schema_transaction():
                steps = self._made(db, index)
            return IndexChanged(search=self._search.name, index=found.name, changed=True, steps=steps)

    def _looked(self, index: TextIndex, db: FullText) -> tuple[IndexState, Sequence[IndexFault]]:
        found = db.text_index(index)
        if found.foreign:
            raise TextIndexForeignError(target=self.target, name=found.name)
        if self._purpose == "build" and found.state == "broken":
            raise AlreadyExistsError(
                target=self.target,
                what="an index",
                name=found.name,
                instead=f"{_why(found)}. dbctl search index repair replaces it.",
            )
        looks = self._purpose == "repair" and found.state == "sound"
        return found, db.text_index_faults(index) if looks else ()

    def _may_be_damaged(self, found: IndexState, faults: Sequence[IndexFault], db: Readable) -> bool:
        """Whether its definition and its rows are sound, so that what it is kept in is looked into."""
        return self._purpose == "repair" and not self._due(found, faults) and found.name in _looked_into(db)

    def _due(self, found: IndexState, faults: Sequence[IndexFault]) -> bool:
        if self._purpose == "drop":
            return found.state != "missing"
        return found.state != "sound" or bool(faults)

    def _steps(self, index: TextIndex, db: Finder, found: IndexState) -> list[str]:
        """Return what would be done, in words; a reader does not know which statements that takes."""
        drops = [f"drop {found.name}, with what keeps it"] if found.state != "missing" else []
        if self._purpose == "drop":
            return drops
        number = db.count(index.table)
        return [
            *drops,
            f"make {found.name} of {counted(number, 'row')} of {index.table}",
            "prove it by changes that are taken back",
        ]

    def _made(self, db: Making, index: TextIndex) -> list[str]:
        work: Mapping[str, str] = db.text_index_drops(index)
        _run(db, work)
        return list(work) if self._purpose == "drop" else [*work, *_made_anew(db, index)]


def _damaged(found: IndexState, db: Writable) -> IndexState:
    """Return how an index stands that is sound by its definition, once what it is kept in was looked into."""
    reason = db.text_index_damage(found.name) if isinstance(db, Checks) else ""
    return structs.replace(found, state="broken", reason=reason) if reason else found


def make_index(search: Search, opened: Writable) -> None:
    """Make the index of a search where it is missing, in a database that somebody else opened."""
    index = index_of(search, opened)
    if index is None:
        return
    db = _making(opened)
    if db.text_index(index).state == "missing":
        with db.schema_transaction():
            _made_anew(db, index)


def remake_index(search: Search, opened: Writable) -> None:
    """Replace the index of a search by a sound one, in a database that somebody else opened."""
    index = index_of(search, opened)
    if index is None:
        return
    db = _making(opened)
    if not db.text_index(index).foreign:
        with db.schema_transaction():
            _run(db, db.text_index_drops(index))
            _made_anew(db, index)


def _made_anew(db: Making, index: TextIndex) -> list[str]:
    """Make an index, and prove it; return what was done, in words."""
    work = db.text_index_makes(index)
    _run(db, work)
    db.mark_text_index(index)
    db.probe_text_index(index)
    found, faults = db.text_index(index), db.text_index_faults(index)
    if found.state != "sound" or faults:
        reason = found.reason or ", ".join(_told(one, index) for one in faults) or found.state
        raise TextIndexUnsoundError(target=db.target, name=found.name, reason=reason)
    return list(work)


def _run(db: Making, work: Mapping[str, str]) -> None:
    for sql in work.values():
        db.run_statement(sql)


def _reasons(found: IndexState, faults: Sequence[IndexFault], index: TextIndex) -> list[str]:
    told = [_why(found)] if found.state == "broken" else []
    return told + [f"{found.name}: {_told(one, index)}" for one in faults]


def _meant(app: App, name: str) -> list[Search]:
    searches = app.ability(app.profile.search, "search")
    having = [
        one for one in searches if (one.text or is_aside(one, app.profile)) and app.only in ("", one.database)
    ]
    found = [one for one in having if name in ("", one.name)]
    if found:
        return found
    raise NotSupportedError(
        what=f"a search index for {name or 'a search'}",
        by=app.name,
        instead=f"Searches with one: {', '.join(one.name for one in having) or 'none'}.",
    )


def _index(app: App, search: Search) -> tuple[TextIndex, Finder]:
    db = app.reader(search.database)
    index, able = index_of(search, db), finder(db)
    if index is None or able is None:
        raise NotSupportedError(
            what=f"an index of words for {search.name}",
            by=db.target,
            instead="Its engine has none, or the columns for it are missing.",
        )
    return index, able


def _wanted(search: Search, db: Writable) -> TextIndex:
    index = index_of(search, db)
    if index is None:  # it was there when the plan was made
        raise PlanChangedError(target=db.target)
    return index


def _making(db: Writable) -> Making:
    """Return a writer as one that makes indexes of words.

    Raises:
        NotSupportedError: its engine has none.
    """
    able = Capability.FULL_TEXT in db.capabilities and Capability.MIGRATE in db.capabilities
    if able and isinstance(db, FullText) and isinstance(db, MakesFullText) and isinstance(db, Migrates):
        return db
    raise NotSupportedError(what="an index of words", by=db.target, instead="Its engine has none.")
