"""The files of a Compose project, merged as Compose merges them, as far as databases need it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbctl.errors.connection import FileFailedError
from dbctl.files.atomic import explain_failure, read_settings
from dbctl.services.setup import env_file

#: The names of Compose files, and of those that Compose merges into them, in the order of Compose.
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
#: The variables with the files of the project, and the sign between them.
_FILES, _SEPARATOR = "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR"


def read_settings_file(folder: Path) -> Mapping[str, str]:
    """Return the variables of ``.env`` in the folder of a project."""
    settings = folder / ".env"
    return env_file.read_variables(settings) if settings.is_file() else {}


def find_compose_file(directory: Path) -> Path | None:
    """Return the first Compose file of a directory."""
    files = [*_list_named(directory), *(directory / name for name in NAMES)]
    return next((file for file in files if file.is_file()), None)


def list_compose_files(path: Path) -> Sequence[Path]:
    """Return the files that Compose merges if ``path`` is its first one."""
    folder = path.parent
    if path in (named := _list_named(folder)):
        return named
    if path.name not in NAMES:
        return [path]
    overrides = [folder / name for name in _OVERRIDES if (folder / name).is_file()]
    return [path, *overrides[:1]]


def _list_named(folder: Path) -> Sequence[Path]:
    """Return the files of ``COMPOSE_FILE``, of the environment or ``.env``."""
    variables = {**read_settings_file(folder), **os.environ}
    texts = variables.get(_FILES, "").split(variables.get(_SEPARATOR) or os.pathsep)
    return [folder / text for text in texts if text]


def read_project(path: Path) -> Mapping[str, Any]:
    """Return the content of the files of a project.

    Raises:
        FileFailedError: one cannot be read, or is no Compose file.
    """
    import msgspec.yaml

    merged = dict[str, Any]()
    for file in list_compose_files(path):
        try:
            content = msgspec.yaml.decode(read_settings(file))
        except (OSError, ValueError) as error:
            raise FileFailedError(path=file, reason=explain_failure(error)) from error
        if not isinstance(content, dict) or not isinstance(content.get("services", {}), dict):
            raise FileFailedError(path=file, reason="it has no services")
        merged = _merge(merged, content)
    if not merged.keys() & {"services", "include"}:
        raise FileFailedError(path=path, reason="it has no services")
    return merged


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the values of both: a list is continued, and any other value of the second replaces that of the first."""
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        if key == "environment" and before is not None:
            merged[key] = {**to_mapping(before), **to_mapping(value)}
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(before, value)
        elif key in ("ports", "env_file") and before is not None:
            merged[key] = [*to_list(before), *to_list(value)]
        else:
            merged[key] = value
    return merged


def to_mapping(environment: Any) -> Mapping[str, Any]:
    """Return the variables of a service, which may be a list of ``NAME=VALUE``."""
    if isinstance(environment, Mapping):
        return environment
    pairs = (str(entry).partition("=") for entry in to_list(environment))
    return {name: value if sign else None for name, sign, value in pairs}


def to_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
