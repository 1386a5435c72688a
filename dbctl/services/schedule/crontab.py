"""Scheduled jobs of the configured apps, and their crontab lines."""

from __future__ import annotations

import pwd
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dbctl.config import Selection, model
from dbctl.config import loader as config
from dbctl.engines import registry
from dbctl.errors import UsageError
from dbctl.model import Struct
from dbctl.profiles import CRON_FIELDS, FORMATS
from dbctl.profiles.model import Profile
from dbctl.services.app import command_line, read_profile
from dbctl.services.backup import has_rules, retention_for
from dbctl.services.search import has_external_index
from dbctl.url import resolve_engine

#: Jobs wait long for locks, because no user waits for them.
TIMEOUT_OPTIONS = ("--timeout", "600")
#: Characters of a command that every cron accepts.
MAX_LENGTH = 998


#: The value of a schedule that disables the job.
OFF = "off"
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


class _JobKind(NamedTuple):
    name: str
    description: str
    arguments: Sequence[str]
    minute: int  #: the minute of the first app; the minutes of other apps are derived from it
    hours: str  #: the other fields of the schedule; no two kinds share an hour
    #: one job per target, which is an argument of the command; none: the app does not need the job
    list_targets: Callable[[model.App, Profile], Sequence[str]] = lambda *_: WHOLE_APP
    is_destructive: bool = False  #: requires a confirmation
    redirection: str = ""  #: shell redirection of the output


def _for_backups(app: model.App, _profile: Profile) -> Sequence[str]:
    return WHOLE_APP if app.backup else ()


def _for_decryptable_backups(app: model.App, _profile: Profile) -> Sequence[str]:
    encryption = app.backup.encrypt if app.backup else None
    can_decrypt = encryption is None or encryption.identity_file or encryption.passphrase_file
    return WHOLE_APP if app.backup and can_decrypt else ()


def _for_retention(app: model.App, profile: Profile) -> Sequence[str]:
    return WHOLE_APP if app.backup and has_rules(retention_for(app, profile)) else ()


def _for_cleanup(_app: model.App, profile: Profile) -> Sequence[str]:
    return WHOLE_APP if profile.cleanup else ()


def _list_indexed_searches(app: model.App, profile: Profile) -> list[str]:
    """Return the searches with external indexes, if the configuration has a folder for them."""
    return [
        search.name
        for search in profile.search
        if app.search and search.database in app.databases and has_external_index(search, profile)
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
        list_targets=_for_backups,
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
        list_targets=_for_backups,
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
        name="cleanup",
        description="close open sessions and delete expired rows",
        arguments=("sessions", "cleanup", *TIMEOUT_OPTIONS),
        minute=7,
        hours="*/6 * * *",
        list_targets=_for_cleanup,
    ),
    _JobKind(
        name="status",
        description="report problems and overdue jobs",
        arguments=("status", "--check"),
        minute=47,
        hours="7 * * *",
        redirection=" > /dev/null",
    ),
)


def list_jobs(selections: Sequence[Selection]) -> list[Job]:
    """Return the jobs of apps, according to their features and configuration.

    Raises:
        UsageError: a job cannot be written as a crontab line.
    """
    return [job for selection in selections for job in _list_app_jobs(selection)]


def write_crontab(entries: Sequence[Job], selections: Sequence[Selection], *, user: str = "") -> str:
    """Return a crontab; with a ``user``, one for ``/etc/cron.d``, whose lines contain the user.

    Raises:
        UsageError: the user does not exist.
    """
    if user and not _user_exists(user):
        raise UsageError(detail=f"--user {user!r}: this machine has no such user")
    descriptions = {kind.name: kind.description for kind in KINDS}
    lines = [
        *(_SYSTEM_HEADER if user else _USER_HEADER),
        *_COMMON_HEADER,
        *(line for selection in selections[:1] for line in _list_variables(selection)),
    ]
    for job in entries:
        user_field = f"{user} " if user else ""
        lines += ["", f"# {job.app}: {descriptions[job.name]}", f"{job.schedule} {user_field}{job.command}"]
    return "\n".join(lines) + "\n"


