"""Scheduled jobs of the configured apps: their commands and their times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.config.defaults import NAME as DEFAULTS
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import CleanupUnconfirmedError, UsageError
from dbctl.extensions import registry as extensions
from dbctl.extensions.schedule.section import OFF, Schedule, read_section
from dbctl.extensions.schedule.times import find_interval, normalize
from dbctl.model import Struct
from dbctl.profiles.model.profile import Profile
from dbctl.services.app import command_line
from dbctl.services.app.session import open_app, read_profile
from dbctl.services.backup.due import database_retentions, has_rules, retention_for
from dbctl.services.search.indexes.kinds import find_kind
from dbctl.services.sessions.cleanup import CleanUp
from dbctl.url import find_engine, resolve_engine

#: Jobs wait long for locks, because no user waits for them.
TIMEOUT_OPTIONS = ("--timeout", "600")

#: The job that sends messages, also if another job was killed.
NOTIFY = "notify"
#: The job that closes and deletes expired rows.
CLEANUP = "cleanup"
#: Seconds to wait for a database of an app whose jobs are generated.
TIMEOUT = 1.0
#: The only target of a job for an app and not for parts of it: no argument.
WHOLE_APP = ("",)
#: Jobs that can be scheduled for single databases of any app.
FOR_ANY_DATABASE = frozenset({"optimize", "vacuum"})


class Job(Struct, frozen=True, kw_only=True):
    """A scheduled job."""

    app: str
    name: str
    schedule: str  #: five cron fields: minute, hour, day, month, day of the week
    command: str  #: for a shell or a crontab; independent of directory and environment


class PlannedJob(Struct, frozen=True, kw_only=True):
    """A job, independent of the program that starts it."""

    app: str
    name: str
    target: str  #: the search or the database; empty: the app
    description: str
    schedule: str  #: five cron fields
    program: Sequence[str]  #: the program of this installation
    arguments: Sequence[str]  #: without the options that select the app
    selection: Sequence[str]  #: these options
    is_for_all_apps: bool  #: whether they select all apps of the configuration
    confirmation: Sequence[str]  #: the option that a destructive command requires
    journal_command: str  #: the name of the command in the journal
    is_silent: bool  #: whether the output is only for people

    @property
    def command(self) -> Sequence[str]:
        """The program and all its arguments; cron mails every line of its output."""
        return [*self.program, *self.arguments, *self.selection, *self.confirmation, "--quiet"]


class _JobKind(NamedTuple):
    name: str
    description: str
    arguments: Sequence[str]
    minute: int  #: the minute of the first app; the minutes of other apps are derived from it
    hours: str  #: the other fields of the schedule; no two kinds share an hour
    #: one job per target, which is an argument of the command; none: the app does not need the job
    list_targets: Callable[[model.App, Profile], Sequence[str]] = lambda *_: WHOLE_APP
    is_destructive: bool = False  #: requires a confirmation
    is_silent: bool = False  #: its output is only for people
    is_for_all_apps: bool = False
    #: only an app for which the configuration requests it has the job (``Extension.find_jobs``)
    is_requested: bool = False


def _for_decryptable_backups(app: model.App, _profile: Profile) -> Sequence[str]:
    encryption = app.backup.encrypt if app.backup else None
    can_decrypt = (
        encryption is None
        or encryption.identity_file
        or encryption.passphrase_file
        or encryption.passphrase_env
    )
    return WHOLE_APP if app.backup and can_decrypt else ()


def _for_retention(app: model.App, profile: Profile) -> Sequence[str]:
    is_configured = has_rules(retention_for(app, profile)) or database_retentions(app)
    return WHOLE_APP if app.backup and is_configured else ()


def _list_indexed_searches(app: model.App, profile: Profile) -> list[str]:
    """Return the searches with an index of an extension, if the configuration has a folder for them."""
    return [
        search.name
        for search in profile.search
        if app.search and search.database in app.databases and find_kind(search, profile)
    ]


def _list_growing_databases(app: model.App, profile: Profile) -> list[str]:
    """Return the options of databases whose files must be compacted regularly."""
    return [
        f"--db={name}"
        for name, section in profile.databases.items()
        if name in app.databases
        and registry.load_engine(
            resolve_engine(app.databases[name], section.engines).engine
        ).creates_fragments
    ]


KINDS = (
    _JobKind(
        name="search",
        description="rebuild the search index if its database was changed",
        arguments=("search", "index", "build"),
        minute=29,
        hours="1 * * *",
        list_targets=_list_indexed_searches,
    ),
    _JobKind(
        name="backup",
        description="back up the databases, and verify the backups",
        arguments=("backup", "create", *TIMEOUT_OPTIONS),
        minute=11,
        hours="2 * * *",
        list_targets=lambda app, _: WHOLE_APP if app.backup else (),
    ),
    _JobKind(
        name="prune",
        description="delete the backups that the retention does not cover",
        arguments=("backup", "prune", *TIMEOUT_OPTIONS),
        minute=23,
        hours="3 * * *",
        list_targets=_for_retention,
        is_destructive=True,
    ),
    _JobKind(
        name="verify",
        description="verify every backup",
        arguments=("backup", "verify", *TIMEOUT_OPTIONS),
        minute=37,
        hours="4 * * 0",
        list_targets=lambda app, _: WHOLE_APP if app.backup else (),
    ),
    _JobKind(
        name="drill",
        description="test-restore the newest backup of each database, and record the result",
        arguments=("backup", "drill"),
        minute=53,
        hours="5 1 * *",
        list_targets=_for_decryptable_backups,
    ),
    _JobKind(
        name="optimize",
        description="compact small files of vectors",
        arguments=("maintain", "optimize", *TIMEOUT_OPTIONS),
        minute=17,
        hours="9 1 * *",
        list_targets=_list_growing_databases,
    ),
    _JobKind(
        name="vacuum",
        description="rewrite the databases without their free pages",
        arguments=("maintain", "vacuum", *TIMEOUT_OPTIONS),
        minute=41,
        hours=OFF,
    ),
    _JobKind(
        name=CLEANUP,
        description="close open sessions and delete expired rows",
        arguments=("sessions", "cleanup", *TIMEOUT_OPTIONS),
        minute=7,
        hours="*/6 * * *",
        list_targets=lambda _, profile: WHOLE_APP if profile.cleanup else (),
    ),
    _JobKind(
        name="status",
        description="report problems and overdue jobs",
        arguments=("status", "--check"),
        minute=47,
        hours="7 * * *",
        is_silent=True,
    ),
    _JobKind(
        name=NOTIFY,
        description="send messages about problems and overdue jobs",
        arguments=("notify", "check"),
        minute=3,
        hours="8 * * *",
        is_requested=True,
    ),
    _JobKind(
        name="summary",
        description="send the weekly summary of all apps, with the report",
        arguments=("notify", "summary", "--report"),
        minute=19,
        hours="10 * * 1",
        is_requested=True,
        is_for_all_apps=True,
    ),
)


def list_jobs(selections: Sequence[Selection]) -> list[PlannedJob]:
    """Return the jobs of apps, according to their features and configuration.

    Raises:
        UsageError: a schedule is invalid, or a command would contain a password or a control character.
    """
    return [job for selection in selections for job in _list_app_jobs(selection)]


def require_confirmed_cleanup(selections: Sequence[Selection]) -> None:
    """Refuse a job that would be refused whenever an expired row has dependent rows.

    A database that cannot be read now is not checked.

    Raises:
        CleanupUnconfirmedError: foreign keys delete or change rows of other tables, and the configuration does not allow it.
    """
    for selection in selections:
        app = config.find_app(selection, allow_fleet=True)
        profile, _ = read_profile(app)
        section = read_section(app)
        is_planned = profile.cleanup and section.cleanup != OFF and not section.cleanup_dependents
        if not is_planned or app.is_fleet:
            continue
        tables = list[str]()
        with suppress(DbctlError), open_app(selection, timeout=TIMEOUT, traceless=True) as opened:
            tables = CleanUp(opened).list_dependents()
        if tables:
            raise CleanupUnconfirmedError(app=app.name, tables=", ".join(tables))


def _list_app_jobs(selection: Selection) -> Iterator[PlannedJob]:
    app = config.find_app(selection, allow_fleet=True)
    profile, _ = read_profile(app)
    if any(url.password for url in config.parse_urls(selection.urls, Path.cwd()).values()):
        raise UsageError(
            detail="a scheduled command would contain a password; write the URL into a configuration"
        )
    app_names = list_app_names(selection)
    offset = 60 * app_names.index(app.name) // len(app_names)
    options = command_line.app_options(selection, app)
    section, requested = read_section(app), _find_requested(selection, app.name)
    unknown = [name for name in section.databases if name not in app.databases]
    if unknown:
        raise UsageError(
            detail=f"[apps.{app.name}.schedule.databases]: {app.name} has no database {unknown[0]!r}"
        )
    for kind in KINDS:
        configured = str(getattr(section, kind.name))
        if kind.name == "backup" and section.every:
            configured = _convert_interval(app, profile, section, (kind.minute + offset) % 60)
        entries = [
            (schedules[kind.name], f"--db={database}")
            for database, schedules in section.databases.items()
            if kind.name in schedules
        ]
        targets = kind.list_targets(app, profile) if not kind.is_requested or kind.name in requested else ()
        if targets:
            minute = (kind.minute + offset) % 60
            default = OFF if kind.hours == OFF else f"{minute} {kind.hours}"
            entries[:0] = [(configured or default, target) for target in targets]
        elif (configured not in ("", OFF) and not _is_default(selection, app.name, kind.name, section)) or (
            entries and kind.name not in FOR_ANY_DATABASE
        ):
            raise UsageError(
                detail=f"[apps.{app.name}.schedule] {kind.name}: the configuration of {app.name} has no such job"
            )
        for schedule, target in entries:
            if schedule == OFF:
                continue
            arguments = [*kind.arguments, *([target] if target else [])]
            is_confirmed = kind.is_destructive or (kind.name == CLEANUP and section.cleanup_dependents)
            confirmation = ["--confirm", app.name] if app.protected else ["--yes"]
            yield _check_job(
                PlannedJob(
                    app=app.name,
                    name=kind.name,
                    target=target.removeprefix("--db="),
                    description=kind.description,
                    schedule=normalize(schedule),
                    program=command_line.program_command(),
                    arguments=arguments,
                    selection=command_line.config_options(selection) if kind.is_for_all_apps else options,
                    is_for_all_apps=kind.is_for_all_apps,
                    confirmation=confirmation if is_confirmed else (),
                    journal_command=" ".join(takewhile(lambda word: word[0] != "-", kind.arguments)),
                    is_silent=kind.is_silent,
                )
            )


def _convert_interval(app: model.App, profile: Profile, section: Schedule, minute: int) -> str:
    """Return the schedule of backups with a short interval, which is ``every`` of ``section``; one of hours begins at ``minute``.

    Raises:
        UsageError: so many backups would take too much space.
    """
    key = f"[apps.{app.name}.schedule] every = {section.every!r}"
    schedule = find_interval(section.every)
    if app.backup is None:
        return schedule  # without backups, there is no such job
    for name, database in profile.databases.items():
        if name in app.databases and database.backup:
            url = resolve_engine(app.databases[name], database.engines)
            entry = find_engine(url.engine)
            if entry is None or entry.kind != "file" or url.via:
                reason = f"{name} is no SQLite file of this machine, so each backup reads all of its data"
                raise UsageError(detail=f"{key}: {reason}; set a time of backup instead")
    if not app.backup.incremental:
        raise UsageError(
            detail=f"{key}: each backup would be a full copy; set incremental in [apps.{app.name}.backup]"
        )
    if not (has_rules(retention_for(app, profile)) or database_retentions(app)):
        raise UsageError(detail=f"{key}: no rule deletes backups; set keep in [apps.{app.name}.backup]")
    return schedule.format(minute)


def _is_default(selection: Selection, app: str, job: str, section: Schedule) -> bool:
    """Whether the schedule of a job is that of all apps, of which some have no such job."""
    key = "every" if job == "backup" and section.every else job
    origin = config.load_sections(selection).origins["apps", app]
    return origin.locate(("apps", app, "schedule", key))[1][0] == DEFAULTS


def _find_requested(selection: Selection, app: str) -> Collection[str]:
    """Return the names of the jobs that the configuration requests for an app, as their extension reads it."""
    place = extensions.find_place("find_jobs")
    if not place or (selection.profile and selection.urls):
        return ()
    jobs: Mapping[str, Collection[str]] = extensions.load(place)(config.load_sections(selection))
    return jobs[app]


def list_app_names(selection: Selection) -> Sequence[str]:
    """Return the names of all apps of the configuration, whose jobs are spread over the hour and the minute."""
    if selection.profile and selection.urls:
        return [selection.app.partition("/")[0] or model.UNNAMED_APP]
    return list(config.load_sections(selection).apps)


def _check_job(job: PlannedJob) -> PlannedJob:
    """Return a job, or raise UsageError if no crontab and unit can contain its command."""
    for word in job.command:
        if any(
            character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in word
        ):
            raise UsageError(
                detail=f"not allowed in a crontab or unit: {word!a}: a name has a control character or invalid text"
            )
    return job
