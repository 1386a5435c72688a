"""Formats of stored values: JSON, simple YAML as Rails writes it, PHP's serialization without objects; and files of settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite

from dbctl.errors.usage import UsageError
from dbctl.files import toml
from dbctl.profiles.model.settings import SettingFormat
from dbctl.profiles.php import dump_php, load_php
from dbctl.services.settings.values import load_json, parse_number

#: The beginning of serialized values; all other texts in an app with PHP are plain.
SERIALIZED = r"(?:[abdisOCE]:[0-9.+-]|N;)"
#: Plain YAML scalars that need no quotes; dates and words with another meaning do.
YAML_PLAIN = r"[A-Za-z_][\w ./@+-]*"
YAML_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
#: The largest character with an escape of four digits; larger ones need none.
MAX_ESCAPED = 0xFFFF
YAML_RESERVED = ("yes", "no", "on", "off", "y", "n", *YAML_WORDS)


def decode(value_format: SettingFormat, text: str) -> object:
    """Return the value of a stored text.

    Raises:
        ValueError: the text is not in the format, or contains more than dbctl supports: tags of YAML, objects of PHP.
    """
    if value_format == "php":
        return text if not re.match(SERIALIZED, text) else load_php(text)
    return _read_yaml(text) if value_format == "yaml" else load_json(text)


def encode(value_format: SettingFormat, value: object) -> str:
    """Return the stored text of a value.

    Raises:
        ValueError: the text would have another meaning for the app.
    """
    if value_format == "php":
        if value is None:
            raise ValueError("the app stores null only in lists and objects")
        if isinstance(value, str) and re.match(SERIALIZED, value):
            raise ValueError("the app would read it as a serialized value")
        return dump_php(value) if isinstance(value, list | dict) else str(value)
    return _dump_yaml(value) if value_format == "yaml" else json.dumps(value, ensure_ascii=False)


# YAML ---------------------------------------------------------------------------------------------------------------


def _read_yaml(text: str) -> object:
    """Return the value of a document: a scalar, or a list of scalars."""
    lines = text.removesuffix("\n").removesuffix("\n...").split("\n")
    first = re.fullmatch("---(?: (.*))?", lines[0])
    items = [re.fullmatch("- ?(.*)", line) for line in lines[1:]]
    if first is None or not all(items) or (items and first[1]):
        raise ValueError("it is not a scalar or a list of scalars in YAML")
    if items:
        return [_read_scalar(item[1]) for item in items if item]
    return (
        {"[]": [], "{}": {}}.get(first[1] or "") if first[1] in ("[]", "{}") else _read_scalar(first[1] or "")
    )


def _read_scalar(text: str) -> object:
    text = text.strip()
    if text.lower() in YAML_WORDS:
        return YAML_WORDS[text.lower()]
    if quoted := re.fullmatch("'((?:[^']|'')*)'", text):
        return quoted[1].replace("''", "'")
    if text.startswith('"'):
        return json.loads(text)  # an escape that JSON lacks is an error
    try:
        return parse_number(text, whole=not re.search("[.eE]", text))
    except ValueError:
        pass
    if not re.match(r"[\w./(]", text) or re.search(r": | #|:$", text) or text.lower() in YAML_RESERVED:
        raise ValueError("it is not simple YAML")
    return text


def _dump_yaml(value: object) -> str:
    if isinstance(value, list):
        if any(isinstance(item, list | dict) for item in value):
            raise ValueError("dbctl writes only scalars and lists of scalars in YAML")
        return "---\n" + "".join(f"- {_dump_scalar(item)}\n" for item in value) if value else "--- []\n"
    if isinstance(value, dict):
        if value:
            raise ValueError("dbctl writes only scalars and lists of scalars in YAML")
        return "--- {}\n"
    return f"--- {_dump_scalar(value)}\n"


def _dump_scalar(value: object) -> str:
    if not isinstance(value, str):  # YAML reads 1e+16 as text
        return re.sub(r"^(-?[0-9]+)e", r"\1.0e", json.dumps(value))
    if not value.isprintable():  # JSON's escapes of pairs of surrogates have another meaning in YAML
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(
            letter if letter.isprintable() or ord(letter) > MAX_ESCAPED else f"\\u{ord(letter):04x}"
            for letter in quoted
        )
    is_plain = (
        re.fullmatch(YAML_PLAIN, value) and value == value.strip() and value.lower() not in YAML_RESERVED
    )
    return value if is_plain else "'" + value.replace("'", "''") + "'"


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
