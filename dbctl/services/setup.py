"""The first step with an app: its databases found below a directory, and written into a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl import config, durable
from dbctl.engines import registry
from dbctl.errors import AlreadyExistsError, DbctlError, FileMissingError, UsageError
from dbctl.model import Done, Plan
from dbctl.profiles import loader
from dbctl.profiles.model import Database, Profile

DEEPEST = 5  #: levels below the directory that are looked through
#: Folders in which no app keeps its databases, and which can be huge.
SKIPPED = frozenset({"node_modules", ".git", ".venv", "__pycache__"})


class Initialised(Done, frozen=True, kw_only=True):
    """Answer of ``init``."""

    app: str
    profile: str
    config: str
    databases: Mapping[str, str]
    migrations: Mapping[str, str]
    missing: Sequence[str]  #: optional databases that were not found


class Setup:
    """A configuration to be written; ready to be shown or applied like every other change."""

    def __init__(
        self, profile: str, directory: Path, *, app: str, file: Path, urls: Sequence[str], protected: bool
    ) -> None:
        """Look for the databases.

        Raises:
            FileMissingError: a database that must be there was not found below the directory.
            UsageError: several files could be the one.
            AlreadyExistsError: the configuration has such an app.
        """
        told = loader.load(profile)
        self.app = app or told.name
        self.protected = False  #: nothing is destroyed
        self._file, self._marked = file, protected
        self._profile = str(Path(profile).resolve()) if profile.endswith(".toml") else profile
        if not directory.is_dir():
            raise FileMissingError(what="directory", path=directory)
        given = config.given(urls, Path.cwd())
        found = {
            name: Path(given[name].path) if name in given else _find(told, name, directory)
            for name in told.databases
        }
        self._missing = [name for name, path in found.items() if path is None]
        self._databases = {name: path for name, path in found.items() if path is not None}
        self._migrations = {
            name: folder
            for name, database in told.databases.items()
            for folder in _folders(database, directory)
            if name in self._databases
        }
        if file.is_file() and self.app in config.read(file).apps:
            raise AlreadyExistsError(
                target=file,
                what="an app",
                name=self.app,
                instead="Choose another name with --app, or edit the file.",
            )

    def plan(self) -> Plan:
        """Return what would be written."""
        verb = "add to" if self._file.exists() else "create"
        steps = [f"{verb} {self._file}: [apps.{self.app}]"]
        steps += [f"{name} = {path}" for name, path in self._databases.items()]
        steps += [f"migrations of {name} = {path}" for name, path in self._migrations.items()]
        return Plan(title=f"Configure {self.app}", target=self.app, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> Initialised:
        """Write the configuration, whole or not at all; what stands in it stays, comments too."""
        del seen  # nothing else writes what this writes
        import tomlkit  # noqa: PLC0415 - only this command writes TOML

        document = (
            tomlkit.parse(self._file.read_text(encoding="utf-8"))
            if self._file.exists()
            else tomlkit.document()
        )
        if "apps" not in document:
            document.add("apps", tomlkit.table(is_super_table=True))
        entry = tomlkit.table()
        entry.add("profile", self._profile)
        if self._marked:
            entry["protected"] = True
        for word, told in (("databases", self._databases), ("migrations", self._migrations)):
            if told:
                table = tomlkit.table()
                for name, path in told.items():
                    table.add(name, self._relative(path))
                entry.add(word, table)
        document["apps"].add(self.app, entry)
        with durable.written_whole(self._file, mode=0o600, replace=True) as out:
            out.write(tomlkit.dumps(document))
        return Initialised(
            app=self.app,
            profile=self._profile,
            config=str(self._file),
            databases={name: str(path) for name, path in self._databases.items()},
            migrations={name: str(path) for name, path in self._migrations.items()},
            missing=self._missing,
        )

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self._file.resolve().parent)


def _find(profile: Profile, name: str, directory: Path) -> Path | None:
    """Return the file of a database below ``directory``; None where it may be missing and is."""
    told = profile.databases[name]
    for pattern in told.find:
        if _is_one(directory / pattern, told, name):
            return directory / pattern
    wanted = {Path(pattern).name for pattern in told.find}
    found = [path for path in _walk(directory) if path.name in wanted and _is_one(path, told, name)]
    nearest = [path for path in found if len(path.parts) == min(len(one.parts) for one in found)]
    if len(nearest) > 1:
        names = ", ".join(str(path) for path in nearest)
        raise UsageError(
            detail=f"several files could be the database {name}: {names}; say which with --url {name}=PATH"
        )
    if nearest:
        return nearest[0]
    if told.optional:
        return None
    what = f"database {name} of {profile.title} ({' or '.join(sorted(wanted))}) below"
    raise FileMissingError(what=what, path=directory)


def _walk(directory: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(directory):
        folders[:] = sorted(set(folders) - SKIPPED)
        if len(Path(root).relative_to(directory).parts) >= DEEPEST:
            folders.clear()
        for file in sorted(files):
            yield Path(root) / file


def _is_one(path: Path, told: Database, name: str) -> bool:
    if not path.is_file():
        return False
    try:
        opened = registry.open_for_reading(
            config.given([f"{name}={path.resolve()}"], path.parent)[name], name, timeout=1
        )
    except DbctlError:
        return False
    try:
        return all(table in opened.tables() for table in told.needs)
    finally:
        opened.close()


def _folders(told: Database, directory: Path) -> list[Path]:
    if told.migrations is None:
        return []
    return [directory / folder for folder in told.migrations.find if (directory / folder).is_dir()][:1]
