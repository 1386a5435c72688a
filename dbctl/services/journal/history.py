"""Queries of the journal: lists of runs, one run, and the history of a command for an app."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import structs

from dbctl.errors import RunNotFoundError
from dbctl.model import Page
from dbctl.services.journal.recorder import decode_run, is_running, list_interrupted
from dbctl.services.journal.records import INTERRUPTED, RUNNING, CommandHistory, Run, RunDetails, RunFilter
from dbctl.services.journal.store import FAILED_JOB, open_for_reading, storable_text

#: Runs that a list counts; the default retention has no more.
MAX_COUNTED = 100_000
_LARGEST_ID = 2**63 - 1


def list_runs(folder: Path, selected: RunFilter) -> Page[Run]:
    """Return runs, newest first; ``total`` is the number of runs from this page on, and at most ``MAX_COUNTED``.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with open_for_reading(folder) as connection:
        runs, total = _select(connection, folder, selected) if connection else ([], 0)
    has_more = total > len(runs)
    return Page(
        items=runs,
        total=total,
        limit=selected.limit,
        column_names=Run.__struct_fields__,
        empty_message="no runs are recorded",
        next_key=[str(runs[-1].id)] if runs and has_more else (),
    )


def read_runs(folder: Path, config: str, since: datetime) -> Sequence[Run]:
    """Return the runs with a configuration that began at a time or later, oldest first.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with open_for_reading(folder) as connection:
        if connection is None:
            return ()
        sql = "select id, record from runs where started_at >= ? order by id"
        runs = [_resolve(folder, *row) for row in connection.execute(sql, (since.isoformat(),))]
    return [run for run in runs if run.config == config]


def show_run(folder: Path, run_id: int) -> RunDetails:
    """Return one run.

    Raises:
        RunNotFoundError: the journal does not have it.
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with open_for_reading(folder) as connection:
        run = _read_run(connection, folder, run_id) if connection else None
    if run is None:
        raise RunNotFoundError(id=run_id)
    return RunDetails(**structs.asdict(run))


def read_history(folder: Path, config: str, app: str) -> Sequence[CommandHistory]:
    """Return the history of each command that ran for an app of a configuration.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with open_for_reading(folder) as connection:
        if connection is None:
            return ()
        config, app = storable_text(config), storable_text(app)
        commands = _list_commands(connection, "outcomes", "config = ? and app = ? and ", (config, app))
        histories = (_read_command(connection, folder, config, app, command) for command in commands)
        return [history for history in histories if history]


def list_anchors(folder: Path) -> Sequence[str]:
    """Return the ends of the audit log after the recorded runs, ``SEQUENCE:HASH``, the newest run first.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    return _read_anchors(folder, "")


def read_newest_anchor(folder: Path) -> str:
    """Return the end of the audit log after the newest run that changed anything; empty: there is none.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    return next(iter(_read_anchors(folder, " limit 1")), "")


def _read_anchors(folder: Path, limit: str) -> Sequence[str]:
    anchor = "json_extract(cast(record as text), '$.audit')"
    sql = f"select {anchor} from runs where {anchor} <> '' order by id desc{limit}"
    with open_for_reading(folder) as connection:
        return [str(row[0]) for row in connection.execute(sql)] if connection else []


def _select(connection: sqlite3.Connection, folder: Path, selected: RunFilter) -> tuple[list[Run], int]:
    """Return the runs of a page, and the number of runs from there on, counted up to ``MAX_COUNTED``.

    Each command is a range of an index, so that neither many runs nor rare ones are read.
    """
    first = _find_first_id(connection, selected.since) if selected.since else 0
    last = selected.after - 1 if selected.after else _LARGEST_ID
    source, column = ("outcomes", "run") if selected.app else ("runs", "id")
    where = "app = ? and " if selected.app else ""
    values = (storable_text(selected.app),) if selected.app else ()
    ids, total = set[int](), 0
    for command in _list_commands(connection, source, where, values):
        if selected.command and not f"{command} ".startswith(f"{selected.command} "):
            continue
        key = (*values, command, first, last)
        condition = f"{where}command = ? and {column} between ? and ?" + (
            " and failed" if selected.failed else ""
        )
        query = f"select {column} from {source} where {condition}"
        ids.update(
            row[0] for row in connection.execute(f"{query} order by 1 desc limit ?", (*key, selected.limit))
        )
        sql = f"select count(*) from ({query} limit ?)"
        total += connection.execute(sql, (*key, MAX_COUNTED - total)).fetchone()[0]
    if selected.failed:
        interrupted = {
            run.id for run in list_interrupted(connection, folder) if _matches(run, selected, first, last)
        }
        total += len(interrupted)
        ids |= interrupted
    runs = (_read_run(connection, folder, run_id) for run_id in sorted(ids, reverse=True)[: selected.limit])
    return [run for run in runs if run], min(total, MAX_COUNTED)


def _matches(run: Run, selected: RunFilter, first: int, last: int) -> bool:
    is_of_app = not selected.app or selected.app in run.app.split(", ")
    is_of_command = not selected.command or f"{run.command} ".startswith(f"{selected.command} ")
    return is_of_app and is_of_command and first <= run.id <= last


def _find_first_id(connection: sqlite3.Connection, since: datetime) -> int:
    """Return the id of the first run that began at a time or later."""
    sql = "select min(id) from runs where started_at >= ?"
    (first_id,) = connection.execute(sql, (since.isoformat(),)).fetchone()
    return _LARGEST_ID if first_id is None else int(first_id)


def _read_run(connection: sqlite3.Connection, folder: Path, run_id: int) -> Run | None:
    row = connection.execute("select id, record from runs where id = ?", (run_id,)).fetchone()
    return _resolve(folder, *row) if row else None


def _resolve(folder: Path, run_id: int, record: bytes) -> Run:
    """Return a run; one whose process does not exist any more was interrupted."""
    run = decode_run(run_id, record)
    if run.result == RUNNING and not is_running(folder, run_id):
        return structs.replace(run, result=INTERRUPTED)
    return run


def _list_commands(
    connection: sqlite3.Connection, source: str, where: str, values: Sequence[object]
) -> Iterator[str]:
    """Yield the commands of a table, each with one look-up of an index."""
    sql = f"select min(command) from {source} where {where}command > ?"
    command = ""
    while (command := connection.execute(sql, (*values, command)).fetchone()[0]) is not None:
        yield command


def _read_command(
    connection: sqlite3.Connection, folder: Path, config: str, app: str, command: str
) -> CommandHistory | None:
    key = (config, app, command)
    where = "config = ? and app = ? and command = ?"
    select = f"select run from outcomes where {where}"
    newest = connection.execute(
        f"select run, error_code from outcomes where {where} and failed <> 1 order by run desc limit 1", key
    ).fetchone()
    if newest is None:
        return None
    last_id, error_code = newest
    success = connection.execute(
        f"{select} and exit_code is not null and not failed order by run desc limit 1", key
    ).fetchone()
    success_id = success[0] if success else 0
    last = _read_run(connection, folder, last_id)
    if last is None:
        return None
    first_id, failures = connection.execute(
        f"select min(run), count(*) from outcomes where {where} and run > ? and failed = ?",
        (*key, success_id, FAILED_JOB),
    ).fetchone()
    first = _read_run(connection, folder, first_id) if first_id else None
    return CommandHistory(
        command=command,
        last=last,
        last_success=_read_run(connection, folder, success_id) if success_id else None,
        error_code=error_code,
        failures=failures,
        failing_since=first.started_at if first else None,
    )
