"""Processes that perform tasks in parallel. They are forked, so that modules are imported once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, NoReturn, TypeVar

from dbctl import progress, signals
from dbctl.errors.fleets import WorkerEndedError
from dbctl.services.fleet.outcome import Outcome

T = TypeVar("T")
#: Seconds between two checks for a signal.
POLL_SECONDS = 0.05


class WorkerPool(Generic[T]):
    """Processes that call ``perform`` for tasks; a process that dies fails its task, and is replaced.

    Tasks and outcomes are pickled. A process ends with its pipe, so also if the main process is killed; it completes its task before.
    """

    def __init__(self, perform: Callable[[T], Outcome], *, jobs: int, name: Callable[[T], str]) -> None:
        """Start no process yet.

        Args:
            perform: runs in a worker; raises nothing but ``Interrupted``.
            jobs: the number of processes.
            name: returns the app of a task, for the outcome of a process that died.
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
