"""Variables and secrets, where each name is looked up; directories of this machine; the name of the operator."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.config.model import STATE_OFF, App, AppConfig, SecretSource
from dbctl.errors.usage import UsageError
from dbctl.files import atomic, toml
from dbctl.model import Secret
from dbctl.units import is_duration, parse_duration


def cache_folder() -> Path | None:
    """Return the user's folder for files that dbctl can create again; None without a home directory."""
    if sys.platform != "linux":
        from platformdirs import user_cache_path

        return user_cache_path("dbctl") / "search"
    base = _base_folder(os.environ.get("XDG_CACHE_HOME", ""), "~/.cache")
    return base and base / "dbctl" / "search"


def state_folder(configured: str = "") -> Path | None:
    """Return the folder for records of runs: ``DBCTL_STATE``, otherwise ``configured``, otherwise the user's.

    None: the folder is ``off``, or the user has no home directory.
    """
    selected = os.environ.get("DBCTL_STATE", "").strip() or configured
    if selected:
        return None if selected == STATE_OFF else Path(selected).absolute()
    base = _base_folder(os.environ.get("XDG_STATE_HOME", ""), "~/.local/state")
    if base is None or sys.platform == "linux":
        return base and base / "dbctl"
    from platformdirs import user_state_path

    return user_state_path("dbctl")


def app_state_folder(app: App) -> Path | None:
    """Return the folder for what dbctl remembers of an app on this machine, also if its runs are not recorded; None: there is none."""
    return state_folder("" if app.state == STATE_OFF else app.state)


def _base_folder(configured: str, default: str) -> Path | None:
    """Return a folder of the user as platformdirs does on Linux, whose import takes longer than a search; None: there is no home."""
    folder = Path(configured.strip())
    if folder.is_absolute():
        return folder
    return atomic.expand_home(default) if has_home() else None


def machine_name() -> str:
    """Return the name of this machine without its domain; empty in a container with a random name."""
    name = os.uname().nodename.partition(".")[0]
    is_random = "KUBERNETES_SERVICE_HOST" in os.environ or re.fullmatch(r"[0-9a-f]{12}", name)
    return "" if is_random else name


def config_folders() -> dict[str, Path]:
    """Return the folders of configurations by their origin, ``user`` before ``system``; without a home directory only the system's."""
    from platformdirs import site_config_path, user_config_path

    folders = {"system": site_config_path("dbctl")}
    has_own = has_home() or Path(os.environ.get("XDG_CONFIG_HOME", "")).is_absolute()
    return {"user": user_config_path("dbctl"), **folders} if has_own else folders


def profile_folders() -> dict[str, Path]:
    """Return the folders of installed profiles by their origin, ``user`` before ``system``."""
    return {origin: folder / "profiles" for origin, folder in config_folders().items()}


def has_home() -> bool:
    """Return whether the user has a home directory."""
    return os.path.expanduser("~").startswith("/")  # noqa: PTH111 - pathlib raises without one


def staging_folder(app: App) -> Path | None:
    """Return the configured local folder for staged files of backups; None: use ``default_staging_folder``."""
    configured = app.backup.staging if app.backup else ""
    return app.folder / atomic.expand_home(configured) if configured else None


def default_staging_folder() -> Path:
    """Return the default folder for staged files: on a disk, because ``/tmp`` may be in memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - callers create a private folder in it


_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder(name: str) -> Path:
    """Return the folder ``name`` (``completions``, ``man`` or ``migrations``) of the wheel, or of the checkout."""
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


#: A function that records a configuration error: key in the file, reason.
ReportProblem = Callable[[Sequence[toml.Key], str], None]

VARIABLE_PATTERN = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: The folder in which Docker and Podman mount secrets.
CONTAINER_SECRETS = Path("/run/secrets")

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
        except VariableUnreadableError as error:
            report(key, str(error))
            return match[1]
        if credentials is None or match.start() > credentials.end():
            return variable_value
        from urllib.parse import quote

        return quote(variable_value, safe="", errors="surrogateescape")

    return re.sub(VARIABLE_PATTERN, replace_variable, text)


def read_env_file(
    app: AppConfig, folder: Path, key: Sequence[toml.Key], report: ReportProblem
) -> Mapping[str, str]:
    """Return the variables of the app's env file, if it can be read."""
    from dbctl.files import app_settings

    try:
        return app_settings.parse_settings(app.env_file, atomic.read_settings(folder / app.env_file))
    except (OSError, ValueError) as error:
        reason = atomic.explain_failure(error)
        # Without this file no command finds the backups, so the hint names a backup that may contain it.
        repository = isinstance(error, FileNotFoundError) and app.backup and app.backup.repository
        hint = (
            f" (files_*.tar.gz of the newest backup below {repository} may contain it)" if repository else ""
        )
        report(key, f"{app.env_file} cannot be read: {reason}{hint}")
        return {}


class VariableUnreadableError(Exception):
    """A variable is not set, or its file or command fails; the text is the reason, without any output."""


class VariableUnsetError(VariableUnreadableError):
    """Nothing defines the variable."""


