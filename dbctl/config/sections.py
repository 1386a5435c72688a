"""The sections of ``dbctl.toml`` and of the files of ``dbctl.d``, whose variables and paths are not resolved; and who may change these files."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, TypeAlias

import msgspec

from dbctl.config import environment
from dbctl.config.defaults import NAME as DEFAULTS
from dbctl.config.defaults import OF_ONE_APP, SourceFile, merge_apps
from dbctl.config.model import (
    STATE_OFF,
    App,
    AppConfig,
    AuditConfig,
    ConfigFile,
    HooksConfig,
    JournalConfig,
    SecretSource,
    Section,
)
from dbctl.config.resolver import ConfigSection, Resolver, list_app_sections
from dbctl.errors.connection import FileFailedError, FileMissingError, report_file_errors
from dbctl.errors.usage import ConfigInvalidError, ConfigUntrustedError
from dbctl.files import atomic, toml
from dbctl.units import is_duration

#: The folder of further files, next to ``dbctl.toml``; next to ``NAME.toml`` it is ``NAME.d``.
PARTS_FOLDER = "dbctl.d"
#: The tables of sections that users name; of the other sections, only one file may have each.
_TABLES = ("apps", "secrets")
#: Returns the file and the key where a key of a section is written.
PlaceFinder: TypeAlias = Callable[[Sequence[toml.Key]], tuple[SourceFile, Sequence[toml.Key]]]


class Sections(msgspec.Struct, frozen=True):
    """The sections of all files of a configuration; variables and paths are not resolved."""

    files: Sequence[SourceFile]  #: the main file first
    folder: Path  #: the base of relative paths
    apps: Mapping[str, AppConfig]
    secrets: Mapping[str, SecretSource]
    journal: JournalConfig
    audit: AuditConfig
    #: the configured sections of installed extensions: ``(NAME,)`` for all apps, ``("apps", APP, NAME)`` for one
    extension_sections: Mapping[tuple[str, ...], ConfigSection]
    #: the file of each section: ``("apps", NAME)``, ``("secrets", NAME)``, and one name for the others
    origins: Mapping[tuple[str, ...], SourceFile]

    def extension_section(self, name: str, kind: type[Section], app: str = "") -> Section | None:
        """Return the section of an extension, for all apps or of one; None: it is not configured."""
        section = self.extension_sections.get(("apps", app, name) if app else (name,))
        return section if isinstance(section, kind) else None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line that select an app; empty: not passed."""

    config: str = ""
    app: str = ""
    profile: str = ""
    urls: Sequence[str] = ()
    configured: App | None = None  #: the app, if it was read from the configuration already
    sections: Sections | None = None  #: the configuration, if it was read already
    replica: bool = False  #: read databases from their replicas


def read_sections(file: Path, copies: Mapping[Path, Path] | None = None) -> Sections:
    """Read the files of a configuration: the main file, and those in its folder, sorted by name.

    ``copies`` has, for files of the configuration, those that are read instead.

    Raises:
        TomlError, FileMissingError, FileFailedError, ConfigUntrustedError: as ``parse``.
    """
    paths = _list_files(file)
    files, problems = _read_files(paths, copies or {})
    entries, origins = dict[tuple[str, ...], Any](), dict[tuple[str, ...], SourceFile]()
    for source in files:
        try:
            values = merge_apps(source) if source.defaults else source.values
            content = _structure(source, values, source.locate)
        except toml.TomlError as error:
            problems += error.problems
            continue
        reasons = [*_find_problems(content)]
        sections: dict[tuple[str, ...], Any] = {("apps", name): app for name, app in content.apps.items()}
        sections |= {("secrets", name): secret for name, secret in content.secrets.items()}
        sections |= {(name,): getattr(content, name) for name in source.values if name not in _TABLES}
        for key, entry in sections.items():
            if other := origins.get(key):
                line = toml.line_of(other.text, key)
                reasons.append((key, f"{other.path}, line {line} also defines it"))
            origins[key], entries[key] = source, entry
        if reasons:
            problems += locate_problems(source, reasons)
    if problems:
        raise sort_problems(problems, paths)
    configuration = _create_sections(file, files, entries, origins)
    if (configuration.extension_sections or files[0].defaults) and (
        problems := _check_sections(configuration)
    ):
        raise sort_problems(problems, paths)
    if _has_commands(configuration) and os.geteuid() == 0:
        for source in files:
            require_trusted(source.path)
    return configuration


