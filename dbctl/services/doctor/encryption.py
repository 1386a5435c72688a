"""Checks of the encryption keys of backups, and of the permissions of key files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dbctl.config import secrets
from dbctl.errors import DbctlError, FileFailedError, FileMissingError, KeyMissingError
from dbctl.model import Finding, Secret
from dbctl.services.app import App
from dbctl.services.backup import DecryptionKeys, EncryptionPolicy
from dbctl.services.doctor import files

IDENTITY_HINT = "Without it, this machine cannot decrypt backups; --identity FILE names another file."
NO_MATCH = "no identity on this machine decrypts new backups"
NO_MATCH_HINT = "Add the matching identity to identity_file, or use --identity FILE."


def check_keys(app: App) -> Iterator[Finding]:
    """Yield problems of the keys of an app's backups.

    Raises:
        DbctlError: new backups cannot be encrypted; see ``EncryptionPolicy``.
    """
    backup_config, key_sources = app.configured.backup, secrets.find_decryption_files(app.configured)
    if not (backup_config and backup_config.encrypt):
        return
    identities = dict(_read_stats(key_sources.identities))
    for path in key_sources.identities:
        if path not in identities:
            message = str(FileMissingError(kind="identity file", path=path))
            yield Finding(
                target=app.name,
                severity="warning",
                code="identity-missing",
                message=message,
                hint=IDENTITY_HINT,
            )
    key_files = identities | dict(_read_stats(key_sources.passphrases))
    write_risk, read_risk = "this allows replacing the keys of backups", "it decrypts every backup"
    for path, file_stat in key_files.items():
        for severity, code, message, hint in files.check_access(
            {path: file_stat}, write_risk=write_risk, read_risk=read_risk
        ):
            yield Finding(target=app.name, severity=severity, code=code, message=message, hint=hint)
    policy = EncryptionPolicy(app)
    if identities and not _can_decrypt(policy, DecryptionKeys(key_sources, _refuse_passphrase)):
        yield Finding(
            target=app.name, severity="warning", code="key-mismatch", message=NO_MATCH, hint=NO_MATCH_HINT
        )


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
