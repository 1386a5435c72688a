"""Whether backups can be encrypted as configured, and who else gets to what opens them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dbctl.config import secrets
from dbctl.errors import DbctlError, FileFailedError, FileMissingError, KeyMissingError
from dbctl.model import Finding, Secret
from dbctl.services.app import App
from dbctl.services.backup import Keys, Sealing
from dbctl.services.doctor import files

NOT_HERE = "Without it on this machine no backup is opened here; --identity FILE names another one."
NO_MATCH = "what backups are encrypted for now is opened by no identity of this machine"
NO_MATCH_HINT = "Add its identity to identity_file, or give --identity FILE where backups are opened."


def keys(app: App) -> Iterator[Finding]:
    """Yield what is wrong with the keys of an app's backups.

    Raises:
        DbctlError: none can be made now; as ``Sealing``.
    """
    told, opening = app.configured.backup, secrets.opening(app.configured)
    if not (told and told.encrypt):
        return
    found = dict(_found(opening.identities))
    for path in opening.identities:
        if path not in found:
            message = str(FileMissingError(what="identity file", path=path))
            yield Finding(
                target=app.name, severity="warning", code="identity-missing", message=message, hint=NOT_HERE
            )
    secret = found | dict(_found(opening.passphrases))
    written, read = "whoever does, decides what opens backups", "it opens every backup"
    for path, one in secret.items():
        for severity, code, message, hint in files.exposed({path: one}, written=written, read=read):
            yield Finding(target=app.name, severity=severity, code=code, message=message, hint=hint)
    sealing = Sealing(app)
    if found and not _opens(sealing, Keys(opening, _nobody)):
        yield Finding(
            target=app.name, severity="warning", code="identity-other", message=NO_MATCH, hint=NO_MATCH_HINT
        )


def _found(paths: Sequence[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        try:
            yield path, path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


def _opens(sealing: Sealing, own: Keys) -> bool:
    try:
        list(own.own)
    except KeyMissingError:  # a passphrase protects it, and nobody is asked for one here
        return True
    except DbctlError:
        return False
    return sealing.is_opened_by(own)


def _nobody(what: str) -> Secret:
    raise KeyMissingError(what=what, reason="nobody is asked for its passphrase here")
