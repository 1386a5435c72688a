"""The keys of embedders, and the files that open encrypted backups."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dbctl.config.environment import read_variable
from dbctl.config.model import App, Encrypt
from dbctl.config.paths import aside
from dbctl.errors import EmbedderKeyMissingError
from dbctl.files import atomic
from dbctl.model import Secret

#: What a key of a service is made of, and how long none is.
_KEY = r"[!-~]{1,4096}"

_LONGEST_KEY = 4098


def embedder_key(app: App) -> Secret | None:
    """Return the key of an app's embedder, from the variable or file that the configuration names; None: it names none.

    A variable of the app's own file of settings counts before one of the environment.

    Raises:
        EmbedderKeyMissingError: there is none, or it is no key.
    """
    told = app.embedder
    if told is None or not (told.key_env or told.key_file):
        return None
    place = told.key_file or told.key_env
    try:
        text = _key_in(Path(told.key_file)) if told.key_file else _key_of(app, told.key_env)
    except KeyError as error:
        reason = f"neither {told.key_env} nor {told.key_env}_FILE is set"
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "it is not valid UTF-8"
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason) from error
    if not re.fullmatch(_KEY, text):
        reason = (
            "it is empty" if not text else "it holds what no key does: blanks, or other signs than ASCII's"
        )
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason)
    return Secret(text)


def _key_of(app: App, name: str) -> str:
    from dbctl.files import dotenv

    own = dotenv.read(atomic.read_settings(app.env_file)) if app.env_file else {}
    return (own[name] if name in own else read_variable(name)).strip()


def _key_in(path: Path) -> str:
    with atomic.named(path) as file:
        return str(file.readline(_LONGEST_KEY).decode().strip())


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The files of what opens encrypted backups."""

    identities: Sequence[Path]
    passphrases: Sequence[Path]
    aside: Path | None  #: as ``aside`` says


def opening(app: App, identities: Sequence[Path] = (), passphrase: Path | None = None) -> Opening:
    """Return the files that options, the environment (``DBCTL_BACKUP_…``) and the configuration name, in that order."""
    told = (app.backup and app.backup.encrypt) or Encrypt()
    named = (os.environ.get("DBCTL_BACKUP_IDENTITY_FILE", ""), told.identity_file)
    secrets = (os.environ.get("DBCTL_BACKUP_PASSPHRASE_FILE", ""), told.passphrase_file)
    return Opening(
        identities=[*identities, *(Path(one) for one in named if one)],
        passphrases=[*([passphrase] if passphrase else []), *(Path(one) for one in secrets if one)],
        aside=aside(app),
    )
