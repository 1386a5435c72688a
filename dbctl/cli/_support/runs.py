"""Observe the run of a command: record it in the journal and write its log, with its words as text without secrets."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import structs

from dbctl import __version__
from dbctl.config.environment import user_name
from dbctl.config.secrets import MASK, list_secrets, redact_message, redact_text
from dbctl.errors.base import DbctlError
from dbctl.model import Finding, now
from dbctl.render import streams
from dbctl.render.result import closing_line
from dbctl.services.events.recorder import RunRecorder
from dbctl.services.events.runs import (
    HookRun,
    InstanceCounts,
    Run,
    RunError,
    RunOutcome,
    is_failure,
    name_result,
)

if TYPE_CHECKING:
    from typer._click import Context, Parameter

    from dbctl.cli._support.log import RunLog
    from dbctl.cli._support.session import Session
    from dbctl.render.result import CommandOutput
    from dbctl.services.events.changes.records import Anchor
    from dbctl.services.events.runs import Origin
    from dbctl.services.events.store import EventStore
    from dbctl.services.fleet.instances import FleetResult, Outcome


#: Parameters with text that is a name, a key, a pattern or an address. The text of all others may be a secret.
_PUBLIC = frozenset({
    "app", "db", "profile", "replica", "url", "columns", "confirm", "acting_as", "config", "login",
    "logins", "username", "email", "ids", "ident", "user", "of", "role", "new_owner", "demote_to",
    "key", "category", "permissions", "table", "tables", "null", "rules", "search_name", "name",
    "names", "backup", "to", "repository_address", "dump_format", "allow_data_loss",
    "new_table", "migrations", "variant", "addresses", "renamed", "dropped", "alter", "directory",
    "env_file",
})  # fmt: skip
#: Shorter texts are not masked in messages: they would hide parts of words.
_SHORTEST = 3


class CommandText:
    """The words of one command, and the texts of its arguments that no message may contain."""

    def __init__(self, session: Session) -> None:
        self._hidden = set[str]()
        self.arguments = tuple(self._list_arguments(session))

    def mask(self, text: str) -> str:
        """Return a message without the hidden arguments and without secrets in addresses."""
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, MASK)
        return redact_message(text)

    def _list_arguments(self, session: Session) -> Iterator[str]:
        """Yield the arguments and options that the user passed, with the names of their parameters."""
        contexts: list[Context] = [session.ctx]
        while contexts[-1].parent is not None:
            contexts.append(contexts[-1].parent)
        common = session.options
        for source in reversed(contexts):
            for parameter in source.command.params:
                name = parameter.name or ""
                origin = source.get_parameter_source(name)
                if origin is None or origin.name != "COMMANDLINE":
                    continue
                value = source.params[name] if name in source.params else getattr(common, name, None)
                yield from self._format(parameter, value)

    def _format(self, parameter: Parameter, value: object) -> Iterator[str]:

        option = parameter.opts[0] if parameter.param_type_name == "option" else ""
        if isinstance(value, bool):
            yield option if value else next(iter(parameter.secondary_opts), f"{option}=false")
            return
        for item in value if isinstance(value, (list, tuple)) else [value]:
            text = str(item) if parameter.type.name == "choice" else self._show(parameter.name or "", item)
            from dbctl.services.events.store import storable_text

            yield storable_text(f"{option}={text}" if option else text)

    def _show(self, name: str, value: object) -> str:
        if isinstance(value, str):
            if name not in _PUBLIC:
                return self._hide(value)
            self._hidden |= {text for text in list_secrets(value) if len(text) >= _SHORTEST}
            return self.mask(redact_text(value))
        return self.mask(str(value))

    def _hide(self, value: str) -> str:
        """Return the mask of a value; the name before ``=`` is no secret."""
        name, separator, secret = value.partition("=")
        secrets: Iterable[str] = (value, secret) if separator else (value,)
        self._hidden |= {text for text in secrets if len(text) >= _SHORTEST}
        is_name = separator and name.replace("_", "").isalnum()
        return f"{name}={MASK}" if is_name else MASK


#: Fields of results, and of their parts, that count bytes and rows; a mapping counts rows by table.
_BYTES, _ROWS = ("bytes", "freed_bytes"), ("rows", "added", "changed", "removed")
_PARTS = ("members", "rules", "tables", "tasks")
MAX_WARNINGS, MAX_HOOKS = 100, 100  #: that are recorded


class RunObserver(Protocol):
    """What an extension does with one run; no method raises an error."""

    def begin(self) -> Sequence[str]:
        """Act at the beginning of the run, and return warnings."""
        ...

    def finish(self, run: Run, outcomes: Sequence[RunOutcome], findings: Sequence[Finding]) -> Sequence[str]:
        """Act at the end of the run, whose record is complete, and return warnings."""
        ...


class ObservedRun:
    """One run of a command that is recorded, logged, or both."""

    def __init__(self, session: Session, *, is_recorded: bool) -> None:
        """Write that the run begins."""
        self._session, self._begin = session, time.monotonic()
        self._quiet = session.options.quiet
        self._text = session.text
        self._warnings: list[str] = []
        self._outcomes: list[RunOutcome] = []
        self._databases: list[Sequence[str]] = []
        self._hooks: list[HookRun] = []
        location = session.journal
        self._run = Run(
            command=session.spec.name,
            arguments=self._text.arguments,
            app=", ".join(location.apps),
            started_at=now(),
            config=location.config,
            host=os.uname().nodename,
            user=user_name(),
            sudo_user=os.environ.get("SUDO_USER", ""),
            pid=os.getpid(),
            version=__version__,
            origin=_find_origin(quiet=self._quiet),
        )
        self._recorder: RunRecorder | None = None
        self._location = location
        #: that the end of the run records; None: it is not recorded
        self.changes: list[Mapping[str, Any]] | None = None
        self._is_reported = False
        if is_recorded and location.folder:
            self._recorder = RunRecorder(location.folder, location.settings, self._run, location.apps)
            self._record(self._recorder.begin)
            self._run = self._recorder.run
            self.changes = []
        self._log = self._open_log() if session.options.log_file else None
        self._findings: Sequence[Finding] = ()
        self._observer: RunObserver | None = None  #: None: no extension observes it
        interrupted = self._recorder.interrupted if self._recorder else ()
        if is_recorded and (location.observes_runs or interrupted):
            from dbctl.extensions import registry

            if place := registry.find_place("on_run"):
                self._observer = registry.load(place)(location, self._run, interrupted)

    @property
    def id(self) -> int | None:
        """The id of the run in the journal; None: it is not recorded."""
        return self._run.id or None

    @property
    def store(self) -> EventStore | None:
        """The event store, which is open during the run; None: it is not recorded."""
        return self._recorder.store if self._recorder else None

    def set_anchor(self, anchor: Anchor) -> None:
        """Record the end of the audit log after a change."""
        self._run = structs.replace(self._run, audit=str(anchor))

    def report_audit_failure(self, text: str) -> None:
        """Record and report that a change is not in the audit log, also after another failure of the journal."""
        self.add_warning(text)
        self._is_reported = False
        self._report(text)

    def observe_begin(self) -> None:
        """Pass the beginning of the run to the observer; the context must have this run, because a signal may end the command here."""
        for text in self._observer.begin() if self._observer else ():
            self._remark(text)

    def use_databases(self, names: Sequence[str]) -> None:
        """Record the databases of an app that the command uses; ``names`` may grow until the end."""
        self._databases.append(names)

    def receive_output(self, output: CommandOutput) -> None:
        """Record the figures, the closing line and the first error of a result."""
        result = output.result
        self._findings = self._mask_findings(output.findings or result) if self._observer else ()
        self._run = structs.replace(
            self._run,
            bytes=_sum_fields(result, _BYTES),
            rows=_sum_fields(result, _ROWS),
            closing_line=self._text.mask(closing_line(result, seconds=output.seconds)),
            error=self._find_error(output.findings or result),
        )

    def receive_outcome(self, outcome: Outcome) -> None:
        """Record the result of an instance of a fleet."""
        code, message = (outcome.error.code, outcome.error.message) if outcome.error else ("", outcome.state)
        self._outcomes.append(RunOutcome(app=outcome.app, exit_code=outcome.exit_code, error_code=code))
        for record in outcome.hooks:
            self.receive_hook(record)
        # Instances end in another order than that in which they wrote.
        if _find_sequence(outcome.audit) > _find_sequence(self._run.audit):
            self._run = structs.replace(self._run, audit=outcome.audit)
        level = "error" if outcome.state == "failed" else "info"
        self._write_log(
            level, "instance", message, instance=outcome.app, exit_code=outcome.exit_code, code=code
        )

    def receive_counts(self, counts: FleetResult) -> None:
        """Record the summary of a run on a fleet."""
        instances = InstanceCounts(done=counts.done, failed=counts.failed, skipped=counts.skipped)
        self._run = structs.replace(self._run, instances=instances)

    def add_warning(self, text: str) -> None:
        self._warnings.append(self._text.mask(text))
        self._write_log("warning", "warning", text)

    def receive_hook(self, record: HookRun) -> None:
        record = structs.replace(
            record, reason=self._text.mask(record.reason), output=self._text.mask(record.output)
        )
        if len(self._hooks) < MAX_HOOKS:
            self._hooks.append(record)
        self._write_log(
            "warning" if record.reason else "info",
            "hook",
            f"{record.hook}: {record.program}: {record.reason or 'ok'}",
            instance=record.app,
            hook=record.hook,
            exit_code=record.exit_code,
            duration=record.duration,
            output=record.output.strip(),
        )

    def begin_stage(self, label: str) -> None:
        """Log the beginning of a part of the work."""
        self._write_log("info", "stage", label)

    def finish(self, status: int, error: DbctlError | None) -> None:
        """Record and log the result; nothing here fails the command."""
        if error:
            details = RunError(
                code=error.code, message=self._text.mask(str(error)), hint=self._text.mask(error.hint)
            )
            self._run = structs.replace(self._run, error=details)
        self._run = structs.replace(
            self._run,
            result=name_result(status),
            exit_code=status,
            ended_at=now(),
            duration=round(time.monotonic() - self._begin, 3),
            warnings=self._warnings[:MAX_WARNINGS],
            hooks=self._hooks,
            databases=list(dict.fromkeys(name for names in self._databases for name in names)),
        )
        # of a record that the disk has, which is not known of those that the end of the run appends
        anchor = self._run.audit
        self._record(self._finish)
        self._publish(anchor)
        if self._observer:
            self._observe_end(self._observer)
        if self._log:
            self._end_log(self._log)

    def _finish(self) -> None:
        """Record the end of the run, with the changes that wait for it."""
        if self._recorder is None or self.changes is None:
            return
        self._recorder.finish(self._run, self._outcomes, self.changes)
        self._run = self._recorder.run
        self.changes.clear()

    def _publish(self, anchor: str) -> None:
        """Store an end of the audit log outside of it; empty: the run changed nothing."""
        if not (anchor and self._location.folder):
            return
        from dbctl.services.events.changes.log import publish_anchor

        for text in publish_anchor(self._location.folder, self._location.audit, anchor, self._run.audit):
            self._remark(f"the end of the audit log was not stored: {text}")

    def _observe_end(self, observer: RunObserver) -> None:
        """Pass the result to the observer; its failure is a warning, also for a scheduled job, because nothing else reports it."""
        warnings = observer.finish(self._run, self._outcomes, self._findings)
        for text in warnings:
            self._remark(text)
        if warnings:
            self._run = structs.replace(self._run, warnings=self._warnings[:MAX_WARNINGS])
            self._record(self._finish)

    def _remark(self, text: str) -> None:
        streams.remark(f"dbctl: {text}", "due")
        self.add_warning(text)

    def _record(self, step: Callable[[], None]) -> None:
        """Write to the journal; the first failure is reported, except to a scheduled job, because status reports it, too."""
        try:
            step()
        except DbctlError as error:
            self._report(f"this run is not recorded: {error}")

    def _report(self, text: str) -> None:
        if not (self._quiet or self._is_reported):
            streams.remark(f"dbctl: {text}")
        self._is_reported = True

    def _open_log(self) -> RunLog:
        from dbctl.cli._support.log import RunLog

        options, run = self._session.options, self._run
        fields = {"command": run.command, "app": run.app, "run": run.id or None, "pid": run.pid}
        log = RunLog(options.log_file, options.log_format, options.log_level, **fields)
        log.write("info", "start", "started", version=run.version, user=run.user, host=run.host)
        return log

    def _write_log(self, level: str, event: str, message: str, **fields: object) -> None:
        if self._log:
            self._log.write(level, event, self._text.mask(message), **fields)

    def _end_log(self, log: RunLog) -> None:
        run = self._run
        if run.error:
            self._write_log("error", "error", run.error.message, code=run.error.code, hint=run.error.hint)
        self._write_log(
            "error" if is_failure(run.result) else "info",
            "end",
            f"ended: {run.result}, exit code {run.exit_code}, {run.duration} s",
            result=run.result,
            exit_code=run.exit_code,
            duration=run.duration,
            bytes=run.bytes,
            rows=run.rows,
        )
        log.close()
        if log.failure:
            self._report(f"the log is incomplete: {log.failure}")

    def _mask_findings(self, result: object) -> Sequence[Finding]:
        findings = (item for item in getattr(result, "findings", ()) if isinstance(item, Finding))
        return [
            structs.replace(
                item, message=self._text.mask(item.message), hint=self._text.mask(item.hint), source=None
            )
            for item in findings
        ]

    def _find_error(self, result: object) -> RunError | None:
        findings = (item for item in getattr(result, "findings", ()) if isinstance(item, Finding))
        first = next((finding for finding in findings if finding.severity == "error"), None)
        if first is None:
            return None
        message = self._text.mask(f"{first.target}: {first.message}")
        return RunError(code=first.code, message=message, hint=self._text.mask(first.hint))


def _find_origin(*, quiet: bool) -> Origin:
    """Return who started this process."""
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):
        with suppress(ValueError):  # it is closed
            if stream.isatty():
                return "terminal"
    return "job" if quiet else "program"


def _find_sequence(anchor: str) -> int:
    """Return the number of the last record of the audit log; 0: no anchor."""
    return int(anchor.partition(":")[0] or 0)


def _sum_fields(result: object, names: Sequence[str]) -> int | None:
    """Return the sum of the named fields of a result, otherwise of its parts; None without such fields."""
    lists = [getattr(result, field, ()) for field in _PARTS]
    parts = [part for items in lists if isinstance(items, Sequence) for part in items]
    for values in ([result], parts):
        fields = [getattr(value, name, None) for value in values for name in names]
        counts = [[*field.values()] if isinstance(field, Mapping) else [field] for field in fields]
        if numbers := [number for group in counts for number in group if isinstance(number, int)]:
            return sum(numbers)
    return None
