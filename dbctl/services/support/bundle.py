"""The bundle for bug reports. Each file contains only listed fields: no texts of users, files, rows or messages; what is not known to be harmless is replaced."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dbctl.config.loader import config_path
from dbctl.config.sections import Selection, read_sections
from dbctl.config.storage import PROVIDERS, RCLONE, SFTP
from dbctl.engines.contract.schema import Schema
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.files import toml
from dbctl.files.atomic import translate_errors, write_blocks
from dbctl.model import Struct
from dbctl.profiles import loader
from dbctl.services.app.app import App
from dbctl.services.checks.run import examine
from dbctl.services.events.history import list_runs
from dbctl.services.events.runs import RunFilter, locate_journal
from dbctl.services.migrations import status as migration_status
from dbctl.services.observation import observe_apps
from dbctl.services.status import list_rows
from dbctl.services.support.versions import list_components
from dbctl.units import is_duration
from dbctl.url import find_scheme

HIDDEN = "(hidden)"
#: Values of keys with a fixed list of values.
WORDS = frozenset(
    (
        "gzip",
        "zstd",
        "none",
        "gemini",
        "openai",
        "command",
        "local",
        "fastembed",
        "sentence-transformers",
        "off",
        "starttls",
        "implicit",
        *("failed", "recovered", "overdue", "finding", "summary", "info", "warning", "error"),
    )
)
_CRON = re.compile(r"[\d*/,-]+(?: [\d*/,-]+){4}")
#: A declared type without texts, such as the labels of an enumeration.
_TYPE = re.compile(r"[A-Za-z_][\w ]*(?:\(\d+(?:, ?\d+)?\))?[\w ]*(?:\[\])*")
#: Tables whose keys are names that the user chooses.
_NAMED = frozenset(("apps", "secrets", "databases", "replicas", "migrations"))


class Names:
    """Replaces the names that the user chose: ``app-1``, ``database-2``."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._known = {name for profile in loader.names() for name in loader.load(profile).databases} | {
            "main"
        }

    def of(self, kind: str, name: str) -> str:
        """Return the replacement of a name; databases that a built-in profile names are not replaced."""
        if kind == "database" and name in self._known:
            return name
        count = sum(other == kind for other, _ in self._names)
        return self._names.setdefault((kind, name), f"{kind}-{count + 1}")

    def of_target(self, target: str) -> str:
        """Return the replacement of ``app/database``; other targets, such as paths, are hidden."""
        app, _, database = target.rpartition("/") if "/" in target else (target, "", "")
        if ("app", app) not in self._names:
            return HIDDEN
        return f"{self.of('app', app)}/{self.of('database', database)}" if database else self.of("app", app)


