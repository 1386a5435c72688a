"""Search all text columns of all databases of an app for a word."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeAlias

from msgspec.structs import replace

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Readable, require_supported
from dbctl.engines.contract.fulltext import TextMatch, TextScanner, TextTerm
from dbctl.errors.base import DbctlError, Exit, worst_status
from dbctl.errors.usage import DatabaseNotConfiguredError, UsageError
from dbctl.model import RowKey, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.app.secrets import find_secret_columns, find_secret_values
from dbctl.services.search.query_parser import check_text
from dbctl.services.search.snippets import Marks, create_snippet
from dbctl.services.search.text_match import TextMatcher

#: In the first pass, one table may take this fraction (1/N) of the time limit.
TURN_SHARE = 8

SkipReason: TypeAlias = Literal["secret", "no-text", "view", "time", "failed", "not-configured"]


class Match(Struct, frozen=True, kw_only=True):
    """A value that contains the word."""

    target: str  #: ``app/database``
    table: str
    column: str
    key: Sequence[object]  #: the primary key of the row; empty without a primary key
    snippet: str


class SkippedTable(Struct, frozen=True, kw_only=True):
    """A table, database or columns that were not scanned."""

    target: str
    table: str | None  #: None: the whole database
    columns: Sequence[str]  #: empty: all
    reason: SkipReason
    message: str = ""


class AllTablesResult(Struct, frozen=True, kw_only=True):
    """Result of ``search all``."""

    items: Sequence[Match]
    limit: int  #: rows per table
    truncated: Sequence[str]  #: tables with more matches than ``limit``
    tables: int  #: scanned tables
    skipped: Sequence[SkippedTable]

    @property
    def note(self) -> str:
        """One line about columns and views that are skipped by design, or an empty string."""
        columns = {
            reason: sum(len(entry.columns) for entry in self.skipped if entry.reason == reason)
            for reason in ("no-text", "secret")
        }
        views = sum(entry.reason == "view" for entry in self.skipped)
        parts = [
            f"{format_count(columns['no-text'], 'column')} without text" if columns["no-text"] else "",
            f"{format_count(columns['secret'], 'secret column')} (--secrets)" if columns["secret"] else "",
            f"{format_count(views, 'view')}" if views else "",
        ]
        return f"not scanned: {', '.join(filter(None, parts))}" if any(parts) else ""

    @property
    def problems(self) -> Sequence[str]:
        """One line for each table that could not be scanned."""
        return [
            f"{entry.target}{f', {entry.table},' if entry.table else ''} was not scanned: {entry.message}"
            for entry in self.skipped
            if entry.reason in ("time", "failed")
        ]


class ScanReport(Struct, frozen=True, kw_only=True):
    """The matches, and the exit code of the command."""

    result: AllTablesResult
    status: Exit


class _Task(Struct, frozen=True):
    """A table to scan."""

    target: str
    db: Readable
    scanner: TextScanner
    table: str
    key: Sequence[str]
    columns: Sequence[str]
    hidden: Sequence[str]  #: columns of the key with secrets
    #: whether secrets remain to be detected in a sample of rows, which may have to wait for a lock of the table
    is_unsampled: bool


def scan_tables(
    app: App, word: str, *, limit: int, timeout: timedelta, secrets: bool = False, marks: Marks = ("", "")
) -> ScanReport:
    """Search all text columns of an app; every table gets a share of the time before a large table may take long.

    Args:
        app: the app; ``only`` restricts the search to one database.
        word: literal text.
        limit: rows per table.
        timeout: for all tables together.
        secrets: whether to scan columns with secrets too.
        marks: text before and after each match in a snippet.

    Raises:
        UsageError: the word is empty.
        DbctlError: no database can be scanned.
    """
    if not check_text(word).strip():
        raise UsageError(detail="the word is empty")
    scan = _Scan(app, secrets=secrets)
    hits = scan.run(word, limit=limit + 1, until=time.monotonic() + timeout.total_seconds(), timeout=timeout)
    matcher = TextMatcher(TextTerm((word,), "part"))
    items = [
        match
        for index, task in enumerate(scan.tasks)
        for hit in sorted(hits.get(index, ())[:limit], key=lambda hit: [str(part) for part in hit.key])
        for match in _list_matches(task, hit, matcher, marks)
    ]
    result = AllTablesResult(
        items=items,
        limit=limit,
        truncated=[
            f"{task.target}, {task.table}"
            for index, task in enumerate(scan.tasks)
            if len(hits.get(index, ())) > limit
        ],
        tables=len(hits),
        skipped=scan.skipped,
    )
    return ScanReport(result=result, status=scan.exit_status(hits))


class _Scan:
    """The tables to scan, and the skipped tables with their reasons."""

    def __init__(self, app: App, *, secrets: bool) -> None:
        self.tasks: list[_Task] = []
        self.skipped: list[SkippedTable] = []
        self._failures: list[DbctlError] = []
        for name, section in app.profile.databases.items():
            if app.only not in ("", name):
                continue
            try:
                self._add_tasks(app, name, secrets=secrets)
            except DatabaseNotConfiguredError as error:
                if app.only == name:
                    raise
                self._add_skipped(app.target(name), "not-configured", message=str(error))
                self._failures += [] if section.optional else [error]
            except DbctlError as error:
                self._add_failure(app.target(name), None, error)
        if self._failures and not self.tasks:
            raise self._failures[0]

    def exit_status(self, hits: Mapping[int, Sequence[TextMatch]]) -> Exit:
        """Return the exit code: PARTIAL if some of the tables could not be scanned."""
        is_late = any(entry.reason == "time" for entry in self.skipped)
        if not (self._failures or is_late):
            return Exit.OK
        return (
            Exit.PARTIAL if hits or is_late else worst_status([error.exit_status for error in self._failures])
        )

    def run(
        self, word: str, *, limit: int, until: float, timeout: timedelta
    ) -> dict[int, Sequence[TextMatch]]:
        """Scan every table for a share of the time, then the unfinished tables again with the remaining time."""
        results: dict[int, Sequence[TextMatch]] = {}
        unfinished = list(range(len(self.tasks)))
        for share in (timeout.total_seconds() / TURN_SHARE, timeout.total_seconds()):
            pending, unfinished = unfinished, []
            for index in pending:
                try:
                    hits = self._scan(index, word, limit=limit, until=min(until, time.monotonic() + share))
                except DbctlError as error:
                    self._add_failure(self.tasks[index].target, self.tasks[index].table, error)
                    continue
                if hits is None:
                    unfinished.append(index)
                elif self.tasks[index].columns:
                    results[index] = hits
        for task in (self.tasks[index] for index in unfinished):
            message = f"it takes longer than {timeout.total_seconds():g} s; raise --within"
            self._add_skipped(task.target, "time", task.table, message=message)
        return results

    def _scan(self, index: int, word: str, *, limit: int, until: float) -> Sequence[TextMatch] | None:
        """Scan the table of a task; return None if that takes longer than ``until``."""
        task = self.tasks[index]
        if task.is_unsampled:
            # the sample would wait for a lock of the table as long as other commands do
            remaining = _remaining(until)
            if not remaining or task.db.exists(task.table, timeout=remaining) is None:
                return None
            task = self.tasks[index] = self._exclude_secrets(task)
        if not task.columns:
            return ()
        remaining = _remaining(until)
        if not remaining:
            return None
        return task.scanner.scan_text(task.table, task.columns, word, limit=limit, timeout=remaining)

    def _exclude_secrets(self, task: _Task) -> _Task:
        """Return a task without the columns that contain secrets in a sample of rows."""
        secret = find_secret_values(task.db, task.table, list(dict.fromkeys([*task.columns, *task.key])))
        columns = [column for column in task.columns if column not in secret]
        if len(columns) < len(task.columns):
            self._add_skipped(
                task.target, "secret", task.table, [column for column in task.columns if column in secret]
            )
        hidden = [column for column in task.key if column in task.hidden or column in secret]
        return replace(task, columns=columns, hidden=hidden, is_unsampled=False)

    def _add_tasks(self, app: App, name: str, *, secrets: bool) -> None:
        db, target = app.reader(name), app.target(name)
        secret_columns = {} if secrets else find_secret_columns(app, name, db, tables=())
        scanner = require_supported(db, db.text_scanner, "search all", "Its engine cannot scan all texts.")
        is_unsampled = app.database(name).guess_secrets and not secrets
        for table in db.tables().values():
            if table.is_view:
                self._add_skipped(target, "view", table.name)
                continue
            texts = scanner.text_columns(table.name)
            other_columns = [column for column in table.columns if column not in texts]
            secret = [column for column in texts if column in secret_columns.get(table.name, ())]
            if other_columns and texts:
                self._add_skipped(target, "no-text", table.name, other_columns)
            if secret:
                self._add_skipped(target, "secret", table.name, secret)
            columns = [column for column in texts if column not in secret]
            if columns:
                key = table.primary_key
                masked = [column for column in key if column in secret_columns.get(table.name, ())]
                self.tasks.append(_Task(target, db, scanner, table.name, key, columns, masked, is_unsampled))

    def _add_failure(self, target: str, table: str | None, error: DbctlError) -> None:
        self._failures.append(error)
        self._add_skipped(target, "failed", table, message=str(error).partition("\n")[0])

    def _add_skipped(
        self,
        target: str,
        reason: SkipReason,
        table: str | None = None,
        columns: Sequence[str] = (),
        *,
        message: str = "",
    ) -> None:
        self.skipped.append(
            SkippedTable(target=target, table=table, columns=columns, reason=reason, message=message)
        )


def _remaining(until: float) -> timedelta:
    return timedelta(seconds=max(0.0, until - time.monotonic()))


def _list_matches(task: _Task, hit: TextMatch, matcher: TextMatcher, marks: Marks) -> Iterable[Match]:
    key = [MASK if name in task.hidden else value for name, value in zip(task.key, hit.key, strict=True)]
    for column, text in hit.excerpts.items():
        snippet = create_snippet([text], matcher, marks) or " ".join(text.split())
        yield Match(target=task.target, table=task.table, column=column, key=RowKey(key), snippet=snippet)
