"""What the indexes of searches have in common: their status, and the operation that builds, replaces or drops one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Finding, Plan, Row, Severity, Struct
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation

IndexAction: TypeAlias = Literal["build", "repair", "drop"]

#: Differences between an index and its table.
FAULTS = {
    "missing": "of {table} are missing in it",
    "stale": "of {table} have other {content} in it",
    "duplicate": "of {table} are in it more than once",
    "stray": "of it have no row in {table}",
}
#: The verb of each action in its plan, and in its result.
_VERBS = {"build": ("Build", "built"), "repair": ("Rebuild", "rebuilt"), "drop": ("Drop", "dropped")}


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


class IndexChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of building, replacing or dropping an index."""

    is_timed = True

    search: str
    index: str
    action: IndexAction
    changed: bool
    steps: Sequence[str]

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        return Effect(_VERBS[self.action][1], "index", [self.index], place=f"of {self.search}")


class SearchIndex(ABC):
    """The index of one search of an app; each method opens the database."""

    def __init__(self, app: App, name: str, database: str) -> None:
        self.app, self.name, self.database = app, name, database
        self.target, self.protected = app.target(database), app.protected

    @abstractmethod
    def read_status(self) -> IndexStatus:
        """Return the status; compares no rows."""

    @abstractmethod
    def check(self, *, full: bool) -> Iterator[Finding]:
        """Yield the problems of the index; ``full`` compares all entries of an external index instead of a sample."""

    @abstractmethod
    def plan(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        """Return the subject of the plan and its steps, without steps if nothing is to do; writes nothing."""

    @abstractmethod
    def change(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        """Apply the action; return the name of the index and the executed steps."""

    def check_state(self) -> Iterator[Finding]:
        """Yield a warning if the index exists but is not used; compares no rows. A full-text index has a check of its own."""
        yield from ()

    def use_cache(self) -> None:
        """Store a new index in the cache directory of the user.

        Raises:
            UsageError: it is stored elsewhere.
        """
        raise UsageError(detail=f"--cache: the index of {self.name} is stored in its database")

    def finding(self, severity: Severity, code: str, message: str, hint: Remedy | str = "") -> Finding:
        """Return a finding about the database of the index."""
        text = hint if isinstance(hint, str) else hint.write(self.app.name, {"search": self.name})
        return Finding(self.target, severity, code, message, text)


class IndexChange(Operation):
    """Build, replace or drop an index."""

    def __init__(self, index: SearchIndex, action: IndexAction) -> None:
        super().__init__(index.app, index.target)
        self._index, self._action, self.protected = index, action, index.protected

    def plan(self) -> Plan:
        """Return the plan; writes nothing, and needs no write privileges."""
        subject, steps = self._index.plan(self._action)
        return self._create_plan(f"{_VERBS[self._action][0]} {subject}", steps)

    def apply(self, confirmed: str | None = None) -> IndexChangeResult:
        """Apply the plan.

        Raises:
            AlreadyExistsError: ``build`` found an index that is not valid.
            PlanChangedError: the plan differs from the confirmed one.
            TextIndexForeignError: the table with the name of the index is not a full-text index.
            TextIndexInvalidError: the new index is not valid; nothing was changed.
            VectorIndexUnsuitableError: the vectors are too few, or invalid.
        """
        self._require_confirmed(confirmed)
        index, steps = self._index.change(self._action)
        return IndexChangeResult(
            search=self._index.name, index=index, action=self._action, changed=bool(steps), steps=steps
        )
