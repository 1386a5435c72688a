"""Run dbctl's own commands on a private copy of a state, in a process of its own; and the check for recordings without a replay."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dbctl.config.model import STATE_OFF
from dbctl.config.secrets import MASK
from dbctl.errors.base import Remedy
from dbctl.extensions.drafts.document import Line, Part, write_document
from dbctl.extensions.drafts.learning.recordings import Action, Recording, list_folders, read_engine
from dbctl.extensions.drafts.learning.scene import decode_changes
from dbctl.extensions.drafts.learning.states import State
from dbctl.files.atomic import create_file
from dbctl.model import Finding, Row, Secret, Struct, format_count
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.evidence.subjects import Needs, Subject, check
from dbctl.services.app.proofs import SETTING, find_database
from dbctl.services.app.secrets import is_secret_setting, is_secret_value
from dbctl.url import Url

#: The name of the app of the temporary configuration, and of the environment variable with a password of its server.
_APP, _VARIABLE = "proof", "PROOF_SERVER_PASSWORD"
#: The environment variable with the secret that the app appends to passwords.
_PEPPER = "PROOF_PEPPER"
#: Seconds until a command that does not end is killed.
_TIME_LIMIT = 300
#: Variables of dbctl itself that would change what a command does.
_OWN = re.compile(r"DBCTL_")
#: Fields of a new user with options of their own, or with values that the app creates.
_OTHER_FIELDS = frozenset(
    {"id", "email", "role", "active", "created_at", "updated_at", "last_login_at", "password"}
)


class Replayed(Struct, frozen=True, kw_only=True):
    """What a command did."""

    data: Mapping[str, Any]  #: its result
    failure: str = ""  #: the message of its error; empty: it succeeded


class CommandRunner:
    """Runs commands on a state."""

    def __init__(
        self, profile: Path, state: State, folder: Path, *, timeout: float, pepper: Secret | None = None
    ) -> None:
        """Write the configuration into ``folder``, which only its owner may read; it names variables with secrets."""
        self._folder, self._timeout = folder, timeout
        passwords = [url.password.reveal() for url in state.urls.values() if url.password]
        #: the variables of the commands; all databases are on one server
        self._environment = {name: value for name, value in os.environ.items() if not _OWN.match(name)}
        self._environment[_VARIABLE] = next(iter(passwords), "")
        app = [Line("profile", str(profile.absolute()))]
        if pepper:
            self._environment[_PEPPER] = pepper.reveal()
            app.append(Line("pepper_env", _PEPPER))
        databases = [Line(name, _write(url)) for name, url in state.urls.items()]
        parts = [
            Part(header="journal", lines=[Line("folder", STATE_OFF)]),
            Part(header=f"apps.{_APP}", lines=app),
            Part(header=f"apps.{_APP}.databases", lines=databases),
        ]
        self._config = folder / "dbctl.toml"
        with create_file(self._config) as file:
            file.write(write_document(parts).encode())

    def run(self, words: Sequence[str], secret: Secret | None = None) -> Replayed:
        """Run a command, with a secret on its standard input; it is confirmed."""
        options = [f"--config={self._config}", f"--app={_APP}", "--output=json", "--quiet", "--yes"]
        try:
            done = subprocess.run(  # noqa: S603 - this Python, without a shell
                [sys.executable, "-m", "dbctl", *options, f"--timeout={self._timeout}", *words],
                cwd=self._folder,
                env=self._environment,
                input=f"{secret.reveal()}\n" if secret else "",
                capture_output=True,
                text=True,
                timeout=_TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Replayed(data={}, failure=f"the command did not end within {_TIME_LIMIT} seconds")
        answer = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        failure = ""
        if done.returncode:
            error = answer.get("error") or {}
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            failure = error.get("message") or lines[-1]
        return Replayed(data=answer.get("data") or {}, failure=failure)


def _write(url: Url) -> str:
    """Return an address whose password is a variable."""
    text = str(url).replace(":***@", f":${{{_VARIABLE}}}@") if url.password else str(url)
    return f"{text}?{url.options}" if url.options else text


def find_command(recording: Recording, profile: Profile) -> Sequence[str] | None:
    """Return the command that does what a recording shows; None: there is none (``describe_obstacle``)."""
    build = _COMMANDS.get(recording.action)
    return [*build(recording, profile)] if build and not describe_obstacle(recording, profile) else None


#: By action, why a recording without what it requires has no command.
_UNNAMED: Mapping[str, str] = {
    "set-role": "it does not name the role (--role)",
    SETTING: "it does not name the setting and its value (--setting, --value), and the states do not show them",
}


def describe_obstacle(recording: Recording, profile: Profile) -> str:
    """Return why no command does what a recording shows; empty: one does."""
    users = profile.users
    if recording.action not in _COMMANDS:
        return f"dbctl has no command for {recording.action}"
    if recording.action == SETTING and _find_scope(recording, profile) == "object":
        return "the setting belongs to an object, which a recording does not name"
    required = {"set-role": recording.subject.role, SETTING: recording.subject.setting}
    if not required.get(recording.action, "none"):
        return _UNNAMED[recording.action]
    if recording.action == "reset-2fa" and users and not users.second_factor:
        return "the profile names no second factors that dbctl can remove"
    if recording.action == "sign-out" and users and not (users.signed_in or users.on_sign_out):
        return "the profile names no sign-ins that dbctl can end"
    return ""


def _create_user(recording: Recording, profile: Profile) -> Iterator[str]:
    subject = recording.subject
    role = subject.role
    if recording.action == "create-admin" and not role and profile.users:
        role = profile.users.admin_role
    yield from ("users", "create")
    yield from _pass("--email", subject.email)
    yield from _pass("--role", role)
    yield from (f"--set={field}={value}" for field, value in _list_entered(recording, profile))
    if profile.users and profile.users.password:
        yield "--generate"
    yield from ("--", subject.login)


def _list_entered(recording: Recording, profile: Profile) -> Iterator[tuple[str, str]]:
    """Yield the further fields of a new user with the texts that the app stored: the admin entered them."""
    users = profile.users
    if users is None:
        return
    covered = {*users.new, *(users.password.columns if users.password else ())}
    changed = decode_changes(recording.changes, users.table)
    user: Row = next((row.after for row in changed if row.before is None and row.after), {})
    for field, column in users.fields.items():
        is_own = field in _OTHER_FIELDS or field in users.login or field in users.lookup
        if not is_own and isinstance(column, str) and column not in covered:
            text = user.get(column)
            if isinstance(text, str) and text:
                yield field, text


def _pass(option: str, value: str) -> Iterator[str]:
    if value:
        yield f"{option}={value}"


def _act(
    *words: str, options: Sequence[str] = (), further: str = ""
) -> Callable[[Recording, Profile], Iterator[str]]:
    """Return what builds a command about the login of a recording, with ``further`` of its subject."""

    def build(recording: Recording, _profile: Profile) -> Iterator[str]:
        subject = recording.subject
        yield from (*words, *options, "--", subject.login)
        if further:
            yield getattr(subject, further)

    return build


def _change_setting(recording: Recording, profile: Profile) -> Iterator[str]:
    yield from ("settings", "set")
    yield from _pass("--user", find_owner(recording, profile))
    yield from ("--", recording.subject.setting, recording.subject.value)


def find_owner(recording: Recording, profile: Profile) -> str:
    """Return the login of the user whose setting a recording shows; empty: it is a setting of the app."""
    return recording.subject.login if _find_scope(recording, profile) == "user" else ""


def _find_scope(recording: Recording, profile: Profile) -> str:
    """Return the scope of the settings whose table changed; empty: none changed, or several did."""
    tables = {change.table for change in recording.changes}
    scopes = [section.scope for section in profile.settings if section.table.removesuffix("?") in tables]
    return scopes[0] if len(scopes) == 1 else ""


def is_secret(recording: Recording, profile: Profile) -> bool:
    """Return whether a recording shows the value of a secret setting, which is not printed."""
    key = recording.subject.setting
    return bool(key) and any(is_secret_setting(section, key) for section in profile.settings)


def describe_command(words: Sequence[str], recording: Recording, profile: Profile) -> str:
    """Return a command without the values of secret settings and fields."""
    secret = {path.removesuffix("?") for database in profile.databases.values() for path in database.secret}
    shown = [*words[:-1], MASK] if is_secret(recording, profile) else list(words)
    for place, word in enumerate(shown):
        if profile.users and word.startswith("--set="):
            _, field, value = word.split("=", 2)
            path = f"{profile.users.table}.{profile.users.fields[field]}"
            shown[place] = f"--set={field}={MASK if path in secret or is_secret_value(value) else value}"
    return " ".join(shown)


#: By action, what builds the command of dbctl; dbctl neither signs users in nor creates tokens.
_COMMANDS: Mapping[Action, Callable[[Recording, Profile], Iterator[str]]] = {
    "create-user": _create_user,
    "create-admin": _create_user,
    "set-password": _act("users", "set-password", options=["--generate"]),
    "set-role": _act("users", "set-role", further="role"),
    "deactivate": _act("users", "deactivate"),
    "activate": _act("users", "activate"),
    "delete-user": _act("users", "delete"),
    "reset-2fa": _act("users", "reset-2fa"),
    "sign-out": _act("sessions", "revoke"),
    "change-setting": _change_setting,
}


@check("recordings-unproven", "app", Needs.NOTHING)
def check_recordings(subject: Subject) -> Iterator[Finding]:
    """Yield that a profile has recordings of actions of which it has no proof."""
    profile, core = loader.path_of(subject.app.configured.profile), subject.app.core
    actions = [
        action
        for folder, action in list_folders(profile).items()
        if action in _COMMANDS
        and action not in core.proven.get(read_engine(folder, find_database(core, [action])), {})
    ]
    if actions:
        message = (
            f"{format_count(len(actions), 'recording')} without a proof: {', '.join(dict.fromkeys(actions))}"
        )
        hint = Remedy("`profiles prove {profile}`").write(facts={"profile": profile})
        yield subject.finding("info", "recordings-unproven", message, hint)
