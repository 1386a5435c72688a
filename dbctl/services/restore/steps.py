"""Run a change as a list of named steps: a failure undoes them in reverse order, and a signal waits at one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Generic, TypeVar

from dbctl import signals
from dbctl.errors import DbctlError
from dbctl.services.app import App
from dbctl.services.backup import (
    EncryptionPolicy,
    Manifest,
    MemberSource,
    OmittedDatabase,
    Repository,
    create_backup,
)

T = TypeVar("T")


class Step(ABC):
    """One step of a change."""

    @abstractmethod
    def run(self) -> None:
        """Perform the step."""

    def undo(self, error: BaseException) -> None:  # noqa: B027 - not every step leaves something to undo
        """Undo what ``run`` has done, which may be a part or nothing; the default is to do nothing.

        ``error`` is the error of this or a later step.
        """


def run_steps(prepare: Sequence[Step], change: Sequence[Step], finish: Sequence[Step]) -> None:
    """Run all steps, or undo those that have started, in reverse order.

    The end of ``change`` is the commit point: what follows must not look interrupted.

    Args:
        prepare: a signal interrupts them at any time.
        change: signals are deferred, because an exception at any time could hide that an engine has committed. A step
            may call ``signals.raise_if_interrupted`` before its own commit.
        finish: signals are ignored. They are not undone, and run even if an earlier one fails.

    Raises:
        The error of the step; if an undo failed, the error of the last one that did.
    """
    started = list[Step]()
    with ExitStack() as mask:
        try:
            signals.raise_if_interrupted()
            for step in prepare:
                started.append(step)
                step.run()
            mask.enter_context(signals.defer_signals())
            for step in change:
                started.append(step)
                step.run()
        except BaseException as error:  # also on a signal
            with signals.block_signals():
                _undo_steps(started, error)
            raise
        mask.enter_context(signals.block_signals())
        with ExitStack() as remaining:
            for step in reversed(finish):
                remaining.callback(step.run)
        signals.commit_point()


def _undo_steps(steps: Sequence[Step], error: BaseException) -> None:
    """Undo steps in reverse order, all of them even if one fails; raise the error of the last failed undo."""
    undo_error: BaseException | None = None
    for step in reversed(steps):
        try:
            step.undo(error)
        except BaseException as failure:  # noqa: BLE001 - raised after the other steps
            undo_error = failure
    if undo_error is not None:
        raise undo_error


class CallFunction(Step, Generic[T]):
    """Call a function that changes nothing if it fails."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function, self._results = function, list[T]()

    @property
    def result(self) -> T:
        """The result of the function."""
        (result,) = self._results
        return result

    def run(self) -> None:
        self._results.append(self._function())


class ReleaseLocks(Step):
    """Close stacks of locks, the first one first."""

    def __init__(self, *stacks: ExitStack) -> None:
        self._stacks = stacks

    def run(self) -> None:
        for stack in self._stacks:
            stack.close()


class CreateSafetyBackup(Step):
    """Back up what the next steps replace; the undo deletes the backup, unless it may still be needed."""

    def __init__(
        self,
        app: App,
        repository: Repository,
        sources: Sequence[MemberSource],
        encryption: EncryptionPolicy,
        *,
        restored: str,
        is_needed: Callable[[BaseException], bool],
        left_out: Sequence[OmittedDatabase] = (),
    ) -> None:
        """Set the options.

        Args:
            app: the app.
            repository: the destination; the caller holds its lock.
            sources: the databases.
            encryption: of the members.
            restored: the id of the backup that is restored.
            is_needed: whether the previous state may exist only in the backup after an error of a later step.
            left_out: databases that are not in the backup.
        """
        self._app, self._repository, self._encryption = app, repository, encryption
        self._sources, self._left_out = sources, left_out
        self._restored, self._is_needed = restored, is_needed
        self._manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the created backup."""
        if self._manifest is None:
            raise RuntimeError("run was not called")
        return self._manifest

    def run(self) -> None:
        with (
            ExitStack() as stack
        ):  # blocks signals while the backup is complete and ``undo`` could not find it
            self._manifest = create_backup(
                self._app,
                self._repository,
                self._sources,
                self._encryption,
                left_out=self._left_out,
                kind="safety",
                restored=self._restored,
                stack=stack,
            )
            self._app.close()  # closing a reader later would drop the locks that this process holds on its file

    def undo(self, error: BaseException) -> None:
        # A damaged database is replaced file by file, so some of its files may exist only in the backup.
        if (
            self._manifest is not None
            and not self._is_needed(error)
            and all(member.form != "raw" for member in self._manifest.members)
        ):
            with suppress(DbctlError):  # an unneeded backup that remains is not an error
                self._repository.store.remove_folder(self._manifest.id)
