"""The outcome of a command on one instance of a fleet, and the summary of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from dbctl.errors.base import DbctlError, Exit, worst_status
from dbctl.model import Struct
from dbctl.services.events.runs import HookRun

#: ``skipped``: the instance was not processed, or has nothing to which the command applies.
State: TypeAlias = Literal["done", "failed", "skipped"]


class InstanceError(Struct, frozen=True, kw_only=True):
    """The error of one instance."""

    code: str
    message: str
    hint: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What a command did on one instance."""

    app: str  #: ``APP/INSTANCE``
    state: State
    exit_code: int
    duration: float = 0.0  #: seconds
    data: Any = None  #: the result of the command on this instance
    warnings: Sequence[str] = ()
    error: InstanceError | None = None
    hooks: Sequence[HookRun] = ()  #: that ran for the instance
    audit: str = ""  #: the end of the audit log after the last change, ``SEQUENCE:HASH``; empty: no change

    @staticmethod
    def from_error(app: str, error: DbctlError, *, state: State = "failed") -> Outcome:
        """Return the outcome of an instance that was not processed, or whose command failed."""
        details = InstanceError(code=error.code, message=str(error), hint=error.hint)
        return Outcome(app=app, state=state, exit_code=int(error.exit_status), error=details)


class FleetResult(Struct, frozen=True, kw_only=True):
    """The result of a command on a fleet; each item contains the outcome of one instance."""

    command: str
    done: int
    failed: int
    skipped: int
    items: Sequence[Outcome] = ()


class Tally:
    """Counts of outcomes, from which the exit code follows; of constant size."""

    def __init__(self) -> None:
        self._states = Counter[State]()
        self._failed_codes, self._done_codes, self._skipped_codes = set[int](), set[int](), set[int]()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self._states[outcome.state] += 1
        codes = {"done": self._done_codes, "failed": self._failed_codes, "skipped": self._skipped_codes}
        codes[outcome.state].add(outcome.exit_code)

    @property
    def failed(self) -> int:
        """The number of failed instances."""
        return self._states["failed"]

    def summarize(self, command: str) -> FleetResult:
        """Return the counts."""
        states = self._states
        return FleetResult(
            command=command, done=states["done"], failed=states["failed"], skipped=states["skipped"]
        )

    @property
    def status(self) -> Exit:
        """The exit code: ``PARTIAL`` if some failed and some are done, also in an earlier run; otherwise the worst of all.

        Instances that lack the user of a command are skipped; if all do, it is the code of that error.
        """
        if self._failed_codes and (self._done_codes or Exit.OK in self._skipped_codes):
            return Exit.PARTIAL
        for codes in (self._failed_codes, self._done_codes, self._skipped_codes):
            if codes:
                return worst_status([Exit(code) for code in codes])
        return Exit.OK
