"""Run a change as a list of steps: a failure undoes them in reverse order, and a signal waits at one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from dbctl import signals
from dbctl.errors.base import DbctlError
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.manifest import Manifest, OmittedDatabase
from dbctl.services.backup.sources import MemberSource
from dbctl.services.restore.source import BackupSource


def _undo_nothing(_error: BaseException) -> None:
    """Leave the effects of a step."""


class Step(NamedTuple):
    """One step of a change.

    ``undo`` undoes what ``run`` has done, which may be a part or nothing. It receives the error of this or a later step.
    """

    run: Callable[[], object]
    undo: Callable[[BaseException], None] = _undo_nothing


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


class SafetyBackup:
    """The backup of what the next steps replace."""

    def __init__(
        self,
        source: BackupSource,
        sources: Sequence[MemberSource],
        *,
        is_needed: Callable[[BaseException], bool],
        left_out: Sequence[OmittedDatabase] = (),
    ) -> None:
        """Set the options.

        Args:
            source: the backup that is restored; the caller holds the lock of its repository.
            sources: the databases to back up.
            is_needed: whether the previous state may exist only in the backup after an error of a later step.
            left_out: databases that are not in the backup.
        """
        self._source, self._sources = source, sources
        self._is_needed, self._left_out = is_needed, left_out
        self._manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the created backup."""
        if self._manifest is None:
            raise RuntimeError("create was not called")
        return self._manifest

    @property
    def step(self) -> Step:
        """The step that creates the backup; its undo deletes the backup, unless it may still be needed."""
        return Step(self.create, self.delete_unneeded)

    def create(self) -> None:
        """Create the backup."""
        # Signals are blocked while the backup is complete and ``delete_unneeded`` could not find it.
        with ExitStack() as stack:
            self._manifest = create_backup(
                self._source.repository,
                self._sources,
                left_out=self._left_out,
                kind="safety",
                restored=self._source.manifest.id,
                stack=stack,
            )
            self._source.app.close()  # closing a reader later would drop the locks that this process holds on its file

    def delete_unneeded(self, error: BaseException) -> None:
        """Delete the backup after ``error``, if the previous state exists without it."""
        # A damaged database is replaced file by file, so some of its files may exist only in the backup.
        if (
            self._manifest is not None
            and not self._is_needed(error)
            and all(member.form != "raw" for member in self._manifest.members)
        ):
            with suppress(DbctlError):  # an unneeded backup that remains is not an error
                self._source.repository.store.remove_folder(self._manifest.id)
