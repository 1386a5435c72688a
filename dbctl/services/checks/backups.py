"""Checks of the backups of an app, of the runs that make them, and of the keys that encrypt them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import structs

from dbctl.config import environment, secrets
from dbctl.errors.backup import RepositoryNotConfiguredError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.usage import KeyMissingError
from dbctl.files import rdiff
from dbctl.model import Finding, Secret
from dbctl.services.app import clock
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.services.backup import status
from dbctl.services.backup.databases import (
    EmptiedTables,
    open_dumps,
    require_known_entries,
    select_databases,
    select_tables,
)
from dbctl.services.backup.encryption import DecryptionKeys, EncryptionPolicy, load_encryption
from dbctl.services.backup.sources import SINGLE_DATABASE_ERRORS
from dbctl.services.checks import files
from dbctl.services.events.history import find_problems
from dbctl.services.events.runs import locate_journal

VERSIONS_HINT = "A lifecycle rule of the bucket can delete old versions."


@check("backup-due", "app", Needs.NOTHING)
def check_backups(subject: Subject) -> Iterator[Finding]:
    """Yield backups that are due, invalid or incomplete, and an implausible clock."""
    app, databases = subject.app, list(subject.databases.values())
    first, app_backups = databases[0], status.read_status(app)
    configured = not (subject.selection.profile and subject.selection.urls)
    if (
        app.configured.backup is None
        and configured
        and any(database.section.backup for database in databases)
    ):
        yield Finding.from_error(app.name, RepositoryNotConfiguredError(app=app.name), "warning")
    for finding in app_backups.find_broken() if app_backups else ():
        yield structs.replace(finding, target=first.target)
    if app_backups and app_backups.repository.keeps_versions:
        yield first.finding(
            "info", "storage-versioned", status.describe_versions(app_backups.repository), VERSIONS_HINT
        )
    if reason := clock.find_app_contradiction(app):
        yield first.finding(
            "warning", "clock-implausible", f"the system clock is implausible: {reason}", "date"
        )
    for database in databases:
        backups = app_backups.find_database(database.database) if app_backups else None
        yield from backups.find_warnings() if backups else ()


@check("run-failing", "app", Needs.NOTHING)
def check_runs(subject: Subject) -> Iterator[Finding]:
    """Yield commands that fail again and again, or were interrupted."""
    for problem in find_problems(locate_journal(subject.selection), subject.target, backup_config=None):
        yield subject.finding("warning", f"run-{problem.kind}", problem.message, problem.hint)


@check("increments-unavailable", "app", Needs.NOTHING)
def check_increments(subject: Subject) -> Iterator[Finding]:
    """Yield why this machine stores databases in full, although the configuration requests differences."""
    app = subject.app
    if not app.configured.backup_settings.incremental:
        return
    if rdiff.find_program() is None:
        message = (
            f"{rdiff.PROGRAM} is not installed, so every backup is full, and no difference can be restored"
        )
        yield _warn(app, "increments-unavailable", message, f"Install the package {rdiff.PACKAGE}.")
    if environment.app_state_folder(app.configured) is None:
        message = "there is no directory for state, so every backup is full"
        yield _warn(app, "increments-unavailable", message, "Set DBCTL_STATE, or a home directory.")


@check("schema-only-unknown", "app", Needs.NOTHING)
def check_schema_only(subject: Subject) -> Iterator[Finding]:
    """Check that backups can leave out the rows that ``schema_only`` names; databases that cannot be opened are reported by other checks.

    Raises:
        SchemaOnlyUnknownError, SchemaOnlyRefusedError, NotSupportedError: as ``backup create``.
    """
    app, selected, is_whole = subject.app, list[EmptiedTables](), not subject.app.only
    entries = require(app.configured.backup_settings.schema_only)
    for name in select_databases(app)[0]:
        try:
            dumps = open_dumps(app, name)
        except SINGLE_DATABASE_ERRORS:
            is_whole = False
        else:
            selected.append(select_tables(app, name, dumps, entries))
    if is_whole:
        require_known_entries(app, entries, selected)
    yield from ()


IDENTITY_HINT = "Without it, this machine cannot decrypt backups; --identity FILE names another file."
NO_MATCH = "no identity on this machine decrypts new backups"
NO_MATCH_HINT = "Add the matching identity to identity_file, or use --identity FILE."


@check("key-mismatch", "app", Needs.NOTHING)
def check_encryption(subject: Subject) -> Iterator[Finding]:
    """Yield problems of the keys of an app's backups.

    Raises:
        DbctlError: new backups cannot be encrypted; see ``EncryptionPolicy``.
    """
    app = subject.app
    settings, key_sources = (
        app.configured.backup_settings.encrypt,
        secrets.find_decryption_files(app.configured),
    )
    if not settings:
        return
    identities = dict(_read_stats(key_sources.identities))
    for path in key_sources.identities:
        if path not in identities:
            message = str(FileMissingError(kind="identity file", path=path))
            yield _warn(app, "identity-missing", message, IDENTITY_HINT)
    for path, file_stat in (identities | dict(_read_stats(key_sources.passphrases))).items():
        yield from files.check_access(
            app.name,
            {path: file_stat},
            "this allows replacing the keys of backups",
            "it decrypts every backup",
        )
    policy = load_encryption(app)
    if identities and policy and not _can_decrypt(policy, DecryptionKeys(key_sources, _refuse_passphrase)):
        yield _warn(app, "key-mismatch", NO_MATCH, NO_MATCH_HINT)


def _read_stats(paths: Sequence[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        try:
            yield path, path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


def _can_decrypt(policy: EncryptionPolicy, decryption_keys: DecryptionKeys) -> bool:
    try:
        list(decryption_keys.file_identities)
    except KeyMissingError:  # protected by a passphrase, for which doctor does not prompt
        return True
    except DbctlError:
        return False
    return policy.can_be_decrypted_by(decryption_keys)


def _refuse_passphrase(label: str) -> Secret:
    raise KeyMissingError(target=label, reason="doctor does not prompt for passphrases")


def _warn(app: App, code: str, message: str, hint: str) -> Finding:
    return Finding(app.name, "warning", code, message, hint)
