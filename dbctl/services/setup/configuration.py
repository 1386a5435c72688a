"""The keys of ``dbctl.toml``: those that a file sets, what each key means, and their change in an editor."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from dbctl import signals
from dbctl.config import loader as config
from dbctl.config.defaults import NAME as DEFAULTS
from dbctl.config.defaults import SourceFile, merge_apps
from dbctl.config.environment import editor_command
from dbctl.config.extension_sections import read_schema
from dbctl.config.secrets import redact_addresses, redact_value
from dbctl.config.sections import Selection, read_sections
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError, report_file_errors
from dbctl.errors.usage import (
    ConfigChangedError,
    ConfigInvalidError,
    ConfigKeyMissingError,
    EditorFailedError,
)
from dbctl.extensions import registry
from dbctl.extensions.base import SectionOwner
from dbctl.files import temp, toml
from dbctl.files.atomic import MAX_SETTINGS_BYTES, read_whole, write_atomically, write_blocks
from dbctl.model import ChangeResult, Effect, Page, Row, Struct
from dbctl.profiles import loader

#: The part of a key that the user chooses, such as the name of an app.
NAME = "NAME"
#: Keys can be written without it.
APP_PREFIX = ("apps", NAME)
_KINDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
PREFIX = "dbctl-edit-"
DEFAULT_EDITORS = ("sensible-editor", "vi", "nano")

#: Shows the problems of the edited file, and returns whether the user edits it again.
AskAgain = Callable[[Sequence[toml.Problem]], bool]


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


class ConfigEdited(ChangeResult, frozen=True, kw_only=True):
    """Result of ``config edit``."""

    file: str
    changed: bool
    apps: Sequence[str]  #: of the whole configuration

    @property
    def effect(self) -> Effect | None:
        return Effect("changed", "file", [self.file]) if self.changed else None


def select_file(selection: Selection) -> tuple[Path, Path]:
    """Return the main file of the configuration, and the file to edit: that of the selected app, or the main file.

    Raises:
        ConfigMissingError: there is no configuration.
        ConfigInvalidError: an app is selected, but the files that may define it have errors.
        AppMissingError: the selected app is not configured.
    """
    main = config.config_path(selection)
    if not selection.app:
        return main, main
    sections, name = config.load_sections(selection), selection.app.partition("/")[0]
    if name not in sections.apps:
        raise config.app_missing_error(name, main, list(sections.apps))
    return main, sections.origins["apps", name].path


def find_editor(*, on_terminal: bool) -> Sequence[str]:
    """Return the command of the editor: VISUAL or EDITOR, as a shell splits it, or on a terminal an installed one.

    Raises:
        EditorFailedError: none is set, or its text is no command.
    """
    import shutil

    try:
        words = shlex.split(editor_command())
    except ValueError as error:
        raise EditorFailedError(editor="VISUAL or EDITOR", reason=str(error).lower()) from error
    if words:
        return words
    installed = [name for name in DEFAULT_EDITORS if shutil.which(name)] if on_terminal else []
    if not installed:
        raise EditorFailedError(editor="no editor", reason="neither VISUAL nor EDITOR is set")
    return installed[:1]


def edit_configuration(main: Path, file: Path, editor: Sequence[str], ask_again: AskAgain) -> ConfigEdited:
    """Open an editor on a copy of ``file``, and replace the file if the configuration is valid with it.

    Mode and owner of the file remain. Variables and secrets are not read, so that they may be unset here.

    Args:
        main: the main file of the configuration.
        file: one of its files.
        editor: the command; the path of the copy is appended. It must not end before the file is complete.
        ask_again: called with the problems of an invalid file.

    Raises:
        ConfigInvalidError: the edited file is invalid, and the user does not edit it again.
        ConfigChangedError: another process changed the file.
        EditorFailedError: the editor cannot be started, or failed.
        FileMissingError, FileFailedError: the file cannot be read or replaced.
    """
    original = _read(file)
    _require_writable(file)
    with temp.folder(Path(tempfile.gettempdir()), PREFIX) as folder:
        copy = folder / file.name
        write_blocks(copy, [original])
        while True:
            _run_editor(editor, copy)
            content = _read(copy)
            apps, problems = _validate(main, {file: copy})
            if original.strip() and not content.strip():  # saved by mistake, or by an editor that failed
                problems = [
                    toml.Problem(1, "TOML", "the file is empty; delete it yourself if that is intended")
                ]
            if content == original or not problems:
                break
            if not ask_again(problems):
                first = problems[0]
                raise ConfigInvalidError(
                    file=first.file or file, line=first.line, key=first.key, reason=first.reason
                )
    if content != original:
        if _read(file) != original:
            rejected = file.with_name(f"{file.name}.rejected")
            _write(rejected, content)
            raise ConfigChangedError(file=file, rejected=rejected)
        _write(file, content)
    return ConfigEdited(file=str(file), changed=content != original, apps=apps)


def _read(file: Path) -> bytes:
    with report_file_errors(file, kind="configuration"):
        return read_whole(file, MAX_SETTINGS_BYTES, is_named=True)


def _write(file: Path, content: bytes) -> None:
    with write_atomically(file, replace=True) as out:
        out.write(content.decode("utf-8", "surrogateescape"))


def _require_writable(file: Path) -> None:
    """Refuse before the editor starts what would fail after it."""
    path = Path(os.path.realpath(file))
    status = path.stat()
    if os.geteuid() not in (0, status.st_uid):
        raise FileFailedError(
            path=file, reason="it belongs to another user, who would lose it; edit it as this user"
        )
    if not os.access(path.parent, os.W_OK):
        raise FileFailedError(path=file, reason=f"{path.parent} is not writable")


def _run_editor(editor: Sequence[str], copy: Path) -> None:
    # The terminal sends Ctrl-C to the editor and to dbctl. A handler, unlike SIG_IGN, is not inherited by the editor.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with signals.defer_signals():  # a signal between the start and its record would leave the editor open
            process = subprocess.Popen([*editor, str(copy)])  # noqa: S603 - the editor of the user
        try:
            signals.raise_if_interrupted()
            status = process.wait()
        except BaseException:  # also on a signal
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait()
            raise
    except (OSError, ValueError) as error:
        raise EditorFailedError(
            editor=editor[0], reason=getattr(error, "strerror", "") or str(error)
        ) from error
    finally:
        signal.signal(signal.SIGINT, previous)
    if status:
        raise EditorFailedError(editor=editor[0], reason=f"it ended with status {status}")


def _validate(main: Path, copies: Mapping[Path, Path]) -> tuple[list[str], Sequence[toml.Problem]]:
    """Return the apps of a configuration, and its problems."""
    try:
        sections = read_sections(main, copies)
    except toml.TomlError as error:
        return [], error.problems
    problems = config.find_problems(sections)
    for name, app in sections.apps.items():
        profile = str(sections.folder / app.profile) if app.profile.endswith(".toml") else app.profile
        try:
            loader.load(profile)
        except DbctlError as error:
            source = sections.origins["apps", name]
            problem = toml.create_problem(source.text, ("apps", name, "profile"), str(error))
            problems.append(toml.Problem(problem.line, problem.key, problem.reason, source.path))
    return list(sections.apps), problems
