"""The secrets of apps, the files that decrypt backups, and the removal of secrets from what is shown, logged or sent."""

import os
import re
from collections.abc import Callable, Sequence
from errno import EFBIG
from functools import partial
from pathlib import Path

import msgspec

from dbctl.config.environment import VariableUnreadableError, read_variable, staging_folder
from dbctl.config.model import App, EncryptionConfig
from dbctl.files import atomic
from dbctl.model import Secret

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.


#: Of the first line of a file, with its line break.
_MAX_KEY_BYTES = 4098


def read_pepper(app: App) -> Secret:
    """Return the secret that an app appends to passwords, from the configured variable or file; without the newline at its end.

    Raises:
        PepperMissingError: none is configured, or it cannot be read.
    """
    from dbctl.errors.users import PepperMissingError

    try:
        if app.pepper_env:
            return read_app_variable(app, app.pepper_env)
        if app.pepper_file:
            return Secret(read_first_line(app.pepper_file))
    except VariableUnreadableError as error:
        raise PepperMissingError(app=app.name, reason=str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{app.pepper_file}: {atomic.explain_failure(error)}"
        raise PepperMissingError(app=app.name, reason=reason) from error
    raise PepperMissingError(app=app.name, reason="neither pepper_file nor pepper_env is configured")


def read_app_variable(app: App, name: str) -> Secret:
    """Return a variable of the app's env file, which takes precedence, or of a place of ``read_variable``.

    Raises:
        VariableUnreadableError: nothing defines it, or its file or command fails.
    """
    if app.env_file:
        from dbctl.files import app_settings

        try:
            variables = app_settings.parse_settings(app.env_file.name, atomic.read_settings(app.env_file))
        except (OSError, ValueError) as error:
            reason = f"{app.env_file} cannot be read: {atomic.explain_failure(error)}"
            raise VariableUnreadableError(reason) from error
        if name in variables:
            return Secret(variables[name])
    return Secret(read_variable(name))


def read_first_line(path: Path) -> str:
    """Return the first line of a file with a secret.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, is too long, or is no text.
    """
    with atomic.open_named(path) as file:
        line = file.readline(_MAX_KEY_BYTES + 1)
    if len(line) > _MAX_KEY_BYTES:
        raise OSError(EFBIG, "its first line is too long")
    return str(line.decode("utf-8-sig").rstrip("\r\n"))


def read_passphrase_variable(app: App) -> Secret:
    """Return the passphrase that ``passphrase_env`` names.

    Raises:
        PassphraseInvalidError: it cannot be read, or is empty.
    """
    from dbctl.errors.backup import PassphraseInvalidError

    encryption = (app.backup and app.backup.encrypt) or EncryptionConfig()
    name = encryption.passphrase_env
    try:
        passphrase = read_app_variable(app, name)
    except VariableUnreadableError as error:
        raise PassphraseInvalidError(place=name, reason=str(error)) from error
    if not passphrase.reveal() or "\n" in passphrase.reveal():
        raise PassphraseInvalidError(place=name, reason="a passphrase is one line, and not empty")
    return passphrase


class DecryptionFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files with keys and passphrases that decrypt backups."""

    identities: Sequence[Path]
    passphrases: Sequence[Path]
    #: reads the passphrase of ``passphrase_env``, if configured
    read_passphrase: Callable[[], Secret] | None = None
    staging: Path | None  #: the result of ``staging_folder``


def find_decryption_files(
    app: App, identities: Sequence[Path] = (), passphrases: Sequence[Path] = ()
) -> DecryptionFiles:
    """Return the files from the options, the environment (``DBCTL_BACKUP_…``) and the configuration, in that order."""
    encryption = (app.backup and app.backup.encrypt) or EncryptionConfig()
    identity_files = (os.environ.get("DBCTL_BACKUP_IDENTITY_FILE", ""), encryption.identity_file)
    passphrase_files = (os.environ.get("DBCTL_BACKUP_PASSPHRASE_FILE", ""), encryption.passphrase_file)
    return DecryptionFiles(
        identities=[*identities, *(Path(path) for path in identity_files if path)],
        passphrases=[*passphrases, *(Path(path) for path in passphrase_files if path)],
        read_passphrase=partial(read_passphrase_variable, app) if encryption.passphrase_env else None,
        staging=staging_folder(app),
    )


#: Shown instead of a secret.
MASK = "***"
#: A value that names a variable is no secret.
_VARIABLE = r"(?!\$\{\w+\})"
#: The password of an address.
_PASSWORD = re.compile(rf"(://[^:@/?#]*:){_VARIABLE}.*(?=@)")
#: The parameter of an address, the option or header of a program, or the key of an object, with its value.
_ASSIGNED = re.compile(
    r"(?i)(?<![\w.-])((?:[\w.-]*(?:passw|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential|signature|authorization|cookie|bearer)[\w.-]*|(?:--?)?(?:key|sig|auth|pass))"
    rf"[\"']?\s*[=:]\s*[\"']?){_VARIABLE}(?!//|\s*$)[^&#\"']+"
)
#: A header or an option of a program, after which its value is the next argument.
_OPTION = r"(?i)--?[\w-]*(?:password|passwd|passphrase|pwd|secret|token|key|auth|credentials?)"
_LOGIN = rf"(?<=:){_VARIABLE}.+"
_LOGIN_OPTIONS = frozenset({"-u", "--user", "--proxy-user"})
_SCHEME = re.compile(rf"(?i)\b((?:bearer|basic)\s+){_VARIABLE}\S+")
_SECRETS = (_PASSWORD, _ASSIGNED, _SCHEME)
#: An address in a sentence.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://\S+")


def redact_text(text: str) -> str:
    """Return an address or an argument with passwords, tokens and the values of secret parameters as ``***``."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def list_secrets(text: str) -> list[str]:
    """Return what ``redact_text`` replaces."""
    secrets = list[str]()
    for pattern in _SECRETS:
        secrets += [match[0][len(match[1]) :] for match in pattern.finditer(text)]
        text = pattern.sub(rf"\1{MASK}", text)
    return [secret for secret in secrets if secret != MASK]


def redact_message(text: str) -> str:
    """Return a sentence with its addresses as ``redact_text`` returns them."""
    return _ADDRESS.sub(lambda match: redact_text(match[0]), text)


def redact_addresses(value: object) -> object:
    """Return a value of the configuration with only scheme and host of addresses, whose other parts are secret."""
    if isinstance(value, list):
        return [redact_addresses(item) for item in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    host = re.match(r"[^/?#@]*(?=[/?#]|$)", rest) if scheme in ("http", "https") else None
    return f"{scheme}://{host[0]}/{MASK}" if host else f"{scheme}://{MASK}"


def redact_value(value: object) -> object:
    """Return a value of the configuration without secrets; a list is a list of addresses, or the words of a program."""
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, list):
        return value
    shown = list[object]()
    for before, item in zip(["", *value], value, strict=False):
        is_text = isinstance(before, str) and isinstance(item, str)
        if is_text and re.fullmatch(_OPTION, before):
            shown.append(item if re.fullmatch(r"\$\{\w+\}", item) else MASK)
        elif is_text and before in _LOGIN_OPTIONS:
            shown.append(re.sub(_LOGIN, MASK, item))
        else:
            shown.append(redact_value(item))
    return shown