class _Secrets:
    """The section ``[secrets]`` of the configuration that this process reads, and the secrets that it has read."""

    sources: Mapping[str, SecretSource] = {}
    folder = Path()  #: the base of relative paths
    values: dict[str, Secret] = {}  # noqa: RUF012 - one configuration for each process


def use_secrets(sources: Mapping[str, SecretSource], folder: Path) -> None:
    """Look up the secrets of a configuration from now on."""
    if (sources, folder) != (_Secrets.sources, _Secrets.folder):
        _Secrets.sources, _Secrets.folder, _Secrets.values = sources, folder, {}


def check_secret(name: str, source: SecretSource) -> Iterator[tuple[Sequence[str], str]]:
    """Yield the invalid keys of a secret, with the reason."""
    if not re.fullmatch(VARIABLE_PATTERN, f"${{{name}}}"):
        yield (), "the name of a secret consists of letters, digits and _"
    if bool(source.file) == bool(source.command):
        yield (), "it requires either file or command"
    if source.command and not source.command[0]:
        yield ("command",), "the program is missing"
    if not is_duration(source.timeout, may_be_zero=False):
        yield ("timeout",), f"{source.timeout!r} is not a duration; write 30s or 2m"


def read_variable(name: str) -> str:
    """Return the value of a variable or secret.

    The first of these places is used: ``[secrets]`` of the configuration, the environment, the file that ``NAME_FILE`` names,
    the credentials of the systemd service, and the secrets of the container.

    Raises:
        VariableUnsetError: none of them defines it.
        VariableUnreadableError: its file or command fails.
    """
    if source := _Secrets.sources.get(name):
        if name not in _Secrets.values:
            _Secrets.values[name] = Secret(_read_secret(name, source))
        return _Secrets.values[name].reveal()
    if name in os.environ:
        return os.environ[name]
    if file := os.environ.get(f"{name}_FILE", ""):
        return _read_file(Path(file), f"the file that {name}_FILE names")
    for folder in (os.environ.get("CREDENTIALS_DIRECTORY", ""), CONTAINER_SECRETS):
        if folder and os.path.isfile(path := Path(folder, name)):
            return _read_file(path, str(path))
    raise VariableUnsetError(
        f"the environment has no variable {name} and no {name}_FILE, and no secret has this name"
    )


def _read_secret(name: str, source: SecretSource) -> str:
    if source.command:
        return read_command(f"secrets.{name}", source, _Secrets.folder)
    try:
        return _read_file(secret_file(source, _Secrets.folder), f"the file of secrets.{name}")
    except VariableUnreadableError:
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)
        if not (credential.is_absolute() and os.path.isfile(credential)):
            raise
        return _read_file(credential, str(credential))  # which root has read for this service


def secret_file(source: SecretSource, folder: Path) -> Path:
    """Return the path of a secret's file, which may contain variables such as ``${CREDENTIALS_DIRECTORY}``."""
    return folder / atomic.expand_home(os.path.expandvars(source.file))


def _read_file(path: Path, description: str) -> str:
    try:
        return atomic.read_settings(path).removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise VariableUnreadableError(
            f"{description} cannot be read: {atomic.explain_failure(error)}"
        ) from error


def read_storage_variables(names: Sequence[str]) -> Mapping[str, str]:
    """Return the variables in ``names`` that are set, in any place of ``read_variable``.

    Raises:
        UsageError: a file or command fails.
    """
    values = {}
    for name in names:
        try:
            values[name] = read_variable(name)
        except VariableUnsetError:
            continue
        except VariableUnreadableError as error:
            raise UsageError(detail=str(error)) from error
    return values


def editor_command() -> str:
    """Return the editor of the user; empty if none is set."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR", "")


def operator_name() -> str:
    """Return the name of the user who called sudo, otherwise of the user of this process."""
    sudo_user = os.environ.get("SUDO_USER", "")
    return sudo_user if sudo_user and os.geteuid() == 0 else user_name()


def user_name() -> str:
    """Return the name of the user of this process."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers may run with a user id that has no name
        return str(os.geteuid())


#: Maximum bytes of the output, which may have notes below the secret.
MAX_OUTPUT_BYTES = 1 << 20


def read_command(key: str, source: SecretSource, folder: Path) -> str:
    """Return the first line that the command of a secret prints; ``key`` is its key in the configuration, for messages.

    A relative path of the program begins in ``folder``; a program without a slash is searched on the PATH.

    Raises:
        VariableUnreadableError: the command fails or prints no secret. The text contains no output, also not of its errors.
    """
    from dbctl.files import limited_program

    program, *arguments = source.command
    argv = [str(folder / program) if "/" in program else program, *arguments]
    seconds = parse_duration(source.timeout).total_seconds()
    try:
        output = limited_program.run(argv, seconds=seconds, max_bytes=MAX_OUTPUT_BYTES)
    except limited_program.ProgramFailedError as error:
        raise VariableUnreadableError(f"{key}: {program}: {error}") from None
    try:
        line = output.partition(b"\n")[0].removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise VariableUnreadableError(f"{key}: {program}: the output is not UTF-8") from None
    if not line:
        raise VariableUnreadableError(f"{key}: {program}: the first line of the output is empty")
    return line
