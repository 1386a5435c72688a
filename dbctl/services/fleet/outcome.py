"""The functions of the extension for fleets, the outcome of a command on one instance, and the summary of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions import registry
from dbctl.model import Struct
from dbctl.services.events.runs import HookRun


def load_function(purpose: Literal["fleet_runner", "fleet_status"], selected: FleetSelectedError) -> Any:
    """Return a function of the extension that works on all instances of a fleet.

    Raises:
        NotSupportedError: the extension is not installed.
    """
    app = selected.context["app"]
    return registry.require(purpose, f"the fleet {app}", f"Select an instance with --app {app}/NAME.")


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