def redact_configuration(value: object, names: Names, key: str = "") -> object:
    """Return the values of a configuration; texts remain only if they are durations, schedules or fixed words."""
    if isinstance(value, Mapping):
        kind = {"apps": "app", "secrets": "secret"}.get(key, "database")
        return {
            names.of(kind, name) if key in _NAMED else name: redact_configuration(
                item,
                names,
                "" if key in _NAMED and isinstance(item, Mapping) else "databases" if key in _NAMED else name,
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redact_configuration(item, names, key) for item in value]
    if isinstance(value, str):
        return _redact_text(value, key)
    return value if isinstance(value, (bool, int, float)) else HIDDEN


def _redact_text(value: str, key: str) -> str:
    if key == "profile":
        return value if value in loader.names() else HIDDEN
    if key in ("databases", "url", "scratch", "repository"):
        return _describe_address(value)
    is_plain = value in WORDS or is_duration(value) or _CRON.fullmatch(value)
    return value if is_plain or not value else HIDDEN


def _describe_address(value: str) -> str:
    """Return the scheme of an address, or that it is a variable or a path."""
    if prefix := next((prefix for prefix in (SFTP, RCLONE) if value.startswith(prefix)), ""):
        return f"{prefix}{HIDDEN}"
    scheme, separator, _ = value.partition("://")
    if separator:
        return f"{scheme}://{HIDDEN}" if scheme in PROVIDERS or find_scheme(scheme) else HIDDEN
    return "${" + HIDDEN + "}" if value.startswith("${") else f"path {HIDDEN}"


def redact_type(text: str) -> str:
    """Return a declared type without the texts that it may contain."""
    return text if _TYPE.fullmatch(text) else f"{re.split(r'[^A-Za-z_]', text, maxsplit=1)[0]}({HIDDEN})"


#: Recorded runs in a bundle.
MAX_RUNS = 100
README = """\
This bundle was written by: dbctl support

It describes an installation of dbctl for a bug report. It contains versions, the structure of the configuration, the
codes of findings and errors, the state of migrations, and the tables and columns of the databases with their types.

It contains no rows, passwords, keys, addresses, paths, names of users, apps and hosts, texts of messages, defaults,
constraints, views or triggers. Names of apps are replaced by app-1, app-2, and other hidden values by (hidden).
Read the files before you send them: names of tables and columns are as they are.
"""


class BundledFile(Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    name: str
    bytes: int
    content: str  #: a description of its content


class _Collector:
    """Collects the files of a bundle; the failure of one is recorded in it and does not prevent the others."""

    def __init__(self, selection: Selection, timeout: float) -> None:
        self._selection, self._timeout = selection, timeout
        self._names = Names()
        self._selections: list[Selection] = []

    def collect(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, description and text of each file."""
        yield "README.txt", "what the bundle contains", README
        for name, description, read in (
            ("versions.json", "versions of dbctl, libraries and client programs", self._read_versions),
            ("configuration.json", "the configuration without texts", self._read_configuration),
            ("status.json", "state, size, migrations and backups of each database", self._read_status),
            ("findings.json", "codes of the findings of doctor", self._read_findings),
            ("migrations.json", "state of each migration", self._read_migrations),
            ("runs.json", "results and error codes of the newest runs", self._read_runs),
            ("databases.json", "engines, versions, tables and columns, no rows", self._read_databases),
        ):
            yield name, description, json.dumps(_record_failure(read), indent=2) + "\n"

    def _read_versions(self) -> object:
        components = msgspec.to_builtins(list_components())
        # The path of a program may be below a home directory.
        return [{key: value for key, value in component.items() if key != "path"} for component in components]

    def _read_configuration(self) -> object:
        file = config_path(self._selection)
        try:
            sections = read_sections(file)
        except toml.TomlError as error:
            return {"invalid": [{"line": problem.line} for problem in error.problems]}
        apps = [name for name in sections.apps if self._selection.app in ("", name)]
        for name in apps:
            self._names.of("app", name)
        self._selections = [msgspec.structs.replace(self._selection, app=name) for name in apps]
        return {
            "files": len(sections.files),
            "content": [redact_configuration(source.values, self._names) for source in sections.files],
        }

    def _for_each_selection(self, read: Callable[[Selection], object]) -> Mapping[str, object]:
        return {
            self._names.of("app", selection.app): _record_failure(read, selection)
            for selection in self._selections
        }

    def _for_each_app(self, read: Callable[[App], object]) -> Mapping[str, object]:
        def read_app(selection: Selection) -> object:
            from dbctl.services.app.session import open_app

            with open_app(selection, timeout=self._timeout, traceless=True) as app:
                return read(app)

        return self._for_each_selection(read_app)

    def _read_status(self) -> object:
        fields = ("state", "bytes", "wal_bytes", "migrations", "pending")
        return [
            {"database": self._names.of_target(f"{row.app}/{row.database}" if row.database else row.app)}
            | {field: getattr(row, field) for field in fields}
            | {"backup_at": row.backup_at and row.backup_at.isoformat()}
            for app in observe_apps(self._selections, timeout=self._timeout, has_others=True)
            for row in list_rows(app)
        ]

    def _read_findings(self) -> object:
        def read(selection: Selection) -> object:
            findings = examine([selection], timeout=self._timeout).findings.findings
            return [
                {"target": self._names.of_target(item.target), "severity": item.severity, "code": item.code}
                for item in findings
            ]

        return self._for_each_selection(read)

    def _read_migrations(self) -> object:
        def read(app: App) -> object:
            report = migration_status.collect_status([app])
            return [
                {"database": self._names.of("database", item.database), "number": index, "state": item.state}
                for index, item in enumerate(report.page.items, 1)
            ]

        return self._for_each_app(read)

    def _read_runs(self) -> object:
        folder = locate_journal(self._selection).folder
        if folder is None:
            return None
        fields = ("command", "result", "exit_code", "duration", "rows", "bytes", "version")
        return [
            {field: getattr(run, field) for field in fields}
            | {"error": run.error and run.error.code, "started_at": run.started_at.isoformat()}
            for run in list_runs(folder, RunFilter(limit=MAX_RUNS)).items
        ]

    def _read_databases(self) -> object:
        return self._for_each_app(
            lambda app: {
                self._names.of("database", name): _record_failure(_describe_database, app, name)
                for name in app.configured.databases
            }
        )


def collect_files(selection: Selection, *, timeout: float) -> Mapping[str, tuple[str, str]]:
    """Return the description and the text of each file by its name; failures are recorded by their codes."""
    return {name: (description, text) for name, description, text in _Collector(selection, timeout).collect()}


def write_bundle(file: Path, files: Mapping[str, tuple[str, str]]) -> None:
    """Write an archive (tar.gz, mode 0600) without names of users.

    Raises:
        FileExistsAlreadyError: the file exists.
        DiskFullError, FileFailedError: it cannot be written.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, (_, text) in files.items():
            member = tarfile.TarInfo(f"dbctl-support/{name}")
            member.size, member.mtime = len(text.encode()), int(time.time())
            archive.addfile(member, io.BytesIO(text.encode()))
    with translate_errors(file, file.parent):
        try:
            write_blocks(file, [content.getvalue()])
        except FileExistsError:
            raise FileExistsAlreadyError(path=file, hint="Choose another name with --to.") from None


def _record_failure(read: Callable[..., Any], *arguments: object) -> Any:
    """Return the result of a function, or the code of its error; messages may contain names and values."""
    try:
        return read(*arguments)
    except DbctlError as error:
        return {"error": error.code}


def _describe_database(app: App, name: str) -> object:
    db = app.reader(name)
    return {
        "engine": app.url(name).engine,
        "version": db.server.read_traffic().version if db.server else None,
        "tables": _describe_tables(db.schema_reader.schema()) if db.schema_reader else None,
    }


def _describe_tables(schema: Schema) -> object:
    return [
        {
            "name": table.name,
            "key": table.key,
            "columns": [
                {
                    "name": column.name,
                    "type": redact_type(column.type),
                    "nullable": column.nullable,
                    "default": HIDDEN if column.default is not None else None,
                    "generated": bool(column.generated),
                }
                for column in table.columns
            ],
            "indexes": [{"columns": len(index.columns), "unique": index.unique} for index in table.indexes],
            "references": [
                {"columns": item.columns, "table": item.table, "to": item.to} for item in table.references
            ],
            "checks": len(table.checks),
        }
        for table in schema.tables
    ]
