"""Arguments and options that ``backup`` and ``restore`` share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeAlias

import typer

from dbctl.cli._support.emit import Operation, ask_secret, note, run_change, show_progress
from dbctl.cli._support.options import argument, option
from dbctl.config import secrets
from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.usage import UsageError
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Kind, Manifest
from dbctl.services.backup.repository import ID, LATEST, Repository
from dbctl.units import parse_duration

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session


def parse_time(text: str) -> datetime:
    """Parse a time: ISO 8601 (local time without a zone), the id of a backup, or an age such as ``3h``."""
    text = text.strip()
    try:
        return now() - parse_duration(text)
    except ValueError:
        pass
    try:
        timestamp = datetime.fromisoformat(text)
        # An id is UTC; as ISO 8601 it would be read as local time.
        first = timestamp.replace(tzinfo=UTC) if ID.fullmatch(text) else timestamp.astimezone(UTC)
        second = first if timestamp.tzinfo else timestamp.replace(fold=1).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2026-11-19T03:00 (local time), 2026-11-19T02:00Z, or an age: 3h, 2d"
        ) from None
    if first != second and not ID.fullmatch(text):
        early, late = (f"{time:%Y-%m-%dT%H:%M:%S}Z" for time in sorted((first, second)))
        raise typer.BadParameter(
            f"{text!r} is in the hour in which the clock is changed: as local time, it is {early} or {late}"
        )
    return first


def parse_moment(text: str) -> datetime:
    """Parse a time as ``parse_time`` does, or ``random``: ``RANDOM``."""
    from dbctl.services.backup.log_range import RANDOM

    return RANDOM if text.strip() == "random" else parse_time(text)


BackupName: TypeAlias = Annotated[str, argument("[ID]", "Id of a backup, or latest.")]
Before: TypeAlias = Annotated[
    datetime | None,
    option(
        "--before",
        "TIME",
        "Select the newest backup with no data after this time: 2026-11-19T03:00 (local time), or an age such as 3h or 2d.",
        parse_time,
    ),
]
BackupKind: TypeAlias = Annotated[
    Kind | None,
    typer.Option(
        "--kind", help="Kind of backup that latest and --before select; default: backup.", show_default=False
    ),
]
#: For commands that decrypt backups.
Identities: TypeAlias = Annotated[
    list[Path] | None,
    option("--identity", "FILE", "Decrypt backups with this age identity file or ssh key; repeatable."),
]
PassphraseFiles: TypeAlias = Annotated[
    list[Path] | None,
    option(
        "--passphrase-file",
        "FILE",
        "Read the passphrase of backups or identities from the first line of a file (repeatable); default: prompt.",
    ),
]


Roles: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--roles",
        "create|skip|NAME=EXISTING",
        "Roles and accounts of the backup that a server lacks: create them (with passwords if the backup was created with --secrets), skip their grants and ownership, or replace one by another (repeatable); default: refuse.",
    ),
]


def parse_roles(values: Sequence[str] | None) -> RolePolicy:
    """Return what a restore does with missing roles.

    Raises:
        UsageError: a value is none of ``create``, ``skip`` and ``NAME=EXISTING``, or both words are given.
    """
    words, replaced = list[str](), dict[str, str]()
    for value in values or ():
        name, separator, replacement = value.removeprefix("map ").removeprefix("map:").partition("=")
        if separator and name and replacement:
            replaced[name] = replacement
        else:
            words.append(value)
    match words:
        case []:
            return RolePolicy(replaced=replaced)
        case ["create" | "skip" as missing]:
            return RolePolicy(missing=missing, replaced=replaced)
    raise UsageError(
        detail=f"--roles {' '.join(words)}: write --roles create or --roles skip, and --roles NAME=EXISTING for each role to replace"
    )


def select_backup(
    repository: Repository, backup: str, before: datetime | None, kind: Kind | None
) -> Manifest:
    """Return the selected backup: by id, or the newest of a kind, optionally before a time.

    Raises:
        UsageError: no backup or more than one is selected.
    """
    if not backup and before is None:
        raise UsageError(detail="select a backup: its id, latest, or --before TIME")
    if backup not in ("", LATEST) and (before is not None or kind is not None):
        option = "--kind" if before is None else "--before"
        raise UsageError(detail=f"{backup} selects a backup already; omit {option}")
    return repository.find(backup or LATEST, kind or "backup", before=before)


class SizedOperation(Operation, Protocol):
    """An operation that processes a known number of bytes."""

    def size(self) -> int:
        """Return the approximate number of bytes to process."""
        ...


def run_with_progress(session: Session, activity: str, operation: SizedOperation, *, dry_run: bool) -> int:
    """Run an operation as ``run_change`` does, and show the progress of its bytes."""
    with show_progress(session, activity, operation.size(), unit="bytes"):
        return run_change(session, operation, dry_run=dry_run)


def split_ids_and_paths(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Split arguments into ids of backups and paths; a path contains a slash, or exists."""
    paths = [
        argument
        for argument in arguments
        if "/" in argument or (not _is_backup_name(argument) and os.path.lexists(argument))
    ]
    return [argument for argument in arguments if argument not in paths], [
        Path(argument) for argument in paths
    ]


def _is_backup_name(argument: str) -> bool:
    return argument == LATEST or bool(ID.fullmatch(argument))


def load_keys(
    session: Session, app: App, identities: Sequence[Path] | None, passphrases: Sequence[Path] | None
) -> DecryptionKeys:
    """Return the decryption keys of the options, the environment and the configuration."""
    files = secrets.find_decryption_files(app.configured, identities or (), passphrases or ())
    keys = DecryptionKeys(files, ask_secret)
    for message in keys.describe_exposed_files():
        note(session, message)
    return keys
