"""Queries of runs: lists, one run, the history of a command for an app, what failed or is overdue, and the anchors of the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from msgspec import structs

from dbctl.config.model import BackupConfig, JobCommand
from dbctl.errors.base import DbctlError, Exit, Remedy
from dbctl.errors.operations import RunNotFoundError
from dbctl.model import Page, Struct, now
from dbctl.services.events.recorder import decode_run, is_running, list_interrupted
from dbctl.services.events.runs import (
    FAILED_JOB,
    INTERRUPTED,
    RUNNING,
    CommandHistory,
    JournalLocation,
    Run,
    RunDetails,
    RunFilter,
    name_result,
)
from dbctl.services.events.store import EventStore, storable_text
from dbctl.units import parse_duration

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database


#: Runs that a list counts; the default retention has no more.
MAX_COUNTED = 100_000
_LARGEST_ID = 2**63 - 1


def list_runs(folder: Path, selected: RunFilter) -> Page[Run]:
    """Return runs, newest first; ``total`` is the number of runs from this page on, and at most ``MAX_COUNTED``.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with EventStore(folder).reading() as db:
        runs, total = _select(db, folder, selected) if db else ([], 0)
    has_more, is_filtered = total > len(runs), selected != RunFilter(limit=selected.limit)
    return Page(
        items=runs,
        total=total,
        limit=selected.limit,
        column_names=Run.__struct_fields__,
        empty_message="no recorded run matches" if is_filtered else "no runs are recorded",
        next_key=[str(runs[-1].id)] if runs and has_more else (),
    )


def read_runs(folder: Path, config: str, since: datetime) -> Sequence[Run]:
    """Return the runs with a configuration that began at a time or later, oldest first.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with EventStore(folder).reading() as db:
        if db is None:
            return ()
        rows = db["runs"].rows_where("started_at >= ?", [since.isoformat()], "id", "id, record")
        runs = [_resolve(folder, row) for row in rows]
    return [run for run in runs if run.config == config]


def show_run(folder: Path, run_id: int) -> RunDetails:
    """Return one run.

    Raises:
        RunNotFoundError: the journal does not have it.
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with EventStore(folder).reading() as db:
        run = _read_run(db, folder, run_id) if db else None
    if run is None:
        raise RunNotFoundError(id=run_id)
    return RunDetails(**structs.asdict(run))


