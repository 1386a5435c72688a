"""Units of systemd: a service and a timer for each job."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import structs

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.config.environment import secret_file, state_folder
from dbctl.config.sections import Selection
from dbctl.errors.usage import UsageError
from dbctl.extensions.schedule.jobs import NOTIFY, PlannedJob, list_app_names
from dbctl.extensions.schedule.times import list_calendar_events, spread_seconds
from dbctl.model import Struct
from dbctl.services.app import command_line
from dbctl.url import PLACEHOLDER, is_foreign_address

#: The line of a unit that names the configuration for which it was written; systemd ignores keys that begin with ``X-``.
MARK = "X-DbctlConfig="
APP_MARK = "X-DbctlApp="
#: The line of the units of an app without a configuration.
NO_CONFIG = f"{MARK}none"
#: All units of dbctl; the names of other programs' units cannot match.
PREFIX = "dbctl-"
_LONGEST_NAME = 255 - len(".service")
_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
#: Folders that are read-only for a service, except those with data.
_PROTECTED_FOLDERS = ("/boot", "/efi", "/etc", "/usr")
_TEMPORARY_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - compared, not written

#: Restrictions that need no mount of another file system, so that services of users can have them, too.
_FILTERS = """\
NoNewPrivileges=yes
LockPersonality=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
_UMASK = "UMask=0077\n"
_MOUNTS = """\
ProtectSystem=full
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
"""
#: The capabilities with which root reads, writes and replaces files of apps, and retains their owners.
_CAPABILITIES = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL"


class Unit(Struct, frozen=True, kw_only=True):
    """A file of systemd."""

    app: str
    job: str
    name: str  #: of the file
    schedule: str  #: cron fields of a timer; empty for a service
    text: str


class UnitOptions(Struct, frozen=True, kw_only=True):
    """How the units run jobs."""

    user_units: bool = False  #: for the service manager of a user
    run_as: str = ""  #: the user of the jobs; empty: root, or the user of the service manager
    #: the unit that starts if a job fails; empty: the job ``notify`` of the app, if it has one
    on_failure: str = ""
    delay: str = "5min"  #: the longest delay after the time of the timer, different for each machine and job


def create_units(
    jobs: Sequence[PlannedJob], selections: Sequence[Selection], options: UnitOptions
) -> list[Unit]:
    """Return the services and timers of jobs.

    Raises:
        UsageError: the name of a unit would be too long.
    """
    seconds = spread_seconds(list_app_names(selections[0]))
    settings = dict[str | None, str]()
    for selection in selections:
        app = config.find_app(selection, allow_fleet=True)
        credentials = "".join(f"LoadCredential={entry}\n" for entry in list_credentials(selection))
        settings[app.name] = credentials + _write_restrictions([app], selection, options)
        if any(job.app == app.name and job.is_for_all_apps for job in jobs):
            apps = list(config.load(structs.replace(selection, app="")).apps.values())
            settings[None] = credentials + _write_restrictions(apps, selection, options)
    mark, units = read_mark(selections[0]), list[Unit]()
    notifiers = {job.app: f"{name_unit(job)}.service" for job in jobs if job.name == NOTIFY}
    for job in jobs:
        name = name_unit(job)
        on_failure = options.on_failure or ("" if job.name == NOTIFY else notifiers.get(job.app, ""))
        restrictions = settings[None if job.is_for_all_apps else job.app]
        service = _write_service(job, restrictions, options, mark, on_failure)
        timer = _write_timer(job, seconds.get(job.app, 0), options, mark)
        units.append(Unit(app=job.app, job=job.name, name=f"{name}.service", schedule="", text=service))
        units.append(Unit(app=job.app, job=job.name, name=f"{name}.timer", schedule=job.schedule, text=timer))
    return units


def name_unit(job: PlannedJob) -> str:
    """Return the name of a job's units without the type; different jobs have different names.

    Raises:
        UsageError: it is too long.
    """
    name = f"{PREFIX}{job.name}-{_escape(job.app)}" + (f":{_escape(job.target)}" if job.target else "")
    if len(name) > _LONGEST_NAME:
        raise UsageError(detail=f"the name of the app {job.app!r} is too long for a unit of systemd")
    return name


def read_mark(selection: Selection) -> str:
    """Return the line that marks the units of a configuration."""
    if selection.profile and selection.urls:
        return NO_CONFIG
    return MARK + os.path.abspath(config.config_path(selection))  # noqa: PTH100 - a link stays, its target may move


