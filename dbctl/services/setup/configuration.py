"""The keys of ``dbctl.toml``: those that a file sets, and what each key means."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from dbctl.config import loader as config
from dbctl.config.defaults import NAME as DEFAULTS
from dbctl.config.defaults import SourceFile, merge_apps
from dbctl.config.extension_sections import read_schema
from dbctl.config.secrets import redact_addresses, redact_value
from dbctl.config.sections import Selection
from dbctl.errors.usage import ConfigKeyMissingError
from dbctl.extensions import registry
from dbctl.extensions.base import SectionOwner
from dbctl.files import toml
from dbctl.model import Page, Row, Struct

#: The part of a key that the user chooses, such as the name of an app.
NAME = "NAME"
#: Keys can be written without it.
APP_PREFIX = ("apps", NAME)
_KINDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


class ConfiguredKey(Struct, frozen=True, kw_only=True):
    """A key of a configuration, with its value."""

    key: str
    value: object  #: as in the file, without passwords
    line: int | None  #: in the file, from 1; None: the value is the default
    file: str | None  #: None: the value is the default
    inherited: str | None = None  #: the key in ``[defaults]`` from which an app has the value

    def summary(self) -> Row:
        place = f"{self.file}:{self.line}" if self.file else "default"
        place += f" ({self.inherited})" if self.inherited else ""
        return {"key": self.key, "value": self.value, "place": place}


class KeyDescription(Struct, frozen=True, kw_only=True):
    """The meaning of a key."""

    key: str  #: with ``NAME`` for each part that the user chooses
    type: str
    required: bool
    default: object  #: of a section: None if it is optional
    meaning: str


def show_configuration(selection: Selection, *, with_defaults: bool) -> tuple[Path, Page[ConfiguredKey]]:
    """Return the path of the configuration, and its keys in the order of the files; variables are not resolved.

    Of a selected app, only its own keys are returned; ``with_defaults`` adds the keys that an app does not set, with their default.

    Raises:
        ConfigMissingError, ConfigInvalidError, FileMissingError, FileFailedError: as ``config.loader.load``.
        AppMissingError: the selected app is not configured.
    """
    path, sections = config.config_path(selection), config.load_sections(selection)
    if selection.app and selection.app not in sections.apps:
        raise config.app_missing_error(selection.app, path, list(sections.apps))
    items: list[ConfiguredKey] = []
    for section, source in sections.origins.items():
        if selection.app and section != ("apps", selection.app):
            continue
        configured = dict(_list_values(reduce(getitem, section, merge_apps(source)), section))
        items += [_describe(source, key, value) for key, value in configured.items()]
        items += _list_defaults(section[1], configured) if with_defaults and section[0] == "apps" else ()
    return path, Page(items=items, total=len(items), column_names=ConfiguredKey.__struct_fields__)


def _describe(source: SourceFile, key: Sequence[str], value: object) -> ConfiguredKey:
    place, written = source.locate(key)
    return ConfiguredKey(
        key=toml.dotted(key),
        value=redact_addresses(value) if _has_secret_addresses(key) else redact_value(value),
        line=toml.line_of(place.text, written),
        file=str(place.path),
        inherited=toml.dotted(written) if written is not key else None,
    )


def _has_secret_addresses(key: Sequence[str]) -> bool:
    """Whether the addresses of a section of an extension are secret; those of an absent extension may be."""
    position = {"apps": 2, DEFAULTS: 1}.get(key[0], 0)
    owner: SectionOwner = "app_sections" if position else "config_sections"
    if len(key) <= position:
        return False
    name = key[position]
    sections = registry.list_sections(owner, [name])
    section = sections.get(name)
    return name in sections and (section is None or section.has_secret_addresses)


def _list_values(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each value below ``path`` with its key."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _list_values(item, (*path, key))
    else:
        yield path, value


def _list_defaults(app: str, configured: Collection[Sequence[str]]) -> Iterator[ConfiguredKey]:
    """Yield the keys of an app that are not configured, except those of optional sections without a configured key."""
    absent: list[tuple[str, ...]] = []
    for described in list_keys():
        pattern = described.key.split(".")
        key = ("apps", app, *pattern[len(APP_PREFIX) :])
        is_configured = any(tuple(other[: len(key)]) == key for other in configured)
        if is_configured or any(key[: len(section)] == section for section in absent):
            continue
        if described.type == "section" and described.default is None:
            absent.append(key)
        elif described.type != "section" and described.default is not None:
            yield ConfiguredKey(key=toml.dotted(key), value=described.default, line=None, file=None)


def explain_config_key(key: str) -> KeyDescription | Page[KeyDescription]:
    """Return the meaning of a key, or of every key of a section; of all keys for an empty ``key``.

    Parts that the user chooses can have any value: ``apps.shop.backup.max_age``, or shorter ``backup.max_age``.

    Raises:
        ConfigKeyMissingError: the configuration has no such key.
    """
    described = list(list_keys())
    words = [word for word in key.split(".") if word]
    for path in (words, [*APP_PREFIX, *words]):
        items = [item for item in described if _matches(item.key.split("."), path)]
        exact = [item for item in items if len(item.key.split(".")) == len(path)]
        if exact and exact[0].type != "section" and len(items) == 1:
            return exact[0]
        if items:
            return Page(items=items, total=len(items), column_names=KeyDescription.__struct_fields__)
    names = [item.key.removeprefix(".".join(APP_PREFIX) + ".") for item in described]
    same = [name for name in names if words and name.rpartition(".")[2] == words[-1]]
    raise ConfigKeyMissingError(name=key, candidates=same or names)


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether ``words`` are the beginning of a key."""
    return len(words) <= len(pattern) and all(
        part in (NAME, word) for part, word in zip(pattern, words, strict=False)
    )


def list_keys() -> Iterator[KeyDescription]:
    """Yield every key of the configuration, sections before their keys."""
    schema = read_schema()
    sections = schema["$defs"]
    yield from _list_section(sections, sections[schema["$ref"].rpartition("/")[2]], ())


def _list_section(
    sections: Mapping[str, Any], section: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[KeyDescription]:
    for name, described in section["properties"].items():
        key, inner = (*path, name), _find_section(sections, described)
        is_table = inner is None or "additionalProperties" in described
        default = described.get("default")
        yield KeyDescription(
            key=".".join(key),
            type="section" if inner else _format_type(described),
            required=name in section.get("required", ()),
            default=(default and {}) if inner else None if default in ("", [], {}) else default,
            meaning=described.get("description", "").replace("``", ""),
        )
        if inner:
            yield from _list_section(sections, inner, (*key, NAME) if is_table else key)


def _find_section(sections: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section that is the value of a key, or the value of each name below it."""
    for option in (*described.get("anyOf", [described]), described.get("additionalProperties")):
        if isinstance(option, dict) and "$ref" in option:
            return dict(sections[option["$ref"].rpartition("/")[2]])
    return None


def _format_type(described: Mapping[str, Any]) -> str:
    """Return the type of a value in terms of TOML."""
    options = [option for option in described.get("anyOf", [described]) if option.get("type") != "null"]
    if len(options) != 1:
        return " or ".join(dict.fromkeys(_format_type(option) for option in options))
    (option,) = options
    if "enum" in option:
        return " or ".join(f'"{value}"' for value in option["enum"])
    if option.get("type") == "array":
        return f"list of {_format_type(option.get('items', {}))}"
    if option.get("type") == "object":
        values = option.get("additionalProperties")
        return f"table of {_format_type(values if isinstance(values, dict) else {})}"
    return _KINDS.get(option.get("type", ""), "any")