def read_history(folder: Path, config: str, app: str) -> Sequence[CommandHistory]:
    """Return the history of each command that ran for an app of a configuration.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with EventStore(folder).reading() as db:
        if db is None:
            return ()
        config, app = storable_text(config), storable_text(app)
        commands = _list_commands(db, "outcomes", "config = ? and app = ? and ", (config, app))
        histories = (_read_command(db, folder, config, app, command) for command in commands)
        return [history for history in histories if history]


def _select(db: Database, folder: Path, selected: RunFilter) -> tuple[list[Run], int]:
    """Return the runs of a page, and the number of runs from there on, counted up to ``MAX_COUNTED``.

    Each command is a range of an index, so that neither many runs nor rare ones are read.
    """
    first = _find_first_id(db, selected.since) if selected.since else 0
    last = selected.after - 1 if selected.after else _LARGEST_ID
    source, column = ("outcomes", "run") if selected.app else ("runs", "id")
    where = "app = ? and " if selected.app else ""
    values = (storable_text(selected.app),) if selected.app else ()
    ids, total = set[int](), 0
    for command in _list_commands(db, source, where, values):
        if selected.command and not f"{command} ".startswith(f"{selected.command} "):
            continue
        key = (*values, command, first, last)
        condition = f"{where}command = ? and {column} between ? and ?" + (
            " and failed" if selected.failed else ""
        )
        rows = db[source].rows_where(condition, key, f"{column} desc", column, limit=selected.limit)
        ids.update(row[column] for row in rows)
        sql = f"select count(*) from (select {column} from {source} where {condition} limit ?)"
        total += db.execute(sql, (*key, MAX_COUNTED - total)).fetchone()[0]
    if selected.failed:
        interrupted = {
            run.id for run in list_interrupted(db.conn, folder) if _matches(run, selected, first, last)
        }
        total += len(interrupted)
        ids |= interrupted
    runs = (_read_run(db, folder, run_id) for run_id in sorted(ids, reverse=True)[: selected.limit])
    return [run for run in runs if run], min(total, MAX_COUNTED)


def _matches(run: Run, selected: RunFilter, first: int, last: int) -> bool:
    is_of_app = not selected.app or selected.app in run.app.split(", ")
    is_of_command = not selected.command or f"{run.command} ".startswith(f"{selected.command} ")
    return is_of_app and is_of_command and first <= run.id <= last


def _find_first_id(db: Database, since: datetime) -> int:
    """Return the id of the first run that began at a time or later."""
    sql = "select min(id) from runs where started_at >= ?"
    (first_id,) = db.execute(sql, (since.isoformat(),)).fetchone()
    return _LARGEST_ID if first_id is None else int(first_id)


def _read_run(db: Database, folder: Path, run_id: int) -> Run | None:
    rows = db["runs"].rows_where("id = ?", [run_id], select="id, record")
    return next((_resolve(folder, row) for row in rows), None)


def _resolve(folder: Path, row: Mapping[str, Any]) -> Run:
    """Return a run; one whose process does not exist any more was interrupted."""
    run = decode_run(row["id"], row["record"])
    if run.result == RUNNING and not is_running(folder, run.id):
        return structs.replace(run, result=INTERRUPTED)
    return run


def _list_commands(db: Database, source: str, where: str, values: Sequence[object]) -> Iterator[str]:
    """Yield the commands of a table, each with one look-up of an index."""
    sql = f"select min(command) from {source} where {where}command > ?"
    command = ""
    while (command := db.execute(sql, (*values, command)).fetchone()[0]) is not None:
        yield command


def _read_command(db: Database, folder: Path, config: str, app: str, command: str) -> CommandHistory | None:
    key = (config, app, command)
    where = "config = ? and app = ? and command = ?"
    outcomes = db["outcomes"]
    newest = next(outcomes.rows_where(f"{where} and failed <> 1", key, "run desc", limit=1), None)
    last = _read_run(db, folder, newest["run"]) if newest else None
    if newest is None or last is None:
        return None
    if (exit_code := newest["exit_code"]) is not None:
        last = structs.replace(last, result=name_result(exit_code), exit_code=exit_code)
    succeeded = f"{where} and exit_code is not null and not failed"
    success = next(outcomes.rows_where(succeeded, key, "run desc", limit=1), None)
    first_id, failures = db.execute(
        f"select min(run), count(*) from outcomes where {where} and run > ? and failed = ?",
        (*key, success["run"] if success else 0, FAILED_JOB),
    ).fetchone()
    first = _read_run(db, folder, first_id) if first_id else None
    return CommandHistory(
        command=command,
        last=last,
        last_success=_read_run(db, folder, success["run"]) if success else None,
        error_code=newest["error_code"],
        failures=failures,
        failing_since=first.started_at if first else None,
    )


BACKUP = "backup create"
#: Commands that usually run without a user, whose failures no other command reports.
UNATTENDED = frozenset(get_args(JobCommand))


class RunProblem(Struct, frozen=True, kw_only=True):
    """Why the runs of a command for an app need attention."""

    app: str
    command: str
    kind: str  #: ``failing``, ``interrupted``, ``missing``, or ``unavailable``: the journal cannot be read
    message: str
    code: str = ""  #: the error of the last run, or its result
    exit_status: Exit = Exit.ACTION_NEEDED
    since: datetime | None = None
    run: int | None = None  #: the id of the last run

    @property
    def hint(self) -> str:
        """The command that shows the last run."""
        return Remedy("`runs show {run}`").write(facts={"run": self.run}) if self.run else ""


def find_problems(
    location: JournalLocation, app: str, *, backup_config: BackupConfig | None
) -> Sequence[RunProblem]:
    """Return the problems of the runs for an app or instance; without a configuration none, because nothing identifies the app.

    Of the ages of backups in ``backup_config``, the shortest applies; None: no limit.
    """
    if location.folder is None or not location.config:
        return ()
    try:
        history = read_history(location.folder, location.config, app)
    except DbctlError as error:
        return [RunProblem(app=app, command="", kind="unavailable", message=str(error))]
    max_age = _find_shortest_age(backup_config) if backup_config else None
    problems = [problem for command in history for problem in _find(app, command, max_age)]
    if EventStore(location.folder).is_read_only:
        message = f"the journal in {location.folder} cannot be written, so runs are not recorded"
        problems.append(RunProblem(app=app, command="", kind="unavailable", message=message))
    return problems


def _find_shortest_age(backup_config: BackupConfig) -> timedelta | None:
    texts = [backup_config.max_age, *(section.max_age for section in backup_config.databases.values())]
    return min((parse_duration(text) for text in texts if text), default=None)


def _find(app: str, history: CommandHistory, backup_max_age: timedelta | None) -> Iterator[RunProblem]:
    last, command = history.last, history.command
    time = f"{last.started_at:%Y-%m-%d %H:%M} UTC"
    if last.result == INTERRUPTED:
        message = f"{command} was interrupted: its process ended without a result; it began {time}"
        yield RunProblem(
            app=app, command=command, kind="interrupted", message=message, since=last.started_at, run=last.id
        )
    elif history.failures and command in UNATTENDED and last.result != RUNNING:
        code = history.error_code or last.result
        since = history.failing_since or last.started_at
        times = f"{history.failures} times in a row since {since:%Y-%m-%d %H:%M} UTC"
        message = f"{command} failed {times if history.failures > 1 else time} ({code})"
        yield RunProblem(
            app=app, command=command, kind="failing", message=message, code=code, since=since, run=last.id
        )
    elif command == BACKUP and backup_max_age and now() - last.started_at > backup_max_age:
        message = f"{command} has not been started since {time}"
        yield RunProblem(
            app=app, command=command, kind="missing", message=message, since=last.started_at, run=last.id
        )
