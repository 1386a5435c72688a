"""The index of vectors behind a search by meaning: whether one answers, how much it finds, making and dropping it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import MakesVectors, Readable, VectorIndex, VectorIndexWanted
from dbctl.errors import AlreadyExistsError, NotSupportedError, PlanChangedError
from dbctl.model import Finding, Plan, Severity, counted
from dbctl.services.app import App
from dbctl.services.search.external_index import IndexChanged, Purpose
from dbctl.services.search.index import Standing
from dbctl.services.search.semantic.search import Meaning

#: What commands call it: no search can have that name.
NAME = "semantic"
#: Rows for whose neighbours both ways are asked, and neighbours of each.
ASKED, TOP = 100, 10
#: The share of true neighbours below which too much is missed, and that of new rows above which a question gets slow.
POOR, MANY = 0.9, 0.1
BUILD = f"dbctl search index build {NAME} makes it; without one every question looks at every vector, and misses none."
ANEW = f"dbctl search index repair {NAME} makes it anew."
SEES = "let everybody see it: apps whose library is older than such indexes may not open the table any more"


def standing(app: App) -> Standing:
    """Return how the index stands."""
    meaning = Meaning(app)
    found = _own(meaning)
    return Standing(
        search=NAME,
        table=meaning.told.table,
        index=found.name if found else meaning.vector,
        state="missing" if found is None else "broken" if _reason(meaning, found) else "sound",
        reason=None if found is None else _reason(meaning, found) or _behind(found) or None,
    )


def findings(app: App) -> Iterator[Finding]:
    """Compare what an index finds with what is nearest."""
    meaning = Meaning(app)
    found, target = _own(meaning), meaning.db.target

    def finding(severity: Severity, code: str, message: str, hint: str = "") -> Finding:
        return Finding(
            target=target, severity=severity, code=f"vector-index-{code}", message=message, hint=hint
        )

    if found is None:
        rows = counted(meaning.db.count(meaning.told.table), "vector")
        yield finding("info", "missing", f"there is no index of {meaning.place} ({rows})", BUILD)
        return
    if reason := _reason(meaning, found):
        yield finding("warning", "other", f"{found.name} answers nothing: {reason}", ANEW)
        return
    if found.beside > MANY * (found.rows + found.beside):
        yield finding("warning", "behind", f"{found.name}: {_behind(found)}", ANEW)
    recall = meaning.db.vector_recall(
        meaning.told.table, meaning.vector, asked=ASKED, top=TOP, metric=meaning.told.metric
    )
    told = (
        f"{found.name} ({found.kind}) finds {recall.found:.1%} of the {recall.top} nearest of {counted(recall.asked, 'row')},"
        f" in {recall.index_ms:g} ms each; looking at every vector takes {recall.exact_ms:g} ms"
    )
    poor = recall.found < POOR
    yield finding("warning" if poor else "info", "recall", told, ANEW if poor else "")


class VectorIndexChange:
    """An index of vectors that is to be made, made anew or dropped; it changes no row."""

    def __init__(self, app: App, purpose: Purpose) -> None:
        self._opened, self._purpose = app, purpose
        self._database = app.ability(app.profile.semantic, "search by meaning").database
        self.app, self.protected, self.target = app.name, app.protected, app.target(self._database)

    def plan(self) -> Plan:
        """Return what would be done; writes nothing, and needs no right to write."""
        meaning = Meaning(self._opened)
        found = self._looked(meaning)
        verb = {"build": "Make", "repair": "Make anew", "drop": "Drop"}[self._purpose]
        steps = self._steps(meaning, found) if self._due(meaning, found) else []
        title = f"{verb} the index of {meaning.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> IndexChanged:
        """Do it.

        Raises:
            AlreadyExistsError: there is one for another metric, and it was not asked to replace it.
            PlanChangedError: it is not as it was when a person agreed to the plan.
            VectorIndexUnfitError: the vectors are too few, or not sound.
        """
        if seen is not None and self.plan().digest != seen:
            raise PlanChangedError(target=self.target)
        with self._opened.writer(self._database, f"search index {self._purpose}") as opened:
            meaning = Meaning(self._opened)
            found = self._looked(meaning)
            name = found.name if found else meaning.vector
            if not self._due(meaning, found):
                return IndexChanged(search=NAME, index=name, changed=False, steps=[])
            steps = self._steps(meaning, found)
            name = self._done(_making(opened), meaning, found)
            return IndexChanged(search=NAME, index=name, changed=True, steps=steps)

    def _looked(self, meaning: Meaning) -> VectorIndex | None:
        found = _own(meaning)
        reason = _reason(meaning, found) if found else ""
        if found and reason and self._purpose == "build":
            raise AlreadyExistsError(
                target=self.target,
                what="an index",
                name=found.name,
                instead=f"It answers nothing: {reason}. {ANEW}",
            )
        return found

    def _due(self, meaning: Meaning, found: VectorIndex | None) -> bool:
        if found is None:
            return self._purpose != "drop"
        return self._purpose == "drop" or (
            self._purpose == "repair" and bool(found.beside or _reason(meaning, found))
        )

    def _steps(self, meaning: Meaning, found: VectorIndex | None) -> Sequence[str]:
        drops = [f"drop {found.name}"] if found else []
        if self._purpose == "drop":
            return drops
        number = counted(meaning.db.count(meaning.told.table), "vector")
        return [*drops, f"make an index of {number} of {meaning.place}, for {meaning.told.metric}", SEES]

    def _done(self, db: MakesVectors, meaning: Meaning, found: VectorIndex | None) -> str:
        if self._purpose == "drop" and found:
            db.drop_vector_index(meaning.told.table, found.name)
            return found.name
        wanted = VectorIndexWanted(
            table=meaning.told.table, column=meaning.vector, metric=meaning.told.metric
        )
        return db.make_vector_index(wanted).name


def _own(meaning: Meaning) -> VectorIndex | None:
    """Return the index of the column that is searched; rather one that answers."""
    found = [one for one in meaning.db.vector_indexes(meaning.told.table) if one.column == meaning.vector]
    return min(found, key=lambda one: one.metric != meaning.told.metric, default=None)


def _reason(meaning: Meaning, found: VectorIndex) -> str:
    """Return why an index is passed by; empty: it is not."""
    return (
        "" if found.metric == meaning.told.metric else f"it was made for {found.metric or 'another metric'}"
    )


def _behind(found: VectorIndex) -> str:
    return f"{counted(found.beside, 'row')} of {found.rows + found.beside} came since" if found.beside else ""


def _making(db: Readable) -> MakesVectors:
    if isinstance(db, MakesVectors):
        return db
    raise NotSupportedError(what="an index of vectors", by=db.target, instead="Its engine has none.")
