"""Run a command on the instances of a fleet: canaries first, which are verified, then the others in parallel, in forked processes."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

from dbctl import progress, signals
from dbctl.config.model import App
from dbctl.config.sections import Selection
from dbctl.errors.base import Exit, worst_status
from dbctl.errors.connection import CorruptError, NotADatabaseError
from dbctl.errors.operations import CanaryFailedError, InstanceSkippedError, WorkerEndedError
from dbctl.model import Page, Struct
from dbctl.services.fleet.instances import FleetResult, Instance, Outcome, State
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.status import find_targets

T = TypeVar("T")
#: Seconds between two checks for a signal.
POLL_SECONDS = 0.05


class WorkerPool(Generic[T]):
    """Processes that call ``perform`` for tasks; a process that dies fails its task, and is replaced.

    Tasks and outcomes are pickled. A process ends with its pipe, so also if the main process is killed; it completes its task before.
    """

    def __init__(self, perform: Callable[[T], Outcome], *, jobs: int, name: Callable[[T], str]) -> None:
        """Start no process yet; ``perform`` runs in a worker, and raises nothing but ``Interrupted``.

        ``name`` returns the app of a task, for the outcome of a process that died.
        """
        self._perform, self._jobs, self._name = perform, jobs, name
        self._workers: list[_Worker[T]] = []

    def __enter__(self) -> WorkerPool[T]:
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.wait()

    def run(self, tasks: Iterator[T], receive: Callable[[Outcome], None], *, jobs: int | None = None) -> None:
        """Perform the tasks, and call ``receive`` for each outcome, in the order in which they are completed.

        After a signal, running tasks are rolled back; those that had committed are still received.

        Raises:
            Interrupted: a signal ended the run.
        """
        from multiprocessing.connection import wait

        limit = min(jobs or self._jobs, self._jobs)
        try:
            # A signal between the end of a task and ``receive`` would lose an outcome.
            with signals.defer_signals():
                while True:
                    self._assign(tasks, limit)
                    busy = {worker.connection: worker for worker in self._workers if worker.has_task}
                    if not busy:
                        return
                    signals.raise_if_interrupted()
                    progress.poll()
                    for connection in wait(list(busy), POLL_SECONDS):
                        receive(self._collect(busy[connection]))  # type: ignore[index] # of the dict
        except BaseException:
            with signals.block_signals():
                self._stop(receive)
            raise

    def _assign(self, tasks: Iterator[T], limit: int) -> None:
        idle = [worker for worker in self._workers if not worker.has_task]
        while sum(worker.has_task for worker in self._workers) < limit:
            try:
                task = next(tasks)
            except StopIteration:
                return
            signals.raise_if_interrupted()
            if not idle:
                idle.append(_Worker(self._perform, self._workers))
                self._workers.append(idle[-1])
            idle.pop().start(task)

    def _collect(self, worker: _Worker[T]) -> Outcome:
        task = worker.task
        try:
            return worker.receive()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.connection.close()
            error = WorkerEndedError(app=self._name(task), reason=worker.wait())
            return Outcome.from_error(self._name(task), error)

    def _stop(self, receive: Callable[[Outcome], None]) -> None:
        """End the running tasks, and receive the outcomes of those that had committed."""
        busy = [worker for worker in self._workers if worker.has_task]
        for worker in busy:
            worker.terminate()
        for worker in busy:
            with suppress(EOFError, OSError):
                receive(worker.receive())


class _Worker(Generic[T]):
    """One process, and the connection to it."""

    def __init__(self, perform: Callable[[T], Outcome], others: Sequence[_Worker[T]]) -> None:
        from multiprocessing import Pipe

        self.connection, connection = Pipe()
        self._tasks: list[T] = []
        self._pid = os.fork()
        if not self._pid:
            # A copy of the other end in this process would keep a worker alive after the main process.
            for end in [self.connection, *(other.connection for other in others)]:
                end.close()
            _serve(connection, perform)
        connection.close()

    @property
    def has_task(self) -> bool:
        return bool(self._tasks)

    @property
    def task(self) -> T:
        return self._tasks[0]

    def start(self, task: T) -> None:
        self._tasks.append(task)
        with suppress(OSError):  # the process died: ``receive`` fails
            self.connection.send(task)

    def receive(self) -> Outcome:
        self._tasks.clear()
        outcome: Outcome = self.connection.recv()
        return outcome

    def terminate(self) -> None:
        with suppress(OSError):
            os.kill(self._pid, signal.SIGTERM)

    def wait(self) -> str:
        """Wait for the end of the process, and return its cause."""
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _serve(connection: object, perform: Callable[[T], Outcome]) -> NoReturn:
    """Perform tasks until the connection ends; the main process forwards signals, the terminal does not."""
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        signals.install_handlers()
        signals.reset_signals()
        while True:
            task = connection.recv()  # type: ignore[attr-defined]
            outcome = perform(task)
            with signals.block_signals():
                connection.send(outcome)  # type: ignore[attr-defined]
            signals.reset_signals()
    except (EOFError, BrokenPipeError, signals.Interrupted):
        status = 0
    finally:
        os._exit(status)


#: ``verify``: examine an instance after the command.
Kind: TypeAlias = Literal["run", "verify"]


class Task(NamedTuple):
    kind: Kind
    position: int  #: of the instance in the list that worker and main process share


class Tally:
    """Counts of outcomes, from which the exit code follows; of constant size."""

    def __init__(self) -> None:
        self._states = Counter[State]()
        self._failed_codes, self._done_codes, self._skipped_codes = set[int](), set[int](), set[int]()

    def add(self, outcome: Outcome) -> None:
        self._states[outcome.state] += 1
        codes = {"done": self._done_codes, "failed": self._failed_codes, "skipped": self._skipped_codes}
        codes[outcome.state].add(outcome.exit_code)

    @property
    def failed(self) -> int:
        """The number of failed instances."""
        return self._states["failed"]

    def summarize(self, command: str) -> FleetResult:
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
        """Prepare the run; instances with a problem fail without a task, and an earlier run completed the apps ``completed``.

        ``receive`` is called for each instance in the order of completion.
        """
        self._instances, self._limits, self._receive_outcome = instances, limits, receive
        self._completed = completed
        self.tally = Tally()  #: of the instances so far
        self._stop_reason = ""

    def run(self, perform: Callable[[Kind, Instance], Outcome]) -> Tally:
        """Process all instances, and return the counts; ``perform`` runs in a worker, and raises nothing but ``Interrupted``.

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
    from dbctl.services.app.session import open_app
    from dbctl.services.checks.run import check

    with open_app(Selection(configured=configured), timeout=timeout) as app:
        for target in find_targets(app, "", migrations):
            if read_state(target, app.reader(target.database)).schema == "inconsistent":
                reason = f"the ledger of {target.name} does not agree with the migrations"
                raise CanaryFailedError(app=app.name, reason=reason)
        for finding in check(app, quick=True).findings.findings:
            if finding.severity == "error":
                raise CanaryFailedError(app=app.name, reason=f"{finding.code}: {finding.message}")
