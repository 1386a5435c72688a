"""A notice, and the notices about the run of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from msgspec import field, structs

from dbctl.errors.base import Remedy
from dbctl.extensions.notify.section import NotifyEvent
from dbctl.model import Finding, Severity, Struct, now
from dbctl.services.events.runs import CommandHistory, Run, RunOutcome

Event: TypeAlias = NotifyEvent | Literal["test"]

#: Instances of a fleet and findings that a text lists.
MAX_LINES = 20


class Attachment(NamedTuple):
    """A file of an e-mail."""

    name: str
    content: bytes


class Notice(Struct, frozen=True, kw_only=True):
    """One message for all channels, without secrets."""

    event: Event
    apps: Sequence[str]
    severity: Severity
    headline: str  #: without the app: ``backup create failed (unreachable)``
    text: str
    time: datetime = field(default_factory=now)
    host: str = field(default_factory=lambda: os.uname().nodename)
    run: Run | None = None  #: that failed or recovered, of ``remove_outputs``
    findings: Sequence[Finding] = ()
    attachment: Attachment | None = None  #: only e-mail has it

    @property
    def title(self) -> str:
        """The subject of an e-mail, in one line."""
        names = ", ".join(self.apps)
        return " ".join(clean_text(f"{names}: {self.headline}".removeprefix(": ")).split())

    @property
    def body(self) -> str:
        """The text without control characters."""
        return clean_text(self.text)


def clean_text(text: str) -> str:
    """Return a text whose characters every channel can send: no control characters, and no bytes that are not UTF-8."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def remove_outputs(run: Run) -> Run:
    """Return a run without the outputs of its hooks, which may contain secrets, and stay in the journal."""
    return structs.replace(run, hooks=[structs.replace(hook, output="") for hook in run.hooks])


def describe_failure(
    run: Run, outcomes: Sequence[RunOutcome], findings: Sequence[Finding], history: CommandHistory | None
) -> str:
    """Return the text about a run that failed."""
    lines = [run.error.message, run.error.hint] if run.error else []
    lines += [""] * bool(lines)
    lines += _describe_run(run)
    if history and history.failures > 1 and history.failing_since:
        lines.append(
            f"It failed {history.failures} times in a row since {history.failing_since:%Y-%m-%d %H:%M} UTC."
        )
    failed = [f"{outcome.app}: {outcome.error_code}" for outcome in outcomes if outcome.exit_code]
    for title, items in (
        ("Failed instances", failed),
        ("Findings", list_findings(findings)),
        ("Warnings", run.warnings),
    ):
        lines += _list_items(title, items)
    return "\n".join(lines)


def describe_success(run: Run) -> str:
    """Return the text about a run that succeeded."""
    return "\n".join([*filter(None, [run.closing_line]), *_describe_run(run)])


def list_findings(findings: Sequence[Finding]) -> list[str]:
    """Return one line for each finding."""
    return [
        f"{finding.severity} {finding.target}: {finding.message} ({finding.code})" for finding in findings
    ]


#: Of a run.
RECORD = Remedy("Record: `runs show {id}`")


def _describe_run(run: Run) -> Iterator[str]:
    duration = "" if run.duration is None else f", took {run.duration:g} s"
    result = "" if run.exit_code is None else f", exit code {run.exit_code} ({run.result})"
    yield f"{run.command} began {run.started_at:%Y-%m-%d %H:%M} UTC on {run.host} as {run.user}{duration}{result}."
    if run.id:
        yield RECORD.write(facts={"id": run.id})


def _list_items(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"\n{title}:"
        yield from items[:MAX_LINES]
        if len(items) > MAX_LINES:
            yield f"… and {len(items) - MAX_LINES} more"
