"""Output of a command on a fleet: each instance as JSON, the combined rows of all, or one plan for many."""

from __future__ import annotations

import re
import tempfile
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from dbctl.cli._support.emit import emit
from dbctl.errors.base import SEVERITY_ORDER, Exit
from dbctl.errors.operations import InstanceSkippedError
from dbctl.errors.usage import UsageError
from dbctl.extensions.fleet.run import Tally
from dbctl.model import (
    ChangeResult,
    DryRunResult,
    Finding,
    Findings,
    Page,
    Plan,
    Row,
    Struct,
    count_severities,
    format_count,
    format_counts,
)
from dbctl.render import envelope, streams
from dbctl.render.envelope import line
from dbctl.render.streams import Format
from dbctl.render.tables import list_rows, summary_fields
from dbctl.render.text import fields_of
from dbctl.services.fleet.instances import Outcome
from dbctl.stores.registry import folder_name

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session


#: Steps of a combined plan that are shown, and different ones that are counted.
SHOWN_STEPS, COUNTED_STEPS = 20, 1_000


class PlanCollector:
    """Plans of instances; equal steps are counted, so its size depends on the number of different steps."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._title = ""
        self._steps, self._rows = Counter[str](), Counter[str]()
        self._changed = self._failed = 0
        self._is_destructive = False
        self.digests: dict[str, str] = {}  #: by app

    def add(self, outcome: Outcome) -> None:
        """Add the plan of an instance, or count its failure."""
        if not isinstance(outcome.data, DryRunResult):
            self._failed += outcome.state == "failed"
            return
        plan = outcome.data.plan
        self.digests[outcome.app] = plan.digest
        if plan.is_empty:
            return
        self._changed += 1
        self._title = self._title or _generalize(plan.title, outcome.app, self._target)
        self._is_destructive |= plan.destructive
        self._rows.update(plan.rows)
        for step in plan.steps:
            text = _generalize(step, outcome.app, "INSTANCE")
            if text not in self._steps and len(self._steps) >= COUNTED_STEPS:
                text = "further steps"
            self._steps[text] += 1

    def create_plan(self) -> Plan:
        steps = [
            f"{format_count(count, 'instance')}: {step}"
            for step, count in self._steps.most_common(SHOWN_STEPS)
        ]
        if (omitted := len(self._steps) - SHOWN_STEPS) > 0:
            steps.append(f"{format_count(omitted, 'further step')}: list them with --dry-run -o jsonl")
        if self._failed:
            steps.append(f"{format_count(self._failed, 'instance')}: cannot be planned")
        return Plan(
            title=f"{self._title or 'Change'}, on {format_count(self._changed, 'instance')}",
            target=self._target,
            steps=steps if self._changed or self._failed else [],
            rows=dict(self._rows),
            destructive=self._is_destructive,
        )


def _generalize(text: str, app: str, target: str) -> str:
    """Return a text about one instance for all of them; the folder of its backups has its name in another form."""
    folder = folder_name(app)
    text = text if folder == app else text.replace(folder, "INSTANCE")
    return re.sub(rf"(?<![\w/.-]){re.escape(app)}(?!\w)", lambda _: target, text)  # not in a path


#: Messages about instances that are shown; further ones are counted.
SHOWN_MESSAGES = 20
#: Further instances with the same message that are named.
SHOWN_NAMES = 5
#: Bytes of JSON in memory; more go to a temporary file.
SPOOL_BYTES = 4 << 20
#: Instances with a problem that the board shows; --all shows all.
BOARD_ROWS = 50
#: The position of an instance on the board by its exit code, worst first.
_RANKS = {int(status): rank for rank, status in enumerate(SEVERITY_ORDER)}


class FleetOutput(Protocol):
    """Receives the outcomes of instances, and writes the result."""

    def add(self, index: int, outcome: Outcome) -> None:
        """Receive the outcome of the instance with this index in the list."""
        ...

    def finish(self, tally: Tally) -> int:
        """Write the result, and return the exit code."""
        ...


def create_output(session: Session, target: str, command: str, count: int) -> FleetOutput:
    """Return the output in the requested format."""
    output_format = session.options.output
    messages = _Messages(session, target, command, count)
    if output_format is Format.JSON:
        return _JsonOutput(session, target, command, messages)
    if output_format is Format.JSONL:
        return _JsonLines(session, messages)
    if output_format.is_report:
        return _Report(session, target, messages)
    return (_Board if command == "status" else _CombinedRows)(session, target, messages)


def find_status(session: Session, tally: Tally) -> int:
    """Return the exit code of the command."""
    # status runs with --check on each instance, whether or not the user requested it.
    is_unchecked_status = session.words == ("status",) and session.ctx.params.get("check") is False
    return Exit.OK if is_unchecked_status else tally.status


class _Messages:
    """Failures and warnings of instances, on standard error, and the closing line."""

    def __init__(self, session: Session, target: str, command: str, count: int) -> None:
        self._session, self._target, self._command, self._count = session, target, command, count
        self._groups: dict[str, _MessageGroup] = {}  #: by the text without the name of the instance
        self._omitted = 0

    def add(self, index: int, outcome: Outcome) -> None:
        """Add why an instance failed, and its warnings."""
        if outcome.error and (outcome.state == "failed" or outcome.error.code == InstanceSkippedError.code):
            self._add(index, outcome.app, f"{outcome.error.message} ({outcome.error.code})")
        for text in outcome.warnings:
            self._add(index, outcome.app, text)

    def _add(self, index: int, app: str, text: str) -> None:
        key = text.replace(app, "")
        if key not in self._groups and len(self._groups) >= SHOWN_MESSAGES:
            self._omitted += 1
            return
        group = self._groups.setdefault(key, _MessageGroup())
        group.add(index, app, text if app in text else f"{app}: {text}")

    def finish(self, tally: Tally, details: Sequence[str] = ()) -> None:
        """Write the messages, and the closing line."""
        for group in sorted(self._groups.values(), key=lambda group: group.first):
            group.write()
        if self._omitted:
            streams.remark(f"  and {format_count(self._omitted, 'further message')}: list all with -o jsonl")
        self.close(tally, details)

    def close(self, tally: Tally, details: Sequence[str] = ()) -> None:
        """Write the number of instances in each state, and ``details``."""
        counts = tally.summarize(self._command)
        if counts.failed or not self._session.options.quiet:
            skipped = [f"{counts.skipped} skipped"] if counts.skipped else []
            failed = [f"{counts.failed} failed"] if counts.failed else []
            done = f"{self._target}: {counts.done} of {self._count} done"
            streams.flush()
            streams.remark(", ".join([done, *failed, *skipped, *details]))


class _MessageGroup:
    """A message, and the first instances that have it."""

    def __init__(self) -> None:
        self._instances: list[tuple[int, str, str]] = []  #: index, app and text
        self._count = 0

    @property
    def first(self) -> int:
        """The index of the first instance."""
        return self._instances[0][0]

    def add(self, index: int, app: str, text: str) -> None:
        """Add an instance with the message."""
        self._count += 1
        insort(self._instances, (index, app, text))
        del self._instances[SHOWN_NAMES + 1 :]

    def write(self) -> None:
        """Write the message, and the names of the other instances."""
        (_, _, text), *others = self._instances
        streams.remark(f"dbctl: {text}")
        if others:
            names = ", ".join(app for _, app, _ in others)
            omitted = self._count - len(self._instances)
            more = f" and {omitted} more" if omitted else ""
            streams.remark(f"  the same for {format_count(self._count - 1, 'instance')}: {names}{more}")


class _JsonOutput:
    """One object with an item for each instance; the items are stored in a temporary file."""

    def __init__(self, session: Session, target: str, command: str, messages: _Messages) -> None:
        self._session, self._target, self._command, self._messages = session, target, command, messages
        self._items = tempfile.SpooledTemporaryFile(SPOOL_BYTES, mode="w+", encoding="ascii")  # noqa: SIM115 - as long as the command
        self._is_empty = True

    def add(self, _index: int, outcome: Outcome) -> None:
        self._items.write(("" if self._is_empty else ", ") + line(outcome).rstrip("\n"))
        self._is_empty = False

    def finish(self, tally: Tally) -> int:
        status = find_status(self._session, tally)
        text = envelope.envelope(
            ("fleet",),
            tally.summarize(self._command),
            status=status,
            target=self._target,
            warnings=tuple(self._session.warnings),
        )
        before, separator, after = text.rpartition('"items": [')
        streams.write(before + separator, utf8=True)
        self._items.seek(0)
        while block := self._items.read(1 << 20):
            streams.write(block, utf8=True)
        streams.write(after, utf8=True)
        self._items.close()
        self._messages.close(tally)
        return status


class _JsonLines:
    """One line for each instance, in the order of completion."""

    def __init__(self, session: Session, messages: _Messages) -> None:
        self._session, self._messages = session, messages

    def add(self, _index: int, outcome: Outcome) -> None:
        streams.write(line(outcome), utf8=True)

    def finish(self, tally: Tally) -> int:
        self._messages.finish(tally)
        return find_status(self._session, tally)


class _CombinedRows:
    """The rows of all instances as one table, in the order of the instances; plans and findings are combined."""

    def __init__(self, session: Session, target: str, messages: _Messages) -> None:
        self._session, self._target, self._messages = session, target, messages
        limit = session.ctx.params.get("limit")
        self._limit = limit if isinstance(limit, int) else None
        offset = session.ctx.params.get("offset")
        self._offset = offset if isinstance(offset, int) else 0
        self._is_table = session.options.output is Format.TABLE
        self._rows: list[tuple[int, Row]] = []
        self._findings: list[tuple[int, Findings]] = []
        self._plans = PlanCollector(target)
        self._has_plans = self._has_page = self._has_changes = False
        self._total, self._checked = 0, 0

    def add(self, index: int, outcome: Outcome) -> None:
        self._messages.add(index, outcome)
        data = outcome.data
        if isinstance(data, DryRunResult):
            self._has_plans = True
        elif isinstance(data, Findings):
            self._checked += data.checked
            if data.findings:
                self._findings.append((index, data))
        elif data is not None and not (self._is_table and isinstance(data, ChangeResult)):
            self._has_changes |= isinstance(data, ChangeResult)
            items = getattr(data, "items", None)
            rows = list_rows(data) if items is None else items
            self._has_page = True
            self._add_rows(index, outcome.app, rows)
            self._total += getattr(data, "total", None) or len(rows)
        self._plans.add(outcome)

    def _add_rows(self, index: int, app: str, items: Sequence[object]) -> None:
        for item in items:
            fields = summary_fields(item) if self._is_table else fields_of(item)
            self._rows.append((index, fields if "app" in fields else {"app": app, **fields}))
        if self._limit is not None and len(self._rows) > 2 * (self._offset + self._limit) + 1000:
            self._sort_rows()

    def _sort_rows(self) -> None:
        self._rows.sort(key=lambda entry: entry[0])
        if self._limit is not None:
            del self._rows[self._offset + self._limit :]

    def finish(self, tally: Tally) -> int:
        status = find_status(self._session, tally)
        details: Sequence[str] = ()
        if self._has_plans:
            self._emit(DryRunResult(plan=self._plans.create_plan()), status)
        elif self._checked or self._findings:
            self._findings.sort(key=lambda entry: entry[0])
            # A finding about the configuration is the same for each instance.
            findings = dict.fromkeys(finding for _, result in self._findings for finding in result.findings)
            details = format_counts(count_severities(list(findings)))
            self._emit(Findings(checked=self._checked, findings=list(findings)), status)
        elif self._has_page:
            self._sort_rows()
            page = Page(
                items=[row for _, row in self._rows][self._offset :],
                total=self._total,
                limit=self._limit,
                offset=self._offset,
            )
            self._emit_page(page, status)
        self._messages.finish(tally, details)
        return status

    def _emit(self, result: object, status: int, *, closes: bool = False) -> None:
        emit(self._session, result, status=status, target=self._target, closes=closes)

    def _emit_page(self, page: Page[Row], status: int) -> None:
        try:
            self._emit(page, status, closes=page.has_more)
        except UsageError as error:
            if not self._has_changes:
                raise
            # The changes were applied, and the exit code must report that.
            streams.remark(f"dbctl: {error}; the command itself succeeded")


class _Report:
    """The findings of all instances, with the errors of those that failed."""

    def __init__(self, session: Session, target: str, messages: _Messages) -> None:
        self._session, self._target, self._messages = session, target, messages
        self._findings: list[tuple[int, Finding]] = []
        self._checked = 0

    def add(self, index: int, outcome: Outcome) -> None:
        self._messages.add(index, outcome)
        findings: Sequence[Finding] = ()
        if isinstance(outcome.data, Findings):
            self._checked += outcome.data.checked
            findings = outcome.data.findings
        elif error := outcome.error:
            findings = [Finding(outcome.app, "error", error.code, error.message, error.hint)]
        self._findings += [(index, finding) for finding in findings]

    def finish(self, tally: Tally) -> int:
        self._findings.sort(key=lambda entry: entry[0])
        # A finding about the configuration is the same for each instance.
        findings = dict.fromkeys(finding for _, finding in self._findings)
        result = Findings(checked=self._checked, findings=list(findings))
        emit(self._session, result, status=find_status(self._session, tally), target=self._target)
        self._messages.finish(tally)
        return find_status(self._session, tally)


class _Board:
    """The databases with a problem, worst first; those without one are counted."""

    def __init__(self, session: Session, target: str, messages: _Messages) -> None:
        self._session, self._target, self._messages = session, target, messages
        self._shows_all = bool(session.ctx.params.get("all_instances"))
        self._is_table = session.options.output is Format.TABLE
        self._entries: list[tuple[int, int, Outcome]] = []  #: with their rank and index
        self._hidden = 0

    def add(self, index: int, outcome: Outcome) -> None:
        if outcome.exit_code or self._shows_all or not self._is_table:
            self._entries.append((_RANKS.get(outcome.exit_code, len(_RANKS)), index, outcome))
        else:
            self._hidden += 1

    def finish(self, tally: Tally) -> int:
        self._entries.sort(key=lambda entry: entry[:2])
        rows = list[Row]()
        shown = len(self._entries) if self._shows_all or not self._is_table else BOARD_ROWS
        for _, index, outcome in self._entries:
            if outcome.exit_code:
                self._messages.add(index, outcome)
        for _, _, outcome in self._entries[:shown]:
            for item in self._list_items(outcome):
                rows.append(summary_fields(item) if self._is_table else fields_of(item))
        status = find_status(self._session, tally)
        page = Page(items=rows, total=len(rows))
        emit(self._session, page, status=status, target=self._target, closes=False)
        if (omitted := len(self._entries) - shown) > 0:
            streams.remark(f"{format_count(omitted, 'further instance')} with a problem; --all shows all")
        if self._hidden and not self._session.options.quiet:
            streams.remark(f"{format_count(self._hidden, 'instance')} without a problem; --all shows them")
        self._messages.finish(tally)
        return status

    @staticmethod
    def _list_items(outcome: Outcome) -> Sequence[Struct]:
        if isinstance(outcome.data, Page):
            return outcome.data.items

        code = outcome.error.code if outcome.error else "failed"
        from dbctl.services.status import DatabaseStatus

        return [DatabaseStatus(app=outcome.app, database=None, state=code, health="error")]
