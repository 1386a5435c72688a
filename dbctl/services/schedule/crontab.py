"""What is to be done by itself for the apps that are configured: the jobs, and the crontab that starts them."""

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
from dbctl.model import Value
from dbctl.profiles import CRON_FIELDS, FORMATS, loader
from dbctl.profiles.model import Profile
from dbctl.services.app import command_line
from dbctl.services.backup import has_rules, rules_of
from dbctl.services.search import is_aside
from dbctl.url import meant

#: Seconds for which a job waits while another one has a lock; nobody waits for the job.
PATIENCE = ("--timeout", "600")
#: Characters of a command that every cron takes.
LONGEST = 998


#: In place of a schedule: the job does not run.
OFF = "off"


#: Jobs that can run for any database on its own, whatever else the app has.
OF_ANY_DATABASE = frozenset({"optimize", "vacuum"})


class Job(Value, frozen=True, kw_only=True):
    """Something that is done by itself."""

    app: str
    name: str
    schedule: str  #: minute, hour, day, month, day of the week, as cron reads them
    command: str  #: for a shell, also in a crontab; in any directory and with any environment


class _Kind(NamedTuple):
    """One kind of job."""

    name: str
    about: str
    words: Sequence[str]
    minute: int  #: of the first app; those of the others follow from it
    hours: str  #: the rest of the schedule; no two kinds share an hour
    wanted: Callable[[model.App, Profile], bool]
    asks: bool = False  #: it destroys, and so wants an answer
    behind: str = ""  #: what the shell does with its output
    whose: Callable[[model.App, Profile], Sequence[str]] = lambda *_: ("",)  #: a job for each of these


def _backs_up(app: model.App, _profile: Profile) -> bool:
    return app.backup is not None


def _opens(app: model.App, _profile: Profile) -> bool:
    told = app.backup.encrypt if app.backup else None
    return app.backup is not None and (told is None or bool(told.identity_file or told.passphrase_file))


def _prunes(app: model.App, profile: Profile) -> bool:
    return app.backup is not None and has_rules(rules_of(app, profile))


def _cleans_up(_app: model.App, profile: Profile) -> bool:
    return bool(profile.cleanup)


def _searches(app: model.App, profile: Profile) -> list[str]:
    """Return the searches whose indexes are files that are to be in a folder which somebody named for them."""
    return [
        one.name
        for one in profile.search
        if app.search and one.database in app.databases and is_aside(one, profile)
    ]


def _grows(app: model.App, profile: Profile) -> list[str]:
    """Return the options that name databases whose files only get more until somebody puts them together."""
    return [
        f"--db={name}"
        for name, told in profile.databases.items()
        if name in app.databases and registry.grows(meant(app.databases[name], told.engines))
    ]


KINDS = (
    _Kind(
        name="search",
        about="make the search index anew where its database was changed",
        words=("search", "index", "build"),
        minute=29,
        hours="1 * * *",
        wanted=lambda app, profile: bool(_searches(app, profile)),
        whose=_searches,
    ),
    _Kind(
        name="backup",
        about="copy the databases, and prove the copies",
        words=("backup", "create", *PATIENCE),
        minute=11,
        hours="2 * * *",
        wanted=_backs_up,
    ),
    _Kind(
        name="prune",
        about="delete the backups that no rule keeps",
        words=("backup", "prune", *PATIENCE),
        minute=23,
        hours="3 * * *",
        wanted=_prunes,
        asks=True,
    ),
    _Kind(
        name="verify",
        about="read every backup whole",
        words=("backup", "verify", *PATIENCE),
        minute=37,
        hours="4 * * 0",
        wanted=_backs_up,
    ),
    _Kind(
        name="drill",
        about="restore the newest backup of each database on trial, and record that it works",
        words=("backup", "drill"),
        minute=53,
        hours="5 1 * *",
        wanted=_opens,
    ),
    _Kind(
        name="optimize",
        about="put small files of vectors together",
        words=("maintain", "optimize", *PATIENCE),
        minute=17,
        hours="9 1 * *",
        wanted=lambda app, profile: bool(_grows(app, profile)),
        whose=_grows,
    ),
    _Kind(
        name="vacuum",
        about="rewrite the databases without their free pages",
        words=("maintain", "vacuum", *PATIENCE),
        minute=41,
        hours=OFF,
        wanted=lambda *_: True,
    ),
    _Kind(
        name="cleanup",
        about="close and delete what has had its day",
        words=("sessions", "cleanup", *PATIENCE),
        minute=7,
        hours="*/6 * * *",
        wanted=_cleans_up,
    ),
    _Kind(
        name="status",
        about="tell what is wrong, or overdue, also of backups",
        words=("status", "--check"),
        minute=47,
        hours="7 * * *",
        wanted=lambda *_: True,
        behind=" > /dev/null",
    ),
)


def jobs(said: Sequence[Selection]) -> list[Job]:
    """Return what is to be done for some apps: only what an app has, and what its configuration gives.

    Raises:
        UsageError: a crontab cannot hold it.
    """
    return [job for one in said for job in _jobs(one)]


