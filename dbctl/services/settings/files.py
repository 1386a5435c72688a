"""Read a file of settings: JSON, the output of ``settings export -o json``, or TOML."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from dbctl.errors.usage import UsageError
from dbctl.files import toml
from dbctl.services.settings.values import load_json


def read_settings_file(raw: bytes, name: str) -> dict[str, object]:
    """Return the settings of a JSON file (also the output of ``-o json``) or, by the suffix of ``name``, of a TOML file.

    In TOML, a table is a category.

    Raises:
        UsageError: the file does not contain settings.
    """
    try:
        text = raw.decode("utf-8-sig")
        data = toml.loads(text) if name.endswith(".toml") else load_json(text)
    except toml.TomlError as error:
        detail = f"{name}, line {error.problems[0].line}: {error.problems[0].reason}"
        raise UsageError(detail=detail) from error
    except ValueError as error:  # also raised for text that is not UTF-8
        raise UsageError(detail=f"{name}: {error}") from error
    if isinstance(data, dict) and str(data.get("schema", "")).startswith("dbctl."):
        if not data["schema"].startswith("dbctl.settings.export/"):
            raise UsageError(detail=f"{name} is the output of another command; pass that of settings export")
        data = data.get("data")
    if not isinstance(data, dict):
        raise UsageError(detail=f"{name} does not contain keys and values")
    settings = dict(_flatten(data)) if name.endswith(".toml") else data
    for key, value in settings.items():
        if not _is_json_value(value):
            detail = f"{name}: a setting cannot have the type of {key} ({type(value).__name__})"
            raise UsageError(detail=detail)
    return settings


def _is_json_value(value: object) -> bool:
    """Whether JSON can represent the value."""
    if isinstance(value, dict | list):
        return all(map(_is_json_value, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _flatten(data: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, value in data.items():
        if isinstance(value, dict) and "." not in key:
            flat += [(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            flat.append((key, value))
    return flat