def _create_sections(
    file: Path,
    files: Sequence[SourceFile],
    entries: dict[tuple[str, ...], Any],
    origins: Mapping[tuple[str, ...], SourceFile],
) -> Sections:
    """Return the sections of all files; paths of the journal and the audit log are resolved."""
    folder = file.resolve().parent
    if folder.name == PARTS_FOLDER:  # a section means the same in ``dbctl.toml`` and in a file of ``dbctl.d``
        folder = folder.parent
    journal, audit = entries.pop(("journal",), JournalConfig()), entries.pop(("audit",), AuditConfig())
    entries.pop((DEFAULTS,), None)  # the apps have them
    if journal.folder not in ("", STATE_OFF):
        journal = msgspec.structs.replace(journal, folder=str(folder / atomic.expand_home(journal.folder)))
    if audit.anchor_command:
        audit = _resolve_command(audit, folder)
    apps = {key[1]: entry for key, entry in entries.items() if key[0] == "apps"}
    shared = {key: entry for key, entry in entries.items() if isinstance(entry, ConfigSection)}
    of_apps = {
        ("apps", app, name): section
        for app, entry in apps.items()
        if type(entry) is not AppConfig
        for name, section in list_app_sections(entry).items()
    }
    return Sections(
        files=files,
        folder=folder,
        apps=apps,
        secrets={key[1]: entry for key, entry in entries.items() if key[0] == "secrets"},
        journal=journal,
        audit=audit,
        extension_sections=shared | of_apps,
        origins=origins,
    )


def _find_problems(content: ConfigFile) -> Iterator[tuple[Sequence[toml.Key], str]]:
    """Yield the invalid values of a file that concern no app."""
    for name in OF_ONE_APP:
        if name in content.defaults:
            yield (DEFAULTS, name), f"each app has its own; set it in [apps.NAME.{name}]"
    for name in content.apps:
        if not name.strip():
            yield ("apps", name), "the name of the app is empty"
    for name, secret in content.secrets.items():
        for key, reason in environment.check_secret(name, secret):
            yield ("secrets", name, *key), reason
    if not is_duration(content.journal.keep, may_be_zero=False):
        yield ("journal", "keep"), f"{content.journal.keep!r} is not a duration; write 90d or 1y"
    if content.audit.anchor_command and not content.audit.anchor_command[0].strip():
        yield ("audit", "anchor_command"), "the program is missing"


@contextmanager
def report_first_problem(file: Path) -> Iterator[None]:
    """Translate the errors of ``read_sections`` and ``parse``.

    Raises:
        ConfigInvalidError: with the first error, its file, line and key.
    """
    try:
        yield
    except toml.TomlError as error:
        first = error.problems[0]
        raise ConfigInvalidError(
            file=first.file or file, line=first.line, key=first.key, reason=first.reason
        ) from error


def locate_problems(
    source: SourceFile, problems: Sequence[tuple[Sequence[toml.Key], str]]
) -> list[toml.Problem]:
    """Return problems of the sections of a file with their places, which may be those of defaults."""
    located = [(*source.locate(key), reason) for key, reason in problems]
    return [
        msgspec.structs.replace(toml.create_problem(place.text, key, reason), file=place.path)
        for place, key, reason in located
    ]


def sort_problems(problems: Sequence[toml.Problem], files: Sequence[Path]) -> toml.TomlError:
    """Return an error with the problems in the order of the files and their lines."""
    order = {path: index for index, path in enumerate(files)}
    # A default may be wrong in each app.
    return toml.TomlError(
        *sorted(dict.fromkeys(problems), key=lambda entry: (order[entry.file or files[0]], entry.line))
    )


def _list_files(file: Path) -> list[Path]:
    main = file.resolve()
    # not ``with_suffix``, which refuses the root directory; reading that as a file has a reason
    folder = main.parent / f"{main.stem}.d"
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".toml") and entry.name[0] != "."]
    except (FileNotFoundError, NotADirectoryError):
        return [file]
    except OSError as error:
        raise FileFailedError(path=folder, reason=error.strerror) from error
    return [file, *(file.parent / folder.name / name for name in sorted(names))]


def _read_files(
    paths: Sequence[Path], copies: Mapping[Path, Path]
) -> tuple[list[SourceFile], list[toml.Problem]]:
    """Return the files that are TOML, each with the file that has the defaults of its apps, and the errors of the others."""
    files, problems = list[SourceFile](), list[toml.Problem]()
    for path in paths:
        try:
            text = toml.read_text(copies.get(path, path))
            files.append(SourceFile(path, text, toml.loads(text)))
        except toml.TomlError as error:
            problems += [msgspec.structs.replace(problem, file=path) for problem in error.problems]
        except FileNotFoundError as error:
            raise FileMissingError(kind="configuration", path=path) from error
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror) from error
    defaults = next((source for source in files if isinstance(source.values.get(DEFAULTS), dict)), None)
    return [
        msgspec.structs.replace(source, defaults=defaults) for source in files
    ] if defaults else files, problems


