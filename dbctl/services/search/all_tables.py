"""A word in every text of every database of an app, and what of them was not looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeAlias

from dbctl.engines.contract import Capability, Hit, LooksThrough, Readable, TextTerm
from dbctl.errors import DatabaseUnsetError, DbctlError, Exit, NotSupportedError, UsageError, gravest
from dbctl.model import Value, counted
from dbctl.services.app import MASK, App, hidden
from dbctl.services.search.query_values import checked
from dbctl.services.search.snippets import Marks, around
from dbctl.services.search.text_match import TextMatcher

#: The share of the time that one table may take before every other one has had its turn.
TURN = 8

Why: TypeAlias = Literal["secret", "no-text", "view", "time", "failed", "not-configured"]


class Match(Value, frozen=True, kw_only=True):
    """A place where the word stands."""

    target: str  #: ``app/database``
    table: str
    column: str
    key: Sequence[object]  #: the primary key of the row; empty where the table has none
    snippet: str


class Skipped(Value, frozen=True, kw_only=True):
    """What was not looked at."""

    target: str
    table: str | None  #: None: the whole database
    columns: Sequence[str]  #: empty: all
    why: Why
    message: str = ""


class EverythingFound(Value, frozen=True, kw_only=True):
    """Answer of ``search all``. ``more`` are the tables that have further rows with the word."""

    items: Sequence[Match]
    limit: int  #: rows of each table
    more: Sequence[str]
    tables: int  #: that were looked through
    skipped: Sequence[Skipped]

    @property
    def remark(self) -> str:
        """What was left out as it should be, in one line; empty where nothing was."""
        columns = {
            why: sum(len(one.columns) for one in self.skipped if one.why == why)
            for why in ("no-text", "secret")
        }
        views = sum(one.why == "view" for one in self.skipped)
        told = [
            f"{counted(columns['no-text'], 'column')} without text" if columns["no-text"] else "",
            f"{counted(columns['secret'], 'secret column')} (--secrets)" if columns["secret"] else "",
            f"{counted(views, 'view')}" if views else "",
        ]
        return f"not looked at: {', '.join(filter(None, told))}" if any(told) else ""

    @property
    def troubles(self) -> Sequence[str]:
        """What was left out though it should not have been."""
        return [
            f"{one.target}{f', {one.table},' if one.table else ''} was not looked through: {one.message}"
            for one in self.skipped
            if one.why in ("time", "failed")
        ]


class Looked(Value, frozen=True, kw_only=True):
    """What was found, and how the command ends."""

    found: EverythingFound
    status: Exit


class _Task(Value, frozen=True):
    """A table to be looked through."""

    target: str
    db: LooksThrough
    table: str
    key: Sequence[str]
    columns: Sequence[str]
    hidden: Sequence[str]


def look(
    app: App,
    word: str,
    *,
    limit: int,
    within: timedelta,
    secrets: bool = False,
    marks: Marks = ("", ""),
) -> Looked:
    """Look for a word in all that an app stores; each table gets its turn before a large one may take long.

    Args:
        app: the app, of which ``only`` may name one database.
        word: what is looked for, literally.
        limit: rows of each table.
        within: how long all of it may take.
        secrets: whether columns that hold secrets are looked at, too.
        marks: what is put before and behind the word in a snippet.

    Raises:
        UsageError: the word is empty.
        DbctlError: no database can be looked through.
    """
    if not checked(word).strip():
        raise UsageError(detail="say which word to look for")
    rounds = _Rounds(app, secrets=secrets)
    found = rounds.run(word, limit=limit + 1, until=time.monotonic() + within.total_seconds(), within=within)
    matcher = TextMatcher(TextTerm((word,), "part"))
    items = [
        match
        for number, task in enumerate(rounds.tasks)
        for hit in sorted(found.get(number, ())[:limit], key=lambda hit: [str(one) for one in hit.key])
        for match in _matches(task, hit, matcher, marks)
    ]
    answer = EverythingFound(
        items=items,
        limit=limit,
        more=[
            f"{task.target}, {task.table}"
            for number, task in enumerate(rounds.tasks)
            if len(found.get(number, ())) > limit
        ],
        tables=len(found),
        skipped=rounds.skipped,
    )
    return Looked(found=answer, status=rounds.status(found))


class _Rounds:
    """The tables that are to be looked through, and what keeps others from it."""

    def __init__(self, app: App, *, secrets: bool) -> None:
        self.tasks: list[_Task] = []
        self.skipped: list[Skipped] = []
        self._failures: list[DbctlError] = []
        for name, told in app.profile.databases.items():
            if app.only not in ("", name):
                continue
            try:
                self._take(app, name, secrets=secrets)
            except DatabaseUnsetError as error:
                if app.only == name:
                    raise
                self._skip(app.target(name), "not-configured", message=str(error))
                self._failures += [] if told.optional else [error]
            except DbctlError as error:
                self._fail(app.target(name), None, error)
        if self._failures and not self.tasks:
            raise self._failures[0]

    def status(self, found: Mapping[int, Sequence[Hit]]) -> Exit:
        """Return how the command ends: what some of it could not be asked makes it partial."""
        late = any(one.why == "time" for one in self.skipped)
        if not (self._failures or late):
            return Exit.OK
        return Exit.PARTIAL if found or late else gravest([error.exit_status for error in self._failures])

    def run(self, word: str, *, limit: int, until: float, within: timedelta) -> dict[int, Sequence[Hit]]:
        """Look through every table: first each for a turn, then those that want longer."""
        found: dict[int, Sequence[Hit]] = {}
        late = list(range(len(self.tasks)))
        for turn in (within.total_seconds() / TURN, within.total_seconds()):
            waiting, late = late, []
            for number in waiting:
                task = self.tasks[number]
                left = timedelta(seconds=max(0.0, min(turn, until - time.monotonic())))
                try:
                    hits = (
                        task.db.hits(task.table, task.columns, word, limit=limit, within=left)
                        if left
                        else None
                    )
                except DbctlError as error:
                    self._fail(task.target, task.table, error)
                    continue
                if hits is None:
                    late.append(number)
                else:
                    found[number] = hits
        for task in (self.tasks[number] for number in late):
            message = (
                f"it would have taken longer than {within.total_seconds():g} s; --within gives it longer"
            )
            self._skip(task.target, "time", task.table, message=message)
        return found

    def _take(self, app: App, name: str, *, secrets: bool) -> None:
        db, target = app.reader(name), app.target(name)
        kept = {} if secrets else hidden(app, name, db)
        able = _able(db)
        for table in db.tables().values():
            if table.view:
                self._skip(target, "view", table.name)
                continue
            texts = able.texts(table.name)
            others = [column for column in table.columns if column not in texts]
            secret = [column for column in texts if column in kept.get(table.name, ())]
            if others and texts:
                self._skip(target, "no-text", table.name, others)
            if secret:
                self._skip(target, "secret", table.name, secret)
            columns = [column for column in texts if column not in secret]
            if columns:
                key = [column.name for column in table.columns.values() if column.key]
                masked = [column for column in key if column in kept.get(table.name, ())]
                self.tasks.append(_Task(target, able, table.name, key, columns, masked))

    def _fail(self, target: str, table: str | None, error: DbctlError) -> None:
        self._failures.append(error)
        self._skip(target, "failed", table, message=str(error).partition("\n")[0])

    def _skip(
        self,
        target: str,
        why: Why,
        table: str | None = None,
        columns: Sequence[str] = (),
        *,
        message: str = "",
    ) -> None:
        self.skipped.append(Skipped(target=target, table=table, columns=columns, why=why, message=message))


def _able(db: Readable) -> LooksThrough:
    if Capability.LOOK in db.capabilities and isinstance(db, LooksThrough):
        return db
    raise NotSupportedError(
        what="looking for a word in every text",
        by=db.target,
        instead="Its engine cannot look through what it holds.",
    )


def _matches(task: _Task, hit: Hit, matcher: TextMatcher, marks: Marks) -> Iterable[Match]:
    key = [MASK if name in task.hidden else value for name, value in zip(task.key, hit.key, strict=True)]
    for column, piece in hit.pieces.items():
        told = around([piece], matcher, marks) or " ".join(piece.split())
        yield Match(target=task.target, table=task.table, column=column, key=key, snippet=told)
