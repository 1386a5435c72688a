"""Recordings of demonstrations: folders next to the profile, each with the state before an action and the rows that it changed.

A recording is a backup folder with one more file, so that every command that reads a backup folder can restore the state. It contains
what the app stores, such as password hashes: only its owner may read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec

from dbctl.errors.connection import FileFailedError
from dbctl.extensions.drafts.learning.errors import RecordingInvalidError
from dbctl.files import atomic
from dbctl.model import Struct
from dbctl.profiles.model import core
from dbctl.services.backup import manifest
from dbctl.services.backup.manifest import ManifestInvalidError, Timestamp
from dbctl.services.events.changes.records import TableChange
from dbctl.stores.base import MANIFEST

Action: TypeAlias = core.Action
ACTIONS: Sequence[Action] = get_args(Action)
#: Actions on a user that does not exist yet.
CREATES: frozenset[Action] = frozenset({"create-user", "create-admin"})
#: Actions with a new password.
SETS_PASSWORD: frozenset[Action] = CREATES | {"set-password"}

CONTENT = "recording.json"
_FOLDER = re.compile(r"(\d{2,})-([a-z][a-z0-9-]*)")
_MAX_BYTES = 64 << 20


class Subject(Struct, frozen=True, kw_only=True):
    """The account on which the app acts, and what the admin entered besides; empty: not entered."""

    login: str
    email: str = ""
    role: str = ""  #: set-role, create-admin: the name of the role
    setting: str = ""  #: change-setting: its key
    value: str = ""


class Recording(Struct, frozen=True, kw_only=True):
    """One demonstration. Passwords are not recorded."""

    schema: Literal["dbctl.recording/1"] = "dbctl.recording/1"
    action: Action
    subject: Subject
    interface: str = ""  #: how the action was done, such as ``the form of the app``; an app may write other rows in another one
    recorded_at: Timestamp  #: of the state after the action
    changes: Sequence[TableChange]
    #: why rows do not belong to the action, by ``table`` or ``table.column``: what the control, or another user, changed
    unrelated: Mapping[str, str] = {}


class StoredRecording(Struct, frozen=True):
    folder: Path
    recording: Recording


def folder_of(profile: Path) -> Path:
    """Return the folder with the recordings of a profile: ``shop.recordings`` of ``shop.toml``."""
    return profile.with_suffix(".recordings")


def list_recordings(profile: Path) -> list[StoredRecording]:
    """Return the recordings of a profile, the oldest first; none without the folder.

    Their file is written last: a folder without it is what a killed process left, and no recording.

    Raises:
        RecordingInvalidError: a file is damaged.
        Others, as ``list_folders``.
    """
    return [StoredRecording(path, _read(path / CONTENT)) for path in list_folders(profile)]


def list_folders(profile: Path) -> Mapping[Path, str]:
    """Return the folders of recordings, the oldest first, with the actions that they are named after.

    Raises:
        FileFailedError: another user's recordings cannot be read.
    """
    folder = folder_of(profile)
    try:
        folders = sorted(sorted(folder.iterdir()), key=_read_number) if folder.is_dir() else []
        matches = {path: _FOLDER.fullmatch(path.name) for path in folders if (path / CONTENT).exists()}
    except OSError as error:
        raise FileFailedError(path=folder, reason=error.strerror or str(error)) from error
    return {path: match[2] for path, match in matches.items() if match}


def _read(path: Path) -> Recording:
    try:
        return msgspec.json.decode(atomic.read_whole(path, _MAX_BYTES), type=Recording)
    except OSError as error:
        raise RecordingInvalidError(path=path, reason=error.strerror or str(error)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordingInvalidError(path=path, reason=str(error)) from error


def _read_number(path: Path) -> int:
    match = _FOLDER.fullmatch(path.name)
    return int(match[1]) if match else 0


def read_engine(folder: Path, database: str) -> str:
    """Return the engine of a database of a recording, or of its first one if it does not have this database.

    Raises:
        RecordingInvalidError: its manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        members = manifest.parse(atomic.read_whole(path, _MAX_BYTES)).members
    except (OSError, ManifestInvalidError) as error:
        raise RecordingInvalidError(path=path, reason=str(error)) from error
    engines = {member.database: member.engine for member in members if member.database}
    return engines.get(database) or next(iter(engines.values()))


def create_folder(profile: Path, action: Action) -> Path:
    """Create the folder of the next recording, which only its owner may read.

    Raises:
        FileFailedError: it cannot be created, or another process has created it at this moment.
    """
    folder = folder_of(profile)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        number = max(map(_read_number, folder.iterdir()), default=0) + 1
        path = folder / f"{number:02}-{action}"
        path.mkdir(mode=0o700)
    except OSError as error:
        raise FileFailedError(path=folder, reason=error.strerror or str(error)) from error
    return path


def write_content(folder: Path, recording: Recording) -> None:
    with atomic.write_atomically(folder / CONTENT, mode=0o600, replace=False) as file:
        file.write(msgspec.json.format(msgspec.json.encode(recording), indent=1).decode())