_USER_HEADER = (
    "# Scheduled jobs, generated by dbctl schedule cron; times and lines can be edited.",
    "#   dbctl schedule cron | crontab -                      replaces the whole crontab",
    "#   (crontab -l; dbctl schedule cron) | crontab -        appends to the crontab",
    "#   dbctl schedule cron --user NAME > /etc/cron.d/dbctl  writes a system crontab; the jobs run as NAME",
)
_SYSTEM_HEADER = (
    "# Scheduled jobs, generated by dbctl schedule cron; times and lines can be edited.",
    "# Save it in /etc/cron.d: owner root, mode 644, a name without a dot.",
)
_COMMON_HEADER = (
    "# Jobs print only errors and warnings; cron mails the output to this address:",
    "#MAILTO=admin@example.org",
)


def quote(word: str) -> str:
    r"""Quote a word for a shell command in a crontab, where a bare ``%`` ends the line.

    ``\%`` is outside of quotes, because either cron or the shell removes the backslash.
    """
    return "\\%".join(shlex.quote(part) if part else "" for part in word.split("%")) or "''"


def _list_app_jobs(selection: Selection) -> Iterator[Job]:
    app = config.find_app(selection, allow_fleet=True)
    profile, _ = read_profile(app)
    if any(url.password for url in config.parse_urls(selection.urls, Path.cwd()).values()):
        raise UsageError(detail="the crontab would contain a password; write the URL into a configuration")
    position, app_count = _find_position(selection, app)
    options = command_line.app_options(selection, app)
    unknown = [name for name in app.schedule.databases if name not in app.databases]
    if unknown:
        raise UsageError(
            detail=f"[apps.{app.name}.schedule.databases]: {app.name} has no database {unknown[0]!r}"
        )
    for kind in KINDS:
        configured = str(getattr(app.schedule, kind.name))
        entries = [
            (schedules[kind.name], f"--db={database}")
            for database, schedules in app.schedule.databases.items()
            if kind.name in schedules
        ]
        if targets := kind.list_targets(app, profile):
            minute = (kind.minute + 60 * position // app_count) % 60
            default = OFF if kind.hours == OFF else f"{minute} {kind.hours}"
            entries[:0] = [(configured or default, target) for target in targets]
        elif configured not in ("", OFF) or (entries and kind.name not in FOR_ANY_DATABASE):
            raise UsageError(
                detail=f"[apps.{app.name}.schedule] {kind.name}: the configuration of {app.name} has no such job"
            )
        for schedule, target in entries:
            if schedule == OFF:
                continue
            if reason := _find_schedule_error(schedule):
                raise UsageError(detail=f"[apps.{app.name}.schedule] {kind.name} = {schedule!r}: {reason}")
            arguments = [
                *command_line.program_command(),
                *kind.arguments,
                *([target] if target else []),
                *options,
            ]
            if kind.is_destructive:
                arguments += ["--confirm", app.name] if app.protected else ["--yes"]
            command = _check_command(" ".join(map(quote, arguments)) + kind.redirection)
            yield Job(app=app.name, name=kind.name, schedule=schedule, command=command)


def _find_schedule_error(text: str) -> str:
    """Return why cron rejects a schedule, or an empty string; cron has no field for seconds."""
    return FORMATS["cron"](text) or (
        "" if len(text.split()) == len(CRON_FIELDS) - 1 else "it has 6 fields, not 5"
    )


def _find_position(selection: Selection, app: model.App) -> tuple[int, int]:
    """Return the index of the app and the number of apps, which spread the jobs over the hour."""
    if selection.profile and selection.urls:
        return 0, 1
    names = list(config.load(selection).apps)
    return names.index(app.name), len(names)


def _check_command(command: str) -> str:
    """Return a command, or raise UsageError if a crontab line cannot contain it."""
    if any(
        character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in command
    ):
        raise UsageError(
            detail=f"not allowed in a crontab: {command!a}: a name has a control character or invalid text"
        )
    if len(command) > MAX_LENGTH:
        raise UsageError(
            detail=f"{len(command)} characters are too long for a crontab line; move the configuration to a shorter path"
        )
    return command


def _list_variables(selection: Selection) -> list[str]:
    """Return comment lines with the variables that the configuration needs, because cron sets only a few."""
    if selection.profile and selection.urls:
        return []
    file = config.config_path(selection)
    names = config.referenced_variables(file)
    return [f"# {file} needs these variables too:", *(f"#{name}=" for name in names)] if names else []


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL, or invalid text
        return False
    return True
