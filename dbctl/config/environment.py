"""Variables of the environment and of the env files of apps, and the user at work."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dbctl.config.model import AppConfig
from dbctl.errors import UsageError
from dbctl.files import atomic, toml

#: The variables by which every program finds storage that speaks S3, and its keys.
STORAGE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)

#: Takes where in the file something is wrong, and why.
Complain = Callable[[Sequence[toml.Key], str], None]

VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: User and password at the beginning of an address.
_LOGIN = r"[A-Za-z][\w+]*://[^@/]*(?=@)"


def variables_set(names: Mapping[str, str]) -> dict[str, str]:
    """Return what the variables of the environment hold that are set, each under the name given for it."""
    return {name: os.environ[variable] for variable, name in names.items() if variable in os.environ}


def fill_variables(text: str, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]) -> str:
    """Put the values of ``${NAME}`` in; one that is not set is a mistake, and its name stands for it.

    Where it is part of a login (``://USER:${NAME}@``) it is what it is: nothing of it is read as part of the address.
    """
    if "${" not in text:
        return text
    login = re.match(_LOGIN, text)

    def value(found: re.Match[str]) -> str:
        try:
            told = own[found[1]] if found[1] in own else read_variable(found[1])
        except (KeyError, OSError, UnicodeDecodeError) as error:
            complain(at, explain_unreadable(found[1], error))
            return found[1]
        if login is None or found.start() > login.end():
            return told
        from urllib.parse import quote

        return quote(told, safe="", errors="surrogateescape")

    return re.sub(VARIABLE, value, text)


def read_env_file(
    app: AppConfig, folder: Path, at: Sequence[toml.Key], complain: Complain
) -> Mapping[str, str]:
    """Return the variables of the app's own file of settings.

    They count before those of the environment, where another app's ``DATABASE_URL`` may stand.
    """
    if not app.env_file:
        return {}
    from dbctl.files import dotenv

    try:
        return dotenv.read(atomic.read_settings(folder / app.env_file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
        # What is lost with everything else may be in a backup, and without it no command finds the backups.
        kept = isinstance(error, FileNotFoundError) and app.backup and app.backup.repository
        lost = f" (files_*.tar.gz of the newest backup below {kept} may hold it)" if kept else ""
        complain(at, f"{app.env_file} cannot be read: {reason}{lost}")
        return {}


def read_variable(name: str) -> str:
    """Return what a variable of the environment says, or the file that ``NAME_FILE`` names, as containers keep secrets."""
    if name in os.environ:
        return os.environ[name]
    file = os.environ.get(f"{name}_FILE", "")
    if not file:
        raise KeyError(name)
    return atomic.read_settings(Path(file)).removesuffix("\n").removesuffix("\r")


def explain_unreadable(name: str, error: Exception) -> str:
    """Return why the variable has no value: it is not set, or its file cannot be read."""
    if isinstance(error, KeyError):
        return f"the environment has no variable {name}, and no {name}_FILE"
    reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
    return f"the file that {name}_FILE names cannot be read: {reason}"


def storage() -> Mapping[str, str]:
    """Return the variables of ``STORAGE`` that are set, or that a file holds which ``NAME_FILE`` names.

    Raises:
        UsageError: such a file cannot be read.
    """
    found = {}
    for name in STORAGE:
        try:
            found[name] = read_variable(name)
        except KeyError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(detail=explain_unreadable(name, error)) from error
    return found


def operator() -> str:
    """Return the name of the person at work: who called sudo, else the user this process runs as."""
    import pwd

    said = os.environ.get("SUDO_USER", "")
    if said and os.geteuid() == 0:
        return said
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return str(os.geteuid())
