"""Variables of the environment and of env files of apps, and the name of the operator."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dbctl.config.model import AppConfig
from dbctl.errors import UsageError
from dbctl.files import atomic, toml

#: A function that records a configuration error: key in the file, reason.
ReportProblem = Callable[[Sequence[toml.Key], str], None]

VARIABLE_PATTERN = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: User and password at the beginning of a URL.
_CREDENTIALS_PATTERN = r"[A-Za-z][\w+]*://[^@/]*(?=@)"


def read_set_variables(names: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the environment variables in ``names`` that are set, by the names to which they are mapped."""
    return {name: os.environ[variable] for variable, name in names.items() if variable in os.environ}


def fill_variables(
    text: str, key: Sequence[toml.Key], report: ReportProblem, app_variables: Mapping[str, str]
) -> str:
    """Replace ``${NAME}`` with the value of the variable; an unset variable is reported as error and replaced with its name.

    In credentials (``://USER:${NAME}@``) the value is percent-encoded, so that no part of it is parsed as URL.
    """
    if "${" not in text:
        return text
    credentials = re.match(_CREDENTIALS_PATTERN, text)

    def replace_variable(match: re.Match[str]) -> str:
        try:
            variable_value = app_variables[match[1]] if match[1] in app_variables else read_variable(match[1])
        except (KeyError, OSError, UnicodeDecodeError) as error:
            report(key, explain_unreadable(match[1], error))
            return match[1]
        if credentials is None or match.start() > credentials.end():
            return variable_value
        from urllib.parse import quote

        return quote(variable_value, safe="", errors="surrogateescape")

    return re.sub(VARIABLE_PATTERN, replace_variable, text)


def read_env_file(
    app: AppConfig, folder: Path, key: Sequence[toml.Key], report: ReportProblem
) -> Mapping[str, str]:
    """Return the variables of the app's env file.

    They take precedence over the environment, which may have the ``DATABASE_URL`` of another app.
    """
    if not app.env_file:
        return {}
    from dbctl.files import dotenv

    try:
        return dotenv.parse_dotenv(atomic.read_settings(folder / app.env_file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
        # Without this file no command finds the backups, so the hint names a backup that may contain it.
        repository = isinstance(error, FileNotFoundError) and app.backup and app.backup.repository
        hint = (
            f" (files_*.tar.gz of the newest backup below {repository} may contain it)" if repository else ""
        )
        report(key, f"{app.env_file} cannot be read: {reason}{hint}")
        return {}


def read_variable(name: str) -> str:
    """Return the value of a variable, or the contents of the file in ``NAME_FILE``, as used for container secrets.

    Raises:
        KeyError: neither is set.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    if name in os.environ:
        return os.environ[name]
    file = os.environ.get(f"{name}_FILE", "")
    if not file:
        raise KeyError(name)
    return atomic.read_settings(Path(file)).removesuffix("\n").removesuffix("\r")


def explain_unreadable(name: str, error: Exception) -> str:
    """Return why a variable cannot be read."""
    if isinstance(error, KeyError):
        return f"the environment has no variable {name}, and no {name}_FILE"
    reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
    return f"the file that {name}_FILE names cannot be read: {reason}"


def read_storage_variables(names: Sequence[str]) -> Mapping[str, str]:
    """Return the variables in ``names`` that are set, directly or with ``NAME_FILE``.

    Raises:
        UsageError: a file cannot be read.
    """
    values = {}
    for name in names:
        try:
            values[name] = read_variable(name)
        except KeyError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(detail=explain_unreadable(name, error)) from error
    return values


def operator_name() -> str:
    """Return the name of the user who called sudo, otherwise of the user of this process."""
    import pwd

    sudo_user = os.environ.get("SUDO_USER", "")
    if sudo_user and os.geteuid() == 0:
        return sudo_user
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers may run with a user id that has no name
        return str(os.geteuid())