def crontab(wanted: Sequence[Job], said: Sequence[Selection], *, user: str = "") -> str:
    """Return a crontab; with a ``user``, one for ``/etc/cron.d``, whose lines say as whom they run.

    Raises:
        UsageError: there is no such user.
    """
    if user and not _is_user(user):
        raise UsageError(detail=f"--user {user!r}: this machine has no such user")
    about = {kind.name: kind.about for kind in KINDS}
    lines = [*(_SYSTEM if user else _OWN), *_COMMON, *(line for one in said[:1] for line in _variables(one))]
    for job in wanted:
        who = f"{user} " if user else ""
        lines += ["", f"# {job.app}: {about[job.name]}", f"{job.schedule} {who}{job.command}"]
    return "\n".join(lines) + "\n"


_OWN = (
    "# What is to be done by itself, as dbctl schedule cron tells it; times and lines are yours to change.",
    "#   dbctl schedule cron | crontab -                      makes this the whole crontab, in place of what is in it",
    "#   (crontab -l; dbctl schedule cron) | crontab -        puts it behind what is in it",
    "#   dbctl schedule cron --user NAME > /etc/cron.d/dbctl  makes a file of its own, of lines that run as NAME",
)
_SYSTEM = (
    "# What is to be done by itself, as dbctl schedule cron tells it; times and lines are yours to change.",
    "# Put it into /etc/cron.d: owned by root, mode 644, under a name without a dot.",
)
_COMMON = (
    "# Nothing is printed while all is well; what is, cron mails to the address that is set here:",
    "#MAILTO=admin@example.org",
)


def quoted(word: str) -> str:
    r"""Return a word as a shell reads it, also from a crontab, where a bare ``%`` ends the line.

    cron takes the backslash of ``\%`` away, and where one does not, the shell does: so it stands outside of quotes.
    """
    return "\\%".join(shlex.quote(part) if part else "" for part in word.split("%")) or "''"


def _jobs(said: Selection) -> Iterator[Job]:
    app = config.find(said)
    profile = loader.load(app.profile)
    if any(url.password for url in config.given(said.urls, Path.cwd()).values()):
        raise UsageError(
            detail="a password would stand in the crontab; write the address into a configuration"
        )
    place, number = _place(said, app)
    own = command_line.options(said, app)
    unknown = [name for name in app.schedule.databases if name not in app.databases]
    if unknown:
        raise UsageError(
            detail=f"[apps.{app.name}.schedule.databases]: {app.name} has no database {unknown[0]!r}"
        )
    for kind in KINDS:
        configured = str(getattr(app.schedule, kind.name))
        times = [
            (schedules[kind.name], f"--db={database}")
            for database, schedules in app.schedule.databases.items()
            if kind.name in schedules
        ]
        if kind.wanted(app, profile):
            minute = (kind.minute + 60 * place // number) % 60
            usual = OFF if kind.hours == OFF else f"{minute} {kind.hours}"
            times[:0] = [(configured or usual, whose) for whose in kind.whose(app, profile)]
        elif configured not in ("", OFF) or (times and kind.name not in OF_ANY_DATABASE):
            raise UsageError(
                detail=f"[apps.{app.name}.schedule] {kind.name}: the configuration of {app.name} has nothing for it"
            )
        for when, whose in times:
            if when == OFF:
                continue
            if reason := _no_schedule(when):
                raise UsageError(detail=f"[apps.{app.name}.schedule] {kind.name} = {when!r}: {reason}")
            words = [*command_line.program(), *kind.words, *([whose] if whose else []), *own]
            if kind.asks:
                words += ["--confirm", app.name] if app.protected else ["--yes"]
            command = _line(" ".join(map(quoted, words)) + kind.behind)
            yield Job(app=app.name, name=kind.name, schedule=when, command=command)


def _no_schedule(text: str) -> str:
    """Return why the cron of the system does not read ``text`` as a schedule; it has no field of seconds."""
    return FORMATS["cron"](text) or (
        "" if len(text.split()) == len(CRON_FIELDS) - 1 else "it has 6 fields, not 5"
    )


def _place(said: Selection, app: model.App) -> tuple[int, int]:
    """Return which of how many apps it is, so that each has minutes of its own."""
    if said.profile and said.urls:
        return 0, 1
    names = list(config.load(said).apps)
    return names.index(app.name), len(names)


def _line(command: str) -> str:
    """Refuse a command that no line of a crontab can hold."""
    if any(letter < " " or letter == "\x7f" or "\ud800" <= letter <= "\udfff" for letter in command):
        raise UsageError(
            detail=f"a crontab cannot hold {command!a}: a name has a control character, or is no text"
        )
    if len(command) > LONGEST:
        raise UsageError(
            detail=f"cron takes no line of {len(command)} characters; move the configuration to a shorter path"
        )
    return command


def _variables(said: Selection) -> list[str]:
    """Return a remark on what the configuration wants of the environment, which cron leaves nearly empty."""
    if said.profile and said.urls:
        return []
    file = config.path(said)
    names = config.variables(file)
    return [f"# {file} needs what is set here, too:", *(f"#{name}=" for name in names)] if names else []


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL, or what is no text
        return False
    return True
