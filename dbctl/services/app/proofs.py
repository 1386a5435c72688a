"""Which commands are proven: they changed the rows of recorded demonstrations as the app did (``[proven]`` of the profile)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from dbctl.errors.users import CommandUnprovenError
from dbctl.files import toml
from dbctl.model import Struct
from dbctl.profiles import loader
from dbctl.profiles.model.core import Action, Proof

if TYPE_CHECKING:
    from dbctl.services.app.app import App

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
    "users delete": ("delete-user",),
    "sessions revoke": ("sign-out",),
}
#: The keys of a profile on which every command about users depends; a change of one outdates the proofs.
_KEYS = ("time", "boolean", "prefix", "variants", "users", "roles")
_SETTING_KEYS = ("time", "boolean", "prefix", "variants", "settings")


class CommandProof(Struct, frozen=True, kw_only=True):
    """Whether a command is proven."""

    command: str
    actions: Sequence[Action]
    proof: Proof | None = None
    is_outdated: bool = False  #: whether the profile has changed since

    @property
    def is_proven(self) -> bool:
        return self.proof is not None and not self.is_outdated

    def describe(self) -> str:
        """Return why the command is proven or not, as part of a sentence."""
        if self.proof is None:
            return "inferred, by no demonstration"
        if self.is_outdated:
            return f"inferred: the profile has changed since its proof of {self.proof.at}"
        ledger = f" with ledger {self.proof.ledger}" if self.proof.ledger else ""
        return f"proven by a demonstration, replayed on {self.proof.at}{ledger}"


def compute_digest(text: str, action: Action) -> str:
    """Return a digest of what an action uses of the text of a profile, without comments and the order of keys."""
    values: Mapping[str, Any] = toml.loads(text)
    names = _SETTING_KEYS if action == "change-setting" else _KEYS
    used = {name: values[name] for name in names if name in values}
    return hashlib.sha256(msgspec.json.encode(used, order="deterministic")).hexdigest()[:16]


def find_proof(app: App, command: str) -> CommandProof:
    """Return the proof of a command for the profile of an app."""
    actions, proven = COMMANDS[command], app.core.proven
    outdated: Proof | None = None
    text = toml.read_text(loader.path_of(app.configured.profile)) if proven else ""
    for action in actions:
        if (proof := proven.get(action)) and proof.digest == compute_digest(text, action):
            return CommandProof(command=command, actions=actions, proof=proof)
        outdated = outdated or proof
    return CommandProof(command=command, actions=actions, proof=outdated, is_outdated=outdated is not None)


def list_proofs(app: App) -> Iterator[CommandProof]:
    """Yield the proof of each command that a demonstration can show."""
    yield from (find_proof(app, command) for command, actions in COMMANDS.items() if actions)


def require_proof(app: App) -> None:
    """Refuse the command of the session if it changes users, and is not proven for the app.

    Raises:
        CommandUnprovenError: it is not.
    """
    command = app.spec.name
    if command not in COMMANDS:
        return
    state = find_proof(app, command)
    if not state.is_proven:
        raise CommandUnprovenError(
            command=command,
            app=app.name,
            reason=state.describe() if state.actions else "no demonstration can show it",
            action=next(iter(state.actions), "ACTION"),
            profile=loader.path_of(app.configured.profile),
        )
