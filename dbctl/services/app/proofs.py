"""Which commands are proven: they changed the rows of recorded demonstrations as the app did (``[proven]`` of the profile)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from dbctl.engines.registry import engine_title
from dbctl.errors.users import CommandUnprovenError
from dbctl.files import toml
from dbctl.model import Struct
from dbctl.profiles import loader
from dbctl.profiles.model.core import Action, CoreProfile, Proof

if TYPE_CHECKING:
    from dbctl.profiles.model.users import Users
    from dbctl.services.app.app import App

#: The action of the commands about settings, whose proof is only of the writes that its recordings show.
SETTING: Action = "change-setting"
#: The actions of an app that a command does; none: no demonstration can show what it does.
COMMANDS: Mapping[str, Sequence[Action]] = {
    "users create": ("create-user", "create-admin"),
    "users ensure": ("create-user", "create-admin"),
    "users import": ("create-user", "create-admin"),
    "users set-password": ("set-password",),
    "users set-role": ("set-role",),
    "users add-role": (),
    "users remove-role": (),
    "users deactivate": ("deactivate",),
    "users activate": ("activate",),
    "users update": (),
    "users unlock": (),
    "users reset-2fa": ("reset-2fa",),
    "users delete": ("delete-user",),
    "sessions revoke": ("sign-out",),
    "settings set": (SETTING,),
    "settings reset": (SETTING,),
    "settings apply": (SETTING,),
    "settings update": (),
}
#: The keys of a profile on which every command about users and sessions, or settings, depends; a change of one outdates the proofs.
_KEYS = ("time", "boolean", "prefix", "variants", "users", "roles", "sessions")
_SETTING_KEYS = ("time", "boolean", "prefix", "variants", "settings")


def _creates_users(users: Users) -> bool:
    return not users.only_app_creates


def _activates_users(users: Users) -> bool:
    return users.has_active and users.can_deactivate


#: By command, whether the profile of an app describes what it changes; without it, the command is refused.
_DESCRIBED: Mapping[str, Callable[[Users], object]] = {
    "users create": _creates_users,
    "users ensure": _creates_users,
    "users import": _creates_users,
    "users set-password": lambda users: users.password and not users.only_app_sets_passwords,
    "users set-role": lambda users: users.role,
    "users deactivate": _activates_users,
    "users activate": _activates_users,
    "users reset-2fa": lambda users: users.second_factor,
    "users delete": lambda users: not users.only_app_deletes,
    "sessions revoke": lambda users: users.on_sign_out or users.sign_in_tables,
}


class CommandProof(Struct, frozen=True, kw_only=True):
    """Whether a command is proven for the engine of an app."""

    command: str
    actions: Sequence[Action]
    proof: Proof | None = None
    engine: str = ""  #: of the app
    others: Sequence[str] = ()  #: without a proof: the engines on which the command is proven
    is_outdated: bool = False  #: whether the profile has changed since
    unshown: Sequence[str] = ()  #: writes of settings that no recording of the proof shows

    @property
    def is_proven(self) -> bool:
        return self.proof is not None and not self.is_outdated and not self.unshown

    def describe(self) -> str:
        """Return why the command is proven or not, as part of a sentence."""
        if self.proof is None:
            return f"inferred, by no demonstration{self.describe_others()}"
        if self.is_outdated:
            return f"inferred: the profile has changed since its proof of {self.proof.at}"
        if self.unshown:
            return f"inferred: its proof of {self.proof.at} does not show {', '.join(self.unshown)}"
        ledger = f" with ledger {self.proof.ledger}" if self.proof.ledger else ""
        return f"proven by a demonstration, replayed on {self.proof.at}{ledger}"

    def describe_others(self) -> str:
        """Return on which engines the command is proven, if not on that of the app, as the rest of a sentence."""
        others = " and ".join(map(engine_title, self.others))
        return f" on {engine_title(self.engine)}, only on {others}" if others else ""


def compute_digest(text: str, action: Action) -> str:
    """Return a digest of what an action uses of the text of a profile, without comments and the order of keys."""
    return _digest(toml.loads(text), action)


def _digest(values: Mapping[str, Any], action: Action) -> str:
    names = _SETTING_KEYS if action == SETTING else _KEYS
    used = {name: values[name] for name in names if name in values}
    return hashlib.sha256(msgspec.json.encode(used, order="deterministic")).hexdigest()[:16]


def find_proof(app: App, command: str, writes: Sequence[str] = ()) -> CommandProof:
    """Return the proof of a command for the profile and the engine of an app, and which ``writes`` of settings it does not show."""
    return _find_proof(app, command, _read_profile(app), writes)


def _read_profile(app: App) -> Mapping[str, Any]:
    """Return the text of the profile of an app as values; empty if it proves nothing."""
    return toml.loads(toml.read_text(loader.path_of(app.configured.profile))) if app.core.proven else {}


def _find_proof(app: App, command: str, values: Mapping[str, Any], writes: Sequence[str]) -> CommandProof:
    actions = COMMANDS[command]
    database = find_database(app.core, actions)
    engine = app.url(database).engine if database in app.configured.databases else ""
    state = CommandProof(command=command, actions=actions, engine=engine)
    proven = app.core.proven.get(engine, {})
    outdated: Proof | None = None
    for action in actions:
        if (proof := proven.get(action)) and proof.digest == _digest(values, action):
            unshown = [write for write in dict.fromkeys(writes) if write not in proof.shown]
            return structs.replace(state, proof=proof, unshown=unshown)
        outdated = outdated or proof
    if outdated:
        return structs.replace(state, proof=outdated, is_outdated=True)
    return structs.replace(
        state, others=[name for name, proofs in app.core.proven.items() if proofs.keys() & {*actions}]
    )


def find_database(profile: CoreProfile, actions: Sequence[str]) -> str:
    """Return the database that actions change, whose engine is that of their proofs."""
    section = profile.settings[0] if SETTING in actions and profile.settings else profile.users
    return (section.database if section else "") or profile.main_database


def locate_profile(app: App) -> tuple[Path, str]:
    """Return the file that ``profiles learn`` extends for an app, and how to create it: a built-in profile is copied."""
    name = app.configured.profile
    path = loader.path_of(name)
    if not loader.find_profile(name):
        return path, ""
    copy = Path(f"{name}.toml")
    return copy, f"Copy {path} to {copy}, and set profile of the app to this file. "


def list_proofs(app: App) -> Iterator[CommandProof]:
    """Yield the proof of each command that a demonstration can show, and whose rows the profile describes."""
    values = _read_profile(app)
    for command, actions in COMMANDS.items():
        if actions and _describes(app.core, command):
            yield _find_proof(app, command, values, ())


def _describes(profile: CoreProfile, command: str) -> bool:
    if command not in _DESCRIBED:
        return bool(profile.settings)
    return bool(profile.users and _DESCRIBED[command](profile.users))


def require_proof(app: App, writes: Sequence[str] = ()) -> None:
    """Refuse the command of the session if it changes users or settings, and is not proven for the app.

    ``writes`` are those of settings that the command plans, as ``SettingStore.describe_write`` returns them.

    Raises:
        CommandUnprovenError: it is not.
    """
    command = app.spec.name
    if command not in COMMANDS:
        return
    state = find_proof(app, command, writes)
    if not state.is_proven:
        action = next(iter(state.actions), "ACTION")
        entered = ["--setting", "KEY", "--value", "VALUE"] if action == SETTING else ["--login", "LOGIN"]
        profile, first = locate_profile(app)
        error = CommandUnprovenError(
            command=command,
            app=app.name,
            reason=state.describe() if state.actions else "no demonstration can show it",
            action=[action, *entered],
            profile=profile,
            first=first,
        )
        if not state.actions:
            error.hint = "Nothing was changed. Do this in the app, or remove require from its section of the configuration."
        raise error
