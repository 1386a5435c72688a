"""Run a command on the instances of a fleet: canaries first, which are verified, then the others in parallel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from dbctl.config.model import App
from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.connection import CorruptError, NotADatabaseError
from dbctl.errors.fleets import CanaryFailedError, InstanceSkippedError
from dbctl.model import Page, Struct
from dbctl.services.fleet.instances import Instance
from dbctl.services.fleet.outcome import Outcome, Tally
from dbctl.services.fleet.workers import WorkerPool
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.status import find_targets

#: ``verify``: examine an instance after the command.
Kind: TypeAlias = Literal["run", "verify"]


class Task(NamedTuple):
    """A task of a worker."""

    kind: Kind
    position: int  #: of the instance in the list that worker and main process share


class RunLimits(Struct, frozen=True, kw_only=True):
    """How a command runs on a fleet."""

    jobs: int
    canaries: int = 0  #: instances that are changed and verified before the others
    max_failures: int = 0  #: failures after which no further instance is started; 0: no limit


class FleetRun:
    """One command on instances; each is processed at most once."""

    def __init__(
        self,
        instances: Sequence[Instance],
        limits: RunLimits,
        receive: Callable[[Outcome], None],
        *,
        completed: Collection[str] = (),
    ) -> None:
        """Prepare the run.

        Args:
            instances: those with a problem fail without a task.
            limits: how it runs.
            receive: called for each instance in the order of completion.
            completed: apps that an earlier run completed.
        """
        self._instances, self._limits, self._receive_outcome = instances, limits, receive
        self._completed = completed
        self.tally = Tally()  #: of the instances so far
        self._stop_reason = ""

    def run(self, perform: Callable[[Kind, Instance], Outcome]) -> Tally:
        """Process all instances, and return the counts.

        Args:
            perform: processes one instance in a worker; raises nothing but ``Interrupted``.

        Raises:
            Interrupted: a signal ended the run; running tasks were rolled back.
        """

        def perform_task(task: Task) -> Outcome:
            return perform(task.kind, self._instances[task.position])

        remaining = self._order()
        with WorkerPool[Task](
            perform_task, jobs=self._limits.jobs, name=lambda task: self._instances[task.position].app
        ) as pool:
            if self._limits.canaries:
                self._run_canaries(pool, remaining)
            pool.run((Task("run", index) for index in self._take(remaining)), self._receive)
        for index in remaining:
            error = InstanceSkippedError(app=self._instances[index].app, reason=self._stop_reason)
            self._receive(Outcome.from_error(self._instances[index].app, error, state="skipped"))
        return self.tally

    def _run_canaries(self, pool: WorkerPool[Task], remaining: Iterator[int]) -> None:
        """Process and verify instances one after the other, until the command changed enough of them."""
        changed = 0
        for index in self._take(remaining):
            outcomes = list[Outcome]()
            pool.run(iter([Task("run", index)]), outcomes.append, jobs=1)
            if outcomes[0].state == "done" and _has_changed(outcomes[0]):
                changed += 1
                pool.run(iter([Task("verify", index)]), outcomes.append, jobs=1)
            # The verification replaces the outcome only if it failed.
            outcome = outcomes[-1] if outcomes[-1].state == "failed" else outcomes[0]
            self._receive(outcome)
            if outcome.state == "failed" and not _is_unusable(outcome):
                self._stop_reason = f"the canary {outcome.app} failed"
            if changed >= self._limits.canaries:
                return

    def _order(self) -> Iterator[int]:
        """Yield the instances to process, canaries of the configuration first; report the others."""
        indexes = list[int]()
        for index, instance in enumerate(self._instances):
            if instance.problem:
                self._receive(Outcome.from_error(instance.app, instance.problem))
            elif instance.app in self._completed:
                self._receive(Outcome(app=instance.app, state="skipped", exit_code=0))
            else:
                indexes.append(index)
        if self._limits.canaries:
            indexes.sort(key=self._is_no_canary)
        return iter(indexes)

    def _is_no_canary(self, index: int) -> bool:
        instance = self._instances[index]
        return instance.name not in instance.fleet.instances.canaries

    def _take(self, remaining: Iterator[int]) -> Iterator[int]:
        """Yield instances until the run must stop."""
        while not self._stop_reason:
            index = next(remaining, None)
            if index is None:
                return
            yield index

    def _receive(self, outcome: Outcome) -> None:
        self.tally.add(outcome)
        limit = self._limits.max_failures
        if outcome.state == "failed" and limit and self.tally.failed >= limit and not self._stop_reason:
            self._stop_reason = f"{limit} instances failed (--max-failures)"
        self._receive_outcome(outcome)


def _has_changed(outcome: Outcome) -> bool:
    """Whether the command applied something: its result is not an empty list."""
    return not isinstance(outcome.data, Page) or outcome.data.total > 0


def _is_unusable(outcome: Outcome) -> bool:
    """Whether the instance failed before the command ran: another one is the canary."""
    code = outcome.error.code if outcome.error else ""
    return outcome.exit_code in (Exit.UNREACHABLE, Exit.BUSY) or code in (
        NotADatabaseError.code,
        CorruptError.code,
    )


def verify_instance(configured: App, *, migrations: Path | None, timeout: float) -> None:
    """Verify the databases of an instance after its migrations; ``migrations`` is a folder instead of the configured one.

    Raises:
        CanaryFailedError: a check found an error.
        DbctlError: a database cannot be opened.
    """
    from dbctl.services.app.open import open_app
    from dbctl.services.checks.run import check

    with open_app(Selection(configured=configured), timeout=timeout) as app:
        for target in find_targets(app, "", migrations):
            if read_state(target, app.reader(target.database)).schema == "inconsistent":
                reason = f"the ledger of {target.name} does not agree with the migrations"
                raise CanaryFailedError(app=app.name, reason=reason)
        for finding in check(app, quick=True).findings.findings:
            if finding.severity == "error":
                raise CanaryFailedError(app=app.name, reason=f"{finding.code}: {finding.message}")
