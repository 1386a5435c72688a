"""Learn an action while it is done: the databases of the running app are compared before and after it."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import structs

from dbctl import signals
from dbctl.config.model import PLAIN
from dbctl.config.model import App as ConfiguredApp
from dbctl.config.sections import Selection
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import UsageError
from dbctl.extensions.drafts.learning.errors import ActionFailedError
from dbctl.extensions.drafts.learning.learn import (
    Learned,
    LearnRequest,
    learn_difference,
    parse_profile,
    read_changes,
    read_profile,
)
from dbctl.extensions.drafts.learning.recordings import CREATES, Action, Subject
from dbctl.extensions.drafts.learning.states import PREFIX, open_current, open_snapshot
from dbctl.files import limited_program, mounts, temp
from dbctl.model import Secret, Struct
from dbctl.profiles.passwords import new_password
from dbctl.services.app.app import App
from dbctl.services.app.session import open_app
from dbctl.services.backup.sources import COMPRESSION_RATIO
from dbctl.services.events.changes.records import TableChange

#: What to do in the app; a field that was not generated or passed leaves out its part.
_INSTRUCTIONS: Mapping[Action, str] = {
    "create-user": "create a user with the login {login}, the e-mail address {email} and the password {password}",
    "create-admin": "create an admin with the login {login}, the e-mail address {email} and the password {password}",
    "set-password": "set the password of {login} to {password}",
    "set-role": "change the role of {login}",
    "deactivate": "deactivate the user {login}",
    "activate": "activate the user {login} again",
    "delete-user": "delete the user {login}",
    "reset-2fa": "remove the second factors of {login}",
    "sign-in": "sign in as {login}",
    "sign-out": "sign out as {login}",
    "change-setting": "change one setting",
    "create-token": "create an API token of {login}",
}
_ROLE = ", with the role {role}"
_SETTING = ", {setting}, to {value}"
#: Seconds that the command of an action may take.
COMMAND_SECONDS = 600.0
_OUTPUT_BYTES = 4096


class LiveSource(Struct, frozen=True, kw_only=True):
    """The running app."""

    app: ConfiguredApp
    database: str  #: of ``--db``; empty: all
    watch_seconds: float  #: how long the app is watched without an action


def generate_subject(action: Action, subject: Subject) -> Subject:
    """Return the subject with a recognisable login and e-mail address, if the action creates a user."""
    if action not in CREATES:
        return subject
    login = subject.login or f"learner-{secrets.token_hex(3)}"
    return structs.replace(subject, login=login, email=subject.email or f"{login}@example.org")


def generate_password() -> Secret:
    """Return a password with the kinds of characters that apps require."""
    return Secret(f"{new_password(16).reveal()}-aA1")


def describe_action(action: Action, subject: Subject, password: Secret | None) -> str:
    """Return the sentence about what to do in the app."""
    text = _INSTRUCTIONS[action].format(
        login=subject.login, email=subject.email, password=password.reveal() if password else ""
    )
    text += _ROLE.format(role=subject.role) if subject.role else ""
    text += _SETTING.format(setting=subject.setting, value=subject.value) if subject.setting else ""
    return f"In the app, {text}, and do nothing else there."


def run_command(command: str, subject: Subject, password: Secret | None) -> None:
    """Run the command line of the app; what was generated is in ``DBCTL_LOGIN``, ``DBCTL_EMAIL``, ``DBCTL_PASSWORD`` and so on.

    Raises:
        ActionFailedError: it did not end with status 0.
    """
    values = {f"DBCTL_{name.upper()}": str(value) for name, value in structs.asdict(subject).items()}
    if password:
        values["DBCTL_PASSWORD"] = password.reveal()
    program = limited_program.run_logged(
        ["/bin/sh", "-c", command],
        seconds=COMMAND_SECONDS,
        max_bytes=_OUTPUT_BYTES,
        environment={**os.environ, **values},
        folder=Path.cwd(),
    )
    signals.raise_if_interrupted()
    if program.reason:
        lines = program.output.decode(errors="replace").strip().splitlines()
        output = lines[-1] if lines else ""
        output = output.replace(password.reveal(), "***") if password else output
        raise ActionFailedError(reason=program.reason, output=output or "nothing")


def learn_live(request: LearnRequest, source: LiveSource, perform: Callable[[], None]) -> Learned:
    """Learn the action that ``perform`` waits for, or does; after an error or a signal, nothing is left.

    Raises:
        ActionFailedError: the action failed in the app.
        InsufficientSpaceError: the temporary folder, or that of the profile, has not enough free space.
        Others, as ``learn`` and ``create_snapshot``.
    """
    folder = request.profile.parent
    if not os.access(folder, os.W_OK):
        reason = "its folder is read-only" if folder.is_dir() else "its folder does not exist"
        raise FileFailedError(path=request.profile, reason=reason)
    with ExitStack() as stack:
        temp_dir = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), PREFIX))
        selection = Selection(configured=_configure(request, source))
        only = source.database if request.profile.exists() else ""
        app = stack.enter_context(open_app(selection, timeout=request.timeout, only=only))
        marks = _mark_files(app)
        running = stack.enter_context(open_snapshot(app, temp_dir))
        before = running.read()
        stored_bytes = sum(member.size for member in before.manifest.members) // COMPRESSION_RATIO
        mounts.require_space(folder, stored_bytes)
        text = read_profile(request, before, origin=", ".join(map(str, app.configured.databases.values())))
        parse_profile(request.profile, text)
        _watch(source.watch_seconds)
        control = list[TableChange]()
        if not marks or marks != _mark_files(app):
            with open_current(app, temp_dir, before.databases) as current:
                before = running.read()
                control += read_changes(before, current)
                before.require_complete()
        perform()
        after = stack.enter_context(open_current(app, temp_dir, before.databases))
        return learn_difference(request, running.read(), after, text=text, control=control)


def _mark_files(app: App) -> list[tuple[int, int]]:
    """Return the size and the time of the last write of each file of the databases; empty if one is not a file, or vanishes."""
    files = [app.restore_target(name).files() for name in app.configured.databases]
    if not all(files):
        return []
    try:
        statuses = [path.stat() for group in files for path in group]
    except FileNotFoundError:  # the app has removed a side file at this moment
        return []
    return [(status.st_size, status.st_mtime_ns) for status in statuses]


def _watch(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0:
        signals.raise_if_interrupted()
        time.sleep(min(remaining, 0.1))


def _configure(request: LearnRequest, source: LiveSource) -> ConfiguredApp:
    """Return the app with the profile that is extended, or without one; no program of its configuration runs."""
    databases = source.app.databases
    profile = str(request.profile)
    if not request.profile.exists():
        selected = [url for name, url in databases.items() if source.database in ("", name)]
        if len(selected) != 1:
            raise UsageError(
                detail=f"a new profile has one database: select it with --db: {', '.join(databases)}"
            )
        databases, profile = {"main": selected[0]}, PLAIN
    return structs.replace(
        source.app,
        profile=profile,
        databases=databases,
        migrations={},
        backup=None,
        search=None,
        hooks={},
        maintenance_mode=None,
    )