def _structure(source: SourceFile, values: Mapping[str, Any], find_place: PlaceFinder) -> ConfigFile:
    """Return the tables of a file, whose apps have the defaults; ``find_place`` returns where a key is written.

    Raises:
        TomlError: with every error, and its file.
    """
    apps, kind = values.get("apps"), ConfigFile
    tables = [table for table in apps.values() if isinstance(table, dict)] if isinstance(apps, dict) else []
    known, of_apps = {*ConfigFile.__struct_fields__}, {*AppConfig.__struct_fields__}
    # keys that the core does not know are sections of extensions
    if values.keys() - known or any(table.keys() - of_apps for table in tables):
        from dbctl.config.extension_sections import create_file_type, list_unknown

        kind = create_file_type(list_unknown([values], ConfigFile), list_unknown(tables, AppConfig))
    places = dict[str, tuple[SourceFile, Sequence[toml.Key]]]()

    def locate(path: Sequence[toml.Key]) -> Sequence[toml.Key]:
        place, key = find_place(path)
        places[toml.dotted(key)] = place, key
        return key

    try:
        return toml.structure(values, kind, source.text, locate=locate)
    except toml.TomlError as error:
        located = [(problem, *places.get(problem.key, (source, ()))) for problem in error.problems]
        raise toml.TomlError(
            *(
                msgspec.structs.replace(
                    problem, file=place.path, line=toml.line_of(place.text, key) if key else problem.line
                )
                for problem, place, key in located
            )
        ) from error


def _check_sections(sections: Sections) -> list[toml.Problem]:
    """Return the invalid values of sections of extensions, and of defaults."""
    problems = list[toml.Problem]()
    for key, section in sections.extension_sections.items():
        apps = [key[1]] if key[0] == "apps" else sections.apps
        reasons = [((*key, *inner), reason) for inner, reason in section.find_problems(apps)]
        problems += locate_problems(sections.origins[key[:2]], reasons)
    if defaults := sections.files[0].defaults:  # each file has them
        problems += _check_defaults(sections, defaults)
    return problems


def _check_defaults(sections: Sections, defaults: SourceFile) -> list[toml.Problem]:
    """Return invalid defaults that an app replaces, or that only several apps together make invalid."""
    try:
        app = _apply_defaults(sections, defaults)
    except toml.TomlError as error:
        return [*error.problems]
    own = list_app_sections(app).items() if app else ()
    reasons = [
        ((name, *key), reason)
        for name, section in own
        for key, reason in section.find_problems(sections.apps)
    ]
    return _locate_defaults(defaults, reasons)


def check_replaced_defaults(sections: Sections) -> list[toml.Problem]:
    """Return invalid defaults, also those that every app replaces, without reading a variable or secret."""
    defaults = sections.files[0].defaults
    app = _apply_defaults(sections, defaults) if defaults else None
    if not (defaults and app):
        return []
    resolver = Resolver("", app, sections.folder, reads_variables=False)
    resolver.resolve()
    return _locate_defaults(defaults, [(key[2:], reason) for key, reason in resolver.problems])


def _apply_defaults(sections: Sections, defaults: SourceFile) -> AppConfig | None:
    """Return an app whose values the defaults replace; None: there is no app.

    Raises:
        TomlError: as ``_structure``.
    """
    source = next((source for source in sections.files if source.values.get("apps")), None)
    if source is None:
        return None
    merged = merge_apps(source, reverse=True)
    content = _structure(source, merged, lambda key: (defaults, (DEFAULTS, *key[2:])))
    return next(iter(content.apps.values()))


def _locate_defaults(
    defaults: SourceFile, problems: Sequence[tuple[Sequence[toml.Key], str]]
) -> list[toml.Problem]:
    """Return those problems of keys of an app that are problems of defaults."""
    entries = [((DEFAULTS, *key), reason) for key, reason in problems]
    return locate_problems(
        defaults,
        [
            entry
            for entry in entries
            if defaults.count_existing(entry[0]) == len(entry[0]) and not defaults.has_variable(entry[0])
        ],
    )


def _has_commands(sections: Sections) -> bool:
    """Whether the configuration names programs that dbctl runs."""
    if sections.audit.anchor_command or any(secret.command for secret in sections.secrets.values()):
        return True
    if any(section.names_program for section in sections.extension_sections.values()):
        return True
    return any(app.hooks != HooksConfig() or app.maintenance_mode for app in sections.apps.values())


def _resolve_command(section: AuditConfig, folder: Path) -> AuditConfig:
    program, *words = section.anchor_command
    if "/" not in program:  # it is searched on the PATH
        return section
    return msgspec.structs.replace(
        section, anchor_command=[str(folder / atomic.expand_home(program)), *words]
    )


_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def require_trusted(file: Path) -> None:
    """Refuse a file that another user than root may write or replace; it may not exist yet.

    Raises:
        ConfigUntrustedError: the file or one of its folders belongs to another user, or others may write it.
        FileFailedError: a folder cannot be read.
    """
    path = Path(os.path.realpath(file))
    with report_file_errors(path):
        for place in (path, *path.parents) if path.exists() else path.parents:
            status = place.stat()
            # Only the owner of a file may replace it in a sticky folder such as /tmp.
            writers = 0 if status.st_mode & stat.S_ISVTX and place != path else status.st_mode & _OTHERS_WRITE
            if status.st_gid == 0:
                writers &= ~stat.S_IWGRP
            if writers or status.st_uid != 0:
                raise ConfigUntrustedError(file=file, place=place, quoted=quote(str(place)))
