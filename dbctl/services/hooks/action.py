"""An action with its hooks: before, maintenance mode on, the action, maintenance mode off, after or failed, finally."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from dbctl import signals
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.operations import HookFailedError
from dbctl.model import ChangeResult, Finding, Severity, Struct
from dbctl.services.events.runs import HookRun, name_result
from dbctl.services.hooks.maintenance_mode import MaintenanceMode
from dbctl.services.hooks.program import (
    HookContext,
    Program,
    describe_failure,
    require_trusted_programs,
    run_program,
)

if TYPE_CHECKING:
    from dbctl.config.model import ActionName, App


T = TypeVar("T")
#: Exit codes of commands that were refused: their action did not begin, and nothing has to be repaired.
_REFUSALS = frozenset({Exit.USAGE, Exit.NOT_FOUND, Exit.REFUSED})


class _Outcome(Struct, frozen=True):
    """The result of an action, for the variables of its hooks."""

    exit_code: int
    error_code: str = ""
    error: str = ""

    def create_variables(self) -> Mapping[str, str]:
        return {
            "RESULT": name_result(self.exit_code),
            "EXIT_CODE": str(self.exit_code),
            "ERROR_CODE": self.error_code,
            "ERROR": self.error,
        }


class HookedAction:
    """One action of a command on one app.

    A failed ``before`` hook refuses the action. A failed ``after`` hook is an error, a failed ``failed`` or ``finally`` hook a
    warning: the result of the action remains, and is reported.
    """

    def __init__(
        self,
        app: App,
        action: ActionName,
        context: HookContext,
        *,
        timeout: float,
        backup: tuple[str, str] = ("", ""),
        runs_hooks: bool = True,
    ) -> None:
        """Run nothing.

        Args:
            app: the configured app.
            action: the name of the action.
            context: of the command.
            timeout: seconds to wait for another run that has the app in maintenance mode.
            backup: id and path of the backup that is restored.
            runs_hooks: false if a hook of the app started dbctl.
        """
        from dbctl.config.model import ActionHooks

        self._app, self._action, self._context, self._timeout = app, action, context, timeout
        self._hooks = (runs_hooks and app.hooks.get(action)) or ActionHooks()
        mode = app.maintenance_mode
        self._uses_maintenance = mode is not None and action in mode.actions
        self._maintenance: MaintenanceMode | None = None
        self._variables = {"BACKUP_ID": backup[0], "BACKUP_PATH": backup[1], "SAFETY_BACKUP_ID": ""}
        self._outcome: _Outcome | None = None
        self._is_finished = False
        self.problems: list[Finding] = []  #: of hooks and of the maintenance mode

    def describe_programs(self, *, is_empty: bool) -> Iterator[str]:
        """Yield what a run would start, in this order; ``is_empty``: the action has nothing to do."""
        programs = self._hooks.list_programs()
        mode = self._app.maintenance_mode if self._uses_maintenance and not is_empty else None
        commands = {
            "before": programs.get("before"),
            "maintenance mode on": mode and mode.on,
            "maintenance mode off": mode and mode.off,
            **{name: programs.get(name) for name in ("after", "failed", "finally")},
        }
        for name, command in commands.items():
            if command:
                yield f"hook {name}: {command[0]}" if name in programs else f"{name}: {command[0]}"

    def perform(self, apply: Callable[[], T], is_empty: Callable[[], bool]) -> T:
        """Perform the action by ``apply`` with its hooks, and return its result.

        ``is_empty`` returns whether the action has nothing to do, so that the app need not be stopped.

        Raises:
            HookFailedError: a hook before the action failed; nothing was changed.
            MaintenanceOnError: the app was not put into maintenance mode; nothing was changed.
            BusyError: another run has the app in maintenance mode.
            ConfigUntrustedError: other users may write a program that root would run.
            As ``apply``.
        """
        mode = self._app.maintenance_mode
        require_trusted_programs(
            [*self._hooks.list_programs().values(), *([mode.on, mode.off] if mode else [])]
        )
        # Interrupted is raised at most once, perhaps at the beginning of the inner ``finally``.
        try:
            try:
                self._run_before()
                self._begin_maintenance(is_empty)
                result = apply()
                signals.commit_point()  # the hooks after it must not change the result
                self._receive_result(result)
            except BaseException as error:
                self._outcome = self._outcome or _describe_error(error)
                raise
            else:
                return result
            finally:
                self._finish()
        finally:
            self._finish()

    def report_failure(self, error: DbctlError) -> bool:
        """Run the hooks of an action that failed before it began, as if a database is unreachable.

        Return False for an action that began, or was refused.

        Raises:
            ConfigUntrustedError: other users may write a program that root would run.
        """
        if self._is_finished or error.exit_status in _REFUSALS:
            return False
        require_trusted_programs(self._hooks.list_programs().values())
        self._outcome = _describe_error(error)
        self._finish()
        return True

    def _run_before(self) -> None:
        record = self._run("before")
        if record and record.reason:
            raise HookFailedError(
                action=self._action,
                app=self._app.name,
                program=record.program,
                reason=describe_failure(record),
                **self._context.output_facts,
            )

    def _begin_maintenance(self, is_empty: Callable[[], bool]) -> None:
        if self._uses_maintenance and not is_empty():
            self._maintenance = MaintenanceMode(self._app, self._context, timeout=self._timeout)
            if problem := self._maintenance.begin():
                self._add_problem("warning", "maintenance-state-failed", problem)

    def _receive_result(self, result: object) -> None:
        status = result.exit_status if isinstance(result, ChangeResult) else 0
        self._outcome = _Outcome(status)
        if self._action == "backup":
            self._variables |= {
                "BACKUP_ID": str(getattr(result, "id", "")),
                "BACKUP_PATH": str(getattr(result, "path", "")),
            }
        self._variables["SAFETY_BACKUP_ID"] = str(getattr(result, "safety_backup", "") or "")

    def _finish(self) -> None:
        """Turn the maintenance mode off, and run the hooks after the action, once; not interrupted by a signal."""
        with signals.block_signals():
            if self._is_finished:
                return
            self._is_finished = True
            self._end_maintenance()
            if self._outcome is None or self._outcome.exit_code == 0:
                self._check("after", "error")
            if self._outcome and self._outcome.exit_code:
                self._check("failed", "warning")
            self._check("finally", "warning")

    def _end_maintenance(self) -> None:
        if self._maintenance:
            try:
                self._maintenance.end()
            except DbctlError as error:
                self._add_problem("error", error.code, str(error), error.hint)
                self._fail(error.code, str(error))

    def _check(self, hook: str, severity: Severity) -> None:
        """Run a hook after the action; its failure is a problem."""
        record = self._run(hook)
        if record and record.reason:
            message = (
                f"the hook {hook} of {self._action} failed: {record.program}: {describe_failure(record)}"
            )
            self._add_problem(severity, HookFailedError.code, message)
            if severity == "error":
                self._fail(HookFailedError.code, message)

    def _fail(self, code: str, message: str) -> None:
        """Let the command fail if the action itself did not."""
        if self._outcome is None or self._outcome.exit_code == 0:
            self._outcome = _Outcome(int(Exit.FAILED), code, message)

    def _add_problem(self, severity: Severity, code: str, message: str, hint: str = "") -> None:
        self.problems.append(
            Finding(target=self._app.name, severity=severity, code=code, message=message, hint=hint)
        )

    def _run(self, hook: str) -> HookRun | None:
        command: Sequence[str] = self._hooks.list_programs().get(hook, ())
        if not command:
            return None
        variables = dict(self._variables)
        if self._outcome:
            variables |= self._outcome.create_variables()
        return run_program(self._context, hook, Program(command, self._hooks.timeout), variables)


def _describe_error(error: BaseException) -> _Outcome:
    if isinstance(error, signals.Interrupted):
        return _Outcome(error.exit_status, "interrupted", str(error))
    if isinstance(error, DbctlError):
        return _Outcome(int(error.exit_status), error.code, str(error))
    return _Outcome(int(Exit.FAILED), DbctlError.code, type(error).__name__)
