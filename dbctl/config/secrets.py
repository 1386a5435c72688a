"""The keys of embedders, and the files that decrypt backups."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import os
import re
from collections.abc import Sequence
from errno import EFBIG
from pathlib import Path

import msgspec

from dbctl.config.environment import read_variable
from dbctl.config.model import App, EncryptionConfig
from dbctl.config.paths import staging_folder
from dbctl.errors import EmbedderKeyMissingError, PepperMissingError
from dbctl.files import atomic
from dbctl.model import Secret

#: The characters and lengths that the key of a service may have.
_KEY_PATTERN = r"[!-~]{1,4096}"

#: Of the first line of a file, with its line break.
_MAX_KEY_BYTES = 4098


def embedder_key(app: App) -> Secret | None:
    """Return the key of an app's embedder, from the configured variable or file; None: neither is configured.

    Variables of the app's env file take precedence over the environment.

    Raises:
        EmbedderKeyMissingError: the variable or file is missing, or its value is not a key.
    """
    embedder = app.embedder
    if embedder is None or not (embedder.key_env or embedder.key_file):
        return None
    source = embedder.key_file or embedder.key_env
    try:
        text = (
            _read_first_line(Path(embedder.key_file)).strip()
            if embedder.key_file
            else _read_key_variable(app, embedder.key_env)
        )
    except KeyError as error:
        reason = f"neither {embedder.key_env} nor {embedder.key_env}_FILE is set"
        raise EmbedderKeyMissingError(app=app.name, place=source, reason=reason) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "it is not valid UTF-8"
        raise EmbedderKeyMissingError(app=app.name, place=source, reason=reason) from error
    if not re.fullmatch(_KEY_PATTERN, text):
        reason = (
            "it is empty"
            if not text
            else "it contains characters that keys do not have (blanks or non-ASCII)"
        )
        raise EmbedderKeyMissingError(app=app.name, place=source, reason=reason)
    return Secret(text)


def read_pepper(app: App) -> Secret:
    """Return the secret that an app appends to passwords, from the configured file; without the newline at its end.

    Raises:
        PepperMissingError: no file is configured, or it cannot be read.
    """
    if app.pepper_file is None:
        raise PepperMissingError(app=app.name, reason="no pepper_file is configured")
    try:
        return Secret(_read_first_line(app.pepper_file))
    except OSError as error:
        raise PepperMissingError(app=app.name, reason=f"{app.pepper_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PepperMissingError(app=app.name, reason=f"{app.pepper_file}: not valid UTF-8") from error


def _read_key_variable(app: App, name: str) -> str:
    from dbctl.files import dotenv

    app_variables = dotenv.parse_dotenv(atomic.read_settings(app.env_file)) if app.env_file else {}
    return (app_variables[name] if name in app_variables else read_variable(name)).strip()


def _read_first_line(path: Path) -> str:
    with atomic.open_named(path) as file:
        line = file.readline(_MAX_KEY_BYTES + 1)
    if len(line) > _MAX_KEY_BYTES:
        raise OSError(EFBIG, "its first line is too long")
    return str(line.decode("utf-8-sig").rstrip("\r\n"))


class DecryptionFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files with keys and passphrases that decrypt backups."""

    identities: Sequence[Path]
    passphrases: Sequence[Path]
    staging: Path | None  #: the result of ``staging_folder``


def find_decryption_files(
    app: App, identities: Sequence[Path] = (), passphrase: Path | None = None
) -> DecryptionFiles:
    """Return the files from the options, the environment (``DBCTL_BACKUP_…``) and the configuration, in that order."""
    encryption = (app.backup and app.backup.encrypt) or EncryptionConfig()
    identity_files = (os.environ.get("DBCTL_BACKUP_IDENTITY_FILE", ""), encryption.identity_file)
    passphrase_files = (os.environ.get("DBCTL_BACKUP_PASSPHRASE_FILE", ""), encryption.passphrase_file)
    return DecryptionFiles(
        identities=[*identities, *(Path(path) for path in identity_files if path)],
        passphrases=[
            *([passphrase] if passphrase else []),
            *(Path(path) for path in passphrase_files if path),
        ],
        staging=staging_folder(app),
    )