def _escape(name: str) -> str:
    r"""Return a text for the name of a unit; other bytes are written as ``\x20``."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"_.-") else f"\\x{byte:02x}"
        for byte in name.encode(errors="surrogateescape")
    )


def quote_word(word: str) -> str:
    """Quote a word of ``ExecStart``, in which ``%`` begins a specifier and ``$`` a variable."""
    return _quote(_escape_text(word).replace("$", "$$"))


def _quote(text: str) -> str:
    if _PLAIN_WORD.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_timer(job: PlannedJob, second: int, options: UnitOptions, mark: str) -> str:
    events = "".join(f"OnCalendar={event}\n" for event in list_calendar_events(job.schedule, second))
    return (
        f"# Generated by dbctl schedule systemd, which replaces this file.\n"
        f"[Unit]\nDescription=dbctl {job.name} of {_escape_text(job.app)}\n{mark}\n{APP_MARK}{job.app}\n\n"
        f"[Timer]\n{events}"
        # A timer after a start of the machine runs the jobs that it missed, so they need the delay as well.
        f"Persistent=true\nRandomizedDelaySec={options.delay}\nFixedRandomDelay=true\nAccuracySec=1s\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )


def _write_service(job: PlannedJob, settings: str, options: UnitOptions, mark: str, on_failure: str) -> str:
    network = "" if options.user_units else "Wants=network-online.target\nAfter=network-online.target\n"
    failure = f"OnFailure={on_failure}\n" if on_failure else ""
    user = f"User={options.run_as}\n" if options.run_as else ""
    output = "StandardOutput=null\n" if job.is_silent else ""
    return (
        f"# Generated by dbctl schedule systemd, which replaces this file; systemctl edit adds settings.\n"
        f"[Unit]\nDescription=dbctl: {job.description} ({_escape_text(job.app)})\n"
        f"{network}{failure}{mark}\n{APP_MARK}{job.app}\n\n"
        f"[Service]\nType=oneshot\nExecStart={' '.join(map(quote_word, job.command))}\n{user}{output}"
        f"Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\nTimeoutStopSec=5min\n{settings}"
    )


def _write_restrictions(apps: Sequence[model.App], selection: Selection, options: UnitOptions) -> str:
    urls = [url for app in apps for url in app.databases.values()]
    urls += [replica.url for app in apps for replica in app.replicas.values()]
    if any(url.is_in_container for url in urls):
        # The restrictions prevent ``podman exec``, and a user who may run it, or ``docker``, has all privileges anyway.
        return _UMASK
    if options.user_units:
        return _FILTERS + _UMASK
    data_paths = [str(path) for app in apps for path in _list_data_paths(app, selection)]
    paths = [*data_paths, command_line.program_command()[0]]
    if not (selection.profile and selection.urls):
        paths.append(str(config.config_path(selection).absolute()))
    capabilities = "" if options.run_as else _CAPABILITIES
    text = f"{_FILTERS}{_UMASK}{_MOUNTS}CapabilityBoundingSet={capabilities}\n"
    if not any(_is_below(path, _TEMPORARY_FOLDERS) for path in paths):
        text += "PrivateTmp=yes\n"
    writable = dict.fromkeys(path for path in data_paths if _is_below(path, _PROTECTED_FOLDERS))
    # The hyphen permits that the folder does not exist.
    return text + "".join(f"ReadWritePaths={_quote(f'-{_escape_text(path)}')}\n" for path in writable)


def _list_data_paths(app: model.App, selection: Selection) -> Iterator[Path]:
    """Yield the folders that jobs write, and the sockets that they use."""
    if not (selection.profile and selection.urls):
        settings = config.load_sections(selection).journal
        if folder := state_folder(settings.folder):
            yield folder
    for url in app.databases.values():
        if url.is_local:  # systemd reads * as a letter: of a fleet, the folder with the instances
            yield Path(f"{url.path.partition(PLACEHOLDER)[0]}_").parent
        elif url.host.startswith("/"):
            yield Path(url.host)
        yield from (Path(text) for text in re.findall(r"=(/[^&]*)", url.options))
    if app.backup and not is_foreign_address(app.backup.repository):
        yield app.folder / app.backup.repository
    if app.backup and app.backup.staging:
        yield app.folder / app.backup.staging
    if app.search:
        yield app.search


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def list_credentials(selection: Selection) -> list[str]:
    """Return the credentials that a service loads: files of ``[secrets]``, and variables of the configuration.

    A name without a path is a file of ``/etc/credstore``, which may be missing.
    """
    if selection.profile and selection.urls:
        return []
    sections, entries = config.load_sections(selection), []
    for name, secret in sections.secrets.items():
        if match := re.fullmatch(r"\$\{?CREDENTIALS_DIRECTORY\}?/([\w.-]+)", secret.file):
            entries.append(match[1])
        elif secret.file:
            file = secret_file(secret, sections.folder)
            entries.append(f"{name}:{_escape_text(str(file))}")
    for name in config.referenced_variables(config.config_path(selection)):
        file_name = os.environ.get(f"{name}_FILE", "")
        if name != "CREDENTIALS_DIRECTORY":
            entries.append(f"{name}:{_escape_text(os.path.abspath(file_name))}" if file_name else name)  # noqa: PTH100
    return list(dict.fromkeys(entries))


def _escape_text(text: str) -> str:
    return text.replace("%", "%%")
